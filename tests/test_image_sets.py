"""Fashion-MNIST, SVHN, DTD, CelebA and both ImageNets of 32x32: small files of the official formats, exact pixels."""

import csv
import gzip
import io
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from dtri.data import (
    archives,
    celeba,
    dtd,
    fashion_mnist,
    imagenet32,
    imagenet32_chrabaszcz,
    rawfiles,
    saving,
    store,
    svhn,
)
from dtri.files import digest

PAGE = b"<!DOCTYPE html><html><title>Quota exceeded</title></html>"


def encoded(pixels: np.ndarray, kind: str) -> bytes:
    """An image file of uint8 [H, W] or [H, W, 3]; a JPEG of grey squares on a grid of 8 pixels is exact."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert("RGB").save(buffer, kind, quality=100, subsampling=0)
    return buffer.getvalue()


def write_tar(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))


def write_zip(path: Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)


def quarters(height: int, width: int, row: int, column: int) -> np.ndarray:
    """uint8 [H, W]: 40 and 80 above `row`, 120 and 200 below, the first of each left of `column`."""
    pixels = np.full((height, width), 40, np.uint8)
    pixels[:row, column:], pixels[row:, :column], pixels[row:, column:] = 80, 120, 200
    return pixels


def saved(arrays: saving.Arrays, folder: Path) -> store.Dataset:
    saving.save(arrays, folder / "set", "small")
    return saving.verify(folder / "set")


# Fashion-MNIST


def test_fashion_mnist_is_read_exactly(tmp_path: Path) -> None:
    random, values = np.random.RandomState(0), {}
    for prefix, n in (("train", 7), ("t10k", 3)):
        values[f"{prefix}-images-idx3-ubyte.gz"] = random.randint(0, 256, (n, 28, 28)).astype(np.uint8)
        values[f"{prefix}-labels-idx1-ubyte.gz"] = random.randint(0, 10, n).astype(np.uint8)
    for name, value in values.items():
        header = struct.pack(f">{value.ndim + 1}I", 0x800 + value.ndim, *value.shape)
        (tmp_path / name).write_bytes(gzip.compress(header + value.tobytes()))
    found = fashion_mnist.prepare(tmp_path, (1, 28, 28), {}, 0)
    for split, prefix in (("train", "train"), ("test", "t10k")):
        np.testing.assert_array_equal(found.splits[split][:, 0], values[f"{prefix}-images-idx3-ubyte.gz"])
        np.testing.assert_array_equal(found.labels[split], values[f"{prefix}-labels-idx1-ubyte.gz"])
    assert found.source["module"] == "dtri.data.fashion_mnist"
    assert fashion_mnist.prepare(tmp_path, (1, 32, 32), {}, 0).splits["test"].shape == (3, 1, 32, 32)
    with pytest.raises(ValueError, match=r"expected t10k-images-idx3-ubyte\.gz \(4422102 bytes, md5 bef4ecab"):
        rawfiles.verify_raw(tmp_path, {"t10k-images-idx3-ubyte.gz": fashion_mnist.FILES["t10k-images-idx3-ubyte.gz"]})


# SVHN


def write_svhn(raw: Path, n: int = 11, **changes: np.ndarray) -> np.ndarray:
    """The official file's format, X [32, 32, 3, N] and y [N, 1] in 1..10; returns X."""
    values = np.random.RandomState(1).randint(0, 256, (32, 32, 3, n)).astype(np.uint8)
    content = {"X": values, "y": (np.arange(n) % 10 + 1).astype(np.uint8)[:, None]} | changes
    savemat(raw / "test_32x32.mat", content, do_compression=True)
    return values


def test_svhn_axes_and_the_digit_zero_are_put_right(tmp_path: Path) -> None:
    values = write_svhn(tmp_path)
    dataset = saved(svhn.prepare(tmp_path, (3, 32, 32), {}, 0), tmp_path)
    assert dataset.meta["sizes"] == {"test": 11}
    images = dataset.images("test")
    for n, channel, row, column in ((0, 0, 0, 0), (10, 2, 31, 5), (4, 1, 7, 30)):
        assert images[n, channel, row, column] == values[row, column, channel, n]
    assert dataset.labels("test").tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]


