"""Damaged raw files of every kind, cut, flipped and filled with noise: each is read or named, and nothing else happens.

The seed is fixed. More damage is tried by hand: DTRI_FUZZ=1000 python -m pytest tests/test_damaged_raw.py
"""

import contextlib
import gzip
import io
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from dtri.data import (
    celeba_hq,
    cifar10,
    download,
    imagenet32_chrabaszcz,
    mnist,
    pictures,
    rawfiles,
    saving,
    store,
    svhn,
)
from tests import test_data, test_image_sets, test_large_sets

ROOT = Path(__file__).resolve().parents[1]
N = int(os.environ.get("DTRI_FUZZ", "40"))  # damaged copies of every file
PIXELS = np.random.RandomState(5).randint(0, 256, (24, 20, 3)).astype(np.uint8)


def damaged(content: bytes, n: int = N) -> Iterator[bytes]:
    """Copies with the end cut off, with flipped bits, most of them in the first bytes, or with bytes of noise."""
    random = np.random.RandomState(20)
    yield b""
    for k in range(n):
        copy = bytearray(content)
        place = random.randint(min(len(copy), 600) if k % 2 else len(copy))
        match k % 5:
            case 0 | 1:
                del copy[place:]
            case 2 | 3:
                copy[place] ^= 1 << random.randint(8)
            case 4:
                copy[place : place + 16] = random.bytes(len(copy[place : place + 16]))
        yield bytes(copy)


def survives(path: Path, content: bytes, read: Callable[[], object], n: int = N) -> int:
    """Number of damaged copies that `read` refuses, always by the path of the file."""
    refused = []
    for copy in damaged(content, n):
        path.write_bytes(copy)
        try:
            with warnings.catch_warnings(action="ignore"):
                read()
        except (ValueError, OSError) as error:
            refused.append(str(error))
    where = str(path.parent if path.name == "meta.json" else path)
    assert [line for line in refused if where not in line or "object at 0x" in line] == []
    assert [line for line in refused if not line.startswith(("expected ", "[Errno ", "unknown "))] == []
    return len(refused)


