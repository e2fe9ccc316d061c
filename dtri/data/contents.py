"""What a dataset module knows of its dataset before a file of it is there: the answer of its `check`.

`check(image_shape, options)` is called while the workflow is planned, so that an option that cannot work is refused
before anything is downloaded. Modules with a `check` import nothing heavy at their top: no torch, scipy, scikit-learn.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Contents:
    """The splits that `prepare` will give, and whether they have the labels of classes."""

    splits: tuple[str, ...]
    classes: bool
