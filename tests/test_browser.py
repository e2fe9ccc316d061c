"""Tables and the overview in a browser without a screen: they render, fit, and need no network."""

import html
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dtri.report.cells import Cell, CellResult
from dtri.report.overview import COLOURS, MEANING, STATUSES, overview
from dtri.report.records import Record
from dtri.report.render import render
from dtri.report.tidy import tidy
from workflow import plan

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)
LABEL = "demo: a stand-in for every dataset"
WIDTH, HEIGHT = 1400, 3000


def looked_up(cell: Cell, seed: int) -> CellResult:
    """All statuses in turn, by system."""
    turn = len(cell.model + cell.column) % 5
    if turn == 4:
        return CellResult(None, reason="not in the configuration", expected=False)
    record = Record(
        preset="demo",
        dataset=cell.dataset,
        model=cell.model,
        seed=seed,
        metric=cell.metric,
        value=None if turn == 3 else 0.5,
        status="diverged" if turn == 3 else "done",
        n_samples=10,
        n_reference=10,
        protocol="p",
        extractor="",
        spec="s",
        train_code="t",
        code="c",
        data={},
        device="cpu",
        seconds=1.0,
        train_seconds=360.0,
        train_device="cpu (test)",
    )
    if turn == 2 and seed:
        return CellResult(None, measured_on=cell.dataset)
    return CellResult(record, ("training code",) if turn == 1 else (), cell.dataset, True, turn == 0, "reason")


def pages() -> dict[str, Callable[[], str]]:
    """{name: how to write it} of every page."""
    frames = {name: (plan.table(name), tidy(plan.table(name), "demo", (0, 1), looked_up)) for name in plan.TABLES}
    found = {name: lambda pair=pair: render(*pair, LABEL, "html") for name, pair in frames.items()}
    return {**found, "overview": lambda: overview(list(frames.values()), LABEL)}


PAGES = pages()


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], np.ndarray]:
    """uint8 [H, W, 3] of a page as the browser draws it; each is drawn once."""
    if BROWSER is None:
        pytest.skip("no chromium here: Debian's package of that name")
    folder, drawn = tmp_path_factory.mktemp("browser"), {}

    def draw(name: str) -> np.ndarray:
        if name not in drawn:
            page, picture = folder / f"{name}.html", folder / f"{name}.png"
            page.write_text(PAGES[name]())
            options = [f"--user-data-dir={folder / 'profile'}", f"--window-size={WIDTH},{HEIGHT}"]
            command = [BROWSER, *FLAGS, *options, f"--screenshot={picture}", page.as_uri()]
            done = subprocess.run(command, capture_output=True, text=True, timeout=300)
            assert picture.exists(), done.stderr
            drawn[name] = np.asarray(Image.open(picture).convert("RGB"))
        return drawn[name]

    return draw


class Addresses(HTMLParser):
    """Everything that a page would load or link, but marks inside itself."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attributes if name in ("src", "href", "srcset", "data")]
        if tag in ("script", "link", "iframe", "object", "embed"):
            self.found.append(tag)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_stands_alone(name: str) -> None:
    page = PAGES[name]()
    parser = Addresses()
    parser.feed(page)
    assert [address for address in parser.found if not address.startswith("#")] == []
    assert "url(" not in page
    assert "@import" not in page


def share(picture: np.ndarray, colour: str) -> float:
    """Share of pixels of a colour such as "#bfe5cb"."""
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    return float((picture == wanted).all(-1).mean())


@pytest.mark.parametrize("name", PAGES)
def test_a_page_renders(name: str, shown: Callable[[str], np.ndarray]) -> None:
    """White sections on grey, dark ink over most of the width, the loud banner of another preset than the paper's."""
    picture = shown(name)
    assert picture.shape == (HEIGHT, WIDTH, 3)
    assert share(picture, "#ffffff") > 0.2
    assert share(picture, "#ffe9c7") > 0.0005
    ink = (picture < 100).all(-1)
    assert 0.002 < ink.mean() < 0.2
    columns = np.flatnonzero(ink.any(0))
    assert columns[0] < WIDTH * 0.1
    assert columns[-1] > WIDTH * 0.6
    assert np.flatnonzero(ink.any(1)).size > 300


def test_the_overview_shows_every_status(shown: Callable[[str], np.ndarray]) -> None:
    picture = shown("overview")
    for status in STATUSES:
        colour = COLOURS.split(f".cell.{status}{{background:")[1][:7]
        assert share(picture, colour) > 0.0005, status


def test_the_overview_counts_and_costs() -> None:
    page = html.unescape(PAGES["overview"]())
    cells = sum(len(plan.table(name).cells) for name in plan.TABLES)
    assert f"of {cells} cells; " in page
    assert "cpu (test)" in page
    assert all(text in page for text in MEANING.values())
    assert page.count('<span class="cell ') == cells + len(STATUSES) + 1
    assert 'class="cell stale other"' in page
    assert 'class="cell measured"' in page


def test_the_overview_lists_the_findings() -> None:
    page = PAGES["overview"]()
    assert "minimum possible" in page
    assert page.count("Findings on the printed numbers of") == len(plan.TABLES)


def test_the_overview_is_written_from_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from workflow.commands import overview as command

    monkeypatch.chdir(tmp_path)
    assert command.main(["--preset", "paper", "--out", "results/paper/overview.html"]) == 0
    page = Path("results/paper/overview.html").read_text()
    cells = sum(len(plan.table(name).cells) for name in plan.TABLES)
    assert f"{cells} missing of {cells} cells" in page
    assert "loud" not in page.split("</style>")[1]
