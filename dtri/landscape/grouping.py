"""Minima -> basins, as in paper B section 4.3: each minimum, the lowest first, joins a group that it can reach.

Minima are numbered by increasing energy, so the first member of a group is its lowest. It represents the group.
"""

from collections.abc import Callable, Sequence

import numpy as np

Barriers = Callable[[int, Sequence[int]], np.ndarray]  # (minimum, others) -> lowest known barrier to each; inf: none


def group(energies: np.ndarray, barriers: Barriers, threshold: float) -> list[list[int]]:
    """Group minima in the order of their energies.

    A minimum joins the group whose representative it reaches over the lowest barrier. It founds a group where that
    barrier lies more than `threshold` above the minimum.

    Args:
        energies: [N], increasing.
        barriers: (minimum, others) -> the lowest known barrier to each of the others; inf where no path is known.
        threshold: largest barrier inside a group, above the higher of the two minima.

    Returns:
        Groups of minima, each by increasing energy; the group with the lowest minimum comes first.

    Raises:
        ValueError: the energies do not increase.
    """
    if np.any(np.diff(energies) < 0):
        raise ValueError("expected minima by increasing energy, found them in another order")
    groups: list[list[int]] = []
    for n in range(len(energies)):
        heights = barriers(n, [members[0] for members in groups]) if groups else np.array([])
        best = int(np.argmin(heights)) if len(heights) else -1
        if best >= 0 and heights[best] - energies[n] <= threshold:  # the minimum is the higher one
            groups[best].append(n)
        else:
            groups.append([n])
    return groups


def consolidate(groups: list[list[int]], energies: np.ndarray, barriers: Barriers, threshold: float) -> list[list[int]]:
    """Join groups whose representatives reach each other below the threshold, the lowest barrier first.

    Arguments and result are as in `group`.
    """
    groups = [list(members) for members in groups]
    heights = {
        (members[0], other[0]): height
        for k, members in enumerate(groups)
        if k
        for other, height in zip(groups[:k], barriers(members[0], [other[0] for other in groups[:k]]), strict=True)
    }
    where = {members[0]: members for members in groups}
    for (higher, lower), height in sorted(heights.items(), key=lambda item: (item[1], item[0])):
        if height - energies[higher] <= threshold and higher in where and lower in where:
            where[lower].extend(where.pop(higher))
    return [sorted(members) for _, members in sorted(where.items())]
