"""Raw files that were replaced are fetched and prepared again; touched, moved away or kept, nothing runs."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dtri.data import rawfiles, saving, store
from tests.test_data import png, two_classes, write_zip
from tests.test_image_files import write_folder
from tests.test_reruns import ROOT, call, git
from workflow.commands import explain, fetch, verify
from workflow.commands.cli import run

INDEX = "path,split\n" + "".join(f"{name},{name.partition('/')[0]}\n" for name in two_classes(2))


@pytest.fixture
def room(tmp_path: Path) -> Path:
    """A drop folder with a folder and a zip of images, and a list that splits them."""
    write_folder(tmp_path / "raw" / "a", two_classes(2))
    write_zip(tmp_path / "raw" / "a.zip", two_classes(2))
    (tmp_path / "raw" / "split.csv").write_text(INDEX)
    return tmp_path


def fetched(room: Path, archive: str, replaced: str = "") -> Path:
    record = room / "out" / "fetch.json"
    given = ["--module", "dtri.data.image_folder", "--raw", str(room / "raw"), "--archive", archive]
    given += ["--index", "split.csv", "--replaced", replaced, "--out", str(record)]
    assert run(lambda: fetch.main(given)) == 0
    return record


def rewritten(path: Path) -> None:
    """Other bytes, of the same number, with the same time of change."""
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


FOLDER_CHANGES: dict[str, Callable[[Path], object]] = {
    "another image": lambda raw: (raw / "a/train/cat/0.png").write_bytes(png((5, 6, 7))),
    "an image of the same size and time": lambda raw: rewritten(raw / "a/train/cat/0.png"),
    "one more image": lambda raw: (raw / "a/train/cat/new.png").write_bytes(png()),
    "one image less": lambda raw: (raw / "a/train/cat/0.png").unlink(),
    "a renamed class": lambda raw: (raw / "a/train/cat").rename(raw / "a/train/lion"),
    "another list": lambda raw: (raw / "split.csv").write_text(INDEX.replace("train", "", 1)),
}
ZIP_CHANGES: dict[str, Callable[[Path], object]] = {
    "another zip": lambda raw: write_zip(raw / "a.zip", two_classes(3)),
    "a zip of the same size and time": lambda raw: rewritten(raw / "a.zip"),
}
HARMLESS: dict[str, Callable[[Path], object]] = {
    "nothing": lambda raw: None,
    "touched": lambda raw: [os.utime(path) for path in raw.rglob("*")],
    "copied": lambda raw: shutil.copytree(raw.rename(raw.with_name("b")), raw),
    "moved away": lambda raw: shutil.rmtree(raw),
    "a hidden file more": lambda raw: (raw / "a/train/.DS_Store").write_bytes(b"x"),
    "notes": lambda raw: (raw / "a/notes.txt").write_text("x"),
}
CHANGES = [("a", name, change) for name, change in FOLDER_CHANGES.items()]
CHANGES += [("a.zip", name, change) for name, change in ZIP_CHANGES.items()]


@pytest.mark.parametrize("archive, name, change", CHANGES, ids=[name for _, name, _ in CHANGES])
def test_a_change_is_seen_once(archive: str, name: str, change: Callable[[Path], object], room: Path) -> None:
    record, raw = fetched(room, archive), room / "raw"
    assert rawfiles.replaced(record, raw) == ""
    change(raw)
    seen = rawfiles.replaced(record, raw)
    assert seen
    assert rawfiles.replaced(record, raw) == seen
    fetched(room, archive, seen)  # as the rule does it
    assert rawfiles.replaced(record, raw) == seen  # the value of that run: nothing is planned again
    shutil.rmtree(raw)
    assert rawfiles.replaced(record, raw) == seen


@pytest.mark.parametrize("archive", ["a", "a.zip"])
@pytest.mark.parametrize("change", HARMLESS.values(), ids=HARMLESS)
def test_what_changes_no_image_is_no_change(archive: str, change: Callable[[Path], object], room: Path) -> None:
    record = fetched(room, archive)
    change(room / "raw")
    assert rawfiles.replaced(record, room / "raw") == ""


def test_nothing_is_read_twice(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan reads gigabytes at most once after a change of times, and never for what was fetched."""
    record, raw, read = fetched(room, "a"), room / "raw", []
    hashed = rawfiles.sha256_of
    monkeypatch.setattr(rawfiles, "sha256_of", lambda path: read.append(path.name) or hashed(path))
    assert rawfiles.replaced(record, raw) == ""
    assert read == []
    os.utime(raw / "a/train/cat/0.png")
    for _ in range(2):
        assert rawfiles.replaced(record, raw) == ""
    assert read == ["a"]


