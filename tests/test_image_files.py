"""Folders and archives as people have them: hidden and linked folders, odd names and pictures, the same one twice."""

import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dtri.data import overlap, store
from tests.test_data import folder_images, png, two_classes, write_tar, write_zip
from workflow.commands import fetch, prepare
from workflow.commands.cli import run


def write_folder(folder: Path, members: dict[str, bytes]) -> Path:
    for name, content in members.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def image(mode: str = "RGB", kind: str = "PNG", size: tuple[int, int] = (8, 8), **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, kind, **options)
    return buffer.getvalue()


def prepared(raw: Path, out: Path, archive: str = "a", **options: object) -> int:
    """Exit code of fetch, then of prepare."""
    given = ["--module", "dtri.data.image_folder", "--raw", str(raw)]
    code = run(lambda: fetch.main([*given, "--archive", archive, "--out", str(out / "fetch.json")]))
    options = {"archive": archive, "split": {"train": "train", "test": "test"}} | options
    more = ["--name", "mine", "--image-shape", "3,8,8", "--options", json.dumps(options), "--out", str(out)]
    return code or run(lambda: prepare.main([*given, *more]))


# Hidden and linked


LEFTOVERS = (
    "train/.ipynb_checkpoints/1-checkpoint.png",
    "test/.ipynb_checkpoints/1-checkpoint.png",
    "train/cat/.ipynb_checkpoints/0.png",
    "__MACOSX/train/cat/0.png",
    "train/__MACOSX/cat/._0.png",
    "train/cat/._0.png",
    "train/cat/@eaDir/0.png",
    "train/@Recycle/0.png",
    "~snapshot/train/cat/0.png",
    "System Volume Information/train/cat/0.png",
    ".Trash-1000/train/cat/0.png",
)


@pytest.mark.parametrize("write", [write_folder, write_zip, write_tar], ids=["folder", "zip", "tar"])
def test_what_systems_and_programs_leave_is_no_class(write: Callable, tmp_path: Path, capsys) -> None:
    members = two_classes(1)
    write(tmp_path / "clean", members)
    ignored = dict.fromkeys(LEFTOVERS, png((9, 9, 9))) | dict.fromkeys(("train/.DS_Store", "train/cat/Thumbs.db"), b"x")
    write(tmp_path / "a", {**members, **ignored})
    clean, found = (folder_images(tmp_path, name, labels="folder") for name in ("clean", "a"))
    for split in ("train", "test"):
        np.testing.assert_array_equal(found.splits[split], clean.splits[split])
    assert found.source["classes"] == ["cat", "dog"]
    assert found.source["ignored"] == {".db": 1, "hidden": len(LEFTOVERS) + 1}
    assert found.source["n_ignored"] == len(LEFTOVERS) + 2
    assert f"ignored {len(LEFTOVERS) + 2} of {len(LEFTOVERS) + 6} files of" in capsys.readouterr().out


def test_linked_folders_and_files_are_followed(tmp_path: Path) -> None:
    members = two_classes(2)
    write_folder(tmp_path / "plain", members)
    write_folder(tmp_path / "elsewhere", {name.removeprefix("train/"): content for name, content in members.items()})
    write_folder(tmp_path / "a", {name: content for name, content in members.items() if name.startswith("test/")})
    (tmp_path / "a" / "train").mkdir()
    (tmp_path / "a" / "train" / "cat").symlink_to(tmp_path / "elsewhere" / "cat")
    (tmp_path / "a" / "train" / "dog").mkdir()
    for k in range(2):
        (tmp_path / "a" / "train" / "dog" / f"{k}.png").symlink_to(tmp_path / "elsewhere" / "dog" / f"{k}.png")
    plain, found = (folder_images(tmp_path, name, labels="folder") for name in ("plain", "a"))
    for split in ("train", "test"):
        np.testing.assert_array_equal(found.splits[split], plain.splits[split])
    assert found.source == plain.source | {"archive": "a"}


