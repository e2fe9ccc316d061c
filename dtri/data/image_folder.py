"""Any collection of image files: a zip, tar or tar.gz archive or a folder, put into the drop folder by hand.

Options:
  archive  name of the file or folder inside the drop folder (required)
  sha256   of the archive file; checked when given
  split    (required) one of
             {"train": "train/", "test": "test/"}      by folder inside the archive, "" for everything
             {"index": "split.csv"}                    a CSV file in the drop folder, columns path,split; split is
                                                       train, test or empty (unused)
             {"random": {"train": 9000, "test": 1000}} so many, drawn with the seed
  resize   "none" (default): every image must have the size asked for; "stretch": to that size, whatever the aspect
           ratio; "crop": shorter side to the size, then centre crop (as torchvision's Resize and CenterCrop)
  labels   "folder": the class is the name of the parent folder, numbered in sorted order; null (default): no labels
  limit    at most so many images per split
  background  one grey value or [red, green, blue], 0..255, on which transparent pictures are put; null (default):
           transparency is an error, since what lies under it is not what anyone has seen

The source order is the sorted order of the paths. Each split is stored in a seeded random order, so that the first n
images of a split are a sample of it and not of one class. Archives are read in memory and never extracted; members that
could write elsewhere or are unreasonably large are refused. Resizing uses PIL's bilinear filter, antialiased when
shrinking. Links inside a folder are followed. Hidden files and folders, and what operating systems leave beside
pictures, are ignored and counted. Photographs are turned upright as their EXIF data says; of CMYK the colour profile is
not applied; of 16-bit RGB the upper 8 bits count.
"""

import csv
import io
import stat
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any
from unicodedata import normalize

import numpy as np
from PIL import Image, ImageOps

from dtri.data import checks, rawfiles, saving
from dtri.messages import printable, reading

FILES: dict[str, rawfiles.RawFile] = {}  # the archive is named by an option
MAX_FILE = 64 * 2**20  # bytes of one image file
MAX_TOTAL = 64 * 2**30  # bytes of all files of an archive together
MAX_PIXELS = 64 * 2**20  # of one image
_KNOWN = ("archive", "sha256", "split", "resize", "labels", "limit", "background")
_SPLITS = ("train", "test")
_OPAQUE = "; make it opaque, or see option 'background' of dtri.data.image_folder"
_Member = tuple[str, Callable[[], bytes]]


def prepare(raw: Path, image_shape: tuple[int, int, int], options: dict[str, Any], seed: int) -> saving.Arrays:
    """The images of `options["archive"]` at `image_shape`; grey or RGB by its C. ValueError names what does not fit."""
    checks.check_options(options, _KNOWN, "dtri.data.image_folder")
    shape = checks.check_shape(image_shape, (1, 3), "dtri.data.image_folder")
    resize, classes_by = options.get("resize", "none"), options.get("labels")
    _check_choice("resize", resize, tuple(_RESIZE))
    _check_choice("labels", classes_by, ("folder", None))
    if options.get("limit") is not None:
        checks.check_count(options["limit"], "option 'limit'", "dtri.data.image_folder")
    background = _background(options.get("background"))
    archive = inside(raw, options.get("archive"), "archive")
    sha256 = check_archive(archive, options.get("sha256"))

    with named(archive):
        names = [name for name, _ in members(archive)]
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
    with named(archive):
        for name, read in members(archive):
            if name in places:
                split, k = places[name]
                where = place(archive, name)
                image = open_image(read(), shape[0], where, upright=True, background=background)
                splits[split][k] = fit(image, shape, resize, where)

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
            "module": "dtri.data.image_folder",
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


def inside(raw: Path, name: Any, option: str) -> Path:
    """`raw / name`; ValueError for a name that is missing or leads out of the drop folder."""
    if not isinstance(name, str) or not name:
        raise ValueError(f"expected option {option!r} to name something in {raw}, found {name!r}")
    return Path(raw) / _safe(name, Path(raw))


def find_index(raw: Path, name: Any) -> Path:
    """The file that splits an archive; FileNotFoundError where there is none."""
    index = inside(raw, name, "index")
    if not index.is_file():
        raise FileNotFoundError(f"expected a CSV file with the columns path,split, found none; put it at {index}")
    return index