def test_bad_svhn_files_are_named(tmp_path: Path) -> None:
    write_svhn(tmp_path)
    path = tmp_path / "test_32x32.mat"
    whole = path.read_bytes()
    version73 = b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(400)
    for content in (whole[:-2000], whole[:200], whole[:60], b"", PAGE, version73):
        path.write_bytes(content)
        with pytest.raises(
            ValueError, match=r"expected a complete MATLAB 5 file with X and y, found: .*test_32x32\.mat"
        ):
            svhn.prepare(tmp_path, (3, 32, 32), {}, 0)
    for changes in ({"X": np.zeros((11, 32, 32, 3), np.uint8)}, {"y": np.zeros((11, 1))}, {"y": np.ones((10, 1))}):
        write_svhn(tmp_path, **changes)
        with pytest.raises(
            ValueError, match=r"expected uint8 X \[32, 32, 3, N\] and N classes in 1\.\.10, found uint8"
        ):
            svhn.prepare(tmp_path, (3, 32, 32), {}, 0)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"expected test_32x32\.mat \(64275384 bytes, md5 eb5a983be6a3"):
        svhn.prepare(tmp_path, (3, 32, 32), {}, 0)


# Describable Textures


def write_dtd(raw: Path, monkeypatch: pytest.MonkeyPatch, **changes: bytes | None) -> None:
    """The official tree with two classes of three images; `changes` by file name, None removes."""
    monkeypatch.setattr(dtd, "N_CLASSES", 2)
    monkeypatch.setattr(dtd, "PER_CLASS", 3)
    members = {"dtd/labels/train1.txt": b"banded/banded_0001.jpg\n", "dtd/imdb/imdb.mat": b"MATLAB"}
    members["dtd/images/waffled/.directory"] = b"[Dolphin]"
    for kind, size in (("waffled", (64, 128)), ("banded", (96, 64))):
        for k in range(3):
            name = f"{kind}_{k + 1:04}"
            content = changes.get(name, encoded(quarters(*size, 32, 64) + np.uint8(k), "JPEG"))
            if content is not None:
                members[f"dtd/images/{kind}/{name}.jpg"] = content
    write_tar(raw / "dtd-r1.0.1.tar.gz", members)


