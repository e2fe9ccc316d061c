"""Can a generator draw white? Channels of its last layer with a positive sum, in training or when trained.

    python -m bench.last_layer --data results/data --dataset mnist_holdout5 --model vae --width 0.125 --steps 500 2000
    python -m bench.last_layer --trained results/lite/mnist_holdout*/vae/seed?/model.safetensors

The last layer's input is not negative (ReLU). Where the weights of every channel have a negative sum, the bias is about
the brightest value before tanh, on even areas. With --data it runs the specification of preset lite with other widths,
lengths and first weights (seed 100 + k), and prints a line per seed and length.
"""

import argparse
import sys
from pathlib import Path

import torch

from dtri import experiment, trained
from dtri.batches import Batches
from dtri.data import store
from dtri.images import to_float
from dtri.model import Model
from dtri.numerics import set_numerics
from workflow import specs
from workflow.commands.cli import run


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", type=Path, help="folder of prepared datasets, to train on")
    source.add_argument("--trained", nargs="+", type=Path, metavar="FILE", help="weights to look at instead")
    parser.add_argument("--dataset", default="mnist_holdout5")
    parser.add_argument("--model", default="vae", choices=("vae", "joint_vae_ebm", "joint_vae_ebm_plus"))
    parser.add_argument("--width", type=float, default=0.125)
    parser.add_argument("--steps", nargs="+", type=int, default=[500], help="lengths after which to look, in order")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    arguments = parser.parse_args(argv)

    for path in arguments.trained or ():
        model, _ = trained.load_model(path)
        n, positive, bias = last_layer(model)
        print(f"{path.parent}: {positive} of {n} channels positive, bias {bias:.2f}", flush=True)
    if arguments.trained:
        return 0

    set_numerics(1, "fp32")
    images = store.load(arguments.data / arguments.dataset).images("train")
    for seed in arguments.seeds:
        spec = specs.train_spec(specs.Run("lite", arguments.dataset, arguments.model, seed))
        torch.manual_seed(100 + seed)
        model = experiment.build(spec.entry, spec.image_shape, {**spec.hparams, "width": arguments.width}).train()
        batches = Batches(images, spec.batch_size, seed, torch.device("cpu"))
        for t in range(1, max(arguments.steps) + 1):
            losses = model.step(to_float(batches(t)), t)
            if t in arguments.steps:
                n, positive, bias = last_layer(model)
                found = (
                    f"{positive} of {n} channels positive, bias {bias:.2f}, squared error {losses['rec'].item():.0f}"
                )
                print(f"{arguments.model}, width {arguments.width:g}, seed {seed}, {t} iterations: {found}", flush=True)
    return 0


def last_layer(model: Model) -> tuple[int, int, float]:
    """(channels, channels whose weights have a positive sum, bias) of the generator's last convolution, grey images."""
    layers = [layer for layer in model.generator.modules() if isinstance(layer, torch.nn.ConvTranspose2d)]
    sums = layers[-1].weight.detach().sum((1, 2, 3))
    return len(sums), int((sums > 0).sum()), layers[-1].bias.item()


if __name__ == "__main__":
    sys.exit(run(main))
