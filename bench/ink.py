"""How much of an anomaly score is ink? Images ranked by the sum of their pixels alone, beside a system's scores.

    python -m bench.ink --data results/data --runs results/lite --model bigan

A line per hold-out gives the AUPRC of the sum of pixels on the clean split, and of minus that sum. A line per run gives
the AUPRC of the system's score with its last weights, and Spearman's rank correlation of score and sum. A correlation
near 1 or -1 says that the score measures how bright an image is. Reads the scores that the rule score_holdout kept.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from dtri.arrays import read_arrays
from dtri.data import store
from dtri.metrics.ranking import auprc
from workflow.commands.cli import run

DIGITS = (1, 4, 5, 7, 9)  # of paper A, Table 4


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path, help="folder of prepared datasets")
    parser.add_argument("--runs", required=True, type=Path, help="folder of a preset")
    parser.add_argument("--model", required=True, nargs="+")
    parser.add_argument("--sets", nargs="+", default=[f"mnist_holdout{digit}" for digit in DIGITS])
    arguments = parser.parse_args(argv)

    for name in arguments.sets:
        dataset = store.load(arguments.data / name)
        brightness, labels = ink(dataset.images("test")), dataset.labels("test")
        both = f"ink {area(brightness, labels):.3f}, minus ink {area(-brightness, labels):.3f}"
        print(f"{name}: {both}, chance {labels.mean():.3f}", flush=True)
        for model in arguments.model:
            for path in sorted((arguments.runs / name / model).glob(f"seed*/scores/{name}__test.npz")):
                energy = read_arrays(path)["energy"]
                correlation = spearmanr(energy, brightness).statistic
                of_run = f"{model} {path.parent.parent.name}: {area(energy, labels):.3f}"
                print(f"  {of_run}, correlation {correlation:.3f}", flush=True)
    return 0


def ink(images: np.ndarray) -> np.ndarray:
    """Sum of all pixels of each image: [N, C, H, W] of uint8 -> [N]."""
    return images.reshape(len(images), -1).sum(axis=1, dtype=np.int64).astype(np.float64)


def area(scores: np.ndarray, labels: np.ndarray) -> float:
    """AUPRC as in Table 4, anomalies positive, larger scores stranger."""
    return auprc(scores, labels, interval=False).value


if __name__ == "__main__":
    sys.exit(run(main))