def test_textures_are_resized_and_cut_from_the_centre(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dtd(tmp_path, monkeypatch)
    dataset = saved(dtd.prepare(tmp_path, (3, 32, 32), {}, 0), tmp_path)
    assert (dataset.meta["sizes"], dataset.meta["n_classes"]) == ({"test": 6}, 2)
    index, labels = dataset.index("test"), dataset.labels("test")
    assert sorted(index) == list(range(6))
    np.testing.assert_array_equal(labels, index // 3)  # sorted paths: banded, then waffled
    assert index.tolist() != list(range(6))
    waffled = dataset.images("test")[np.flatnonzero(index == 3)[0]]
    # 128x64 -> 64x32: the edge is at row 16, softened by the filter's (1, 3, 3, 1) / 8; the centre is columns 16..47.
    left = [40] * 15 + [50, 110] + [120] * 15
    right = [80] * 15 + [95, 185] + [200] * 15
    for channel in waffled:
        assert channel[:, 0].tolist() == channel[:, 14].tolist() == left
        assert channel[:, 17].tolist() == channel[:, 31].tolist() == right
        assert channel[0, 14:18].tolist() == [40, 45, 75, 80]
    banded = dataset.images("test")[np.flatnonzero(index == 2)[0]]  # 64x96 -> 32x48: rows 8..39, one column of quarters
    assert banded[0].tolist() == [[42] * 32] * 7 + [[52] * 32, [112] * 32] + [[122] * 32] * 23


def test_the_corner_of_a_texture_is_not_resized(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dtd(tmp_path, monkeypatch)
    found = dtd.prepare(tmp_path, (3, 48, 32), {"crop": "top_left"}, 0)
    for image, place in zip(found.splits["test"], found.indices["test"]):
        expected = quarters(48, 32, 32, 32) + np.uint8(place % 3)
        np.testing.assert_array_equal(image, np.stack([expected] * 3))
    assert dtd.prepare(tmp_path, (1, 8, 8), {}, 0).splits["test"].shape == (6, 1, 8, 8)
    with pytest.raises(ValueError, match=r"expected at least 100x32 pixels .* found 64x96 \(.*banded_0001\.jpg\)"):
        dtd.prepare(tmp_path, (3, 32, 100), {"crop": "top_left"}, 0)


def test_bad_texture_archives_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(message: str, options: dict | None = None) -> None:
        with pytest.raises(ValueError, match=message):
            dtd.prepare(tmp_path, (3, 32, 32), options or {}, 0)

    write_dtd(tmp_path, monkeypatch, banded_0002=None)
    refused(r"expected 2 classes of 3 images in dtd/images/, found 5 images of 2 classes, 2 of banded \(.*dtd-r1\.0\.1")
    write_dtd(tmp_path, monkeypatch, banded_0001=None, banded_0002=None, banded_0003=None)
    refused("found 3 images of 1 classes")
    write_dtd(tmp_path, monkeypatch, banded_0002=encoded(quarters(96, 64, 32, 64), "JPEG")[:-400])
    refused(r"expected an image, found something unreadable: .*dtd/images/banded/banded_0002\.jpg")
    refused("expected option 'crop' to be 'centre' or 'top_left', found 'corner'", {"crop": "corner"})
    write_dtd(tmp_path, monkeypatch)
    path = tmp_path / "dtd-r1.0.1.tar.gz"
    path.write_bytes(path.read_bytes()[:-40])
    refused(r"expected a (complete|zip, tar).*dtd-r1\.0\.1")
    path.write_bytes(PAGE)
    refused(r"expected a zip, tar or tar\.gz archive, found .*dtd-r1\.0\.1")
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"expected dtd-r1\.0\.1\.tar\.gz \(625239812 bytes, md5 fff73e5086ae"):
        dtd.prepare(tmp_path, (3, 32, 32), {}, 0)


# CelebA


FACE = quarters(218, 178, 104, 88)


def write_celeba(raw: Path, monkeypatch: pytest.MonkeyPatch, n: int = 6, **changes: bytes | None) -> None:
    """The official zip with n faces, FACE and a grey level of its own for each, and the text files beside it.

    The third, fifth and first face train, the sixth tests. `changes` by number, None removes.
    """
    monkeypatch.setattr(celeba, "N_IMAGES", 6)
    split = {"train": np.array([2, 4, 0], np.int64), "test": np.array([5], np.int64)}
    monkeypatch.setattr(celeba, "read_split", lambda: split)
    members = {"img_align_celeba/": b""}
    for k in range(n):
        content = changes.get(f"face{k + 1}", encoded(FACE + np.uint8(k), "JPEG"))
        if content is not None:
            members[f"img_align_celeba/{k + 1:06}.jpg"] = content
    write_zip(raw / "img_align_celeba.zip", members)
    (raw / "list_eval_partition.txt").write_text("000001.jpg 0\n")
    (raw / "list_attr_celeba.txt").write_text("1\nMale\n000001.jpg -1\n")


def halved(start: int, stop: int, edge: int, before: int, after: int) -> list[int]:
    """Row or column start..stop of a picture whose value changes at `edge`, halved: weights (1, 3, 3, 1) / 8."""
    values = []
    for first in range(start, stop, 2):
        places = [max(start, first - 1), first, first + 1, min(stop - 1, first + 2)]
        weights = np.array([1.0, 3.0, 3.0, 1.0]) * [first > start, 1, 1, first + 2 < stop]
        shares = weights @ [float(place >= edge) for place in places] / weights.sum()
        values.append(round(before + (after - before) * shares))
    return values


@pytest.mark.parametrize(
    "crop, side, rows, columns",
    [
        ("none", (109, 89), (0, 218), (0, 178)),
        (178, (89, 89), (20, 198), (0, 178)),
        (160, (80, 80), (29, 189), (9, 169)),
        (140, (70, 70), (39, 179), (19, 159)),
        (108, (54, 54), (55, 163), (35, 143)),
    ],
)
def test_faces_are_the_committed_ones_resized(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crop: str | int, side: tuple, rows: tuple, columns: tuple
) -> None:
    write_celeba(tmp_path, monkeypatch)
    dataset = saved(celeba.prepare(tmp_path, (3, *side), {"crop": crop}, 0), tmp_path)
    assert dataset.meta["sizes"] == {"train": 3, "test": 1}
    assert dataset.index("train").tolist() == [2, 4, 0]
    for split, places in (("train", (2, 4, 0)), ("test", (5,))):
        for image, level in zip(dataset.images(split), places, strict=True):
            for channel in image:
                assert channel[0].tolist() == [level + v for v in halved(*columns, 88, 40, 80)]
                assert channel[-1].tolist() == [level + v for v in halved(*columns, 88, 120, 200)]
                assert channel[:, 0].tolist() == [level + v for v in halved(*rows, 104, 40, 120)]


def test_the_usual_transform_covers_and_cuts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_celeba(tmp_path, monkeypatch)
    stretched, covered = (
        celeba.prepare(tmp_path, shape, {"crop": crop}, 0).splits["train"]
        for crop, shape in (("none", (3, 109, 89)), ("cover", (3, 89, 89)))
    )
    np.testing.assert_array_equal(covered, stretched[:, :, 10:99])


def test_all_faces_make_one_test_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_celeba(tmp_path, monkeypatch)
    both = celeba.prepare(tmp_path, (3, 32, 32), {}, 0)
    dataset = saved(celeba.prepare(tmp_path, (3, 32, 32), {"test_only": True}, 0), tmp_path)
    assert dataset.meta["sizes"] == {"test": 4}
    assert dataset.index("test").tolist() == [2, 4, 0, 5]
    np.testing.assert_array_equal(dataset.images("test"), np.concatenate([both.splits["train"], both.splits["test"]]))


def test_the_committed_faces_are_drawn_by_the_seed() -> None:
    assert celeba.draw_split() == celeba.SPLIT.read_text()
    found = celeba.read_split()
    assert {split: len(index) for split, index in found.items()} == {"train": 9_000, "test": 1_000}
    both = np.concatenate(list(found.values()))
    assert len(set(both)) == 10_000
    assert (both.min() >= 0, both.max() < 202_599) == (True, True)
    assert abs(both.mean() / 202_599 - 0.5) < 0.01
    rows = list(csv.DictReader(celeba.SPLIT.open()))
    assert rows[0] == {"image": "080563.jpg", "split": "train"}
    assert found["train"][0] == 80_562


def test_a_changed_list_of_faces_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "celeba_split.csv"
    path.write_text(celeba.SPLIT.read_text().replace("train", "test", 1))
    monkeypatch.setattr(celeba, "SPLIT", path)
    with pytest.raises(ValueError, match=r"expected sha256 \w{64}, found \w{64} .* restore it from the repository"):
        celeba.read_split()


def test_bad_celeba_archives_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(message: str, **options: object) -> None:
        with pytest.raises(ValueError, match=message):
            celeba.prepare(tmp_path, (3, 64, 64), options, 0)

    write_celeba(tmp_path, monkeypatch, face2=None)
    refused(r"expected 6 images 000001\.jpg \.\.\. 000006\.jpg, found 5 \(.*img_align_celeba\.zip\)")
    write_celeba(tmp_path, monkeypatch, n=7)
    refused(r"expected each of 000001\.jpg \.\.\. 000006\.jpg once, found img_align_celeba/000007\.jpg")
    write_celeba(tmp_path, monkeypatch, face1=encoded(FACE[:, :-1], "JPEG"))
    refused(r"expected 178x218 pixels \(width x height\), found 177x218 \(.*000001\.jpg\)")
    write_celeba(tmp_path, monkeypatch, face1=encoded(FACE, "JPEG")[:-300])
    refused(r"expected an image, found something unreadable: .*000001\.jpg")
    refused(
        "expected option 'crop', unless 'none' or 'cover', to be a positive whole number, found 'face'", crop="face"
    )
    refused("expected option 'crop' to be at most 178 pixels, found 200", crop=200)
    refused("expected option 'test_only' to be true or false, found 'yes'", test_only="yes")
    refused(r"unknown option 'croop' for dtri\.data\.celeba \(known: crop, test_only\)", croop=178)
    write_celeba(tmp_path, monkeypatch)
    path = tmp_path / "img_align_celeba.zip"
    path.write_bytes(path.read_bytes()[:-100])
    refused(r"expected a zip, tar or tar\.gz archive, .* truncated file \(.*img_align_celeba\.zip\)")
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"expected img_align_celeba\.zip \(1443490838 bytes, md5 00d2c5bc6d35"):
        celeba.prepare(tmp_path, (3, 64, 64), {}, 0)


# ImageNet, van den Oord


def write_imagenet(raw: Path, monkeypatch: pytest.MonkeyPatch, train: int = 5) -> np.ndarray:
    """The official tar files with 5 and 2 images, not in the order of their names; uint8 [7, 32, 32, 3], sorted."""
    images = np.random.RandomState(3).randint(0, 256, (7, 32, 32, 3)).astype(np.uint8)
    monkeypatch.setattr(imagenet32, "N_IMAGES", {"train": 5, "test": 2})
    files = [encoded(image, "PNG") for image in images]
    write_tar(raw / "train_32x32.tar", {f"train_32x32/{k + 1:07}.png": files[k] for k in (3, 0, 4, 1, 2)[:train]})
    write_tar(raw / "valid_32x32.tar", {f"valid_32x32/{k + 1:05}.png": files[5 + k] for k in (1, 0)})
    hashes = {name: digest(raw / name, "sha256") for name in imagenet32.FILES}
    monkeypatch.setattr(imagenet32, "SHA256", hashes)
    return images.transpose(0, 3, 1, 2)


def test_imagenet32_is_stored_in_the_order_of_its_archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = write_imagenet(tmp_path, monkeypatch)
    found = imagenet32.prepare(tmp_path, (3, 32, 32), {}, 0)
    dataset = saved(found, tmp_path)
    assert dataset.meta["sizes"] == {"train": 5, "test": 2}
    assert dataset.index("train").tolist() == [3, 0, 4, 1, 2]
    np.testing.assert_array_equal(dataset.images("train"), images[[3, 0, 4, 1, 2]])
    np.testing.assert_array_equal(dataset.images("test"), images[[6, 5]])
    np.testing.assert_array_equal(list(found.splits["train"].read(3)), images[[1, 2]])  # continued after a kill


def test_bad_imagenet32_archives_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_imagenet(tmp_path, monkeypatch, train=4)
    with pytest.raises(ValueError, match=r"expected 5 images, found 4 of 4 names \(.*train_32x32\.tar\)"):
        imagenet32.prepare(tmp_path, (3, 32, 32), {}, 0)
    write_imagenet(tmp_path, monkeypatch)
    path = tmp_path / "valid_32x32.tar"
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(ValueError, match=r"expected sha256 \w{64}, found \w{64} \(.*valid_32x32\.tar"):
        imagenet32.prepare(tmp_path, (3, 32, 32), {}, 0)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"expected valid_32x32\.tar \(161474560 bytes, md5 unknown\)"):
        imagenet32.prepare(tmp_path, (3, 32, 32), {}, 0)