FORMS = [b"[]", b"[1]", b'{"a": 3}', b'{"a": {"seen": 1}}', b"3"]  # of "files", unsealed


@pytest.mark.parametrize("damage", [b"[]", b'{"a": 3}', b"\xff", *(b'{"files": %s}' % form for form in FORMS), None])
def test_a_damaged_memory_is_done_without(damage: bytes | None, room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are hashed once more, also where a changed digit would have said that they were replaced."""
    record = fetched(room, "a")
    memory = record.with_name(".fetch.json.seen")
    known = memory.read_bytes()
    sha256 = json.loads(record.read_text())["a"]["sha256"].encode()
    assert known.count(sha256) == 1
    memory.write_bytes(known.replace(sha256, b"0" * 64) if damage is None else damage)
    assert rawfiles.replaced(record, room / "raw") == ""
    assert memory.read_bytes() == known


def test_what_cannot_be_read_is_a_change(room: Path) -> None:
    """Fetching then says what is wrong."""
    record = fetched(room, "a")
    (room / "raw/a/train/gone.png").symlink_to("nothing")
    assert rawfiles.replaced(record, room / "raw") == "unreadable"


@pytest.mark.parametrize("content", [None, "", "[]", "{", '{"a": {"file": 3}}', '{"a": {}}'])
def test_without_a_good_record_there_is_nothing_to_compare(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "fetch.json").write_text(content)
    assert rawfiles.replaced(tmp_path / "fetch.json", tmp_path) == ""


@pytest.mark.parametrize("archive, name, change", CHANGES, ids=[name for _, name, _ in CHANGES])
def test_verify_reads_everything(
    archive: str, name: str, change: Callable[[Path], object], room: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(room)
    record = fetched(room, archive)
    Path("results/data/digits").mkdir(parents=True)
    shutil.copy(record, "results/data/digits/fetch.json")
    (room / "raw").rename("digits")
    assert verify.main(["results", "--downloads", "."]) == 0
    assert capsys.readouterr().out == "2 ok, 0 changed, 0 missing, 0 stale\n"
    change(room / "digits")
    assert verify.main(["results", "--downloads", "."]) == 1
    assert "changed   digits/" in capsys.readouterr().out


def test_verify_tells_of_test_images_that_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    images = np.random.RandomState(0).randint(0, 256, (6, 1, 4, 4)).astype(np.uint8)
    arrays = saving.Arrays(
        {"train": images, "test": images[:2]}, {"train": np.arange(6), "test": np.arange(2)}, {}, 0, ""
    )
    saving.save(arrays, Path("results/data/digits"), "digits", lambda images: {"n_test_in_train": 2})
    assert verify.main(["results", "--all"]) == 0
    line = "ok        results/data/digits/meta.json: 2 test images are training images too"
    assert line in capsys.readouterr().out.splitlines()


ENTRY = """
mine:
  label: mine
  module: dtri.data.image_folder
  image_shape: [3, 8, 8]
  options: {archive: a, split: {train: train, test: test}}
  generation: {n_samples: 10, reference: train}
"""


def test_the_same_command_prepares_replaced_images_again(tmp_path: Path) -> None:
    names = git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file() and name.startswith(("dtri/", "workflow/", "baselines/", "profiles/", "Snakefile")):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / name)
    with (tmp_path / "workflow/config/datasets.yaml").open("a") as file:
        file.write(ENTRY)
    folder = write_folder(tmp_path / "downloads/mine/a", two_classes(2))

    def snakemake(*options: str) -> str:
        target = "results/data/mine/meta.json"
        return call(tmp_path, "python", "-m", "snakemake", "--cores", "1", *options, "--", target)

    def planned() -> list[str]:
        return [job.rule for job in explain.parse(snakemake("--dry-run"))]

    snakemake()
    first = store.load(tmp_path / "results/data/mine")
    for path in folder.rglob("*"):
        os.utime(path)
    assert planned() == []
    (folder / "train/cat/0.png").write_bytes(png((250, 0, 0)))
    assert sorted(planned()) == ["fetch", "prepare"]
    snakemake()
    second = store.load(tmp_path / "results/data/mine")
    assert second.content != first.content
    assert 250 in np.unique(second.images("train"))
    assert json.loads((tmp_path / "results/data/mine/fetch.json").read_text())["replaced"]
    assert planned() == []
