"""Any collection of image files: a zip, tar or tar.gz archive or a folder, put into the drop folder by hand.

Options:
  archive  (required) name of the file or folder inside the drop folder
  sha256   sha256 of the archive file; checked when given
  split    (required) one of
             {"train": "train/", "test": "test/"}      by folder inside the archive, "" for everything
             {"index": "split.csv"}                    a CSV file in the drop folder, columns path,split; split is
                                                       train, test or empty (unused)
             {"random": {"train": 9000, "test": 1000}} images per split, drawn with the seed
  resize   "none" (default): every image must have the size asked for; "stretch": to that size, whatever the aspect
           ratio; "crop": shorter side to the size, then centre crop (as torchvision's Resize and CenterCrop)
  labels   "folder": the class is the name of the parent folder, numbered in sorted order; null (default): no labels
  limit    largest number of images per split
  background  one grey value or [red, green, blue], 0..255, behind transparent pictures; null (default): transparency
           is an error, since nobody has seen the colours under it

The source order is the sorted order of the paths. Each split is stored in a seeded random order, so that its first n
images are a sample of the split and not of one class. Archives are read in memory and never extracted. Members that
could write elsewhere or are unreasonably large are refused. Resizing uses PIL's bilinear filter, antialiased when
shrinking. Links inside a folder are followed. Hidden files and folders are ignored and counted, and so are the files
that operating systems leave beside pictures. Photographs are turned upright as their EXIF data says. The colour profile
of CMYK images is not applied. The upper 8 bits of 16-bit RGB images are used.
"""

import csv
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any
from unicodedata import normalize

import numpy as np

from dtri.data import archives, checks, pictures, rawfiles, saving
from dtri.data.contents import Contents
from dtri.messages import printable, reading

FILES: dict[str, rawfiles.RawFile] = {}  # an option names the archive
_KNOWN = ("archive", "sha256", "split", "resize", "labels", "limit", "background")
_MODULE = "dtri.data.image_folder"
_SPLITS = ("train", "test")


def check(image_shape: tuple[int, int, int], options: dict[str, Any]) -> Contents:
    """Allow grey or three colours, and the options above. ValueError otherwise."""
    checks.check_options(options, _KNOWN, _MODULE)
    checks.check_shape(image_shape, (1, 3), _MODULE)
    _check_choice("resize", options.get("resize", "none"), tuple(pictures.RESIZE))
    _check_choice("labels", options.get("labels"), ("folder", None))
    archives.check_options(options, _MODULE)
    _background(options.get("background"))
    splits = _check_split(options.get("split"))
    return Contents(splits, classes=options.get("labels") == "folder")


