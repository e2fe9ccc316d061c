"""Pickled batches of 32x32 images, the format of CIFAR-10 and of Chrabaszcz's ImageNet, read without running code.

A batch is a dictionary of `labels` and `data`, uint8 [n, 3072]. A row of `data` holds all red, then all green, then all
blue values. The unpickler knows NumPy arrays and nothing else, so that a forged file can do nothing.
"""

import pickle
from typing import Any, BinaryIO

import numpy as np

from dtri.messages import reading

SHAPE = (3, 32, 32)


def read(file: BinaryIO, classes: range, what: str, where: str) -> tuple[np.ndarray, np.ndarray]:
    """(uint8 [n, 3, 32, 32], int64 [n] labels within `classes`) of one batch; ValueError for anything else.

    Messages call the batch `what`, found in `where`.
    """
    with reading(where, f"expected {what}, found"):
        batch = _ArrayUnpickler(file, encoding="latin1").load()
        data, labels = np.asarray(batch["data"]), np.asarray(batch["labels"], dtype=np.int64)
    valid = data.dtype == np.uint8 and data.ndim == 2 and data.shape[1] == 3072 and labels.shape == data.shape[:1]
    if not valid or not ((labels >= classes[0]) & (labels <= classes[-1])).all():
        raise ValueError(
            f"expected {what} with uint8 [n, 3072] and n labels in {classes[0]}..{classes[-1]}, found {data.dtype} "
            f"{data.shape} ({where})"
        )
    return data.reshape(-1, *SHAPE), labels


def _encode(text: str, encoding: str) -> bytes:
    """The bytes of an array, which Python 3 writes as text in pickles of protocol 2."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"expected latin1, found {encoding!r}")
    return text.encode("latin1")


_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _encode,
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name} is not part of a batch of images") from None
