"""Datasets: exact pixels from small files of the official formats, stored so that nothing incomplete is ever read."""

import gzip
import io
import json
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dtri.data import (
    archives,
    cifar10,
    digits,
    holdout,
    image_folder,
    mnist,
    photos,
    pictures,
    saving,
    store,
    uniform,
)
from workflow.commands import prepare
from workflow.commands.cli import run

REAL = Path(__file__).parents[1].parent / "shared" / "data"
SHAPE = (3, 8, 8)


def arrays(n: int = 6, shape: tuple[int, int, int] = SHAPE, **changes) -> saving.Arrays:
    """A small labelled dataset of two splits."""
    images = np.random.RandomState(0).randint(0, 256, (2 * n, *shape)).astype(np.uint8)
    parts = {"train": np.arange(n, dtype=np.int64), "test": np.arange(n, 2 * n, dtype=np.int64)}
    fields = {
        "splits": {split: images[index] for split, index in parts.items()},
        "indices": parts,
        "labels": {split: index % 3 for split, index in parts.items()},
        "n_classes": 3,
        "description": "small",
        "source": {"module": "tests"},
    }
    return saving.Arrays(**(fields | changes))


def png(colour: tuple[int, int, int] | int = (10, 20, 30), size: tuple[int, int] = (8, 8)) -> bytes:
    buffer = io.BytesIO()
    Image.new("L" if isinstance(colour, int) else "RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def write_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(zipfile.ZipInfo(name), content)
    return path


def write_tar(path: Path, members: dict[str, bytes | tarfile.TarInfo]) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as file:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                file.addfile(content)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                file.addfile(info, io.BytesIO(content))
    return path


def folder_images(raw: Path, archive: str = "a.zip", shape: tuple[int, int, int] = SHAPE, seed: int = 0, **options):
    options = {"archive": archive, "split": {"train": "train/", "test": "test/"}} | options
    return image_folder.prepare(raw, shape, options, seed)


def two_classes(n: int = 4) -> dict[str, bytes]:
    """train/ and test/ with classes cat and dog; every image has a colour of its own."""
    names = [f"{split}/{kind}/{k}.png" for split in ("train", "test") for kind in ("cat", "dog") for k in range(n)]
    return {name: png((k, 2 * k, 3 * k)) for k, name in enumerate(names)}


# Store


def test_what_is_saved_is_read_back(tmp_path: Path) -> None:
    expected = arrays()
    meta = saving.save(expected, tmp_path / "set", "small")
    dataset = saving.verify(tmp_path / "set")
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == [
        "index.npz",
        "meta.json",
        "test.npy",
        "train.npy",
    ]
    assert (dataset.meta, dataset.image_shape, dataset.content) == (meta, SHAPE, meta["content"])
    assert meta["sizes"] == {"train": 6, "test": 6}
    for split in ("train", "test"):
        assert isinstance(dataset.images(split), np.memmap)
        np.testing.assert_array_equal(dataset.images(split), expected.splits[split])
        np.testing.assert_array_equal(dataset.labels(split), expected.labels[split])
        np.testing.assert_array_equal(dataset.index(split), expected.indices[split])


def test_the_same_arrays_give_the_same_bytes_and_others_another_hash(tmp_path: Path) -> None:
    first = saving.save(arrays(), tmp_path / "a", "small")
    saving.save(arrays(), tmp_path / "b", "small")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    with zipfile.ZipFile(tmp_path / "a" / "index.npz") as file:
        assert {member.date_time for member in file.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    changed = arrays()
    changed.splits["test"][0, 0, 0, 0] ^= 1
    assert saving.save(changed, tmp_path / "c", "small")["content"] != first["content"]


def test_saving_again_removes_a_split_that_is_gone(tmp_path: Path) -> None:
    saving.save(arrays(), tmp_path, "small")
    full = arrays()
    test_only = {name: {"test": getattr(full, name)["test"]} for name in ("splits", "indices", "labels")}
    saving.save(arrays(**test_only), tmp_path, "small")
    assert not (tmp_path / "train.npy").exists()
    with pytest.raises(ValueError, match=r"unknown split 'train' of small \(known: test;"):
        store.load(tmp_path).images("train")


def test_an_interrupted_save_leaves_no_dataset_and_no_debris(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saving.save(arrays(), tmp_path, "small")

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(saving.np, "savez", interrupt)
    with pytest.raises(KeyboardInterrupt):
        saving.save(arrays(), tmp_path, "small")
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]
    with pytest.raises(FileNotFoundError, match=r"expected a prepared dataset in .*, found no meta\.json there"):
        store.load(tmp_path)


@pytest.mark.parametrize("file", ["train.npy", "index.npz"])
def test_verify_names_a_changed_file(tmp_path: Path, file: str) -> None:
    saving.save(arrays(), tmp_path, "small")
    content = bytearray((tmp_path / file).read_bytes())
    content[-1] ^= 1
    (tmp_path / file).write_bytes(content)
    with pytest.raises(ValueError, match=rf"expected sha256 \w+, found \w+ \(.*{file}\)"):
        saving.verify(tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(ValueError, match=rf"expected .*{file} with sha256 \w+, found no such file"):
        saving.verify(tmp_path)


def test_a_truncated_array_is_named(tmp_path: Path) -> None:
    saving.save(arrays(), tmp_path, "small")
    path = tmp_path / "train.npy"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match=r"expected a complete array in .*train\.npy"):
        store.load(tmp_path).images("train")


def test_meta_that_is_not_ours_is_named(tmp_path: Path) -> None:
    (tmp_path / "meta.json").write_text('{"name": "x"}')
    with pytest.raises(ValueError, match=r"expected the keys name, .* in .*meta\.json, found none of image_shape"):
        store.load(tmp_path)
    (tmp_path / "meta.json").write_text("{")
    with pytest.raises(ValueError, match=r"expected the description of a dataset in .*meta\.json"):
        store.load(tmp_path)


def test_labels_that_do_not_exist_are_refused(tmp_path: Path) -> None:
    full = arrays()
    saving.save(arrays(labels={"test": full.labels["test"]}), tmp_path, "small")
    with pytest.raises(ValueError, match="expected labels of small 'train', found those of test"):
        store.load(tmp_path).labels("train")


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"splits": {}}, "expected at least one split of small, found none"),
        ({"splits": {"val": np.zeros((1, 1, 2, 2), np.uint8)}}, r"unknown split 'val' of small \(known: train, test"),
        ({"splits": {"test": np.zeros((1, 1, 2, 2), np.float32)}}, "expected uint8 .* found float32"),
        ({"splits": {"test": np.zeros((0, 1, 2, 2), np.uint8)}}, "expected images in split 'test' .* an empty one"),
        ({"indices": {}}, "indices for small 'train', found none"),
        (
            {"labels": {"test": np.zeros(5, np.int64)}},
            r"expected int64 \(6,\) labels for small 'test', found int64 \(5,\)",
        ),
        ({"labels": {"test_leaky": np.zeros(6, np.int64)}}, "expected images for every index .* none for test_leaky"),
    ],
)
def test_arrays_that_are_no_dataset_are_refused(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        saving.save(arrays(**changes), tmp_path / "set", "small")
    assert not (tmp_path / "set").exists()


def test_splits_of_different_shape_are_refused(tmp_path: Path) -> None:
    full = arrays()
    odd = full.splits | {"test": np.zeros((6, 3, 9, 8), np.uint8)}
    with pytest.raises(ValueError, match="expected one image shape in all splits of small"):
        saving.save(arrays(splits=odd), tmp_path, "small")


# Datasets that need no file


@pytest.mark.parametrize("shape", [(1, 28, 28), (1, 32, 32), (1, 64, 64)])
def test_digits_are_white_on_black_and_still_the_originals(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    from sklearn.datasets import load_digits

    found = digits.prepare(tmp_path, shape, {}, 0)
    assert {split: len(images) for split, images in found.splits.items()} == {"train": 1437, "test": 360}
    images, index = found.splits["train"], found.indices["train"]
    assert images.shape[1:] == shape
    assert images.max() == 255
    assert images[:, :, [0, -1]].max() < 8  # a margin on every side
    assert images[:, :, :, [0, -1]].max() < 8
    source = load_digits()
    np.testing.assert_array_equal(found.labels["train"], source.target[index])
    # Reduced again, an enlarged digit is its original, up to the filter's ripple.
    for k in range(0, 1437, 97):
        small = np.asarray(Image.fromarray(images[k, 0]).resize((10, 10), Image.Resampling.BOX), float) / 255 * 16
        assert np.corrcoef(small[1:-1, 1:-1].ravel(), source.images[index[k]].ravel())[0, 1] > 0.97


def test_the_digit_split_is_complete_disjoint_and_follows_the_seed(tmp_path: Path) -> None:
    first, again, other = (digits.prepare(tmp_path, (1, 28, 28), {}, seed) for seed in (0, 0, 1))
    both = np.concatenate([first.indices["train"], first.indices["test"]])
    np.testing.assert_array_equal(np.sort(both), np.arange(1797))
    np.testing.assert_array_equal(first.splits["test"], again.splits["test"])
    assert not np.array_equal(first.indices["test"], other.indices["test"])


def test_uniform_noise_is_uniform(tmp_path: Path) -> None:
    found = uniform.prepare(tmp_path, (3, 32, 32), {"n": 300}, 0)
    counts = np.bincount(found.splits["test"].ravel(), minlength=256)
    expected = counts.sum() / 256
    assert found.splits["test"].shape == (300, 3, 32, 32)
    # Chi-square with 255 degrees of freedom: mean 255, standard deviation 22.6.
    assert 165 < ((counts - expected) ** 2 / expected).sum() < 345
    assert abs(np.corrcoef(found.splits["test"][:, 0, 0, 0], found.splits["test"][:, 0, 0, 1])[0, 1]) < 0.25


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (3, 64, 96)])
def test_photo_patches_look_like_the_photographs(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    from sklearn.datasets import load_sample_images

    found = photos.prepare(tmp_path, shape, {"n": 200}, 0).splits["test"]
    assert found.shape == (200, *shape)
    mean = np.mean([photo.mean() for photo in load_sample_images().images])
    assert abs(found.mean() - mean) < 25
    assert len(np.unique(found.reshape(200, -1), axis=0)) > 190
    assert np.abs(np.diff(found.astype(int), axis=3)).mean() < 25  # neighbours are alike: no scrambled axes
    np.testing.assert_array_equal(found, photos.prepare(tmp_path, shape, {"n": 200}, 0).splits["test"])


@pytest.mark.parametrize(
    "module, shape, options, message",
    [
        (digits, (1, 28, 28), {"n": 3}, r"unknown option 'n' for dtri\.data\.digits \(known: none\)"),
        (digits, (3, 28, 28), {}, r"expected image shape \(C, H, W\), positive, with C 1, found \(3, 28, 28\)"),
        (digits, (1, 8, 8), {}, r"expected an image shape of at least \(1, 10, 10\), found \(1, 8, 8\)"),
        (uniform, (1, 28, 28), {"size": 3}, r"unknown option 'size' for dtri\.data\.uniform \(known: n\)"),
        (uniform, (1, 28, 28), {"n": 0}, "expected option 'n' to be a positive whole number, found 0"),
        (uniform, (1, 28, -28), {}, r"expected image shape .* found \(1, 28, -28\)"),
        (uniform, (2, 28, 28), {}, "with C 1 or 3, found"),
        (photos, (3, 32, 32), {"n": -1}, "expected option 'n' to be a positive whole number, found -1"),
        (photos, (3, 32, 0), {}, "expected image shape"),
        (photos, (3, 256, 256), {}, r"expected patches of at most 213x320, found \(3, 256, 256\)"),
        (photos, (3, 32, 32), {"scale": 1}, r"unknown option 'scale' for dtri\.data\.photos \(known: n\)"),
        (mnist, (1, 30, 30), {}, r"expected image shape \(1, 28, 28\) or \(1, 32, 32\), found \(1, 30, 30\)"),
        (mnist, (1, 28, 28), {"pad": 2}, r"unknown option 'pad' for dtri\.data\.mnist \(known: none\)"),
        (cifar10, (3, 64, 64), {}, r"expected image shape \(3, 32, 32\), found \(3, 64, 64\)"),
        (cifar10, (3, 32, 32), {"labels": 1}, r"unknown option 'labels' for dtri\.data\.cifar10"),
        (
            image_folder,
            SHAPE,
            {"archiv": "a"},
            r"unknown option 'archiv' for dtri\.data\.image_folder \(known: archive",
        ),
    ],
)
def test_wrong_options_and_shapes_are_refused(tmp_path: Path, module, shape, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        module.prepare(tmp_path, shape, options, 0)


# MNIST


def idx(values: np.ndarray) -> bytes:
    return struct.pack(f">{values.ndim + 1}I", 0x800 + values.ndim, *values.shape) + values.tobytes()


def small_mnist(raw: Path) -> dict[str, np.ndarray]:
    """Four files of the official format with 20 and 10 images; the test files are not compressed."""
    random = np.random.RandomState(1)
    values = {}
    for prefix, n in (("train", 20), ("t10k", 10)):
        values[f"{prefix}-images-idx3-ubyte"] = random.randint(0, 256, (n, 28, 28)).astype(np.uint8)
        values[f"{prefix}-labels-idx1-ubyte"] = random.randint(0, 10, n).astype(np.uint8)
    for name, value in values.items():
        if name.startswith("train"):
            (raw / f"{name}.gz").write_bytes(gzip.compress(idx(value)))
        else:
            (raw / name).write_bytes(idx(value))
    return values


def test_mnist_is_read_exactly_and_padded_with_black(tmp_path: Path) -> None:
    values = small_mnist(tmp_path)
    found = mnist.prepare(tmp_path, (1, 28, 28), {}, 0)
    np.testing.assert_array_equal(found.splits["train"][:, 0], values["train-images-idx3-ubyte"])
    np.testing.assert_array_equal(found.splits["test"][:, 0], values["t10k-images-idx3-ubyte"])
    np.testing.assert_array_equal(found.labels["test"], values["t10k-labels-idx1-ubyte"])
    padded = mnist.prepare(tmp_path, (1, 32, 32), {}, 0).splits["train"]
    np.testing.assert_array_equal(padded[:, :, 2:-2, 2:-2], found.splits["train"])
    assert padded.sum() == found.splits["train"].sum()


def test_damaged_idx_files_are_named(tmp_path: Path) -> None:
    small_mnist(tmp_path)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    cases = {
        "expected a complete idx file, found: Compressed file ended": whole[:-40],
        r"expected 15696 bytes for shape \(20, 28, 28\), found 15690": gzip.compress(gzip.decompress(whole)[:-6]),
        "expected an idx file with magic 2051, found 2049": (tmp_path / "t10k-labels-idx1-ubyte").read_bytes()
        + bytes(9),
        "expected an idx file with magic 2051, found 0 in 0 bytes": b"",
        "expected an idx file with magic 2051, found 1008813135": b"<!DOCTYPE html><html></html>",
    }
    for message, content in cases.items():
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"{message}.*train-images-idx3-ubyte\.gz"):
            mnist.prepare(tmp_path, (1, 28, 28), {}, 0)
    path.write_bytes(gzip.compress(idx(np.zeros((19, 28, 28), np.uint8))))
    with pytest.raises(ValueError, match=r"expected 28x28 images and labels, found \(19, 28, 28\) and \(20,\)"):
        mnist.prepare(tmp_path, (1, 28, 28), {}, 0)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"expected train-images-idx3-ubyte\.gz \(47040016 bytes, md5 6bbc9ace"):
        mnist.prepare(tmp_path, (1, 28, 28), {}, 0)


