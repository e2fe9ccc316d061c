"""Event files of TensorBoard: what is handed to the writer, and the real writer where the package is installed."""

import sys
from pathlib import Path

import numpy as np
import pytest

from dtri.curve import to_csv
from tests.toys import noise_images
from workflow.commands import tensorboard
from workflow.commands.cli import run

RUN = Path("results/demo/digits/vae/seed0")


@pytest.fixture(autouse=True)
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run with losses, samples and reconstructions, and one that diverged at once."""
    monkeypatch.chdir(tmp_path)
    RUN.mkdir(parents=True)
    (RUN / "train.csv").write_text(to_csv([{"step": 2, "rec": 0.5, "kl": 2.0}, {"step": 4, "rec": 0.25, "kl": 1.0}]))
    np.save(RUN / "grid.npy", noise_images(20, (1, 28, 28)))
    np.save(RUN / "reconstructions.npy", np.stack([noise_images(12, (1, 28, 28))] * 2))
    diverged = RUN.with_name("seed1")
    diverged.mkdir()
    (diverged / "train.csv").write_text(to_csv([]))
    np.save(diverged / "grid.npy", np.zeros((0, 1, 28, 28), np.uint8))
    np.save(diverged / "reconstructions.npy", np.zeros((2, 0, 1, 28, 28), np.uint8))


class Writer:
    """Notes what it is asked to write."""

    made: list["Writer"]

    def __init__(self, folder: Path, filename_suffix: str):
        self.folder, self.scalars, self.images = folder, [], {}
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"events.out.tfevents.{len(self.made)}{filename_suffix}").touch()
        self.made.append(self)

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def add_scalar(self, name: str, value: float, t: int) -> None:
        self.scalars.append((name, value, t))

    def add_image(self, name: str, image: np.ndarray, t: int, dataformats: str) -> None:
        assert dataformats == "HWC"
        self.images[name] = (image.shape, t)


@pytest.fixture
def writers(monkeypatch: pytest.MonkeyPatch) -> list[Writer]:
    monkeypatch.setattr(Writer, "made", [], raising=False)
    monkeypatch.setattr(tensorboard, "library", lambda: Writer)
    return Writer.made


def test_losses_samples_and_reconstructions_of_every_run(writers: list[Writer]) -> None:
    assert run(lambda: tensorboard.main(["demo", "--out", "board"])) == 0
    first, second = writers
    assert first.folder == Path("board/digits/vae/seed0")
    assert first.scalars == [("loss/rec", 0.5, 2), ("loss/kl", 2.0, 2), ("loss/rec", 0.25, 4), ("loss/kl", 1.0, 4)]
    assert first.images == {"samples": ((86, 231, 3), 4), "reconstructions": ((57, 231, 3), 4)}
    assert (second.scalars, second.images) == ([], {})


def test_one_run_and_again(writers: list[Writer]) -> None:
    """Its own event files are replaced, those of others stay."""
    Path("board").mkdir()
    Path("board/events.out.tfevents.other").touch()
    for _ in range(2):
        assert run(lambda: tensorboard.main([str(RUN), "--out", "board"])) == 0
    names = sorted(path.name for path in Path("board").iterdir())
    assert names == ["events.out.tfevents.1.dtri", "events.out.tfevents.other"]


def test_the_writer_of_the_package() -> None:
    pytest.importorskip("tensorboard", reason="needs the optional package tensorboard")
    assert run(lambda: tensorboard.main(["demo", "--out", "board"])) == 0
    (written,) = Path("board/digits/vae/seed0").iterdir()
    assert written.stat().st_size > 1000


def test_without_the_package_the_error_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert run(lambda: tensorboard.main(["demo", "--out", "board"])) == 2
    assert capsys.readouterr().err == (
        "error: expected the package tensorboard, found none; pip install 'tensorboard>=2.18,<3'\n"
    )
    assert not Path("board").exists()
