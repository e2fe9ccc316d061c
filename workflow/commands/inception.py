"""Check the weights of the 2015 Inception network in the drop folder, before any run that will need them."""

import argparse
import sys
from pathlib import Path

from dtri.metrics.features import check_inception_weights
from dtri.sealed import write_sealed
from workflow.commands.cli import run


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path)
    arguments = parser.parse_args(argv)

    write_sealed(arguments.out, {"file": arguments.weights.name, "sha256": check_inception_weights(arguments.weights)})
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
