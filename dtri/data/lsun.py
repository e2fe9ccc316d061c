"""LSUN scenes (Yu et al., 2015): an LMDB database per category, its values JPEG files whose shorter side is 256 pixels.

Options:
  archive   (required) in the drop folder: the official zip (bedroom_train_lmdb.zip, say), or the unpacked folder
            bedroom_train_lmdb, or its data.mdb. A zip's database is unpacked beside it or, where the drop folder is
            read-only, into the folder of the prepared dataset
  sha256    sha256 of the archive; checked when given
  n_source  number of images in the database; checked when given
  holdout   number of test images, drawn with the seed (default 10,000); all other images train
  resize    "crop" (default): shorter side to the size, then centre crop, as torchvision's Resize and CenterCrop;
            "stretch": to the size, whatever the aspect ratio
  limit     number of images from the front of the database; the rest of it is not read

The source order is the order of the keys; images are stored in it too. Keys are hashes, so the first n images are a
sample. There are no labels. The official validation set has 300 images, too few to test with.
"""

import json
import tempfile
import zipfile
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import lmdb
import numpy as np
import PIL

from dtri.data import archives, checks, pictures, rawfiles, saving
from dtri.data.contents import Contents
from dtri.data.stream import Stream
from dtri.files import remove_partial, write_atomic
from dtri.messages import reading

FILES: dict[str, rawfiles.RawFile] = {}  # an option names the archive
_MODULE = "dtri.data.lsun"
_KNOWN = ("archive", "sha256", "n_source", "holdout", "resize", "limit")
HOLDOUT = 10_000  # test images
_DATABASE = "data.mdb"
_CHUNK = 1 << 20  # bytes
UNPACKS = True  # `prepare` takes a folder to unpack into
_REMAP = 64  # cursor steps between two mappings; the kernel may map up to 2 MiB around an image


def check(image_shape: tuple[int, int, int], options: dict[str, Any]) -> Contents:
    """Allow three colours, more images than are held out, and known ways to resize. ValueError otherwise."""
    checks.check_options(options, _KNOWN, _MODULE)
    checks.check_shape(image_shape, (3,), _MODULE)
    resize = options.get("resize", "crop")
    if resize not in ("crop", "stretch"):
        raise ValueError(f"expected option 'resize' to be 'crop' or 'stretch', found {resize!r} ({_MODULE})")
    archives.check_options(options, _MODULE)
    archives.check_holdout(options, HOLDOUT, _MODULE)
    return Contents(splits=("train", "test"), classes=False, streamed=True)


def prepare(
    raw: Path, image_shape: tuple[int, int, int], options: dict[str, Any], seed: int, scratch: Path | None = None
) -> saving.Arrays:
    """Splits train and test of `options["archive"]` at (3, H, W), streamed. ValueError names what does not fit.

    `seed` draws the test images. `scratch` is a folder to unpack into where the drop folder `raw` is read-only.
    """
    check(image_shape, options)
    shape, n_test = tuple(image_shape), options.get("holdout", HOLDOUT)
    resize = options.get("resize", "crop")
    archive = archives.inside(raw, options.get("archive"), "archive")
    archive = database(archive)
    sha256 = archives.check_archive(archive, options.get("sha256"))
    unpacked = _unpacked(archive, scratch) if archive.suffix == ".zip" else archive

    n_source = _count(unpacked)
    if options.get("n_source") not in (None, n_source):
        raise ValueError(f"expected {options['n_source']} images, found {n_source} ({unpacked})")
    n = min(n_source, options.get("limit") or n_source)
    if n_test >= n:
        raise ValueError(f"expected more than {n_test} images, all of which would be held out, found {n} ({unpacked})")
    held_out = np.zeros(n, bool)
    held_out[checks.generator(seed).permutation(n)[:n_test]] = True
    indices = {"train": np.flatnonzero(~held_out), "test": np.flatnonzero(held_out)}
    source = {
        "module": _MODULE,
        "archive": options["archive"],
        "archive_sha256": sha256,
        "n_source": n_source,
        "resize": resize,
        "filter": "bilinear, antialiased",
        "holdout": n_test,
        "limit": options.get("limit"),
        "seed": seed,
    }
    return saving.Arrays(
        splits={
            split: Stream(
                length=len(index),
                image_shape=shape,
                read=partial(_images, unpacked, index, shape, resize),
                identity=json.dumps([split, source, PIL.__version__]),
            )
            for split, index in indices.items()
        },
        indices={split: index.astype(np.int64) for split, index in indices.items()},
        labels={},
        n_classes=None,
        description=f"LSUN {options['archive']}, resize {resize}; {n_test} images held out",
        source=source,
    )


