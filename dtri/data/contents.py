"""What a dataset module knows of its dataset before a file of it is there: the answer of its `check`.

`check(image_shape, options)` is called while the workflow is planned, so that an option that cannot work is refused
before anything is downloaded. Modules with a `check` import nothing heavy at their top: no torch, scipy, scikit-learn.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Contents:
    """What `prepare` will give: its splits, and whether they have the labels of classes.

    `streamed`: no split is held in memory while it is prepared. `n_images` of all splits, 0 where it is not known.
    """

    splits: tuple[str, ...]
    classes: bool
    streamed: bool = False
    n_images: int = 0
