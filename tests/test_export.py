"""A crate holds what its metadata lists and nothing else; images that may not be passed on stay here."""

import hashlib
import json
import shutil
import sys
import zipfile
from pathlib import Path

import pytest

from dtri.report import style
from dtri.report.cells import FigureInput
from tests.test_verify import FOLDER, RMSE, flip, results
from workflow import configuration, jobcode, plan, specs
from workflow.commands import export, figure
from workflow.commands.cli import run

__all__ = ["results"]  # the fixture: a dataset, a run with two records, a table
FIGURES = Path("results/demo/figures")
METADATA = "ro-crate-metadata.json"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two figures as this checkout draws them where no run of theirs is there."""
    folder, preset = tmp_path_factory.mktemp("figures"), configuration.preset("demo")
    for name in ("samples", "reconstructions"):
        style.save(style.nothing(), folder / name, figure.origin(name, preset, []))
    return folder


@pytest.fixture(autouse=True)
def packed(results: Path, pictures: Path) -> None:
    pytest.importorskip("rocrate", reason="needs the optional package rocrate (pip install '.[export]')")
    shutil.copytree(pictures, FIGURES)


def exported(*options: str) -> tuple[set[str], dict[str, dict]]:
    """Names in the crate, and the entities of its metadata by @id."""
    assert run(lambda: export.main(["demo", "--out", "out/demo.zip", *options])) == 0
    with zipfile.ZipFile("out/demo.zip") as crate:
        entities = json.loads(crate.read(METADATA))["@graph"]
        assert len({one["@id"] for one in entities}) == len(entities)
        return set(crate.namelist()), {one["@id"]: one for one in entities}


def kinds(entity: dict) -> list[str]:
    return entity["@type"] if isinstance(entity["@type"], list) else [entity["@type"]]


def references(value: object) -> list[str]:
    """Every @id that an entity points to."""
    if isinstance(value, list):
        return [found for one in value for found in references(one)]
    return [value["@id"]] if isinstance(value, dict) else []


def test_every_file_is_listed_with_its_hash_and_every_listed_file_is_there() -> None:
    names, entities = exported()
    listed = {name for name, one in entities.items() if "File" in kinds(one)}
    assert listed == names - {METADATA}
    assert listed == set(references(entities["./"]["hasPart"]))
    with zipfile.ZipFile("out/demo.zip") as crate:
        for name in listed:
            assert entities[name]["sha256"] == hashlib.sha256(crate.read(name)).hexdigest(), name
        assert crate.read(str(RMSE)) == RMSE.read_bytes()
    assert {str(FOLDER / "train.json"), str(RMSE), "results/demo/table2.csv", "requirements.lock"} < listed
    assert {f"results/data/digits/{name}.json" for name in ("meta", "fetch", "classifier")} < listed
    assert {f"{FIGURES}/{name}.png" for name in ("samples", "reconstructions")} < listed
    assert not any(name.endswith((".npy", ".npz", ".safetensors", "state.pt")) for name in names)


def test_what_the_profile_requires_is_there() -> None:
    """https://w3id.org/ro/wfrun/workflow/0.6, and what it extends."""
    _, entities = exported()
    root, about = entities["./"], entities[METADATA]
    assert about["conformsTo"]["@id"].startswith("https://w3id.org/ro/crate/1.")
    assert about["about"] == {"@id": "./"}
    assert {"name", "description", "datePublished", "license", "hasPart"} <= root.keys()
    profiles = references(root["conformsTo"])
    assert {f"https://w3id.org/ro/wfrun/{kind}/0.6" for kind in ("process", "workflow")} < set(profiles)
    assert all("CreativeWork" in kinds(entities[profile]) for profile in profiles)
    workflow = entities[root["mainEntity"]["@id"]]
    assert {"File", "SoftwareSourceCode", "ComputationalWorkflow"} == set(kinds(workflow))
    assert {"name", "version", "programmingLanguage"} <= workflow.keys()
    (action,) = (entities[name] for name in references(root["mentions"]))
    assert kinds(action) == ["CreateAction"]
    assert action["instrument"] == root["mainEntity"]
    assert str(RMSE) in references(action["result"])
    inside = {name for one in entities.values() for key, value in one.items() for name in references(value)}
    elsewhere = {name for name in inside - entities.keys() if not name.startswith("https://")}
    assert elsewhere == set()


