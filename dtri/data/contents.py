"""What a dataset module knows before any of its files is there: the result of its `check`.

    check(image_shape, options)               called while the workflow is planned
    prepare(raw, image_shape, options, seed)  reads the files in the drop folder `raw`

`image_shape` is (C, H, W), `options` comes from the dataset's entry, and `seed` draws splits, orders or images. `check`
refuses an option that cannot work before anything is downloaded. So modules with a `check` import nothing heavy at
their top: no torch, scipy or scikit-learn.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Contents:
    """The splits that `prepare` will give, and whether they have labels of classes.

    `streamed` means that no split is held in memory while it is prepared. `n_images` counts the images of all splits;
    it is 0 where the number is unknown.
    """

    splits: tuple[str, ...]
    classes: bool
    streamed: bool = False
    n_images: int = 0