@pytest.fixture(scope="session")
def real_mnist(tmp_path_factory: pytest.TempPathFactory) -> store.Dataset:
    """MNIST prepared by the command, from the real files."""
    if not (REAL / "mnist").is_dir():
        pytest.skip(f"no MNIST files at {REAL / 'mnist'}")
    out = tmp_path_factory.mktemp("mnist")
    command = ["--module", "dtri.data.mnist", "--name", "mnist", "--image-shape", "1,28,28"]
    assert prepare.main([*command, "--raw", str(REAL / "mnist"), "--out", str(out)]) == 0
    return store.load(out)


def test_real_mnist_has_the_known_digits(real_mnist: store.Dataset) -> None:
    assert real_mnist.meta["sizes"] == {"train": 60_000, "test": 10_000}
    assert real_mnist.labels("train")[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert real_mnist.labels("test")[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert round(real_mnist.images("train").mean() / 255, 4) == 0.1307  # the widely used normalisation constant


# CIFAR-10


def python2_batch(data: np.ndarray, labels: list[int]) -> bytes:
    """A batch as Python 2 pickled the official ones: protocol 2, byte strings, numpy.core.multiarray."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value  # SHORT_BINSTRING

    def number(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)  # BININT

    empty = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n" + number(0) + b"\x85" + text(b"b") + b"tR"
    dtype = b"cnumpy\ndtype\n(" + text(b"u1") + number(0) + number(1) + b"tR"
    dtype += b"(" + number(3) + text(b"|") + b"NNN" + number(-1) + number(-1) + number(0) + b"tb"
    shape = b"(" + number(data.shape[0]) + number(data.shape[1]) + b"t"
    content = b"T" + struct.pack("<i", data.size) + data.tobytes()  # BINSTRING
    array = empty + b"(" + number(1) + shape + dtype + b"\x89" + content + b"tb"
    listed = b"](" + b"".join(number(label) for label in labels) + b"e"
    return b"\x80\x02}(" + text(b"data") + array + text(b"labels") + listed + b"u."


def small_cifar10(raw: Path, **replaced: bytes | None) -> np.ndarray:
    """The official archive's layout with 4 images per batch; uint8 [24, 3, 32, 32] in order, test last."""
    images = np.random.RandomState(2).randint(0, 256, (24, 3, 32, 32)).astype(np.uint8)
    members = {"cifar-10-batches-py/readme.html": b"<html>"}
    for k, name in enumerate([*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]):
        rows = images[4 * k : 4 * k + 4].reshape(4, 3072)
        content = replaced.get(name, python2_batch(rows, [k, 1, 2, 9]))
        if content is not None:
            members[f"cifar-10-batches-py/{name}"] = content
    write_tar(raw / "cifar-10-python.tar.gz", members)
    return images


def test_cifar10_planes_are_channels(tmp_path: Path) -> None:
    images = small_cifar10(tmp_path)
    found = cifar10.prepare(tmp_path, (3, 32, 32), {}, 0)
    np.testing.assert_array_equal(found.splits["train"], images[:20])
    np.testing.assert_array_equal(found.splits["test"], images[20:])
    assert found.labels["train"][::4].tolist() == [0, 1, 2, 3, 4]
    assert found.labels["test"].tolist() == [5, 1, 2, 9]


class Harmful:
    def __reduce__(self) -> tuple:
        return Path.touch, (Path("executed"),)


def test_a_forged_batch_runs_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small_cifar10(tmp_path, data_batch_2=pickle.dumps({"data": Harmful(), "labels": []}))
    with pytest.raises(ValueError, match=r"is not part of a batch of images.*data_batch_2"):
        cifar10.prepare(tmp_path, (3, 32, 32), {}, 0)
    assert not Path("executed").exists()


def test_damaged_cifar10_archives_are_named(tmp_path: Path) -> None:
    small_cifar10(tmp_path, data_batch_3=None)
    with pytest.raises(ValueError, match="found no data_batch_3"):
        cifar10.prepare(tmp_path, (3, 32, 32), {}, 0)
    small_cifar10(tmp_path, test_batch=python2_batch(np.zeros((4, 3071), np.uint8), [0] * 4))
    with pytest.raises(ValueError, match=r"with uint8 \[n, 3072\] .* found uint8 \(4, 3071\) .*test_batch"):
        cifar10.prepare(tmp_path, (3, 32, 32), {}, 0)
    small_cifar10(tmp_path, test_batch=b"not a pickle")
    with pytest.raises(ValueError, match=r"expected a CIFAR-10 batch, found: .*test_batch"):
        cifar10.prepare(tmp_path, (3, 32, 32), {}, 0)
    small_cifar10(tmp_path)
    archive = tmp_path / "cifar-10-python.tar.gz"
    archive.write_bytes(archive.read_bytes()[:20_000])
    with pytest.raises(ValueError, match=r"expected the complete archive cifar-10-python\.tar\.gz"):
        cifar10.prepare(tmp_path, (3, 32, 32), {}, 0)


# Image folders


def test_every_kind_of_archive_gives_the_same_dataset(tmp_path: Path) -> None:
    members = two_classes()
    backwards = dict(reversed(members.items()))
    write_zip(tmp_path / "a.zip", members)
    write_zip(tmp_path / "b.zip", backwards)
    write_tar(tmp_path / "c.tar", {f"./{name}": content for name, content in backwards.items()})
    write_tar(
        tmp_path / "d.tar.gz", members | {"readme.txt": b"hello", "train/.DS_Store": b"x", "train/cat/._0.png": b"x"}
    )
    for name, content in members.items():
        path = tmp_path / "e" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    kinds = [folder_images(tmp_path, name, labels="folder") for name in ("a.zip", "b.zip", "c.tar", "d.tar.gz", "e")]
    for found in kinds:
        for split in ("train", "test"):
            np.testing.assert_array_equal(found.splits[split], kinds[0].splits[split])
            np.testing.assert_array_equal(found.labels[split], kinds[0].labels[split])
    names = sorted(members)
    for split in ("train", "test"):
        for image, place, label in zip(*(getattr(kinds[0], part)[split] for part in ("splits", "indices", "labels"))):
            assert names[place].startswith(split)
            assert label == ("dog" in names[place])
            colour = np.asarray(Image.open(io.BytesIO(members[names[place]])))[0, 0]
            np.testing.assert_array_equal(image[:, 0, 0], colour)
    assert (kinds[0].n_classes, kinds[0].source["classes"]) == (2, ["cat", "dog"])
    assert (kinds[3].source["n_source"], kinds[3].source["n_ignored"]) == (16, 3)


def test_the_first_images_of_a_split_are_a_sample_of_it(tmp_path: Path) -> None:
    write_zip(tmp_path / "a.zip", two_classes(20))
    found = folder_images(tmp_path, labels="folder")
    assert set(found.labels["train"][:10]) == {0, 1}
    limited = folder_images(tmp_path, labels="folder", limit=10)
    np.testing.assert_array_equal(limited.splits["train"], found.splits["train"][:10])
    np.testing.assert_array_equal(limited.indices["test"], found.indices["test"][:10])


def test_a_random_split_is_disjoint_and_follows_the_seed(tmp_path: Path) -> None:
    write_zip(tmp_path / "a.zip", {f"{k:03}.png": png((k, k, k)) for k in range(30)})
    first, again, other = (
        folder_images(tmp_path, split={"random": {"train": 20, "test": 9}}, seed=seed) for seed in (0, 0, 1)
    )
    assert len(set(first.indices["train"]) | set(first.indices["test"])) == 29
    np.testing.assert_array_equal(first.splits["train"], again.splits["train"])
    assert not np.array_equal(first.indices["train"], other.indices["train"])
    np.testing.assert_array_equal(first.splits["train"][:, 0, 0, 0], first.indices["train"])


def test_an_index_file_splits(tmp_path: Path) -> None:
    write_zip(tmp_path / "a.zip", {f"{k}.png": png((k, k, k)) for k in range(5)})
    (tmp_path / "split.csv").write_text("path,split\n4.png,train\n0.png,test\n2.png,train\n1.png,\n")
    found = folder_images(tmp_path, split={"index": "split.csv"})
    assert sorted(found.indices["train"]) == [2, 4]
    assert found.indices["test"].tolist() == [0]
    for text, message in {
        "path,split\n9.png,train\n": r"found '9\.png' but it is not an image of a\.zip .*split\.csv, line 2",
        "path,split\n0.png,train\n0.png,test\n": r"found '0\.png' again .*line 3",
        "path,split\n0.png,val\n": "expected split train, test or nothing, found 'val'",
        "path,split\n0.png,\n": "expected rows with split train or test, found none",
        "file,split\n0.png,train\n": "expected the columns path,split, found",
    }.items():
        (tmp_path / "split.csv").write_text(text)
        with pytest.raises(ValueError, match=message):
            folder_images(tmp_path, split={"index": "split.csv"})
    with pytest.raises(FileNotFoundError, match=r"expected a CSV file .* put it at .*other\.csv"):
        folder_images(tmp_path, split={"index": "other.csv"})


def test_resizing_follows_the_usual_transforms(tmp_path: Path) -> None:
    image = Image.fromarray(np.random.RandomState(3).randint(0, 256, (109, 89, 3)).astype(np.uint8))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    write_zip(tmp_path / "a.zip", {"0.png": buffer.getvalue()})

    def made(resize: str, shape: tuple[int, int, int]) -> np.ndarray:
        return (
            folder_images(tmp_path, split={"test": ""}, resize=resize, shape=shape).splits["test"][0].transpose(1, 2, 0)
        )

    # torchvision: Resize(64) makes 64 x int(64 * 109 / 89) = 78; CenterCrop(64) starts at round((78 - 64) / 2) = 7.
    expected = image.resize((64, 78), Image.Resampling.BILINEAR).crop((0, 7, 64, 71))
    np.testing.assert_array_equal(made("crop", (3, 64, 64)), np.asarray(expected))
    np.testing.assert_array_equal(
        made("stretch", (3, 64, 48)), np.asarray(image.resize((48, 64), Image.Resampling.BILINEAR))
    )
    np.testing.assert_array_equal(made("none", (3, 109, 89)), np.asarray(image))
    np.testing.assert_array_equal(made("none", (1, 109, 89))[..., 0], np.asarray(image.convert("L")))
    assert made("crop", (3, 20, 60)).shape == (20, 60, 3)


def test_grey_images_become_three_equal_channels(tmp_path: Path) -> None:
    write_zip(tmp_path / "a.zip", {"0.png": png(77)})
    found = folder_images(tmp_path, split={"test": ""})
    assert (found.splits["test"] == 77).all()


def test_an_image_of_another_size_is_named(tmp_path: Path) -> None:
    write_zip(tmp_path / "a.zip", two_classes() | {"train/dog/odd.png": png(size=(9, 8))})
    with pytest.raises(ValueError, match=r"expected 8x8 pixels .* found 9x8 \(.*a\.zip, train/dog/odd\.png\)"):
        folder_images(tmp_path)
    assert folder_images(tmp_path, resize="crop").splits["train"].shape == (9, *SHAPE)


def test_images_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    deep = io.BytesIO()
    Image.fromarray(np.full((8, 8), 40_000, np.uint16)).save(deep, "PNG")
    for content, message in {
        b"<html>": "expected an image, found something unreadable",
        png()[:-30]: "expected an image, found something unreadable",
        b"": "expected an image, found something unreadable",
        deep.getvalue(): "expected 8 bits per channel, found mode I;16",
    }.items():
        write_zip(tmp_path / "a.zip", two_classes() | {"test/dog/bad.png": content})
        with pytest.raises(ValueError, match=rf"{message}.*test/dog/bad\.png"):
            folder_images(tmp_path)


@pytest.mark.parametrize("name", ["/etc/x.png", "../x.png", "train/../../x.png", "C:/x.png", "..\\x.png"])
def test_members_that_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    write_zip(tmp_path / "a.zip", two_classes() | {name: png()})
    write_tar(tmp_path / "a.tar", two_classes() | {name: png()})
    for archive in ("a.zip", "a.tar"):
        with pytest.raises(ValueError, match=rf"expected paths below the archive's own folder, found .*{archive}"):
            folder_images(tmp_path, archive)


def test_links_and_devices_are_refused(tmp_path: Path) -> None:
    for kind, message in (
        (tarfile.SYMTYPE, r"found the link train/link\.png -> /etc/passwd"),
        (tarfile.LNKTYPE, r"found the link train/link\.png -> /etc/passwd"),
        (tarfile.CHRTYPE, r"found train/link\.png of tar type b'3'"),
    ):
        link = tarfile.TarInfo("train/link.png")
        link.type, link.linkname = kind, "/etc/passwd"
        write_tar(tmp_path / "a.tar", two_classes() | {"link": link})
        with pytest.raises(ValueError, match=message):
            folder_images(tmp_path, "a.tar")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        info = zipfile.ZipInfo("train/link.png")
        info.external_attr = 0o120777 << 16
        file.writestr(info, "/etc/passwd")
    with pytest.raises(ValueError, match=r"found the link train/link\.png"):
        folder_images(tmp_path)


def test_unreasonable_sizes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_zip(tmp_path / "a.zip", two_classes() | {"train/cat/big.png": png() + bytes(10_000)})
    write_tar(tmp_path / "a.tar.gz", two_classes() | {"train/cat/big.png": png() + bytes(10_000)})
    monkeypatch.setattr(archives, "MAX_FILE", 5_000)
    for archive in ("a.zip", "a.tar.gz"):
        with pytest.raises(
            ValueError, match=r"expected at most 5000 bytes in one file, found 10\d+ in train/cat/big\.png"
        ):
            folder_images(tmp_path, archive)
    monkeypatch.undo()
    monkeypatch.setattr(archives, "MAX_TOTAL", 8_000)
    with pytest.raises(ValueError, match=r"expected at most 8000 bytes in all, found .* in train/cat/big\.png"):
        folder_images(tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(pictures, "MAX_PIXELS", 63)
    with pytest.raises(ValueError, match=r"expected at most 63 pixels, found 8x8"):
        folder_images(tmp_path)


def test_truncated_archives_are_named(tmp_path: Path) -> None:
    write_zip(tmp_path / "a.zip", two_classes())
    write_tar(tmp_path / "a.tar.gz", two_classes())
    write_tar(tmp_path / "a.tar", two_classes())
    cuts = {
        "a.zip": (100, 1500),
        "a.tar.gz": (15, 300, (tmp_path / "a.tar.gz").stat().st_size - 4),
        "a.tar": (700, 1024, 8 * 1024, 8 * 1024 + 300),  # inside a file, between two files, inside a header
    }
    for name, lengths in cuts.items():
        whole = (tmp_path / name).read_bytes()
        for length in lengths:
            (tmp_path / name).write_bytes(whole[:length])
            with pytest.raises(ValueError, match=rf"expected a (complete|zip|complete tar).*{name}"):
                folder_images(tmp_path, name, split={"train": ""})


def test_a_zip_with_a_damaged_member_is_named(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", two_classes())
    content = bytearray(path.read_bytes())
    content[60] ^= 0xFF  # inside the stored bytes of the first file
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"expected a complete archive, found: Bad CRC-32 for file 'train/cat/0\.png'"):
        folder_images(tmp_path)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"split": {"train": "train", "test": "none/"}}, "expected images in split 'test', found none of 16"),
        ({"split": {"train": "", "test": "test"}}, r"found one inside the other"),
        ({"split": {"val": "train"}}, r"unknown split 'val' \(known: train, test"),
        ({"split": {"random": {"train": 10, "test": 7}}}, "expected at least 17 images for the split, found 16"),
        ({"split": {"random": {"train": 10, "test": 0}}}, "expected the number of test images to be a positive"),
        ({"split": {"random": {"train": -10}}}, "expected the number of train images to be a positive"),
        ({"split": {"random": 3}}, "expected counts such as"),
        ({"split": None}, "expected option 'split' with folders, an index or random counts, found None"),
        ({"split": {"index": "../split.csv"}}, r"found '\.\./split\.csv'"),
        ({"limit": 0}, "expected option 'limit' to be a positive whole number, found 0"),
        ({"resize": "squash"}, "expected option 'resize' to be 'none' or 'stretch' or 'crop', found 'squash'"),
        ({"labels": "file"}, "expected option 'labels' to be 'folder' or null, found 'file'"),
        ({"sha256": "0" * 64}, r"expected sha256 0{64}, found [0-9a-f]{64} \(.*a\.zip"),
        ({"archive": "../a.zip"}, "expected paths below the archive's own folder"),
        ({"archive": None}, "expected option 'archive' to name something"),
    ],
)
def test_wrong_image_folder_options_are_refused(tmp_path: Path, options: dict, message: str) -> None:
    write_zip(tmp_path / "a.zip", two_classes())
    with pytest.raises(ValueError, match=message):
        folder_images(tmp_path, **options)