# ImageNet, Chrabaszcz


class Harmful:
    def __reduce__(self) -> tuple:
        return Path.touch, (Path("executed"),)


def batch(rows: np.ndarray, labels: list[int], protocol: int = 3, **more: object) -> bytes:
    """A batch as its authors pickled it, by Python 3 and a NumPy before 2."""
    content = {"data": rows, "labels": labels, "mean": rows.mean(0)} | more
    return pickle.dumps(content, protocol=protocol).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


def write_chrabaszcz(
    raw: Path, monkeypatch: pytest.MonkeyPatch, protocol: int = 3, **changes: bytes | None
) -> np.ndarray:
    """The official zips with 2 images in each of ten batches and 3 to validate; uint8 [23, 3, 32, 32] in order."""
    images = np.random.RandomState(4).randint(0, 256, (23, 3072)).astype(np.uint8)
    monkeypatch.setattr(imagenet32_chrabaszcz, "N_IMAGES", {"train": 20, "test": 3})
    members = {
        f"train_data_batch_{k + 1}": batch(images[2 * k : 2 * k + 2], [k + 1, 1000], protocol) for k in range(10)
    }
    members = {name: content for name, content in (members | changes).items() if content is not None}
    write_zip(raw / "Imagenet32_train.zip", members)
    write_zip(raw / "Imagenet32_val.zip", {"Imagenet32_val/val_data": batch(images[20:], [5, 6, 7], protocol)})
    return images.reshape(-1, 3, 32, 32)


