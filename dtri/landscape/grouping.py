"""Minima -> basins, as paper B section 4.3 words it: by increasing energy, each into a group that it can reach.

Minima are numbered by increasing energy, so the first member of a group is its representative, the lowest.
"""

from collections.abc import Callable, Sequence

import numpy as np

Barriers = Callable[[int, Sequence[int]], np.ndarray]  # (minimum, others) -> lowest known barrier to each; inf: none


def group(energies: np.ndarray, barriers: Barriers, threshold: float) -> list[list[int]]:
    """energies: [N], increasing -> groups of minima, each by increasing energy, the group with the lowest one first.

    A minimum joins the group with the lowest barrier to its representative, if that is at most `threshold` above the
    higher of both minima; else it founds one. ValueError when the energies do not increase.
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
    """Groups whose representatives reach each other below the threshold become one, the lowest barrier first."""
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