def test_a_missing_archive_and_ambiguous_members_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"expected the archive a\.zip, found none; put it at .*a\.zip"):
        folder_images(tmp_path)
    write_tar(tmp_path / "a.tar", {"0.png": png(), "./0.png": png()})
    with pytest.raises(ValueError, match=r"expected every path once, found 0\.png twice"):
        folder_images(tmp_path, "a.tar", split={"test": ""})
    write_tar(tmp_path / "a.tar", {"0.png": png()})
    with pytest.raises(ValueError, match=r"expected every image in the folder of its class, found 0\.png at the top"):
        folder_images(tmp_path, "a.tar", split={"test": ""}, labels="folder")


def test_real_textures_are_read(tmp_path: Path) -> None:
    archive = "dtd-10classes-96px.zip"
    if not (REAL / archive).is_file():
        pytest.skip(f"no {archive} at {REAL}")
    sha256 = "1242f33e5f25a52896f07ccdb7d68ed9ae777581fe3da7bdb3379131c375730f"
    found = folder_images(REAL, archive, (3, 32, 32), split={"test": ""}, resize="crop", labels="folder", sha256=sha256)
    assert found.splits["test"].shape == (1200, 3, 32, 32)
    assert np.bincount(found.labels["test"]).tolist() == [120] * 10
    assert 90 < found.splits["test"].mean() < 160