def check_archive(archive: Path, sha256: str | None) -> str:
    """The sha256 of an archive or of a folder's images. FileNotFoundError: not there; ValueError: another hash."""
    if archive.is_dir():
        if sha256:
            raise ValueError(f"expected a file with sha256 {sha256}, found a folder ({archive})")
        return rawfiles.sha256_of(archive)
    if not archive.is_file():
        identity = f" with sha256 {sha256}" if sha256 else ""
        raise FileNotFoundError(f"expected the archive {archive.name}{identity}, found none; put it at {archive}")
    rawfiles.check_no_page(archive, f"the archive {archive.name}", "where it came from")
    found = rawfiles.sha256_of(archive)
    if sha256 and found != sha256.lower():
        raise ValueError(f"expected sha256 {sha256}, found {found} ({archive}, {archive.stat().st_size} bytes)")
    return found


def place(archive: Path, name: str) -> str:
    """Where an image lies, for messages: its path in a folder, else the archive and the path inside."""
    return str(archive / name) if archive.is_dir() else f"{archive}, {name}"


def decode(content: bytes, shape: tuple[int, int, int], resize: str, where: str) -> np.ndarray:
    """Bytes of an image file -> uint8 [C, H, W]; ValueError names an unreadable, too large or odd-sized one."""
    return fit(open_image(content, shape[0], where), shape, resize, where)


def fit(image: Image.Image, shape: tuple[int, int, int], resize: str, where: str) -> np.ndarray:
    """A picture of the right number of channels -> uint8 [C, H, W]."""
    return pixels(_RESIZE[resize](image, (shape[2], shape[1]), where))


def open_image(
    content: bytes, channels: int, where: str, upright: bool = False, background: tuple[int, int, int] | None = None
) -> Image.Image:
    """Bytes of an image file -> grey (1 channel) or RGB (3) picture, turned as its EXIF data says if `upright`.

    ValueError naming `where`: unreadable, too large, more than 8 bits of grey, animated, or transparent while no
    `background` is given.
    """
    with reading(where, "expected an image, found something unreadable"):
        if not content:
            raise EOFError("an empty file")
        with Image.open(io.BytesIO(content)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"expected at most {MAX_PIXELS} pixels, found {image.width}x{image.height} ({where})")
            if image.mode.startswith(("I", "F")):  # converting these to 8 bits would clip, not scale
                raise ValueError(f"expected 8 bits per channel, found mode {image.mode} ({where})")
            frames = getattr(image, "n_frames", 1)
            if frames > 1 and image.format != "MPO":  # a photograph and its previews
                raise ValueError(f"expected one picture, found {frames} frames ({where})")
            if image.format == "PNG":
                Image.open(io.BytesIO(content)).verify()  # the format's checksums, which decoding passes over
            image.load()
            picture = ImageOps.exif_transpose(image) if upright else image
            if _transparent(picture):
                if background is None:
                    raise ValueError(f"expected an opaque picture, found transparent pixels ({where}){_OPAQUE}")
                ground = Image.new("RGBA", picture.size, (*background, 255))
                picture = Image.alpha_composite(ground, picture.convert("RGBA"))
            return picture.convert("L" if channels == 1 else "RGB")


def _transparent(image: Image.Image) -> bool:
    """Whether any pixel is, by an alpha channel or a transparent colour."""
    return image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema()[0] < 255


def pixels(image: Image.Image) -> np.ndarray:
    """uint8 [C, H, W] of a grey or RGB picture."""
    values = np.asarray(image)
    return values[None] if values.ndim == 2 else values.transpose(2, 0, 1)


def _keep(image: Image.Image, size: tuple[int, int], where: str) -> Image.Image:
    if image.size != size:
        found, expected = "{}x{}".format(*image.size), "{}x{}".format(*size)
        raise ValueError(f"expected {expected} pixels (width x height) with resize 'none', found {found} ({where})")
    return image


def _stretch(image: Image.Image, size: tuple[int, int], where: str) -> Image.Image:
    return image.resize(size, Image.Resampling.BILINEAR)