def test_links_that_lead_nowhere_or_in_circles_are_named(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "a", two_classes(1))
    (folder / "train" / "again").symlink_to(folder)
    with pytest.raises(ValueError, match=r"expected folders and files, found a link to a folder .*train/again"):
        folder_images(tmp_path, "a")
    (folder / "train" / "again").unlink()
    (folder / "train" / "gone.png").symlink_to("nothing")
    with pytest.raises(ValueError, match=r"expected a file, found a broken link \(.*train/gone\.png"):
        folder_images(tmp_path, "a")
    (folder / "train" / "gone.png").unlink()
    (folder / "train" / "itself.png").symlink_to("itself.png")
    with pytest.raises(ValueError, match=r"found a broken link \(.*train/itself\.png"):
        folder_images(tmp_path, "a")
    (folder / "train" / "itself.png").unlink()
    os.mkfifo(folder / "train" / "pipe.png")
    with pytest.raises(ValueError, match=r"found no plain file \(.*train/pipe\.png"):
        folder_images(tmp_path, "a")
    (folder / "train" / "pipe.png").unlink()
    (folder / "train" / "notes.txt").symlink_to("nothing")
    assert len(folder_images(tmp_path, "a").splits["train"]) == 2


def test_a_folder_that_denies_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its images must not just be missing. Root may read everything, so the refusal is pretended."""
    folder = write_folder(tmp_path / "a", two_classes(1))
    listed = os.listdir

    def denied(path: Path) -> list[str]:
        if Path(path).name == "cat":
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "listdir", denied)
    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(OSError, match=rf"Permission denied: '{folder}/test/cat'"):
        folder_images(tmp_path, "a")


def test_a_folder_named_like_an_image_is_a_folder(tmp_path: Path) -> None:
    write_folder(tmp_path / "a", {"train/cat.png/0.png": png(), "test/cat.png/1.png": png((1, 1, 1))})
    assert folder_images(tmp_path, "a", labels="folder").source["classes"] == ["cat.png"]


def test_classes_that_differ_in_the_form_of_an_accent_are_refused(tmp_path: Path) -> None:
    composed, apart = "caf\u00e9", "cafe\u0301"
    images = {f"train/{composed}/0.png": png(), f"train/{apart}/1.png": png(), f"test/{composed}/2.png": png()}
    write_zip(tmp_path / "a.zip", images)
    with pytest.raises(ValueError, match="expected classes that differ in more than case"):
        folder_images(tmp_path, labels="folder")


def test_classes_that_differ_in_case_are_refused(tmp_path: Path) -> None:
    write_zip(tmp_path / "a.zip", {"train/cat/0.png": png(), "train/Cat/1.png": png(), "test/cat/2.png": png()})
    with pytest.raises(ValueError, match=r"expected classes that differ in more than case, found Cat and cat"):
        folder_images(tmp_path, labels="folder")
    assert len(folder_images(tmp_path).splits["train"]) == 2


@pytest.mark.parametrize("odd", [b"caf\xe9", b"line\nbreak", b"tab\t'\"quote", b" ", "\u0301e".encode()], ids=repr)
def test_any_name_of_a_file_is_read(odd: bytes, tmp_path: Path, capsys) -> None:
    """Linux allows any bytes: fetch and prepare take the same names, and name the file when it is damaged."""
    name = os.fsdecode(odd)
    folder = write_folder(tmp_path / "raw" / "a", two_classes(2))
    for split in ("train", "test"):
        write_folder(folder, {f"{split}/{name}/{name}.png": png((7, 7, len(split))), f"{split}/{name}/x.{name}": b"x"})
    assert prepared(tmp_path / "raw", tmp_path / "out", labels="folder") == 0
    assert name in store.load(tmp_path / "out").meta["source"]["classes"]
    (folder / "train" / name / f"{name}.png").write_bytes(b"")
    assert prepared(tmp_path / "raw", tmp_path / "out", labels="folder") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert " ".join(f"{name}.png".encode("utf-8", "backslashreplace").decode().split()) in error


# Pictures


TRANSPARENT = {
    "RGBA": image("RGBA"),
    "LA": image("LA"),
    "palette": image("P", transparency=0),
    "colour key": image("RGB", transparency=(0, 0, 0)),
    "grey key": image("L", transparency=0),
    "webp": image("RGBA", "WEBP", lossless=True),
    "gif": image("P", "GIF", transparency=0),
}


@pytest.mark.parametrize("kind", TRANSPARENT)
@pytest.mark.parametrize("channels", [1, 3])
def test_hidden_colours_are_not_trained_on(kind: str, channels: int, tmp_path: Path) -> None:
    """Every pixel of these is transparent black: an error, or the background."""
    write_zip(tmp_path / "a.zip", {"train/0.png": TRANSPARENT[kind], "test/1.png": png()})
    shape = (channels, 8, 8)
    with pytest.raises(
        ValueError, match=r"expected an opaque picture, found transparent .*train/0\.png\).*'background'"
    ):
        folder_images(tmp_path, shape=shape)
    found = folder_images(tmp_path, shape=shape, background=[200, 200, 200])
    assert np.unique(found.splits["train"]).tolist() == [200]
    assert found.source["background"] == [200, 200, 200]
    assert np.unique(folder_images(tmp_path, shape=shape, background=7).splits["train"]).tolist() == [7]


def test_half_transparent_pixels_are_mixed_and_opaque_ones_kept(tmp_path: Path) -> None:
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[..., 0], pixels[..., 3] = 100, 255
    pixels[:4, :, 3] = 51  # a fifth
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    write_zip(tmp_path / "a.zip", {"train/0.png": buffer.getvalue(), "test/1.png": image("RGBA", size=(8, 8))})
    red = folder_images(tmp_path, background=200).splits["train"][0, 0]
    assert np.unique(red[:4]).tolist() == [180]
    assert np.unique(red[4:]).tolist() == [100]


def test_an_opaque_alpha_channel_changes_nothing(tmp_path: Path) -> None:
    pixels = np.random.RandomState(0).randint(0, 256, (8, 8, 4)).astype(np.uint8)
    pixels[..., 3] = 255
    contents = []
    for values in (pixels, pixels[..., :3]):
        buffer = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(values)).save(buffer, "PNG")
        contents.append(buffer.getvalue())
    write_zip(tmp_path / "a.zip", {"train/0.png": contents[0], "train/1.png": contents[1], "test/2.png": png()})
    first, second = folder_images(tmp_path, background=[1, 2, 3]).splits["train"]
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("background", ["white", [1, 2], [0, 0, 256], -1, 1.5, True, [True, 0, 0]], ids=repr)
def test_a_background_is_a_colour(background: object, tmp_path: Path) -> None:
    write_zip(tmp_path / "a.zip", two_classes(1))
    with pytest.raises(ValueError, match=r"expected option 'background' to be a grey value or \[red, green, blue\]"):
        folder_images(tmp_path, background=background)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_upright(orientation: int, tmp_path: Path) -> None:
    """As every viewer shows them; numbers of the EXIF standard. The upper left quarter of the scene is white."""
    scene = np.zeros((16, 8), np.uint8)
    scene[:8, :4] = 255
    undo = {2: Image.FLIP_LEFT_RIGHT, 3: Image.ROTATE_180, 4: Image.FLIP_TOP_BOTTOM, 5: Image.TRANSPOSE}
    undo |= {6: Image.ROTATE_90, 7: Image.TRANSVERSE, 8: Image.ROTATE_270}
    stored = Image.fromarray(scene)
    stored = stored.transpose(undo[orientation]) if orientation in undo else stored
    exif = Image.Exif()
    exif[0x0112] = orientation
    for kind in ("JPEG", "PNG"):
        buffer = io.BytesIO()
        stored.save(buffer, kind, exif=exif)
        write_zip(tmp_path / "a.zip", {"train/0.jpg": buffer.getvalue(), "test/1.png": png(size=(8, 16))})
        found = folder_images(tmp_path, shape=(1, 16, 8)).splits["train"][0, 0]
        np.testing.assert_array_equal(found > 127, scene > 127)


def test_pictures_that_are_several_are_refused(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), (k, k, k)) for k in (0, 90, 200)]
    for kind, name in (("GIF", "0.gif"), ("PNG", "0.png"), ("WEBP", "0.webp"), ("TIFF", "0.tif")):
        buffer = io.BytesIO()
        frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
        write_zip(tmp_path / "a.zip", {f"train/{name}": buffer.getvalue(), "test/1.png": png()})
        with pytest.raises(ValueError, match=rf"expected one picture, found 3 frames \(.*train/{name}\)"):
            folder_images(tmp_path)
    buffer = io.BytesIO()
    frames[2].save(buffer, "MPO", save_all=True, append_images=frames[:1])  # a camera's, with a preview
    write_zip(tmp_path / "a.zip", {"train/0.jpg": buffer.getvalue(), "test/1.png": png()})
    assert np.abs(folder_images(tmp_path).splits["train"].astype(int) - 200).max() <= 2


def test_more_than_eight_bits_are_scaled_or_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8), 40_000, np.uint16)).save(buffer, "PNG")
    write_zip(tmp_path / "a.zip", {"train/0.png": buffer.getvalue(), "test/1.png": png()})
    with pytest.raises(ValueError, match=r"expected 8 bits per channel, found mode I;16 \(.*train/0\.png\)"):
        folder_images(tmp_path)


def test_cmyk_and_palettes_keep_their_colours(tmp_path: Path) -> None:
    for mode, kind in (("CMYK", "JPEG"), ("P", "PNG"), ("YCbCr", "JPEG"), ("1", "PNG")):
        colour = (255, 255, 255) if mode == "1" else (200, 60, 20)
        buffer = io.BytesIO()
        Image.new("RGB", (8, 8), colour).convert(mode).save(buffer, kind, **({"quality": 95} if kind == "JPEG" else {}))
        write_zip(tmp_path / "a.zip", {"train/0.png": buffer.getvalue(), "test/1.png": png()})
        found = folder_images(tmp_path).splits["train"][0].reshape(3, -1).mean(1)
        assert np.abs(found - colour).max() < (30 if mode == "P" else 6), mode


# The same picture twice


@pytest.mark.parametrize("how", ["copy", "hard link", "link", "linked folder", "other format"])
def test_a_test_image_that_is_a_training_image_is_told(how: str, tmp_path: Path, capsys) -> None:
    members = two_classes(3)
    folder = write_folder(tmp_path / "raw" / "a", members)
    source, target = folder / "train/dog/2.png", folder / "test/dog/other.png"
    if how == "copy":
        target.write_bytes(source.read_bytes())
    elif how == "hard link":
        target.hardlink_to(source)
    elif how == "link":
        target.symlink_to(source)
    elif how == "linked folder":
        (folder / "test" / "more").symlink_to(folder / "train" / "dog")
    else:
        Image.open(source).save(target.with_suffix(".bmp"))
    assert prepared(tmp_path / "raw", tmp_path / "out") == 0
    n = 3 if how == "linked folder" else 1
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("note: "))
    assert line.startswith(f"note: {n} of {6 + n} test images are training images too, pixel by pixel: test/")
    assert " = train/dog/2.png" in line
    assert store.load(tmp_path / "out").meta["n_test_in_train"] == n


def test_nothing_is_told_where_nothing_is_shared(tmp_path: Path, capsys) -> None:
    write_folder(tmp_path / "raw" / "a", two_classes(3))
    assert prepared(tmp_path / "raw", tmp_path / "out") == 0
    assert "note" not in capsys.readouterr().out
    assert store.load(tmp_path / "out").meta["n_test_in_train"] == 0


def test_every_repetition_is_found() -> None:
    train = np.random.RandomState(0).randint(0, 256, (9, 1, 2, 2)).astype(np.uint8)
    test = np.concatenate([train[[4, 8]], 255 - train[:2], train[[4]]])
    train[7] = train[4]
    assert overlap.repeated(test, train) == [(0, 4), (1, 8), (4, 4)]
    line = overlap.report([(0, 4), (1, 8), (4, 4), (5, 5)], np.arange(10, 20), np.arange(9), ())
    pair = "image {} of the source = image {} of the source"
    assert line.endswith(", ".join([pair.format(10, 4), pair.format(11, 8), pair.format(14, 4), "..."]))
