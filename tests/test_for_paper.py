"""Figures for a paper: an exact width, serif letters of 8 points, no title, label or caption."""

import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

from dtri.report import for_paper, style
from dtri.report.cells import Product
from dtri.report.for_paper import FONT, SIZE
from workflow.commands import figure

WIDTH = 3.25


def drawn():
    """Two plots with long words and a legend, above a grid of images."""
    fig = style.figure(9, 6, "a subtitle", "remarks")
    first, second, images, spare = style.panels(fig, 4, 2)
    first.plot([0, 1], [1, 2], label="a system with a name that is far too long for a legend in a narrow panel")
    first.legend(ncols=2, fontsize=6)
    first.set_title("a heading that is far too long for a narrow panel\nsecond line", fontsize=12)
    second.set_xlabel("a name of an axis that is far too long for a narrow panel")
    images.imshow(np.zeros((8, 8, 3), np.uint8))
    images.set_axis_off()
    spare.remove()
    return fig


def test_letters_are_serif_and_of_one_size():
    fig = for_paper.fit(drawn(), WIDTH)
    fig.draw_without_rendering()
    texts = [text for text in fig.findobj(Text) if text.get_text()]
    assert {(text.get_fontsize(), *text.get_fontfamily()) for text in texts} == {(SIZE, FONT)}
    assert len(texts) > 10


def test_neither_title_nor_caption_is_left_and_headings_stay():
    fig = for_paper.fit(style.frame(drawn(), "Title", "demo", "caption"), WIDTH)
    shown = {text.get_text() for text in fig.findobj(Text)}
    assert not any(word in text for text in shown for word in ("Title", "demo", "caption", "subtitle", "remarks"))
    assert any(text.startswith("a heading") and text.endswith("\nsecond line") for text in shown)


def test_words_stay_inside_the_figure():
    fig = for_paper.fit(drawn(), WIDTH)
    fig.draw_without_rendering()
    box = fig.get_tightbbox()
    assert -0.02 <= box.x0 < box.x1 <= WIDTH + 0.02
    (axes,) = (axes for axes in fig.axes if axes.get_legend())
    assert axes.get_legend().get_tightbbox().y1 < axes.get_tightbbox(for_layout_only=True).y1 - axes.bbox.height


@pytest.mark.parametrize("ending", [".png", ".pdf"])
def test_files_are_exactly_as_wide_and_the_same_on_two_runs(ending: str, tmp_path: Path):
    paths = [tmp_path / f"{name}{ending}" for name in "ab"]
    for path in paths:
        for_paper.save(for_paper.fit(drawn(), WIDTH), path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    if ending == ".png":
        assert Image.open(paths[0]).width == round(WIDTH * for_paper.DPI)
    else:
        width = re.search(rb"/MediaBox \[ ?0 0 ([\d.]+)", paths[0].read_bytes())[1]
        assert float(width) == pytest.approx(WIDTH * 72)


def test_the_command_writes_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    np.save(tmp_path / "grid.npy", np.zeros((64, 1, 8, 8), np.uint8))
    product = Product("cifar10", "digits", "vae", "VAE", 0, "grid.npy", tmp_path / "grid.npy")
    monkeypatch.setattr(figure.plan, "figure_products", lambda *_: [product])
    made = tmp_path / "made" / "samples.png"
    words = ["samples", "--preset", "demo", "--paper", "--width", "2", "--out", str(made)]
    assert figure.main(words) == 0
    assert [path.name for path in made.parent.iterdir()] == ["samples.png"]
    assert Image.open(made).width == 2 * for_paper.DPI
