"""LSUN and CelebA-HQ from small files of the official formats: exact pixels, counts, and what is wrong with a file."""

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import lmdb
import numpy as np
import pytest
from PIL import Image

from dtri.data import celeba_hq, checks, lsun, saving, stream
from dtri.files import digest
from tests.test_files import as_user
from workflow.commands import prepare
from workflow.commands.cli import run

ROOT = Path(__file__).resolve().parents[1]

# LSUN

N = 60
SHAPE = (3, 64, 64)


def room(k: int) -> bytes:
    """JPEG of quality 75, 512x256: grey of value k between a black left and a white right quarter.

    In JPEG a flat block of a grey value is exact at this quality: its mean is stored in steps of one value.
    """
    pixels = np.full((256, 512), k, np.uint8)
    pixels[:, :128], pixels[:, 384:] = 0, 255
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert("RGB").save(buffer, "JPEG", quality=75)
    return buffer.getvalue()


def key(k: int) -> bytes:
    return hashlib.sha1(str(k).encode(), usedforsecurity=False).hexdigest().encode()


ORDER = sorted(range(N), key=key)  # the k of every image, in the order of the keys


def write_database(folder: Path, values: dict[bytes, bytes] | None = None) -> Path:
    """data.mdb and lock.mdb, as the official zips hold them."""
    folder.mkdir(parents=True)
    with lmdb.open(str(folder), map_size=2**26) as environment, environment.begin(write=True) as transaction:
        for name, value in (values or {key(k): room(k) for k in range(N)}).items():
            transaction.put(name, value)
    return folder / "data.mdb"


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_database(tmp_path_factory.mktemp("lsun") / "made").read_bytes()


@pytest.fixture
def raw(tmp_path: Path, database: bytes) -> Path:
    """A drop folder with an unpacked database."""
    folder = tmp_path / "raw" / "bedroom_train_lmdb"
    folder.mkdir(parents=True)
    (folder / "data.mdb").write_bytes(database)
    return tmp_path / "raw"