def test_the_terms_of_every_dataset_are_named() -> None:
    _, entities = exported()
    data = entities["#data-digits"]
    assert entities[data["license"]["@id"]]["name"] == configuration.datasets()["digits"].terms
    assert "#data-digits" in references(entities["#demo"]["object"])


def test_the_library_reads_it_again() -> None:
    from rocrate.rocrate import ROCrate

    names, _ = exported()
    crate = ROCrate("out/demo.zip")
    assert crate.mainEntity.id == "Snakefile"
    assert {one.id for one in crate.data_entities} == names - {METADATA}


def test_weights_come_along_on_request() -> None:
    weights = {str(FOLDER / "model.safetensors"), str(FOLDER / "snapshots/90.safetensors")}
    weights.add("results/data/digits/classifier.safetensors")
    assert exported("--weights")[0] - exported()[0] == weights


def test_images_that_may_not_be_passed_on_stay_here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pictures of samples go, those of test images do not; the crate names them and the reason."""
    entries = configuration.datasets()
    kept = {"terms": "no redistribution", "share_images": False}
    restricted = {**entries, "digits": entries["digits"].model_copy(update=kept)}
    monkeypatch.setattr(specs, "datasets", lambda: restricted)
    specs.dataset.cache_clear()
    try:
        names, entities = exported()
    finally:
        specs.dataset.cache_clear()
    assert f"{FIGURES}/samples.png" in names
    assert not any("reconstructions" in name for name in names)
    why = "shows images of handwritten digits (scikit-learn) (no redistribution)"
    assert f"left out  {FIGURES}/reconstructions: {why}" in capsys.readouterr().out.splitlines()
    assert f"figure reconstructions {why}" in entities["./"]["description"]


def test_figures_with_images_of_restricted_datasets() -> None:
    assert export.withheld(configuration.preset("demo")) == {}
    shown = {"reconstructions", "ood_examples", "interpolation", "systems", "growth", "growth_compared"}
    assert export.withheld(configuration.preset("paper")).keys() == shown


def test_every_kind_of_product_that_figures_draw_is_known_to_hold_images_or_not() -> None:
    """A figure with a new kind needs a decision here, and in `WITH_IMAGES` where it holds images."""
    wants: set[FigureInput] = {want for name in plan.FIGURES for want in plan.figure_wants(name)}
    without = {want.file for want in wants if not export.shows_images(want.file)}
    assert {name for name in without if not name.startswith(("metrics/", "scores/"))} == {
        *("grid.npy", "interpolation_prior.npy"),  # samples
        *("train.csv", "landscape.csv"),
    }


def test_variants_and_holdouts_have_the_terms_of_their_source() -> None:
    for name, source in (("celeba10k", "celeba"), ("mnist_holdout4", "mnist"), ("dtd10_3x32x32", "dtd_3x32x32")):
        assert specs.dataset(name).terms == specs.dataset(source).terms
    assert specs.dataset("celeba10k").terms[1] is False
    documented = (Path(__file__).resolve().parents[1] / "docs" / "datasets.md").read_text("utf-8")
    for name, entry in configuration.datasets().items():
        assert entry.terms or entry.variant_of or entry.holdout_of, f"{name} has no terms"
        assert f"| {entry.terms} |" in documented or not entry.terms


def test_a_damaged_product_is_not_packed(capsys: pytest.CaptureFixture[str]) -> None:
    flip(RMSE)
    assert run(lambda: export.main(["demo", "--out", "demo.zip"])) == 2
    assert f"found {RMSE} changed and " in capsys.readouterr().err
    assert not Path("demo.zip").exists()


def test_stale_products_are_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(jobcode, "measure_code", lambda metric, name: "0" * 16)
    for path in Path("results/demo").glob("table2.*"):
        path.unlink()  # it would be changed, not stale
    _, entities = exported()
    assert f"Stale when packed: {RMSE.with_name('mse.json')}, {RMSE}." in entities["./"]["description"]
    assert "2 products are stale" in capsys.readouterr().out


def test_without_the_library_the_error_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "rocrate", None)
    assert run(lambda: export.main(["demo", "--out", "demo.zip"])) == 2
    assert capsys.readouterr().err == (
        "error: expected the package rocrate, found none; pip install 'rocrate>=0.16,<1'\n"
    )
