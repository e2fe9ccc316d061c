"""A record's commit is this checkout's or none, and a clean one or marked."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from workflow.commands.provenance import provenance


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=test", "-c", "user.email=test@example.org", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with one commit."""
    folder = tmp_path / "checkout"
    (folder / "dtri").mkdir(parents=True)
    (folder / "dtri" / "engine.py").write_text("A = 1\n")
    (folder / "notes.md").write_text("notes\n")
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "one")
    return folder


def said(root: Path) -> tuple[str | None, bool | None]:
    made = provenance(root)
    return made["commit"], made["dirty"]


def test_a_clean_checkout(checkout: Path) -> None:
    assert said(checkout) == (git(checkout, "rev-parse", "HEAD"), False)


@pytest.mark.parametrize(
    "name, dirty",
    [
        ("dtri/engine.py", True),
        ("notes.md", True),
        ("dtri/new.py", True),
        ("dtri/a new one.py", True),
        ("new/deep/new.py", True),
        ("workflow/config/new.yaml", True),
        ("picture.png", False),
    ],
)
def test_what_differs_from_the_commit(checkout: Path, name: str, dirty: bool) -> None:
    """Edits of tracked files, and sources that git does not know; pictures and notes beside them change no number."""
    (checkout / name).parent.mkdir(parents=True, exist_ok=True)
    (checkout / name).write_text("B = 2\n")
    assert said(checkout) == (git(checkout, "rev-parse", "HEAD"), dirty)


@pytest.mark.parametrize("name, dirty", [("dtri/mine.py", True), ("results/table.py", False), ("notes.txt", False)])
def test_sources_that_git_ignores_are_code_too(checkout: Path, name: str, dirty: bool) -> None:
    """Those in a folder that it ignores as a whole, results say, are none."""
    (checkout / ".git" / "info" / "exclude").write_text("mine.py\nresults/\nnotes.txt\n")
    (checkout / name).parent.mkdir(exist_ok=True)
    (checkout / name).write_text("B = 2\n")
    assert said(checkout) == (git(checkout, "rev-parse", "HEAD"), dirty)


def test_sources_inside_another_repository_have_no_commit(checkout: Path) -> None:
    unpacked = checkout / "vendor" / "dtri-main"
    unpacked.mkdir(parents=True)
    assert said(unpacked) == (None, None)


def test_no_repository_at_all(tmp_path: Path) -> None:
    assert said(tmp_path) == (None, None)


def test_a_repository_without_a_commit(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    assert said(tmp_path) == (None, False)


def test_the_repository_that_the_environment_names_is_another(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As inside a git hook."""
    monkeypatch.setenv("GIT_DIR", str(checkout / ".git"))
    assert said(tmp_path) == (None, None)


def test_a_checkout_reached_through_a_link(checkout: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(checkout)
    assert said(link) == (git(checkout, "rev-parse", "HEAD"), False)


def test_packages_of_ones_own_are_named_with_their_commit(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = checkout / "own_package_of_a_test"
    package.mkdir()
    (package / "method.py").write_text("A = 1\n")
    monkeypatch.syspath_prepend(checkout)
    assert "own" not in provenance(), "nothing of one's own is loaded yet"
    importlib.import_module("own_package_of_a_test.method")
    try:
        assert provenance()["own"] == {package.name: {"commit": git(checkout, "rev-parse", "HEAD"), "dirty": True}}
        git(checkout, "add", "--all")
        git(checkout, "commit", "--quiet", "--message", "two")
        assert provenance()["own"] == {package.name: {"commit": git(checkout, "rev-parse", "HEAD"), "dirty": False}}
    finally:
        for name in ("own_package_of_a_test", "own_package_of_a_test.method"):
            del sys.modules[name]
