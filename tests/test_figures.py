"""Figures from random products: the right panels, the preset stamp, small files, identical bytes on two runs."""

import importlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from dtri.files import digest
from dtri.report import grids, style
from dtri.report.cells import FigureInput, Missing, Product, first_seeds
from dtri.report.records import Record
from workflow.commands.figure import compose

NAMES = (
    "systems",
    "samples",
    "reconstructions",
    "histograms",
    "ood_examples",
    "interpolation",
    "training_curves",
    "anomaly",
    "disconnectivity",
    "landscape_sensitivity",
    "growth",
    "growth_compared",
    "high_resolution",
    "large_scale",
)
LABEL = "demo: digits stand in"


def module(name: str):
    return importlib.import_module(f"workflow.figures.{name}")


def drawn(name: str, products: Sequence[Product], missing: Sequence[Missing] = ()) -> Figure:
    return compose(name, products, missing, LABEL)


def images(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Coarse random blocks: the sizes of real images, at the cost of drawing flat ones."""
    coarse = rng.integers(0, 256, (*shape[:-2], shape[-2] // 8, shape[-1] // 8), dtype=np.uint8)
    return coarse.repeat(8, axis=-2).repeat(8, axis=-1)


def write_product(path: Path, want: FigureInput, seed: int) -> None:
    rng = np.random.default_rng([seed, *want.dataset.encode(), *want.model.encode(), *want.against.encode()])
    side = 64 if want.dataset in ("celeba", "celeba_hq", "lsun_bedroom") else 32
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = want.file.removeprefix("data:").split("/")[-1]
    if kind in ("grid.npy", "test.npy"):
        np.save(path, images(rng, 70, 3, side, side))
    elif kind == "reconstructions.npy":
        np.save(path, images(rng, 2, 40, 3, side, side))
    elif kind == "growth.npz":
        levels = [4, 8, 16, 32, 64]
        np.savez(path, images=images(rng, len(levels), 2, 6, 3, 64, 64), sides=levels, seen=np.array(levels) * 1500)
    elif kind in ("interpolation.npy", "interpolation_prior.npy"):
        np.save(path, images(rng, 8, 10, 3, side, side))
    elif kind == "landscape.npz":
        np.savez(path, **landscape(rng))
    elif kind == "landscape.csv":
        rows = [(a, f, f / 3, f, t, int(9 / t), 3, 5) for a, f in ((10.0, 0.5), (20.0, 1.0)) for t in (0.5, 1.0, 2.0)]
        header = "alpha,alpha_factor,connected,connected_flat,threshold,basins,large_basins,largest"
        path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    elif kind.endswith(".npz"):
        shift = {"cifar10": 0.0, "uniform": 40.0}.get(want.against, 1.0)
        np.savez(path, energy=rng.normal(shift, 1.0, 500), sse=rng.random(500))
    elif kind == "train.csv":
        steps = range(0, 1000, 5)
        lines = [f"{t},{1 / (1 + t):.5f},{rng.normal():.4f},{t if t % 2 else ''}" for t in steps]
        path.write_text("\n".join(["step,reconstruction,critic,odd_steps_only", *lines]) + "\n")
    else:
        record(want, seed, rng.uniform(0.3, 0.7)).write(path)


def landscape(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Three basins, of which no path leads to the last."""
    heights = np.array([[-2.0, 0.5, np.inf], [0.5, -1.5, np.inf], [np.inf, np.inf, -1.0]])
    energies = np.array([[-2.0, -1.8, np.nan], [-1.5, np.nan, np.nan], [-1.0, -0.9, -0.8]])
    counts = {
        "starts": 40,
        "not_converged": 3,
        "descended_again": 2,
        "region": "|z| <= 9.5",
        "on_edge": 0.04,
        "minima": 21,
        "basins": 9,
        "basins_too_small": 5,
        "basins_not_drawn": 1,
        "minima_not_drawn": 8,
        "threshold": 0.5,
        "temperature": 0.01,
        "alpha": 12.3,
        "connected": 0.31,
        "connected_flat": 0.97,
        "thermal_rise": 0.02,
        "reach": 0.2,
        "strayed_over_reach": 1.5,
    }
    return {
        "images": images(rng, 3, 3, 1, 32, 32),
        "energies": energies,
        "members": np.array([2, 1, 3]),
        "order": np.array([1, 0, 2]),
        "merges": np.array([[0.5, 0, 1]]),
        "path_barrier": heights,
        "line_barrier": np.minimum(heights + 1, 4),
        "heights": heights,
        "found": np.array(json.dumps(counts)),
    }


def record(want: FigureInput, seed: int, value: float | None) -> Record:
    return Record(
        preset="demo",
        dataset=want.dataset,
        model=want.model,
        seed=seed,
        metric="auprc",
        value=value,
        status="diverged" if value is None else "measured",
        n_samples=100,
        n_reference=0,
        protocol="trapezoid",
        extractor="",
        spec="",
        train_code="",
        code="",
        data={},
        device="cpu",
        seconds=0.0,
        extra={"chance": 0.36, "minimum": 0.2},
    )


@pytest.fixture
def products(tmp_path: Path):
    def make(wants: tuple[FigureInput, ...], seeds: tuple[int, ...] = (0,), stand_in: str = "") -> list[Product]:
        made = []
        for i, want in enumerate(wants):
            for seed in seeds:
                path = tmp_path / str(seed) / str(i) / want.file.format(against=want.against).replace(":", "/")
                write_product(path, want, seed)
                on, against_on = stand_in or want.dataset, want.against and (stand_in or want.against)
                made.append(
                    Product(
                        dataset=want.dataset,
                        measured_on=on,
                        model=want.model,
                        model_label=f"label of {want.model}",
                        seed=seed,
                        file=want.file,
                        path=path,
                        against=want.against,
                        against_on=against_on,
                    )
                )
        return made

    return make


def texts(figure) -> str:
    found = [figure.get_suptitle(), figure.get_supxlabel()]
    for axes in figure.axes:
        found += [axes.get_title(), axes.get_xlabel(), axes.get_ylabel(), *(t.get_text() for t in axes.texts)]
        found += [t.get_text() for t in axes.get_legend().get_texts()] if axes.get_legend() else []
    return "\n".join(found)


@pytest.mark.parametrize(
    "name,axes",
    [
        ("systems", 17),
        ("samples", 5),
        ("reconstructions", 8),
        ("histograms", 10),
        ("ood_examples", 5),
        ("interpolation", 10),
        ("training_curves", 36),
        ("anomaly", 2),
        ("disconnectivity", 2),
        ("landscape_sensitivity", 1),
        ("growth", 10),
        ("growth_compared", 4),
        ("high_resolution", 1),
        ("large_scale", 4),
    ],
)
def test_draws_every_want_once_with_its_label(name: str, axes: int, products):
    figure = drawn(name, products(module(name).INPUTS, seeds=(1, 0)))
    assert len(figure.axes) == axes
    shown = texts(figure)
    assert LABEL in shown
    assert module(name).PAPER in shown
    assert module(name).CAPTION.split(".")[0][:40] in shown.replace("\n", " ")


@pytest.mark.parametrize("name", NAMES)
def test_saved_files_are_small_and_identical_on_two_runs(name: str, products, tmp_path: Path):
    made = products(module(name).INPUTS[:6])
    first = style.save(drawn(name, made), tmp_path / "first" / name)
    second = style.save(drawn(name, made), tmp_path / "second" / name)
    assert [path.suffix for path in first] == [".pdf", ".png"]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
    assert 5_000 < first[1].stat().st_size < 500_000


def test_a_rare_colour_survives_in_a_figure_of_few_colours(tmp_path: Path) -> None:
    """One green dot on a sheet of noise that is too large for all its colours."""
    fig = style.figure(8, 8)
    axes = fig.subplots()
    axes.imshow(np.random.RandomState(0).randint(100, 200, (700, 700, 3)).astype(np.uint8))
    axes.plot(350, 350, marker="o", markersize=4, color="#2f855a")
    _, png = style.save(fig, tmp_path / "figure")
    assert png.stat().st_size < style.PNG_LIMIT
    with Image.open(png) as picture:
        assert picture.mode == "P"
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3).astype(int)
    assert (abs(pixels - [0x2F, 0x85, 0x5A]).max(1) < 12).sum() > 20


