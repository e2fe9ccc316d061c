"""Tables, the landing page and pages of runs in a browser without a screen: they render, fit, and need no network."""

import html
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from dtri.report.cells import Cell, CellResult, Table
from dtri.report.overview import TILES, overview
from dtri.report.records import Record
from dtri.report.render import render
from dtri.report.tidy import tidy
from dtri.report.verdicts import VERDICTS, Judgement
from dtri.report.webpage import COLOURS
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


def frames() -> list[tuple[Table, pd.DataFrame]]:
    return [(plan.table(name), tidy(plan.table(name), "demo", (0, 1), looked_up)) for name in plan.TABLES]


def landing() -> str:
    """The landing page of cells of all statuses, with a figure, a run and a claim of each verdict."""
    claims = [
        Judgement(replace(claim, place="abstract"), verdict, "a reason")
        for claim, verdict in zip(plan.claims(), VERDICTS, strict=False)
    ]
    figures = [("figures/samples.png", "Generated samples")]
    return overview(frames(), claims, figures, {("cifar10", "vae"): "runs/cifar10.vae.seed0.html"}, LABEL, "a caveat")


def pages() -> dict[str, Callable[[], str]]:
    """{name: how to write it} of every page."""
    found = {table.name: lambda pair=(table, frame): render(*pair, LABEL, "html") for table, frame in frames()}
    return {**found, "overview": landing}


PAGES = pages()


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., np.ndarray]:
    """uint8 [H, W, 3] of a page as the browser draws it, `width` wide, on a dark screen on request; each once."""
    if BROWSER is None:
        pytest.skip("no chromium here: Debian's package of that name")
    folder = tmp_path_factory.mktemp("browser")

    @cache
    def draw(name: str, width: int = WIDTH, dark: bool = False) -> np.ndarray:
        page, picture = folder / f"{name}.html", folder / f"{name}{width}{dark}.png"
        page.write_text(PAGES[name]())
        options = [f"--user-data-dir={folder / 'profile'}", f"--window-size={width},{HEIGHT}"]
        options += ["--blink-settings=preferredColorScheme=0"] * dark
        command = [BROWSER, *FLAGS, *options, f"--screenshot={picture}", page.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert picture.exists(), done.stderr
        return np.asarray(Image.open(picture).convert("RGB"))

    return draw


class Addresses(HTMLParser):
    """Everything that a page would load, and everything that it links to, but marks inside itself."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.linked: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        known = dict(attributes)
        self.loaded += [known[name] or "" for name in ("src", "srcset", "data") if name in known]
        self.loaded += [tag] * (tag in ("script", "link", "iframe", "object", "embed"))
        self.linked += [address for address in [known.get("href") or ""] if address and not address.startswith("#")]


def addresses(page: str) -> Addresses:
    parser = Addresses()
    parser.feed(page)
    return parser


@pytest.mark.parametrize("name", PAGES)
def test_a_page_asks_nothing_of_the_network(name: str) -> None:
    """A table needs no other file; the landing page those in its folder, so that a copy of it works."""
    page = PAGES[name]()
    found = addresses(page)
    below = re.compile(r"((figures|runs)/)?[\w.]+")
    assert all(below.fullmatch(address) for address in (*found.loaded, *found.linked))
    assert name == "overview" or found.loaded == found.linked == []
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


def test_the_landing_page_shows_every_outcome(shown: Callable[..., np.ndarray]) -> None:
    picture = shown("overview")
    for name in ("good", "worse", "other", "stale", "partial"):
        assert share(picture, COLOURS[name][0]) > 0.0005, name


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [400, 1400])
def test_the_landing_page_fits(width: int, dark: bool, shown: Callable[..., np.ndarray]) -> None:
    """On narrow and wide, light and dark screens: the page's margin stays free of what is wider than the screen."""
    picture = shown("overview", width, dark)
    assert picture.shape == (HEIGHT, width, 3)
    page = [int(COLOURS["page"][dark][i : i + 2], 16) for i in (1, 3, 5)]
    assert (picture[:, -6:] == page).all()
    assert share(picture, COLOURS["card"][dark]) > 0.2
    assert share(picture, COLOURS["card"][not dark]) < 0.001


def luminance(colour: str) -> float:
    """Relative luminance of WCAG 2.1."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("shade", [0, 1], ids=["light", "dark"])
def test_letters_stand_out(shade: int) -> None:
    """WCAG 2.1 level AA: a contrast of 4.5 at least."""
    pairs = [(ink, ink.removesuffix("-ink")) for ink in COLOURS if ink.endswith("-ink")]
    pairs += [(ink, ground) for ink in ("ink", "soft", "link") for ground in ("page", "card", "note")]
    for ink, ground in pairs:
        dark, bright = sorted(luminance(COLOURS[name][shade]) for name in (ink, ground))
        assert (bright + 0.05) / (dark + 0.05) >= 4.5, (ink, ground)


def test_the_keyboard_reaches_everything() -> None:
    """Links have addresses, what scrolls can be scrolled by keys, and nothing hides where one is."""
    page = PAGES["overview"]()
    assert re.findall(r"<a (?![^>]*href)", page) == []
    assert page.count('class="scroll"') == page.count('class="scroll" tabindex="0" role="region"') > len(plan.TABLES)
    assert ":focus-visible{outline:" in page
    assert "outline:none" not in page
    assert 'tabindex="-1"' not in page


def test_the_landing_page_counts_and_costs() -> None:
    page = html.unescape(PAGES["overview"]())
    printed = sum(cell.published is not None for name in plan.TABLES for cell in plan.table(name).cells)
    assert f"Of {printed} numbers that the papers print" in page
    counts = re.findall(r"<b>(\d+)</b> (.*)\n<small>", page)
    assert [words for _, words in counts] == [words for _, words, _ in TILES]
    assert sum(int(count) for count, _ in counts) == printed
    assert "cpu (test)" in page
    assert re.search(r'<a class="value \w+" href="runs/cifar10.vae.seed0.html">', page)


def test_green_is_what_was_reproduced_alone() -> None:
    """A number that may not be compared is dashed and bracketed; one that nothing is printed for is grey."""
    page = PAGES["overview"]()
    values = re.findall(r'class="value (\w+)"(?: href="[^"]*")?>(\S+)', page)
    assert {kind for kind, text in values if text.startswith("[")} == {"other", "stale"}
    assert {"reproduced", "worse", "own"} <= {kind for kind, _ in values}
    assert re.findall(r"\.value\.(\w+)\{background:var\(--good\)", page) == ["reproduced"]


def test_claims_of_the_abstracts_stand_on_the_landing_page() -> None:
    page = html.unescape(PAGES["overview"]())
    for claim, verdict in zip(plan.claims(), VERDICTS, strict=False):
        assert claim.statement in page
        assert f"<b>1</b> {verdict}</li>" in page
    assert 'href="claims.html"' in page


def test_the_overview_lists_the_findings() -> None:
    page = PAGES["overview"]()
    assert "minimum possible" in page
    assert page.count("<details><summary>Findings on the printed numbers of") == len(plan.TABLES)


def test_the_overview_is_written_from_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from workflow.commands import overview as command

    monkeypatch.chdir(tmp_path)
    assert command.main(["--preset", "paper", "--out", "results/paper/overview.html"]) == 0
    page = Path("results/paper/overview.html").read_text()
    printed = sum(cell.published is not None for name in plan.TABLES for cell in plan.table(name).cells)
    assert f"<b>{printed}</b> missing" in page
    assert "loud" not in page.split("</style>")[1]
    assert "0 trainings" in Path("results/paper/runs/index.html").read_text()