@pytest.mark.parametrize("protocol", [2, 3])
def test_chrabaszcz_batches_are_read_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int) -> None:
    images = write_chrabaszcz(tmp_path, monkeypatch, protocol)
    found = imagenet32_chrabaszcz.prepare(tmp_path, (3, 32, 32), {}, 0)
    dataset = saved(found, tmp_path)
    assert (dataset.meta["sizes"], dataset.meta["n_classes"]) == ({"train": 20, "test": 3}, 1000)
    np.testing.assert_array_equal(dataset.images("train"), images[:20])
    np.testing.assert_array_equal(dataset.images("test"), images[20:])
    assert dataset.labels("train")[:4].tolist() == [0, 999, 1, 999]
    assert dataset.labels("test").tolist() == [4, 5, 6]
    for start in (0, 1, 4, 19):  # continued after a kill, within a batch and between two
        np.testing.assert_array_equal(list(found.splits["train"].read(start)), images[start:20])


def test_bad_chrabaszcz_archives_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(message: str, **changes: bytes | None) -> None:
        write_chrabaszcz(tmp_path, monkeypatch, **changes)
        with pytest.raises(ValueError, match=message):
            imagenet32_chrabaszcz.prepare(tmp_path, (3, 32, 32), {}, 0)

    monkeypatch.chdir(tmp_path)
    rows = np.zeros((2, 3072), np.uint8)
    refused(r"is not part of a batch .*train_data_batch_4", train_data_batch_4=batch(rows, Harmful()))
    assert not Path("executed").exists()
    refused(r"expected one train_data_batch_4 of at most \d+ bytes, found the sizes \[\]", train_data_batch_4=None)
    refused(r"labels in 1\.\.1000, found uint8 \(2, 3072\) \(.*batch_4\)", train_data_batch_4=batch(rows, [0, 1]))
    refused(r"with uint8 \[n, 3072\] .* found uint8 \(2, 768\)", train_data_batch_4=batch(rows[:, :768], [1, 1]))
    refused("expected a batch of 32x32 images, found: UnpicklingError", train_data_batch_4=b"not a pickle")
    refused("expected a batch of 32x32 images, found: ", train_data_batch_4=batch(rows, [1, 1])[:-3000])
    refused(r"expected 20 images, found 19 \(.*Imagenet32_train\.zip\)", train_data_batch_4=batch(rows[:1], [1]))