def test_every_system_of_the_tables_has_a_panel(products):
    """Samples, below them test images and reconstructions where there are such, or why there are none."""
    systems = module("systems")
    assert {"meg", "bigan", "sngan", "igebm", "wake_sleep"} < set(systems.SYSTEMS)
    wants = [want for want in systems.INPUTS if want.model in ("vae", "dcgan", "bigan")]
    gap = Missing("cifar10", "sngan", "not made yet", "SNGAN")
    figure = drawn("systems", products(wants), [gap])
    heights = {
        axes.get_title().split("\n")[0]: axes.images[0].get_array().shape[0] for axes in figure.axes if axes.images
    }
    assert heights == {"label of vae": 6 * 33 - 2 + 8, "label of dcgan": 4 * 33 - 1, "label of bigan": 6 * 33 - 2 + 8}
    assert "SNGAN\nCIFAR-10" in texts(figure)
    assert "missing:\nnot made yet" in texts(figure)


def test_large_datasets_that_are_missing_say_why(products):
    large, gap = module("large_scale"), Missing("lsun_tower", "divergence_triangle", "left out of preset lite")
    for made, panels in (((), 1), (large.INPUTS[:2], 3)):
        figure = drawn("large_scale", products(made), [gap])
        assert len(figure.axes) == panels
        assert "LSUN-tower" in texts(figure)
        assert "missing:\nleft out of preset lite" in texts(figure)