def encoded(kind: str, mode: str = "RGB", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def exif() -> Image.Exif:
    data = Image.Exif()
    data[0x0112], data[0x010E] = 6, "x"
    return data


PLAIN = b"P3\n20 24\n255\n" + b"\n".join(b" ".join(b"%d" % v for v in row) for row in PIXELS.reshape(24, 60)) + b"\n"
PICTURES = {
    "png": encoded("PNG"),
    "palette.png": encoded("PNG", "P", transparency=3),
    "text.png": encoded("PNG", pnginfo=(info := PngImagePlugin.PngInfo()) or info.add_itxt("a", "b", zip=True) or info),
    "jpg": encoded("JPEG"),
    "exif.jpg": encoded("JPEG", exif=exif()),
    "cmyk.jpg": encoded("JPEG", "CMYK"),
    "progressive.jpg": encoded("JPEG", progressive=True),
    "bmp": encoded("BMP"),
    "gif": encoded("GIF"),
    "webp": encoded("WEBP", lossless=True),
    "ppm": encoded("PPM"),
    "pgm": encoded("PPM", "L"),
    "plain.ppm": PLAIN,
    "tif": encoded("TIFF"),
    "deflated.tif": encoded("TIFF", compression="tiff_adobe_deflate", exif=exif()),
    "lzw.tif": encoded("TIFF", compression="tiff_lzw"),
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{name}"

    def read() -> None:
        where = str(path)
        image = pictures.open_image(path.read_bytes(), 3, where, upright=True, background=(0, 0, 0))
        assert pictures.fit(image, (3, 8, 8), "crop", where).shape == (3, 8, 8)

    assert survives(path, PICTURES[name], read) > N // 5
    path.write_bytes(PICTURES[name])
    read()


def test_a_damaged_png_gives_no_other_pixels() -> None:
    """Of the formats of pictures, PNG alone has checksums."""
    image = np.repeat(PIXELS[:1], 24, 0)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    for copy in damaged(buffer.getvalue(), 400):
        with contextlib.suppress(ValueError):
            np.testing.assert_array_equal(pictures.open_image(copy, 3, "DIR/a.png"), image)


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz"])
def test_archives_of_pictures(name: str, tmp_path: Path) -> None:
    members = test_data.two_classes(2)
    (test_data.write_zip if name == "a.zip" else test_data.write_tar)(tmp_path / name, members)
    path = tmp_path / name
    content = path.read_bytes()
    read = lambda: test_data.folder_images(tmp_path, name)  # noqa: E731
    assert survives(path, content, read) > N // 5
    assert survives(path, content, lambda: download.check_whole(path, name)) > N // 5


def test_idx_files(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    plain = test_data.idx(PIXELS)
    for content in (plain, gzip.compress(plain)):
        survives(path, content, lambda: mnist.read_idx(path, 3))
    gz = rawfiles.RawFile(None, True, None, "", "")
    survives(path, content, lambda: rawfiles.measure(path, gz))


def test_mat_files(tmp_path: Path) -> None:
    test_image_sets.write_svhn(tmp_path)
    path = tmp_path / "test_32x32.mat"
    survives(path, path.read_bytes(), lambda: svhn.read_mat(path))


def test_cifar10_archives(tmp_path: Path) -> None:
    test_data.small_cifar10(tmp_path)
    path = tmp_path / cifar10.ARCHIVE
    survives(path, path.read_bytes(), lambda: cifar10.prepare(tmp_path, (3, 32, 32), {}, 0))
    batch = test_data.python2_batch(np.zeros((4, 3072), np.uint8), [1, 2, 3, 4])
    for copy in damaged(batch):
        test_data.small_cifar10(tmp_path, data_batch_3=copy)
        with contextlib.suppress(ValueError):
            cifar10.prepare(tmp_path, (3, 32, 32), {}, 0)
            continue
        with pytest.raises(ValueError, match=rf"{path}, cifar-10-batches-py/data_batch_3"):
            cifar10.prepare(tmp_path, (3, 32, 32), {}, 0)


def test_chrabaszcz_archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    test_image_sets.write_chrabaszcz(tmp_path, monkeypatch)
    path = tmp_path / "Imagenet32_val.zip"
    survives(path, path.read_bytes(), lambda: imagenet32_chrabaszcz.prepare(tmp_path, (3, 32, 32), {}, 0))


def test_streamed_archives(tmp_path: Path) -> None:
    test_data.write_tar(tmp_path / "a.tar", {f"{k}.png": test_data.png((k, 0, 0), (1024, 1024)) for k in range(3)})
    path = tmp_path / "a.tar"

    def read() -> None:
        arrays = celeba_hq.prepare(tmp_path, (3, 4, 4), {"archive": "a.tar", "holdout": 1}, 0)
        assert [len(list(stream.read(0))) for stream in arrays.splits.values()]

    survives(path, path.read_bytes(), read, N // 4)


def test_index_files(tmp_path: Path) -> None:
    members = test_data.two_classes(2)
    test_data.write_zip(tmp_path / "a.zip", members)
    path = tmp_path / "split.csv"
    rows = "".join(f"{name},{name.partition('/')[0]}\n" for name in members)
    survives(
        path,
        ("path,split\n" + rows).encode(),
        lambda: test_data.folder_images(tmp_path, split={"index": "split.csv"}),
    )
    for content in (
        b"path,split\n\0,train\n",
        b'path,split\n"a\n',
        b"path,split\n\xff.png,train\n",
        b"path,split\na\n",
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"split\.csv"):
            test_data.folder_images(tmp_path, split={"index": "split.csv"})


@pytest.mark.parametrize("name", ["meta.json", "train.npy", "index.npz"])
def test_prepared_datasets(name: str, tmp_path: Path) -> None:
    saving.save(test_data.arrays(), tmp_path, "small")

    def read() -> None:
        dataset = store.load(tmp_path)
        assert dataset.images("train").shape == (6, 3, 8, 8)
        assert len(dataset.index("train")) == len(dataset.labels("test")) == 6

    path = tmp_path / name
    refused = survives(path, path.read_bytes(), read)
    assert name == "meta.json" or refused == N + 1


WORK = """
import sys
from pathlib import Path
from dtri.data import lsun
path = Path(sys.argv[1])
for copy in sorted(path.parent.glob("copy*")):
    copy.rename(path)
    try:
        arrays = lsun.prepare(path.parent.parent, (3, 16, 16), {"archive": "bedroom_train_lmdb", "holdout": 3}, 0)
        for stream in arrays.splits.values():
            list(stream.read(0))
        print("read", flush=True)
    except (ValueError, OSError) as error:
        print(f"refused {error}", flush=True)
"""


def test_databases(tmp_path: Path) -> None:
    values = {test_large_sets.key(k): test_large_sets.room(k) for k in range(12)}
    path = test_large_sets.write_database(tmp_path / "bedroom_train_lmdb", values)
    for k, copy in enumerate(damaged(path.read_bytes())):
        (path.parent / f"copy{k:04}").write_bytes(copy)
    done = subprocess.run([sys.executable, "-c", WORK, str(path)], cwd=ROOT, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert (done.returncode, len(lines)) == (0, N + 1), (done.returncode, len(lines), done.stderr)
    assert all(str(path) in line for line in lines if line.startswith("refused")), lines