def write_zip(raw: Path, content: bytes, name: str = "bedroom_train_lmdb/data.mdb") -> Path:
    with zipfile.ZipFile(raw / "bedroom_train_lmdb.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("bedroom_train_lmdb/", b"")
        file.writestr(name, content)
        file.writestr("bedroom_train_lmdb/lock.mdb", bytes(8192))
    return raw / "bedroom_train_lmdb.zip"


def scenes(raw: Path, shape: tuple[int, int, int] = SHAPE, seed: int = 0, **options: object) -> saving.Arrays:
    return lsun.prepare(raw, shape, {"archive": "bedroom_train_lmdb", "holdout": 10} | options, seed)


def images(arrays: saving.Arrays, split: str, start: int = 0) -> np.ndarray:
    return np.stack(list(arrays.splits[split].read(start)))


def test_lsun_pixels_counts_and_order(raw: Path, tmp_path: Path) -> None:
    meta = saving.save(scenes(raw), tmp_path / "out", "lsun_bedroom")
    dataset = saving.verify(tmp_path / "out")
    assert meta["sizes"] == {"train": N - 10, "test": 10}
    held_out = np.sort(checks.generator(0).permutation(N)[:10])
    np.testing.assert_array_equal(dataset.index("test"), held_out)
    np.testing.assert_array_equal(dataset.index("train"), np.setdiff1d(np.arange(N), held_out))
    for split in ("train", "test"):
        for image, place in zip(dataset.images(split), dataset.index(split), strict=True):
            # 512x256 becomes 128x64, of which the middle 64 columns remain: the grey half, but for the filter's edge.
            assert (image[:, :, 2:-2] == ORDER[place]).all()
    assert (meta["source"]["n_source"], meta["source"]["holdout"]) == (N, 10)


def test_lsun_stretched_keeps_the_whole_width(raw: Path) -> None:
    found = scenes(raw, resize="stretch")
    for image, place in zip(images(found, "test"), found.indices["test"], strict=True):
        # 64 columns for 512: 16 of the black quarter, 32 of the grey half, 16 of the white quarter.
        assert (image[:, :, 18:46] == ORDER[place]).all()
        assert (image[:, :, :14] < 4).all()
        assert (image[:, :, 50:] > 251).all()


def test_lsun_starts_anywhere(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lsun, "_REMAP", 7)  # several maps
    found = scenes(raw)
    whole = images(found, "train")
    for start in (1, 7, 33, 49):
        np.testing.assert_array_equal(images(found, "train", start), whole[start:])


def test_an_lsun_subset_reads_no_further(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    walked = []
    entries = lsun._entries
    monkeypatch.setattr(lsun, "_entries", lambda path, index: walked.append(index[-1]) or entries(path, index))
    found = scenes(raw, limit=20, holdout=5)
    both = np.concatenate([found.indices["train"], found.indices["test"]])
    np.testing.assert_array_equal(np.sort(both), np.arange(20))
    assert (len(found.splits["train"]), len(found.splits["test"])) == (15, 5)
    assert {len(images(found, split)) for split in ("train", "test")} == {15, 5}
    assert max(walked) == 19


def test_the_held_out_scenes_follow_the_seed(raw: Path) -> None:
    first, again, other = (scenes(raw, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.indices["test"], again.indices["test"])
    assert not np.array_equal(first.indices["test"], other.indices["test"])
    assert first.splits["train"].identity == again.splits["train"].identity != other.splits["train"].identity


def test_an_official_zip_is_unpacked_once_and_compared_later(raw: Path, database: bytes, tmp_path: Path) -> None:
    for path in (raw / "bedroom_train_lmdb").iterdir():
        path.unlink()
    (raw / "bedroom_train_lmdb").rmdir()
    archive = write_zip(raw, database)
    sha256 = digest(archive, "sha256")
    found = scenes(raw, archive=archive.name, sha256=sha256)
    unpacked = raw / "bedroom_train_lmdb" / "data.mdb"
    assert unpacked.read_bytes() == database
    assert len(images(found, "test")) == 10
    (unpacked.parent / ".data.mdb.12345678.partial").write_bytes(b"of a killed run")
    written = unpacked.stat().st_mtime_ns
    scenes(raw, archive=archive.name)
    assert unpacked.stat().st_mtime_ns == written
    unpacked.write_bytes(database[:-1] + b"!")
    with pytest.raises(
        ValueError, match=r"expected the data\.mdb of .*\.zip, found another \(.*data\.mdb\); delete it"
    ):
        scenes(raw, archive=archive.name)
    unpacked.unlink()
    scenes(raw, archive=archive.name)
    assert sorted(path.name for path in unpacked.parent.iterdir()) == ["data.mdb"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_a_zip_in_a_drop_folder_that_denies_is_unpacked_beside_the_output(database: bytes) -> None:
    """With the same images and the same content; the second time nothing is unpacked."""
    options = {"archive": "bedroom_train_lmdb.zip", "holdout": 10}
    with tempfile.TemporaryDirectory() as room:
        raw, out = Path(room) / "raw", Path(room) / "out"
        raw.mkdir()
        write_zip(raw, database)
        expected = saving.save(lsun.prepare(raw, SHAPE, options, 0), Path(room) / "other", "lsun")["content"]
        for path in sorted((raw / "bedroom_train_lmdb").rglob("*"), reverse=True):
            path.unlink()
        (raw / "bedroom_train_lmdb").rmdir()
        out.mkdir()
        os.chown(out, 64001, 64001)
        Path(room).chmod(0o755)
        given = ["--module", "dtri.data.lsun", "--name", "lsun", "--image-shape", "3,64,64", "--raw", str(raw)]
        given += ["--options", json.dumps(options), "--out", str(out / "lsun")]
        for _ in range(2):
            assert as_user(64001, 64001, lambda: prepare.main(given)) == 0
        assert sorted(path.name for path in raw.iterdir()) == ["bedroom_train_lmdb.zip"]
        assert (out / "lsun/bedroom_train_lmdb/data.mdb").read_bytes() == database
        assert saving.verify(out / "lsun").content == expected


def test_damaged_lsun_zips_are_named(raw: Path, database: bytes) -> None:
    path = raw / "bedroom_train_lmdb.zip"
    (raw / "bedroom_train_lmdb" / "data.mdb").unlink()
    whole = write_zip(raw, database).read_bytes()
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 0xFF
    cases = {
        r"expected a complete zip, found: File is not a zip file": whole[:-40],
        r"expected a complete zip, found: (Bad CRC-32|Error -3)": bytes(damaged),
        r"found a web page titled 'Quota exceeded'": b"<!DOCTYPE html><title>Quota exceeded</title>",
    }
    for message, content in cases.items():
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"{message}.*bedroom_train_lmdb\.zip"):
            scenes(raw, archive=path.name)
        assert not list((raw / "bedroom_train_lmdb").iterdir())
    write_zip(raw, database, "../data.mdb")
    with pytest.raises(ValueError, match="expected paths below the archive's own folder"):
        scenes(raw, archive=path.name)
    write_zip(raw, database, "bedroom_train_lmdb/data.db")
    with pytest.raises(ValueError, match=r"expected one data\.mdb in the zip, found 0"):
        scenes(raw, archive=path.name)


def test_damaged_databases_are_named(raw: Path, database: bytes) -> None:
    path = raw / "bedroom_train_lmdb" / "data.mdb"
    cases = {
        rf"expected a complete database of {len(database)} bytes, found {len(database) // 2}": database[
            : len(database) // 2
        ],
        "expected an LMDB database, found: ": bytes(10_000),
        "found a web page": b"<html><head>",
    }
    for message, content in cases.items():
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"{message}.*data\.mdb"):
            scenes(raw)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"expected the archive data\.mdb, found none; put it at .*data\.mdb"):
        scenes(raw)


def test_an_lsun_image_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    values = {key(k): room(k) for k in range(N)} | {key(7): room(7)[:-200]}
    write_database(tmp_path / "bedroom_train_lmdb", values)
    found = scenes(tmp_path)
    with pytest.raises(ValueError, match=rf"expected an image, found something unreadable.*key {key(7).decode()}"):
        saving.save(found, tmp_path / "out", "lsun_bedroom")
    assert not (tmp_path / "out" / "meta.json").exists()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"n_source": 61}, rf"expected 61 images, found {N} \(.*data\.mdb"),
        ({"holdout": N}, rf"expected more than {N} images, all of which would be held out, found {N}"),
        ({"limit": 10}, "expected more than 10 images, all of which would be held out, found 10"),
        ({"limit": 0}, "expected option 'limit' to be a positive whole number, found 0"),
        ({"holdout": 0}, "expected option 'holdout' to be a positive whole number, found 0"),
        ({"resize": "none"}, "expected option 'resize' to be 'crop' or 'stretch', found 'none'"),
        ({"archive": "../x.mdb"}, "expected paths below the archive's own folder"),
        ({"archive": None}, "expected option 'archive' to name something"),
        ({"sha256": "0" * 64}, r"expected sha256 0{64}, found [0-9a-f]{64}"),
        ({"n": 3}, r"unknown option 'n' for dtri\.data\.lsun \(known: archive, sha256"),
        ({"shape": (1, 64, 64)}, r"expected image shape \(C, H, W\), positive, with C 3, found \(1, 64, 64\)"),
    ],
)
def test_wrong_lsun_options_are_refused(raw: Path, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scenes(raw, **options)


WAITING = """
import sys
from dtri.data import pictures, stream
from tests.test_files import as_user
from workflow.commands import prepare
stream.SYNC_BYTES, stream.LOG_S = 8 * 3 * 64 * 64, 1e9
decode, calls = pictures.decode, []
def waiting(*arguments):
    calls.append(arguments)
    if len(calls) == 30:
        print("waiting", flush=True)
        sys.stdin.read()
    return decode(*arguments)
pictures.decode = waiting
sys.exit(prepare.main(sys.argv[1:]))
"""


def test_a_killed_lsun_preparation_continues_with_the_same_command(raw: Path, tmp_path: Path, monkeypatch) -> None:
    options = json.dumps({"archive": "bedroom_train_lmdb", "holdout": 10})
    command = ["--module", "dtri.data.lsun", "--name", "lsun_bedroom", "--image-shape", "3,64,64"]
    command += ["--options", options, "--raw", str(raw)]
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING, *command, "--out", str(tmp_path / "killed")],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=600)
    assert not (tmp_path / "killed" / "meta.json").exists()
    starts = []
    read = lsun._images
    monkeypatch.setattr(lsun, "_images", lambda *arguments: starts.append(arguments[-1]) or read(*arguments))
    monkeypatch.setattr(stream, "SYNC_BYTES", 8 * 3 * 64 * 64)
    assert prepare.main([*command, "--out", str(tmp_path / "killed")]) == 0
    assert starts == [16, 0]  # 24 of 29 images were synced, of which the last eight are not trusted
    assert prepare.main([*command, "--out", str(tmp_path / "whole")]) == 0
    for path in (tmp_path / "whole").iterdir():
        assert path.read_bytes() == (tmp_path / "killed" / path.name).read_bytes()
    assert len(list((tmp_path / "killed").iterdir())) == 4