def prepare(raw: Path, image_shape: tuple[int, int, int], options: dict[str, Any], seed: int) -> saving.Arrays:
    """The images of `options["archive"]` at `image_shape`, grey or RGB by its C. ValueError names what does not fit."""
    check(image_shape, options)
    shape, resize, classes_by = tuple(image_shape), options.get("resize", "none"), options.get("labels")
    background = _background(options.get("background"))
    archive = archives.inside(raw, options.get("archive"), "archive")
    sha256 = archives.check_archive(archive, options.get("sha256"))

    with archives.named(archive):
        names = [name for name, _ in archives.members(archive)]
    ignored = _ignored(names)
    if ignored:
        counts = ", ".join(f"{n} {kind}" for kind, n in ignored.items())
        line = f"ignored {sum(ignored.values())} of {len(names)} files of {archive}: {counts}"
        print(printable(line), flush=True)
    paths = sorted(name for name in names if rawfiles.is_image(name))
    for first, second in pairwise(paths):
        if first == second:
            raise ValueError(f"expected every path once, found {first} twice ({archive})")
    indices = _split(paths, options.get("split"), Path(raw), archive, seed)
    indices = {split: index[: options.get("limit")] for split, index in indices.items()}
    for split, index in indices.items():
        if not len(index):
            raise ValueError(f"expected images in split {split!r}, found none of {len(paths)} ({archive})")

    places = {paths[i]: (split, k) for split, index in indices.items() for k, i in enumerate(index)}
    splits = {split: np.empty((len(index), *shape), np.uint8) for split, index in indices.items()}
    with archives.named(archive):
        for name, read in archives.members(archive):
            if name in places:
                split, k = places[name]
                where = archives.place(archive, name)
                image = pictures.open_image(read(), shape[0], where, upright=True, background=background)
                splits[split][k] = pictures.fit(image, shape, resize, where)

    classes, labels = None, {}
    if classes_by == "folder":
        parents = {path: _parent(path, archive) for path in places}
        classes = sorted(set(parents.values()))
        _check_classes(classes, archive)
        number = {name: k for k, name in enumerate(classes)}
        labels = {
            split: np.array([number[parents[paths[i]]] for i in index], np.int64) for split, index in indices.items()
        }
    return saving.Arrays(
        splits=splits,
        indices=indices,
        labels=labels,
        n_classes=len(classes) if classes else None,
        description=f"image files of {archive.name}, resize {resize}",
        source={
            "module": _MODULE,
            "archive": archive.name,
            "archive_sha256": sha256,
            "split": options["split"],
            "resize": resize,
            "filter": None if resize == "none" else "bilinear, antialiased",
            "limit": options.get("limit"),
            "seed": seed,
            "classes": classes,
            "n_source": len(paths),
            "n_ignored": len(names) - len(paths),
            "ignored": ignored,
            "background": options.get("background"),
            "orientation": "EXIF",
        },
        names=paths,
    )


def find_index(raw: Path, name: Any) -> Path:
    """The index file `name` in the drop folder `raw`; FileNotFoundError where there is none."""
    index = archives.inside(raw, name, "index")
    if not index.is_file():
        raise FileNotFoundError(f"expected a CSV file with the columns path,split, found none; put it at {index}")
    return index


def _check_split(split: Any) -> tuple[str, ...]:
    """The splits that option `split` names; for an index all that it may name. ValueError for another form."""
    if not isinstance(split, dict) or not split:
        raise ValueError(
            f"expected option 'split' with folders, an index or random counts, found {split!r} ({_MODULE})"
        )
    if set(split) == {"index"}:
        archives.check_name(split["index"], "index", _MODULE)
        return _SPLITS
    parts = split["random"] if set(split) == {"random"} else split
    if not isinstance(parts, dict) or not parts:
        raise ValueError(f"expected counts such as {{'train': 9000, 'test': 1000}}, found {parts!r} ({_MODULE})")
    for name in parts:
        if name not in _SPLITS:
            raise ValueError(f"unknown split {name!r} (known: {', '.join(_SPLITS)}; {_MODULE})")
    if parts is not split:
        for name, count in parts.items():
            checks.check_count(count, f"the number of {name} images", _MODULE)
        return tuple(parts)
    for name, folder in parts.items():
        if not isinstance(folder, str):
            raise ValueError(f"expected a folder name for split {name!r}, found {folder!r} ({_MODULE})")
    prefixes = sorted(_prefix(folder) for folder in parts.values())
    if len(prefixes) == 2 and prefixes[1].startswith(prefixes[0]):
        raise ValueError(
            f"expected separate folders for train and test, found one inside the other: {parts} ({_MODULE})"
        )
    return tuple(parts)


def _prefix(folder: str) -> str:
    """The beginning of the paths of a folder's files."""
    return f"{folder.rstrip('/')}/" if folder else ""


def _split(paths: list[str], split: dict[str, Any], raw: Path, archive: Path, seed: int) -> dict[str, np.ndarray]:
    """{split: int64 indices into `paths`}, each in random order."""
    random = checks.generator(seed)
    if set(split) == {"random"}:
        return _random_split(len(paths), split["random"], archive, random)
    if set(split) == {"index"}:
        parts = _index_split(paths, find_index(raw, split["index"]), archive)
    else:
        parts = {name: [k for k, path in enumerate(paths) if path.startswith(_prefix(split[name]))] for name in split}
    return {name: random.permutation(np.array(parts[name], np.int64)) for name in _SPLITS if name in parts}