def _crop(image: Image.Image, size: tuple[int, int], where: str) -> Image.Image:
    """Cover `size` and cut out its centre; for squares the sizes and offsets of torchvision's Resize and CenterCrop."""
    (width, height), (to_width, to_height) = image.size, size
    if to_width * height >= to_height * width:  # the width is the tighter side
        covering = (to_width, max(to_height, to_width * height // width))
    else:
        covering = (max(to_width, to_height * width // height), to_height)
    image = image.resize(covering, Image.Resampling.BILINEAR)
    left, top = round((covering[0] - to_width) / 2), round((covering[1] - to_height) / 2)
    return image.crop((left, top, left + to_width, top + to_height))


_RESIZE = {"none": _keep, "stretch": _stretch, "crop": _crop}


def _split(paths: list[str], split: Any, raw: Path, archive: Path, seed: int) -> dict[str, np.ndarray]:
    """{split: int64 indices into `paths`}, each in random order."""
    if not isinstance(split, dict) or not split:
        raise ValueError(
            f"expected option 'split' with folders, an index or random counts, found {split!r} ({archive})"
        )
    random = checks.generator(seed)
    if set(split) == {"random"}:
        return _random_split(len(paths), split["random"], archive, random)
    if set(split) == {"index"}:
        parts = _index_split(paths, find_index(raw, split["index"]), archive)
    else:
        parts = _folder_split(paths, split, archive)
    return {name: random.permutation(np.array(parts[name], np.int64)) for name in _SPLITS if name in parts}


def _random_split(n: int, counts: Any, archive: Path, random: np.random.RandomState) -> dict[str, np.ndarray]:
    if not isinstance(counts, dict) or not counts:
        raise ValueError(f"expected counts such as {{'train': 9000, 'test': 1000}}, found {counts!r} ({archive})")
    _check_names(counts, archive)
    for name, count in counts.items():
        checks.check_count(count, f"the number of {name} images", str(archive))
    wanted = sum(counts.values())
    if wanted > n:
        raise ValueError(f"expected at least {wanted} images for the split, found {n} ({archive})")
    order, start, indices = random.permutation(n).astype(np.int64), 0, {}
    for name in _SPLITS:
        if name in counts:
            indices[name] = order[start : start + counts[name]]
            start += counts[name]
    return indices


def _folder_split(paths: list[str], folders: dict[str, Any], archive: Path) -> dict[str, list[int]]:
    _check_names(folders, archive)
    parts: dict[str, list[int]] = {}
    for name, folder in folders.items():
        if not isinstance(folder, str):
            raise ValueError(f"expected a folder name for split {name!r}, found {folder!r} ({archive})")
        prefix = f"{folder.rstrip('/')}/" if folder else ""
        parts[name] = [k for k, path in enumerate(paths) if path.startswith(prefix)]
    both = set(parts.get("train", ())) & set(parts.get("test", ()))
    if both:
        raise ValueError(f"expected separate folders for train and test, found {paths[min(both)]} in both ({archive})")
    return parts


def _index_split(paths: list[str], index: Path, archive: Path) -> dict[str, list[int]]:
    place, seen = {path: k for k, path in enumerate(paths)}, set()
    parts: dict[str, list[int]] = {}
    with (
        reading(index, "expected a CSV file, found"),
        # As names of files, whatever their bytes.
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
        raise ValueError(f"expected option {option!r} to be {choices}, found {value!r} (dtri.data.image_folder)")


def _background(value: Any) -> tuple[int, int, int] | None:
    """The colour of option `background`."""
    if value is None:
        return None
    colour = value if isinstance(value, list) else [value] * 3
    if len(colour) != 3 or not all(type(part) is int and 0 <= part <= 255 for part in colour):
        raise ValueError(
            f"expected option 'background' to be a grey value or [red, green, blue], 0..255, found {value!r} "
            "(dtri.data.image_folder)"
        )
    return tuple(colour)


def _ignored(names: Iterable[str]) -> dict[str, int]:
    """Numbers of the files that are no images, by kind: "hidden", or the suffix."""
    kinds = Counter(
        "hidden" if rawfiles.is_leftover(name) else PurePosixPath(name).suffix.lower() or "without a suffix"
        for name in names
        if not rawfiles.is_image(name)
    )
    return dict(sorted(kinds.items()))


def _check_classes(classes: list[str], archive: Path) -> None:
    """Classes that differ in case or in the form of an accent would be one elsewhere, and are one by mistake here."""

    def folded(name: str) -> str:
        return normalize("NFC", normalize("NFC", name).casefold())

    for first, second in pairwise(sorted(classes, key=lambda name: (folded(name), name))):
        if folded(first) == folded(second):
            raise ValueError(f"expected classes that differ in more than case, found {first} and {second} ({archive})")


def _check_names(split: dict[str, Any], archive: Path) -> None:
    for name in split:
        if name not in _SPLITS:
            raise ValueError(f"unknown split {name!r} (known: {', '.join(_SPLITS)}; {archive})")


def members(archive: Path) -> Iterator[_Member]:
    """(path, read) of every plain file in storage order; each must be read before the next is asked for."""
    total = 0
    for name, size, read in _openers(archive):
        total += size
        if total > MAX_TOTAL or (size > MAX_FILE and rawfiles.is_image(name)):
            limit = f"{MAX_TOTAL} bytes in all" if total > MAX_TOTAL else f"{MAX_FILE} bytes in one file"
            raise ValueError(f"expected at most {limit}, found {size} in {name}, {total} so far ({archive})")
        yield name, read


def _openers(archive: Path) -> Iterator[tuple[str, int, Callable[[], bytes]]]:
    if archive.is_dir():
        return _from_folder(archive)
    if zipfile.is_zipfile(archive):
        return _from_zip(archive)
    if tarfile.is_tarfile(archive):
        return _from_tar(archive)
    raise ValueError(
        f"expected a zip, tar or tar.gz archive, found {archive.stat().st_size} bytes of something else or a truncated "
        f"file ({archive})"
    )


def _from_folder(folder: Path) -> Iterator[tuple[str, int, Callable[[], bytes]]]:
    for name, path in rawfiles.walk(folder):
        yield name, path.stat().st_size, path.read_bytes


def _from_zip(archive: Path) -> Iterator[tuple[str, int, Callable[[], bytes]]]:
    with zipfile.ZipFile(archive) as file:
        for member in file.infolist():
            name = _safe(member.filename, archive)
            if stat.S_ISLNK(member.external_attr >> 16):
                raise ValueError(f"expected plain files, found the link {name} ({archive})")
            if member.flag_bits & 1:
                raise ValueError(f"expected no password, found the encrypted file {name} ({archive})")
            if not member.is_dir():
                yield name, member.file_size, lambda member=member: file.read(member)


def _from_tar(archive: Path) -> Iterator[tuple[str, int, Callable[[], bytes]]]:
    with tarfile.open(archive, "r:*") as file:
        for member in file:
            file.members.clear()  # of a million files the headers alone would fill 2 GiB
            name = _safe(member.name, archive)
            if member.issym() or member.islnk():
                raise ValueError(f"expected plain files, found the link {name} -> {member.linkname} ({archive})")
            if not member.isfile() and not member.isdir():
                raise ValueError(f"expected plain files, found {name} of tar type {member.type!r} ({archive})")
            if member.isfile():
                yield name, member.size, lambda member=member: file.extractfile(member).read()
        # tarfile takes a header that is cut off or damaged for the end; the real end is a block of zeros.
        file.fileobj.seek(file.offset)
        if file.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise ValueError(f"expected a complete tar archive, found a damaged or missing end ({archive})")
        # Only at the end of its data does a compressed stream check its sum; what follows is padding, tens of kB.
        if len(file.fileobj.read(MAX_FILE)) == MAX_FILE:
            raise ValueError(f"expected nothing after the end of the tar archive, found {MAX_FILE} bytes ({archive})")


def named(archive: Path) -> AbstractContextManager[None]:
    """Whatever reading it raises, as a ValueError that names the archive."""
    return reading(archive, "expected a complete archive, found")


def _safe(name: str, archive: Path) -> str:
    """The path without a leading "./"; ValueError when it is absolute or climbs up, on any operating system."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or (path.parts and path.parts[0].endswith(":")):
        raise ValueError(f"expected paths below the archive's own folder, found {name!r} ({archive})")
    return str(path)


def _parent(path: str, archive: Path) -> str:
    parent = PurePosixPath(path).parent.name
    if not parent:
        raise ValueError(f"expected every image in the folder of its class, found {path} at the top ({archive})")
    return parent
