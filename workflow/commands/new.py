"""Begin a method of your own: a small model that works, to be edited, and its entry in the configuration.

    dtri new baseline my_vae

Writes baselines/my_vae.py and an entry at the end of workflow/config/models.yaml, and prints the commands that follow.
With --overlay DIR it writes DIR/my_vae.py and DIR/models.yaml, and the checkout stays as it is.
"""

import argparse
import keyword
import os
import re
import sys
from pathlib import Path

from dtri.files import write_text
from workflow import configuration, overlay
from workflow.commands.cli import run
from workflow.fingerprint import ROOT

MODEL = '''"""{label}: one line that says what it is.

Paper: authors (venue, year). Reference code: none.
Objective: min E[ SSE(x, g(z)) / (2 s2) + KL(q(z|x) || N(0, I)) ], a variational auto-encoder until you change it.
Deviations: none known.
"""

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor
from torch.optim import Adam, Optimizer

from dtri.model import Model
from dtri.networks.convolutional import GaussianEncoder, Generator
from dtri.objectives import gaussian
from dtri.objectives.reconstruction import sse


@dataclass(frozen=True)
class Hparams:
    z_dim: int = 100  # source of every value: section, table, or line of the reference code
    width: float = 1.0  # multiplies all channels; presets may lower it
    decoder_variance: float = 0.005  # s2; source
    lr: float = 3e-4  # source


class {name}(Model):
    def __init__(self, image_shape: tuple[int, int, int], h: Hparams):
        super().__init__()
        self.image_shape, self.z_dim, self.h = image_shape, h.z_dim, h
        self.generator = Generator(image_shape, h.z_dim, h.width)
        self.encoder = GaussianEncoder(image_shape, h.z_dim, h.width)

    @cached_property
    def optimizers(self) -> dict[str, Optimizer]:
        return {{"both": Adam(self.parameters(), self.h.lr)}}

    def generate(self, z: Tensor) -> Tensor:
        """z: [B, z_dim] -> images [B, C, H, W] in [-1, 1]."""
        return self.generator(z)

    def infer(self, x: Tensor) -> Tensor:
        """x: [B, C, H, W] in [-1, 1] -> posterior means [B, z_dim]."""
        return self.encoder(x)[0]

    def step(self, x: Tensor, t: int) -> dict[str, Tensor]:
        """One batch at iteration t: what moves, and which losses the log shows."""
        mu, logvar = self.encoder(x)
        rec = sse(x, self.generate(gaussian.sample(mu, logvar))).mean()
        kl = gaussian.kl_standard(mu, logvar).mean()
        self.descend("both", rec + 2 * self.h.decoder_variance * kl)
        return {{"rec": rec.detach(), "kl": kl.detach()}}
'''
ENTRY = """
{name}:
  label: {label}
  entry: {module}:{class_name}
  steps: 100000
  batch_size: 100
"""
NEXT = """\
wrote {file}: edit its docstring, Hparams, maps and step
wrote the entry {name} in {entries}

one number of it:        dtri run results/demo/digits/{name}/seed0/metrics/fid_domain.json{option}
contract tests of it:    {variable}python -m pytest tests/test_contract.py -k {name}
everything measured:     dtri measured --preset demo{option}"""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("baseline",))
    parser.add_argument("name", metavar="NAME", help="of the file and of the entry: a-z, 0-9 and _")
    arguments = parser.parse_args(argv)
    name = arguments.name

    check_name(name)
    given = os.environ.get(overlay.VARIABLE)
    folder, entries = (Path(given), Path(given)) if given else (ROOT / "baselines", configuration.CONFIG)
    file, entries = folder / f"{name}.py", entries / "models.yaml"
    if file.exists():
        raise FileExistsError(f"expected no file {shown(file)}, found one")
    label = name.replace("_", " ")
    class_name = "".join(part.capitalize() for part in name.split("_"))
    write_text(file, MODEL.format(label=label, name=class_name))
    with entries.open("a", encoding="utf-8") as text:
        module = name if given else f"baselines.{name}"
        text.write(ENTRY.format(name=name, label=label, module=module, class_name=class_name))
    told = {"option": f" --overlay {shown(folder)}", "variable": f"{overlay.VARIABLE}={shown(folder)} "}
    told = told if given else dict.fromkeys(told, "")
    print(NEXT.format(file=shown(file), entries=shown(entries), name=name, **told))
    return 0


def check_name(name: str) -> None:
    """ValueError unless `name` may name a module, and no configured system has it."""
    if not re.fullmatch("[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise ValueError(f"expected a name of a-z, 0-9 and _ that begins with a letter, found {name!r}")
    if name in configuration.models():
        raise ValueError(f"expected a new name, found {name!r} in models.yaml")


def shown(path: Path) -> Path:
    """`path` relative to the working folder where it lies in it, else to the checkout, else as it is."""
    for folder in (Path.cwd(), ROOT):
        if path.is_relative_to(folder):
            return path.relative_to(folder)
    return path


if __name__ == "__main__":
    sys.exit(run(main))