def database(archive: Path) -> Path:
    """The database file. Other files in an unpacked folder, such as lock files of readers, do not count."""
    return archive / _DATABASE if archive.is_dir() else archive


def _images(
    database: Path, index: np.ndarray, shape: tuple[int, int, int], resize: str, start: int
) -> Generator[np.ndarray, None, None]:
    for key, value in _entries(database, index[start:]):
        yield pictures.decode(value, shape, resize, f"{database}, key {key.decode('ascii', 'backslashreplace')}")


def _entries(database: Path, index: np.ndarray) -> Iterator[tuple[bytes, bytes]]:
    """Yield keys and values at the positions `index`, which increase.

    The library reads every value that the cursor passes. All these bytes count as the process's memory until the map is
    closed, so the file is mapped anew every few steps.
    """
    position, key, k = -1, b"", 0
    while k < len(index):
        with _opened(database) as environment, environment.begin() as transaction, transaction.cursor() as cursor:
            if key:
                cursor.set_key(key)
            for _ in range(_REMAP):
                if not cursor.next():
                    raise ValueError(f"expected {index[-1] + 1} images, found {position + 1} ({database})")
                position += 1
                if position == index[k]:
                    yield cursor.item()
                    k += 1
                    if k == len(index):
                        return
            key = cursor.key()


def _count(database: Path) -> int:
    """Number of entries; ValueError when the end of the file is missing, which would crash the library."""
    with _opened(database) as environment:
        pages, statistics = environment.info()["last_pgno"] + 1, environment.stat()
    expected, found = pages * statistics["psize"], database.stat().st_size
    if found < expected:
        raise ValueError(f"expected a complete database of {expected} bytes, found {found} ({database})")
    return statistics["entries"]


@contextmanager
def _opened(database: Path) -> Iterator[lmdb.Environment]:
    with (
        reading(database, "expected an LMDB database, found"),
        lmdb.open(str(database), subdir=False, readonly=True, lock=False) as environment,
    ):
        yield environment


def _unpacked(archive: Path, scratch: Path | None) -> Path:
    """The database of an official zip, unpacked beside it or in `scratch`.

    An unpacked database from before must have the zip's checksum.
    """
    with reading(archive, "expected a complete zip, found"), zipfile.ZipFile(archive) as file:
        members = [member for member in file.infolist() if PurePosixPath(member.filename).name == _DATABASE]
    if len(members) != 1:
        raise ValueError(f"expected one {_DATABASE} in the zip, found {len(members)} ({archive})")
    rooms = [archive.parent, *([scratch] if scratch else [])]
    places = [archives.inside(room, members[0].filename, "archive") for room in rooms]
    for place in places:
        if place.is_file():
            if _crc(place) != members[0].CRC:
                raise ValueError(f"expected the {_DATABASE} of {archive}, found another ({place}); delete it")
            return place
    place = next((place for place in places if _writable(place.parent)), places[-1])
    place.parent.mkdir(parents=True, exist_ok=True)
    remove_partial(place)
    saving.check_space(place.parent, members[0].file_size, str(place))
    print(f"unpacking {place}, {members[0].file_size:,} bytes", flush=True)

    def copy(unpacked: BinaryIO) -> None:
        for chunk in _unzipped(archive, members[0]):
            unpacked.write(chunk)

    write_atomic(place, copy)
    return place


def _unzipped(archive: Path, member: zipfile.ZipInfo) -> Iterator[bytes]:
    with (
        reading(archive, "expected a complete zip, found"),
        zipfile.ZipFile(archive) as file,
        file.open(member) as packed,
    ):
        while chunk := packed.read(_CHUNK):
            yield chunk


def _writable(folder: Path) -> bool:
    """Whether files can be made in the folder. It is tried, since a mount may be read-only whatever the modes say."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _crc(path: Path) -> int:
    crc = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            crc = zlib.crc32(chunk, crc)
    return crc
