"""Barriers between basins -> the disconnectivity tree (Wales, Miller & Walsh, 1998, figure 2). Arrays only.

A barrier matrix is [N, N] and symmetric, with the energies of the minima on its diagonal. inf means that no path is
known.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Merge:
    """Two sets of leaves become one at `height`. Nodes below N are leaves; node N + k is the k-th merge."""

    height: float
    left: int
    right: int


def bottleneck(barriers: np.ndarray) -> np.ndarray:
    """For each pair of basins the lowest height of any path that joins them: an ultrametric [N, N]."""
    lowest = np.minimum(barriers, barriers.T)
    for k in range(len(lowest)):
        lowest = np.minimum(lowest, np.maximum(lowest[:, k, None], lowest[None, k, :]))
    return lowest


def is_ultrametric(barriers: np.ndarray) -> bool:
    """Whether B_ij <= max(B_ik, B_kj) for all i, j, k."""
    return bool(np.array_equal(bottleneck(barriers), barriers))


def merges(barriers: np.ndarray) -> list[Merge]:
    """Merges by union-find over the pairs by increasing barrier. Basins that no finite barrier joins stay apart."""
    n = len(barriers)
    node = list(range(n))  # the tree node that holds each leaf
    rows, columns = np.triu_indices(n, 1)
    found: list[Merge] = []
    for k in np.argsort(barriers[rows, columns], kind="stable"):
        i, j, height = rows[k], columns[k], barriers[rows[k], columns[k]]
        a, b = node[i], node[j]
        if a == b or not np.isfinite(height):
            continue
        found.append(Merge(float(height), min(a, b), max(a, b)))
        node = [n + len(found) - 1 if other in (a, b) else other for other in node]
    return found


def leaf_order(n: int, found: list[Merge]) -> list[int]:
    """Leaves from left to right so that no two lines cross; the set with the lowest-numbered leaf comes first."""
    sets: dict[int, list[int]] = {leaf: [leaf] for leaf in range(n)}
    for k, merge in enumerate(found):
        left, right = sorted((sets.pop(merge.left), sets.pop(merge.right)), key=min)
        sets[n + k] = left + right
    return [leaf for leaves in sorted(sets.values(), key=min) for leaf in leaves]