# Hold-outs


def small_source(folder: Path, n: int = 100) -> store.Dataset:
    """n images in train, n / 4 in test; an image holds its position in the pool, its label is that mod 5."""
    parts = {"train": np.arange(n), "test": np.arange(n, n + n // 4)}
    saving.save(
        saving.Arrays(
            splits={
                split: np.broadcast_to(p[:, None, None, None], (len(p), 1, 2, 2)).astype(np.uint8)
                for split, p in parts.items()
            },
            indices=parts,
            labels={split: places % 5 for split, places in parts.items()},
            n_classes=5,
            description="positions",
        ),
        folder,
        "positions",
    )
    return store.load(folder)


def test_a_holdout_trains_on_normals_only_and_tests_on_the_rest(tmp_path: Path) -> None:
    found = holdout.prepare_holdout(small_source(tmp_path), 3)
    assert {split: len(images) for split, images in found.splits.items()} == {"train": 80, "test": 45, "test_leaky": 45}
    for split, images in found.splits.items():
        np.testing.assert_array_equal(images[:, 0, 0, 0], found.indices[split])
    assert (found.indices["train"] % 5 != 3).all()
    assert sorted([*found.indices["train"], *found.indices["test"]]) == list(range(125))
    for split in ("test", "test_leaky"):
        assert found.labels[split].tolist() == [0] * 20 + [1] * 25
        np.testing.assert_array_equal(found.indices[split] % 5 == 3, found.labels[split] == 1)
    assert "train" not in found.labels


def test_the_holdout_draws_are_those_of_the_released_loaders(tmp_path: Path) -> None:
    found = holdout.prepare_holdout(small_source(tmp_path), 3)
    normals = np.array([place for place in range(125) if place % 5 != 3])
    random = np.random.RandomState(42)
    first, second = random.permutation(100), random.permutation(100)
    np.testing.assert_array_equal(found.indices["train"], normals[first[:80]])
    np.testing.assert_array_equal(found.indices["test"][:20], normals[first[80:]])
    np.testing.assert_array_equal(found.indices["test_leaky"][:20], normals[second[80:]])


def test_a_holdout_of_a_digit_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected a digit of positions \(labels 0, 1, 2, 3, 4\), found 7"):
        holdout.prepare_holdout(small_source(tmp_path), 7)
    full = arrays()
    saving.save(arrays(labels={}), tmp_path / "bare", "bare")
    assert full.labels
    with pytest.raises(ValueError, match="expected labels of bare 'train', found those of no split"):
        holdout.prepare_holdout(store.load(tmp_path / "bare"), 1)


@pytest.mark.parametrize(
    "digit, n_train, n_normal, n_anomalies",
    [  # protocols of EGBAD and MEG on the pool of 70,000
        (1, 49_698, 12_425, 7_877),
        (4, 50_540, 12_636, 6_824),
        (5, 50_949, 12_738, 6_313),
        (7, 50_165, 12_542, 7_293),
        (9, 50_433, 12_609, 6_958),
    ],
)
def test_mnist_holdouts_have_the_published_sizes(
    real_mnist: store.Dataset, digit: int, n_train: int, n_normal: int, n_anomalies: int
) -> None:
    found = holdout.prepare_holdout(real_mnist, digit)
    assert len(found.splits["train"]) == n_train
    for split in ("test", "test_leaky"):
        assert np.bincount(found.labels[split]).tolist() == [n_normal, n_anomalies]
    leaked = np.isin(found.indices["test_leaky"][:n_normal], found.indices["train"]).mean()
    assert 0.79 < leaked < 0.81
    assert leaked == pytest.approx(found.source["leaked_fraction"], abs=1e-6)
    assert not np.isin(found.indices["test"], found.indices["train"]).any()


# The command


def command(tmp_path: Path, **changes: str) -> list[str]:
    options = {"module": "dtri.data.uniform", "name": "u", "image-shape": "1,4,4", "options": '{"n": 5}'}
    options |= {"raw": str(tmp_path / "raw"), "out": str(tmp_path / "out")} | changes
    return [word for name, value in options.items() if value for word in (f"--{name}", value)]


def test_the_command_prepares_a_dataset_and_its_holdout(tmp_path: Path) -> None:
    assert prepare.main(command(tmp_path)) == 0
    assert saving.verify(tmp_path / "out").meta["sizes"] == {"test": 5}
    small_source(tmp_path / "source")
    out = tmp_path / "held"
    assert (
        prepare.main(["--holdout-of", str(tmp_path / "source"), "--digit", "2", "--name", "h2", "--out", str(out)]) == 0
    )
    dataset = saving.verify(out)
    assert dataset.meta["sizes"] == {"train": 80, "test": 45, "test_leaky": 45}
    assert dataset.meta["source"]["of_content"] == store.load(tmp_path / "source").content
    assert json.loads((out / "meta.json").read_text())["n_classes"] is None


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"options": '{"m": 5}'}, "unknown option 'm' for dtri.data.uniform (known: n)"),
        ({"options": "[1]"}, "expected a JSON object, found '[1]' (--options)"),
        ({"options": "{"}, "expected a JSON object, found '{'"),
        ({"image-shape": "1,a,4"}, "expected C,H,W such as 1,28,28, found '1,a,4' (--image-shape)"),
        ({"image-shape": "1,4"}, "expected image shape (C, H, W), positive, with C 1 or 3, found (1, 4)"),
        ({"image-shape": ""}, "expected --image-shape with --module, found none"),
        (
            {"module": "dtri.data.nothing"},
            "expected a dataset module such as dtri.data.mnist, found 'dtri.data.nothing'",
        ),
        (
            {"module": "dtri.data.store"},
            "expected FILES and prepare in a dataset module, found no FILES and no prepare",
        ),
        ({"module": "dtri.data.mnist"}, "expected train-images-idx3-ubyte.gz (47040016 bytes, md5 6bbc9ace"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(tmp_path: Path, capsys, changes: dict, message: str) -> None:
    assert run(lambda: prepare.main(command(tmp_path, **changes))) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error
    assert not (tmp_path / "out").exists()


def test_a_raw_file_with_other_content_is_not_prepared(tmp_path: Path, capsys) -> None:
    small_mnist(tmp_path)
    changes = {"module": "dtri.data.mnist", "image-shape": "1,28,28", "options": "{}", "raw": str(tmp_path)}
    assert run(lambda: prepare.main(command(tmp_path, **changes))) == 2
    assert "found 15696 bytes with md5" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
