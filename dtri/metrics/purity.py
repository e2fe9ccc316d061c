"""How well groups agree with labels: purity, and the purity that groups of the same sizes reach by chance."""

from dataclasses import dataclass

import numpy as np

DRAWS = 1000


@dataclass(frozen=True)
class Purity:
    """Purities in 0..1 of `n` labelled members.

    `chance` and `chance_high` are the mean and the 95 % quantile over permutations of the labels, which keep the sizes
    of groups and classes. `largest_class` is the purity of one group that holds all members.
    """

    value: float
    chance: float
    chance_high: float
    largest_class: float
    n: int


def purity(groups: np.ndarray, labels: np.ndarray, seed: int) -> Purity:
    """The fraction of members with the commonest label of their group.

    Args:
        groups, labels: integers [n], the group and the label of each member.
        seed: seed of the permutations.

    Raises:
        ValueError: there is no member, or the lengths differ.
    """
    groups, labels = np.unique(groups, return_inverse=True)[1], np.unique(labels, return_inverse=True)[1]
    if groups.shape != labels.shape or not len(labels):
        raise ValueError(f"expected as many labels as members, one at least, found {len(labels)} and {len(groups)}")
    draw = np.random.RandomState(np.random.MT19937(seed))
    permuted = [_share(groups, draw.permutation(labels)) for _ in range(DRAWS)]
    return Purity(
        value=_share(groups, labels),
        chance=float(np.mean(permuted)),
        chance_high=float(np.quantile(permuted, 0.95)),
        largest_class=_share(np.zeros_like(groups), labels),
        n=len(labels),
    )


def _share(groups: np.ndarray, labels: np.ndarray) -> float:
    counts = np.zeros((groups.max() + 1, labels.max() + 1))
    np.add.at(counts, (groups, labels), 1)
    return float(counts.max(1).sum() / len(labels))