# CelebA-HQ


def face(k: int, side: int = 1024) -> np.ndarray:
    """uint8 [3, side, side]: 8x8 random squares, in which columns of two neighbouring values alternate."""
    squares = np.random.RandomState(k).randint(0, 255, (3, 8, 8)).astype(np.uint8)
    pixels = squares.repeat(side // 8, axis=1).repeat(side // 8, axis=2)
    pixels[:, :, ::2] += 1
    return pixels


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels.transpose(1, 2, 0)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


NAMES = [f"{k:05}.png" for k in range(6)]


@pytest.fixture(scope="session")
def faces() -> dict[str, bytes]:
    return {name: png(face(k)) for k, name in enumerate(NAMES)}


def write_tar(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as file:
        for name, content in members.items():
            member = tarfile.TarInfo(f"data1024x1024/{name}")
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))


def portraits(raw: Path, side: int = 8, seed: int = 0, archive: str = "a.tar", **options: object) -> saving.Arrays:
    return celeba_hq.prepare(raw, (3, side, side), {"archive": archive, "holdout": 2} | options, seed)


@pytest.mark.parametrize("side", celeba_hq.LEVELS)
def test_a_level_is_the_mean_of_squares_as_repeated_halving_gives_it(side: int) -> None:
    pixels = np.random.RandomState(side).randint(0, 256, (3, 1024, 1024)).astype(np.uint8)
    halved = pixels.astype(np.float32)
    while halved.shape[1] > side:
        halved = (halved[:, ::2, ::2] + halved[:, 1::2, ::2] + halved[:, ::2, 1::2] + halved[:, 1::2, 1::2]) / 4
    np.testing.assert_array_equal(celeba_hq.reduce(pixels, side), np.rint(halved))