def diverge(path: Path) -> None:
    """Put in the place of a product what commands write where values are not finite."""
    if path.name == "landscape.npz":
        np.savez(path, members=np.empty(0, np.int64), found=np.array(json.dumps({"diverged": "2 NaN"})))
    elif path.name == "landscape.csv":
        path.write_text("")
    elif path.name == "growth.npz":
        np.savez(path, images=np.array([]), sides=np.array([]), seen=np.array([]))
    elif path.suffix == ".npy":
        images = np.load(path)
        np.save(path, images[:, :0] if path.name == "reconstructions.npy" else images[:0])
    elif "scores" in path.parts:
        np.savez(path, energy=np.array([1.0, np.nan]))


@pytest.mark.parametrize(
    "name",
    [
        *("samples", "reconstructions", "histograms", "interpolation", "disconnectivity", "landscape_sensitivity"),
        *("growth", "growth_compared", "high_resolution", "large_scale", "systems"),
    ],
)
def test_what_diverged_is_said(name: str, products, tmp_path: Path):
    made = products(module(name).INPUTS)
    for product in made:
        diverge(product.path)
    figure = drawn(name, made)
    assert "diverged" in texts(figure).lower()
    style.save(figure, tmp_path / name)


@pytest.mark.parametrize("name", NAMES)
def test_without_products_a_figure_says_so(name: str):
    figure = drawn(name, [])
    assert "nothing measured yet" in texts(figure)
    assert LABEL in texts(figure)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "training_curves"])
def test_a_stand_in_is_named(name: str, products):
    wants = module(name).INPUTS
    shown = texts(drawn(name, products(wants[:6], stand_in="digits")))
    assert "digits" in shown.replace(LABEL, "")


def test_noise_still_fits_the_size_limit(tmp_path: Path):
    figure = style.figure(8, 8)
    noise = np.random.default_rng(0).integers(0, 256, (64, 3, 64, 64), dtype=np.uint8)
    grids.show(figure.subplots(), noise, 8)
    pdf, png = style.save(figure, tmp_path / "noise", {"code": "hash"})
    assert png.stat().st_size < 500_000
    assert style.origin_of(png) == {"code": "hash", "pdf": digest(pdf, "sha256")}


def test_grid_keeps_pixels_and_order():
    sheet = grids.tile(np.stack([np.full((1, 2, 3), value, np.uint8) for value in (10, 20, 30)]), columns=2)
    assert sheet.shape == (5, 7, 3)
    assert (sheet[:2, :3] == 10).all()
    assert (sheet[:2, 4:] == 20).all()
    assert (sheet[3:, :3] == 30).all()
    assert (sheet[3:, 4:] == 255).all()


def test_grid_keeps_colour_channels():
    image = np.stack([np.full((4, 4), value, np.uint8) for value in (1, 2, 3)])[None]
    assert grids.tile(image, 1)[0, 0].tolist() == [1, 2, 3]