def _random_split(
    n: int, counts: dict[str, int], archive: Path, random: np.random.RandomState
) -> dict[str, np.ndarray]:
    wanted = sum(counts.values())
    if wanted > n:
        raise ValueError(f"expected at least {wanted} images for the split, found {n} ({archive})")
    order, start, indices = random.permutation(n).astype(np.int64), 0, {}
    for name in _SPLITS:
        if name in counts:
            indices[name] = order[start : start + counts[name]]
            start += counts[name]
    return indices


def _index_split(paths: list[str], index: Path, archive: Path) -> dict[str, list[int]]:
    place, seen = {path: k for k, path in enumerate(paths)}, set()
    parts: dict[str, list[int]] = {}
    with (
        reading(index, "expected a CSV file, found"),
        # Paths are file names, which may hold any bytes.
        index.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file,
    ):
        rows = csv.DictReader(file)
        if not {"path", "split"} <= set(rows.fieldnames or ()):
            raise ValueError(f"expected the columns path,split, found {rows.fieldnames} ({index})")
        for row in rows:
            where, path, name = f"{index}, line {rows.line_num}", row["path"], row["split"]
            if path in seen or path not in place:
                problem = "again" if path in seen else f"but it is not an image of {archive.name}"
                raise ValueError(f"expected every path of the archive once, found {path!r} {problem} ({where})")
            seen.add(path)
            if name:
                if name not in _SPLITS:
                    raise ValueError(f"expected split train, test or nothing, found {name!r} ({where})")
                parts.setdefault(name, []).append(place[path])
    if not parts:
        raise ValueError(f"expected rows with split train or test, found none ({index})")
    return {name: sorted(part) for name, part in parts.items()}


def _check_choice(option: str, value: Any, known: tuple[str | None, ...]) -> None:
    if value not in known:
        choices = " or ".join("null" if choice is None else repr(choice) for choice in known)
        raise ValueError(f"expected option {option!r} to be {choices}, found {value!r} ({_MODULE})")


def _background(value: Any) -> tuple[int, int, int] | None:
    """The colour of option `background`."""
    if value is None:
        return None
    colour = value if isinstance(value, list) else [value] * 3
    if len(colour) != 3 or not all(type(part) is int and 0 <= part <= 255 for part in colour):
        raise ValueError(
            f"expected option 'background' to be a grey value or [red, green, blue], 0..255, found {value!r} "
            f"({_MODULE})"
        )
    return tuple(colour)


def _ignored(names: Iterable[str]) -> dict[str, int]:
    """Numbers of the files that are no images, by kind: "hidden", or the suffix of the name."""
    kinds = Counter(
        "hidden" if rawfiles.is_leftover(name) else PurePosixPath(name).suffix.lower() or "without a suffix"
        for name in names
        if not rawfiles.is_image(name)
    )
    return dict(sorted(kinds.items()))


def _check_classes(classes: list[str], archive: Path) -> None:
    """ValueError for classes that differ only in case or in the form of an accent.

    Other systems would take them for one class, and here such a difference is a mistake.
    """

    def folded(name: str) -> str:
        return normalize("NFC", normalize("NFC", name).casefold())

    for first, second in pairwise(sorted(classes, key=lambda name: (folded(name), name))):
        if folded(first) == folded(second):
            raise ValueError(f"expected classes that differ in more than case, found {first} and {second} ({archive})")


def _parent(path: str, archive: Path) -> str:
    parent = PurePosixPath(path).parent.name
    if not parent:
        raise ValueError(f"expected every image in the folder of its class, found {path} at the top ({archive})")
    return parent