def test_celeba_hq_pixels_counts_and_order(tmp_path: Path, faces: dict[str, bytes]) -> None:
    write_tar(tmp_path / "a.tar", dict(reversed(faces.items())) | {"readme.txt": b"hello"})
    for side in (1024, 512, 8):
        meta = saving.save(portraits(tmp_path, side, n_source=6), tmp_path / "out", f"celeba_hq_{side}")
        dataset = saving.verify(tmp_path / "out")
        assert meta["sizes"] == {"train": 4, "test": 2}
        assert sorted([*dataset.index("train"), *dataset.index("test")]) == list(range(6))
        for split in ("train", "test"):
            assert dataset.index(split).tolist() == sorted(dataset.index(split), reverse=True)  # the archive's order
            for image, place in zip(dataset.images(split), dataset.index(split), strict=True):
                if side == 1024:
                    np.testing.assert_array_equal(image, face(place))
                else:  # the mean of v and v + 1 is rounded to the even one of the two
                    low = face(place)[:, ::128, 1::128]
                    even = (low + low % 2).repeat(side // 8, axis=1).repeat(side // 8, axis=2)
                    np.testing.assert_array_equal(image, even)


def test_every_kind_of_celeba_hq_archive_gives_the_same_images(tmp_path: Path, faces: dict[str, bytes]) -> None:
    write_tar(tmp_path / "a.tar", faces)
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as file:
        for name, content in faces.items():
            file.writestr(name, content)
    (tmp_path / "c").mkdir()
    for name, content in faces.items():
        (tmp_path / "c" / name).write_bytes(content)
    kinds = [portraits(tmp_path, archive=name) for name in ("a.tar", "b.zip", "c")]
    for split in ("train", "test"):
        expected = images(kinds[0], split)
        for found in kinds:
            np.testing.assert_array_equal(found.indices[split], kinds[0].indices[split])
            np.testing.assert_array_equal(images(found, split), expected)
        np.testing.assert_array_equal(images(kinds[1], split, 1), expected[1:])


@pytest.mark.parametrize(
    "side, options, message",
    [
        (64, {"n_source": 30_000}, r"expected 30000 images, found 6 \(.*a\.tar"),
        (64, {"holdout": 6}, "expected more than 6 images, all of which would be held out, found 6"),
        (48, {}, r"expected square images of 4, 8, .*, 1024 pixels, found \(3, 48, 48\)"),
        (2048, {}, "expected square images of 4, 8"),
        (64, {"resize": "crop"}, r"unknown option 'resize' for dtri\.data\.celeba_hq"),
        (64, {"archive": "b.tar"}, r"expected the archive b\.tar, found none; put it at .*b\.tar"),
        (64, {"sha256": "0" * 64}, r"expected sha256 0{64}, found"),
    ],
)
def test_wrong_celeba_hq_options_are_refused(
    tmp_path: Path, faces: dict[str, bytes], side: int, options: dict, message: str
) -> None:
    write_tar(tmp_path / "a.tar", faces)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        portraits(tmp_path, side, **options)


def test_celeba_hq_files_that_are_wrong_are_named(tmp_path: Path, faces: dict[str, bytes], capsys) -> None:
    write_tar(tmp_path / "a.tar", faces | {"00003.png": png(face(3, 512))})
    assert run(lambda: saving.save(portraits(tmp_path, 64), tmp_path / "out", "celeba_hq_64") and 0) == 2
    error = capsys.readouterr().err
    assert "expected 1024x1024 pixels" in error
    assert "found 512x512" in error
    assert "00003.png" in error
    assert error.count("\n") == 1
    write_tar(tmp_path / "a.tar", faces)
    whole = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "a.tar").write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(ValueError, match=r"expected a complete .*a\.tar"):
        portraits(tmp_path)
    write_tar(tmp_path / "a.tar", {"x.png": faces["00000.png"], "./x.png": faces["00001.png"]})
    with pytest.raises(ValueError, match=r"expected every path once, found 1 again \(.*a\.tar\)"):
        portraits(tmp_path)