@pytest.mark.parametrize("wrong", [np.zeros((2, 3, 4, 4)), np.zeros((2, 4, 4, 3), np.uint8), np.zeros((0, 1, 2, 2))])
def test_grid_refuses_other_arrays(wrong: np.ndarray):
    with pytest.raises(ValueError, match="expected uint8"):
        grids.tile(wrong, 2)


def test_auroc_is_oriented_and_counts_ties_half():
    auroc = module("histograms").auroc
    assert auroc(np.array([2.0, 3.0]), np.array([0.0, 1.0])) == 1.0
    assert auroc(np.array([0.0, 1.0]), np.array([2.0, 3.0])) == 0.0
    assert auroc(np.array([1.0, 1.0]), np.array([1.0])) == 0.5
    assert auroc(np.array([0.0, 2.0]), np.array([1.0])) == 0.5


def test_histograms_plot_minus_energy(products):
    module_ = module("histograms")
    figure = drawn("histograms", products(module_.INPUTS))
    assert "Uniform noise\nAUROC 1.000" in texts(figure)  # its energy is 40 higher, so it is told apart perfectly


def test_anomaly_uses_sample_deviation_and_leaves_out_diverged_runs(products):
    want = FigureInput("mnist_holdout4", "vae", "metrics/auprc.json")
    made = products((want,), seeds=(0, 1, 2))
    for product, value in zip(made, (0.4, 0.6, None), strict=True):
        record(want, product.seed, value).write(product.path)
    points, levels = module("anomaly").measured(made)
    assert points == {("4", "vae"): (0.5, pytest.approx(0.02**0.5))}
    assert levels == {"4": (0.36, 0.2)}


def test_training_curve_bins_keep_the_mean():
    step, value = module("training_curves").binned(np.arange(1000.0), np.arange(1000.0) * 2)
    assert len(step) == 100
    assert value.mean() == pytest.approx(999.0)
    np.testing.assert_allclose(value, 2 * step)


def test_first_seeds_takes_the_smallest_seed_in_order(products):
    made = products((FigureInput("celeba", "b", "grid.npy"), FigureInput("celeba", "a", "grid.npy")), seeds=(3, 1))
    assert [(product.model, product.seed) for product in first_seeds(made)] == [("b", 1), ("a", 1)]


def test_disconnectivity_shows_members_depths_and_barriers(products):
    figure = drawn("disconnectivity", products(module("disconnectivity").INPUTS))
    tree, columns = figure.axes
    leaves, sizes = tree.collections[0].get_offsets().tolist(), tree.collections[0].get_sizes()
    assert leaves == [[1.0, -2.0], [0.0, -1.5], [2.0, -1.0]]  # in the order of the tree
    assert sizes / sizes[1] == pytest.approx([2.0, 1.0, 3.0])  # areas
    lines = [list(zip(*line.get_data())) for line in tree.lines]
    assert [(0.0, 0.5), (1.0, 0.5)] in [sorted(line) for line in lines]
    assert [(1.0, -2.0), (1.0, 0.5)] in lines
    (alone,) = [line for line in lines if line[0] == (2.0, -1.0)]
    assert alone[1][1] > 0.5, "to where no path is known"
    assert len(columns.images) == 2 + 1 + 3
    text = figure.get_supxlabel()
    for count in (
        "40 descents",
        "3 not converged",
        "21 minima",
        "9 basins",
        "5 basins too small",
        "1 others",
        "8 minima",
    ):
        assert count in " ".join(text.split())
    assert "1 were met by attraction-diffusion and 2 are lower on a straight line" in " ".join(text.split())


def test_no_basin_to_draw_is_said(products):
    (product,) = products(module("disconnectivity").INPUTS)
    with np.load(product.path) as arrays:
        data = dict(arrays)
    empty = {name: data[name][:0] for name in ("images", "energies", "members", "order", "merges")}
    square = {name: np.empty((0, 0)) for name in ("path_barrier", "line_barrier", "heights")}
    np.savez(product.path, **data | empty | square)
    figure = drawn("disconnectivity", [product])
    assert "no basin is large enough to draw" in figure.get_suptitle()
    assert "40 descents" in figure.get_supxlabel()