def test_damaged_chrabaszcz_archives_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_chrabaszcz(tmp_path, monkeypatch)
    path = tmp_path / "Imagenet32_val.zip"
    content = bytearray(path.read_bytes())
    content[4000] ^= 1  # a pixel
    for damaged, message in ((content, "Bad CRC-32"), (content[:-30], "not a zip file")):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=rf"expected a .*, found: .*{message}.*Imagenet32_val\.zip"):
            imagenet32_chrabaszcz.prepare(tmp_path, (3, 32, 32), {}, 0)
    path.write_bytes(PAGE)
    with pytest.raises(ValueError, match=r"found a web page titled 'Quota exceeded' .*Imagenet32_val\.zip"):
        imagenet32_chrabaszcz.prepare(tmp_path, (3, 32, 32), {}, 0)


# All


@pytest.mark.parametrize("module", [svhn, imagenet32, imagenet32_chrabaszcz, fashion_mnist])
def test_other_shapes_and_options_are_refused(module, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected image shape \(\d, \d\d, \d\d\).*found \(3, 64, 64\)"):
        module.prepare(tmp_path, (3, 64, 64), {}, 0)
    with pytest.raises(ValueError, match=r"unknown option 'crop' for dtri\.data\.\w+ \(known: none\)"):
        module.prepare(tmp_path, (3, 32, 32), {"crop": 3}, 0)


def test_hashes_and_addresses_are_those_of_torchvision() -> None:
    from torchvision.datasets import DTD, SVHN, CelebA, FashionMNIST

    assert [svhn.urls(svhn.FILE)[0], svhn.FILE, svhn.FILES[svhn.FILE].md5] == SVHN.split_list["test"]
    assert (dtd.urls(dtd.ARCHIVE), dtd.FILES[dtd.ARCHIVE].md5) == ([DTD._URL], DTD._MD5)
    assert celeba.FILES[celeba.ARCHIVE].md5 in {md5 for _, md5, name in CelebA.file_list if name == celeba.ARCHIVE}
    assert [(name, file.md5) for name, file in fashion_mnist.FILES.items()] == FashionMNIST.resources
    assert fashion_mnist.urls("x.gz")[0].endswith("/x.gz")


def test_headers_of_a_large_tar_do_not_pile_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tar(tmp_path / "a.tar", {f"{k}.txt": b"x" for k in range(50)})
    opened = []
    monkeypatch.setattr(tarfile, "open", lambda *a, real=tarfile.open, **k: opened.append(real(*a, **k)) or opened[-1])
    assert len([read() for _, read in archives.members(tmp_path / "a.tar")]) == 50
    assert len(opened[-1].members) <= 1
