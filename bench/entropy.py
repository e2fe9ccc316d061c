"""Does MEG's entropy term say anything? Its statistics network and its gradients, on trained generators.

    python -m bench.entropy results/lite/mnist_holdout5/meg/seed*/model.safetensors --steps 2000 --scale 1 10

J, the statistics network's loss, is log 2 where it tells no image's own latent from another's. The generator then gets
no gradient that raises entropy. A line per run gives J, the norms of both terms' gradients by the generator's weights,
and a pixel's mean standard deviation over latents. Then the statistics network trains alone on the frozen generator;
`--scale` multiplies the images' differences from their mean. A line gives J, the mean of the last fifty updates.
"""

import argparse
import math
import sys
from pathlib import Path

import torch
from torch import Tensor
from torch.optim import Adam

from baselines.meg import MEG
from dtri.numerics import set_numerics
from dtri.trained import load_model
from workflow.commands.cli import run

BATCH, AVERAGED = 64, 50


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="+", type=Path, help="model.safetensors of runs of MEG")
    parser.add_argument("--steps", type=int, default=2000, help="updates of the statistics network alone")
    parser.add_argument("--scale", nargs="+", type=float, default=[1.0])
    arguments = parser.parse_args(argv)

    set_numerics(1, "fp32")
    print(f"log 2 = {math.log(2):.4f}")
    for path in arguments.weights:
        loss, energy, entropy, spread = terms(loaded(path))
        found = f"J {loss:.4f}, gradient norms {energy:.3g} (energy), {entropy:.3g} (J), deviation {spread:.3f}"
        print(f"{path.parent}: {found}", flush=True)
        for scale in arguments.scale:
            j = alone(loaded(path), arguments.steps, scale)
            print(f"  scale {scale:g}, {arguments.steps} updates: J {j:.4f}", flush=True)
    return 0


def loaded(path: Path) -> MEG:
    """The run's model, in training mode, with gradients.

    Raises:
        ValueError: the weights are another system's.
    """
    model, spec = load_model(path)
    if not isinstance(model, MEG):
        raise ValueError(f"expected weights of MEG, found {spec.entry} in {path}")
    return model.train().requires_grad_(True)


def terms(model: MEG) -> tuple[float, float, float, float]:
    """J, the gradient norms of the energy's and the entropy's term, and a pixel's standard deviation over latents."""
    torch.manual_seed(0)
    z = torch.randn(BATCH, model.z_dim)
    x = model.generate(z)
    loss, weights = model.unpairing(x, z), [*model.generator.parameters()]
    energy, entropy = (
        torch.cat([g.flatten() for g in torch.autograd.grad(term, weights, retain_graph=True)]).norm().item()
        for term in (model.energy(x).mean(), loss)
    )
    return loss.item(), energy, entropy, x.std(0).mean().item()


def alone(model: MEG, steps: int, scale: float) -> float:
    """J after `steps` updates of the statistics network on images of the frozen generator."""
    torch.manual_seed(1)
    optimizer = Adam(model.statistics.parameters(), model.h.lr, (model.h.beta1, model.h.beta2))
    centre, last = images(model, torch.randn(8 * BATCH, model.z_dim)).mean(0), []
    for _ in range(steps):
        z = torch.randn(BATCH, model.z_dim)
        loss = model.unpairing(centre + scale * (images(model, z) - centre), z)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        last = [*last, loss.item()][-AVERAGED:]
    return sum(last) / len(last)


@torch.no_grad()
def images(model: MEG, z: Tensor) -> Tensor:
    return model.generate(z)


if __name__ == "__main__":
    sys.exit(run(main))
