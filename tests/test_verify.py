"""The verify command: every product is as it was made, or it says which is not, and why."""

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from dtri.data import saving
from dtri.files import digest
from dtri.report import style
from dtri.report.records import Record
from dtri.sealed import read_sealed, write_sealed
from tests.toys import noise_images
from workflow import configuration, jobcode, plan, reasons, specs, status
from workflow.commands import accept, explain, figure, table, verify
from workflow.commands.cli import run
from workflow.params import published_table_absent

RUN = specs.Run("demo", "digits", "vae", 0)
DATA = Path("results/data/digits")
FOLDER = Path(RUN.folder)
RMSE = FOLDER / "metrics" / "rmse.json"


@pytest.fixture(autouse=True)
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Stand-ins for a dataset and its classifier, a run with one record, and a table, as this checkout makes them."""
    monkeypatch.chdir(tmp_path)
    splits = {"train": noise_images(16, (1, 28, 28)), "test": noise_images(12, (1, 28, 28))}
    indices = {name: np.arange(len(images)) for name, images in splits.items()}
    data = Path("results/data/digits")
    content = saving.save(saving.Arrays(splits, indices, {}, None, ""), data, "digits")["content"]
    (data / "classifier.safetensors").write_bytes(b"network")
    hashed = digest(data / "classifier.safetensors", "sha256")
    write_sealed(data / "classifier.json", {"dataset": "digits", "data": content, "sha256": hashed})
    raw = Path("downloads/digits/raw.bin")
    raw.parent.mkdir(parents=True)
    raw.write_bytes(b"raw")
    write_sealed(data / "fetch.json", {"raw.bin": {"file": "raw.bin", "sha256": digest(raw, "sha256")}})

    (FOLDER / "snapshots").mkdir(parents=True)
    names = ("model.safetensors", "train.csv", "snapshots/90.safetensors")
    for name in names:
        (FOLDER / name).write_text(name)
    spec = specs.train_spec(RUN)
    code = jobcode.model_code("train", "vae")
    made = {**asdict(RUN), "spec_hash": spec.hash, "code": code, "data": {"digits": content}}
    write_sealed(FOLDER / "train.json", {**made, "files": {n: digest(FOLDER / n, "sha256") for n in names}})
    record = Record(
        **asdict(RUN),
        metric="rmse",
        value=0.25,
        status="done",
        n_samples=9,
        n_reference=9,
        protocol="p",
        extractor="",
        spec=spec.hash,
        train_code=code,
        code=jobcode.measure_code("rmse", "vae"),
        data={"digits": content},
        device="cpu",
        seconds=1.0,
    )
    record.write(RMSE)
    replace(record, metric="mse", code=jobcode.measure_code("mse", "vae")).write(RMSE.with_name("mse.json"))
    (FOLDER / "reconstructions.npy").write_bytes(b"pairs")
    assert table.main(["table2", "--preset", "demo", "--partial", "--out", "results/demo"]) == 0
    return Path("results")


def verified(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str]]:
    capsys.readouterr()
    code = run(lambda: verify.main(list(arguments)))
    return code, capsys.readouterr().out.splitlines()


def test_all_is_ok(capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = verified(capsys, "results", "--all")
    assert (code, lines[-1]) == (0, "14 ok, 0 changed, 0 missing, 0 stale")
    data, downloads = "results/data/digits", "downloads/digits/raw.bin"
    expected = {f"{data}/{name}" for name in ("meta.json", "train.npy", "test.npy", "index.npz", "classifier.json")}
    expected |= {
        f"{FOLDER}/{name}" for name in ("train.json", "model.safetensors", "train.csv", "snapshots/90.safetensors")
    }
    expected |= {downloads, f"{data}/classifier.safetensors", str(RMSE), "results/demo/table2.csv"}
    expected.add(str(RMSE.with_name("mse.json")))
    assert {line.split()[1] for line in lines[:-2]} == expected
    assert verified(capsys, "results")[1] == lines[-2:]
    n_expected = len(plan.expected_products(configuration.preset("demo")))
    found = sum(Path(path).exists() for path in plan.expected_products(configuration.preset("demo")))
    assert lines[-2] == f"demo: {n_expected - found} of the {n_expected} products that the plan expects are not there"
    assert verified(capsys, str(FOLDER))[1] == ["6 ok, 0 changed, 0 missing, 0 stale"]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "name",
    [
        "results/data/digits/train.npy",
        "results/data/digits/index.npz",
        "results/data/digits/classifier.safetensors",
        "downloads/digits/raw.bin",
        f"{FOLDER}/model.safetensors",
        f"{FOLDER}/snapshots/90.safetensors",
        f"{FOLDER}/train.csv",
    ],
)
def test_one_changed_bit_is_found(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    flip(Path(name))
    code, lines = verified(capsys, "results")
    assert (code, lines[-1]) == (1, "13 ok, 1 changed, 0 missing, 0 stale")
    assert lines[0].startswith(f"changed   {name}: expected sha256 ")


@pytest.mark.parametrize(
    "name",
    [
        RMSE,
        FOLDER / "train.json",
        *(Path(f"results/data/digits/{one}.json") for one in ("classifier", "meta", "fetch")),
    ],
)
def test_a_changed_record_is_found(name: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also the name and the number of classes of a dataset, which no hash of an array holds."""
    values = json.loads(name.read_text())
    name.write_text(json.dumps({**values, "seed": 7}))
    code, lines = verified(capsys, str(name.parent))
    assert code == 1
    assert lines[0].startswith(f"changed   {name}: expected ")
    assert "with the seal" in lines[0]


@pytest.mark.parametrize(
    "content", ["[]", '{"raw.bin": {"file": "raw.bin"}}', '{"raw.bin": {"file": 3, "sha256": ""}}']
)
def test_a_record_of_raw_files_that_is_none_is_found(content: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One without a seal is of an older version."""
    path = Path("results/data/digits/fetch.json")
    path.write_text(content)
    code, lines = verified(capsys, "results")
    assert (code, lines[-1]) == (1, "13 ok, 1 changed, 0 missing, 0 stale")
    assert lines[0].startswith(f"changed   {path}: ")


@pytest.mark.parametrize("name", ["results/data/digits/test.npy", f"{FOLDER}/model.safetensors"])
def test_what_is_missing_is_named(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path(name).unlink()
    code, lines = verified(capsys, "results")
    assert (code, lines[-1]) == (1, "13 ok, 0 changed, 1 missing, 0 stale")
    assert lines[0].startswith(f"missing   {name}")


@pytest.mark.parametrize(
    "name, reader",
    [("train.json", "mse"), ("reconstructions.npy", "mse"), ("metrics/mse.json", "rmse"), ("metrics/rmse.json", "mse")],
)
def test_what_a_record_was_made_of_is_missing(name: str, reader: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Also where nothing vouches for it."""
    (FOLDER / name).unlink()
    code, lines = verified(capsys, "results")
    assert code == 1
    assert f"missing   {FOLDER}/{name}: {FOLDER}/metrics/{reader}.json was made of it" in lines
    assert " 1 missing, 0 stale" in lines[-1]


def test_a_dataset_prepared_by_other_code_is_stale(capsys: pytest.CaptureFixture[str]) -> None:
    """And so is what was made of it."""
    path = Path("results/data/digits/meta.json")
    write_sealed(path, {**read_sealed(path, "a meta"), "source": {"code": "0" * 16}})
    code, lines = verified(capsys, "results")
    assert code == 1
    stale = [line.split(":")[0].split()[1] for line in lines if line.startswith("stale")]
    classifier = path.with_name("classifier.json")
    assert set(stale) == {
        str(one) for one in (path, classifier, FOLDER / "train.json", RMSE, RMSE.with_name("mse.json"))
    }
    assert f"stale     {path}: data digits code" in lines


def test_an_accepted_difference_is_shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """For exactly that pair of hashes; a changed note of it is found."""
    with monkeypatch.context() as changed:
        changed.setattr(jobcode, "model_code", lambda kind, name: "1" * 16)
        for path in (FOLDER / "train.json", RMSE, RMSE.with_name("mse.json")):
            accept.note(path, status.differences(path), "me", "renamed")
        code, lines = verified(capsys, str(FOLDER))
        assert (code, lines[-1]) == (0, "4 ok, 3 accepted, 0 changed, 0 missing, 0 stale")
        old = json.loads(RMSE.read_text())["train_code"]
        assert lines[1].startswith(
            f"accepted  {FOLDER}/metrics/rmse.json: training code {old} -> {'1' * 16}, by me on "
        )
        assert lines[1].endswith(": renamed")
        changed.setattr(jobcode, "model_code", lambda kind, name: "2" * 16)
        assert verified(capsys, str(FOLDER))[1][-1] == "4 ok, 0 changed, 0 missing, 3 stale"
    assert verified(capsys, str(FOLDER))[1] == ["7 ok, 0 changed, 0 missing, 0 stale"]
    noted = FOLDER / status.ACCEPTED
    noted.write_text(noted.read_text().replace("renamed", "checked"))
    code, lines = verified(capsys, str(FOLDER))
    assert (code, lines[0][:10]) == (1, "changed   ")
    assert "with the seal" in lines[0]


def test_weights_before_the_end_are_made_anew_with_the_summary(capsys: pytest.CaptureFixture[str]) -> None:
    (FOLDER / "snapshots/90.safetensors").unlink()
    _, lines = verified(capsys, "results")
    assert lines[0] == f"missing   {FOLDER}/snapshots/90.safetensors: delete {FOLDER}/train.json to make it anew"


def test_images_that_both_splits_share_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    path = Path("results/data/digits/meta.json")
    write_sealed(path, read_sealed(path, "a dataset") | {"n_test_in_train": 3})
    code, lines = verified(capsys, "results/data")
    assert (code, lines[0]) == (0, f"ok        {path}: 3 test images are training images too")
    told = verified(capsys, "results")[1]
    assert any("table2.csv: its records give another table now" in line for line in told), "which names the 3"


def test_what_was_accepted_of_a_training_holds_for_records_to_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """They copy its code, which is then older than this checkout's; code of their own is not accepted with it."""
    monkeypatch.setattr(jobcode, "model_code", lambda kind, name: "1" * 16)
    accept.note(FOLDER / "train.json", status.differences(FOLDER / "train.json"), "me", "renamed")
    stale, accepted = status.judged(RMSE)
    assert stale == ("measuring code",)
    assert accepted[0].startswith("training code ")


RECORD = Record(
    **asdict(RUN),
    metric="fid",
    value=9.0,
    status="done",
    n_samples=9,
    n_reference=9,
    protocol="p",
    extractor="domain",
    spec="",
    train_code="",
    code="",
    data={},
    device="cpu",
    seconds=1.0,
    provenance={"commit": None, "dirty": None},
)


@pytest.mark.parametrize(
    "kind, change",
    [
        ("training specification", {"spec": "0" * 16}),
        ("training code", {"train_code": "0" * 16}),
        ("measuring code", {"code": "0" * 16}),
        ("sampler", {"sampler": {"steps": 7}}),
        ("comparisons", {"comparisons": []}),
        ("extractor", {"extractor_sha256": "0" * 64}),
        ("data digits", {"data": {"digits": "0" * 16}}),
        ("classifier code", "results/data/digits/classifier.json"),
        ("data digits code", "results/data/digits/meta.json"),
    ],
)
def test_tables_verify_explain_and_accept_agree(kind: str, change: dict | str, results: Path) -> None:
    """On what is stale and why, for each kind of difference; and that there is none where nothing differs."""
    preset, path = configuration.preset("demo"), FOLDER / "metrics" / "fid_domain.json"
    cells = plan.table("table1").cells
    cell = next(cell for cell in cells if plan.target(preset, cell, 0).path == path)
    network = read_sealed(Path("results/data/digits/classifier.json"), "a summary")
    meta = read_sealed(Path("results/data/digits/meta.json"), "a description")
    extra = {"sampler": specs.sampler(RUN), "comparisons": [one.model_dump() for one in specs.comparisons(RUN)]}
    extra["extractor_sha256"] = network["sha256"]
    hashes = {"spec": specs.train_spec(RUN).hash, "train_code": jobcode.training_code(RUN)}
    made = replace(
        RECORD, **hashes, code=jobcode.measure_code("fid", "vae"), data={"digits": meta["content"]}, extra=extra
    )

    def answers() -> list[set[str]]:
        """What tables, verify, explain and accept call stale; explain writes the hashes behind it."""
        explained = {line.partition(" ->")[0].rpartition(" ")[0] or line for line in reasons.details(path)}
        named = set(verify._judged(path).why.split(", ")) - {""}
        accepted = {one.what for one in accept.differing([path]).get(path, [])}
        return [set(status.lookup(preset, cell, 0).stale), named, explained, accepted]

    made.write(path)
    assert answers() == [set()] * 4
    if isinstance(change, str):
        file = Path(change)
        summary = read_sealed(file, "a summary")
        source = {"source": {**summary.get("source", {}), "code": "0" * 16}} if file.name == "meta.json" else {}
        write_sealed(file, {**summary, "code": "0" * 16, **source})
    else:
        own = {key: value for key, value in change.items() if key in ("spec", "train_code", "code", "data")}
        replace(made, **own, extra={**extra, **{key: change[key] for key in change.keys() - own.keys()}}).write(path)
    assert answers() == [{kind}] * 4


def test_a_copy_of_a_table_is_compared_with_its_original(capsys: pytest.CaptureFixture[str]) -> None:
    """A copy whose original was deleted, and one that is older than its original."""
    original, copy = Path("results/paper/table1.csv"), Path("results/table1.csv")
    original.parent.mkdir()
    for path in (original, copy):
        path.write_text("a")
    params = SimpleNamespace(table="table1")
    for ending in ("md", "tex", "html"):
        original.with_suffix(f".{ending}").write_text("a")
    assert published_table_absent(params) == ""
    original.unlink()
    assert published_table_absent(params) == "results/paper/table1.csv"
    assert f"missing   {original}: {copy} is a copy of it" in verified(capsys, "results")[1]
    original.with_suffix(".md").rename(copy.with_suffix(".md"))
    original.with_suffix(".md").write_text("b")
    stale = f"stale     {copy.with_suffix('.md')}: expected a copy of {original.with_suffix('.md')}, found another"
    assert stale in verified(capsys, "results")[1]


def test_lost_weights_before_the_end_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Snakemake knows nothing of them: explain names them, and what to delete."""
    summary = FOLDER / "train.json"
    assert list(explain.unknown_to_snakemake([summary])) == []
    (FOLDER / "snapshots" / "90.safetensors").unlink()
    told = f"{FOLDER}/snapshots/90.safetensors and 0 more weights of {summary} are gone; delete {summary} to train anew"
    assert list(explain.unknown_to_snakemake([summary])) == [told]


def test_a_user_without_a_name_has_to_give_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in a container whose user has no entry."""
    for missing in (KeyError("uid not found"), OSError("No username")):
        monkeypatch.setattr("getpass.getuser", lambda missing=missing: (_ for _ in ()).throw(missing))
        assert run(lambda: accept.main(["results/demo/table2.csv", "--reason", "r"])) == 2
        assert "give --who" in capsys.readouterr().err


def test_a_preset_on_another_disk_is_verified(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A link to its folder, and one in it that leads back."""
    Path("disk").mkdir()
    (results / "demo").rename("disk/demo")
    (results / "demo").symlink_to(Path("disk/demo").resolve())
    (results / "demo" / "back").symlink_to(Path("disk/demo").resolve())
    flip(FOLDER / "model.safetensors")
    lines = verified(capsys, "results")[1]
    assert lines[-1] == "13 ok, 1 changed, 0 missing, 0 stale"
    assert lines[-2].startswith("demo: ")
    assert verified(capsys, "results/demo")[1][-2].startswith("demo: ")


@pytest.mark.parametrize("name", [FOLDER / "train.json", *(DATA / f"{one}.json" for one in ("classifier", "meta"))])
def test_a_file_that_lacks_entries_is_named(name: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As one without a seal may that another version wrote: by `verify`, and by what judges each of its products."""
    name.write_text("{}")
    told = [line for line in verified(capsys, str(name.parent))[1] if line.split()[1] == f"{name}:"]
    assert [line.split()[0] for line in told] in (["changed"], ["stale"])
    if name.name != "classifier.json":  # no cell is judged by it alone
        with pytest.raises(ValueError, match=f"expected all entries in {name}, found this"):
            status.judged(FOLDER / "train.json")


def test_a_note_of_what_was_accepted_that_lacks_entries_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobcode, "model_code", lambda kind, name: "1" * 16)
    noted = FOLDER / status.ACCEPTED
    for text in ("{}", '{"accepted": null}', '{"accepted": [1]}', '{"accepted": [{}]}'):
        noted.write_text(text)
        with pytest.raises(ValueError, match=f"expected all entries in {noted}, found this"):
            status.judged(FOLDER / "train.json")


def test_raw_files_may_be_deleted(capsys: pytest.CaptureFixture[str]) -> None:
    Path("downloads/digits/raw.bin").unlink()
    code, lines = verified(capsys, "results")
    assert (code, len(lines), lines[-1]) == (0, 2, "13 ok, 0 changed, 0 missing, 0 stale")


def test_products_of_other_code_are_stale(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The table that shows them as current is no longer what its records give."""
    with monkeypatch.context() as changed:
        changed.setattr(jobcode, "model_code", lambda kind, name: "0")
        code, lines = verified(capsys, "results")
    assert (code, lines[-1]) == (1, "10 ok, 1 changed, 0 missing, 3 stale")
    assert f"stale     {FOLDER}/train.json: training code" in lines
    assert f"stale     {RMSE}: training code, measuring code" in lines
    assert "changed   results/demo/table2.csv: its records give another table now" in lines


def test_a_record_copied_to_another_seed_is_stale(capsys: pytest.CaptureFixture[str]) -> None:
    copy = FOLDER.with_name("seed1") / "metrics" / "rmse.json"
    copy.parent.mkdir(parents=True)
    copy.write_bytes(RMSE.read_bytes())
    code, lines = verified(capsys, "results")
    assert code == 1
    assert lines[0].startswith(f"stale     {copy}: record of demo/digits/vae/seed0 rmse")


def test_a_folder_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(lambda: verify.main(["results/nothing"])) == 2
    assert capsys.readouterr().err == "error: expected a folder of products, found none at results/nothing\n"


@pytest.mark.parametrize("name", ["table2.md", "claims.html", "figures/samples.pdf"])
def test_a_published_copy_is_compared_with_its_original(name: str) -> None:
    copy, original = Path("results", name), Path("results/paper", name)
    for path in (copy, original):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"as made")

    def found() -> tuple[str, Path]:
        (finding,) = (
            one for one in verify.findings(Path("results"), Path("downloads")) if one.path in (copy, original)
        )
        return finding.status, finding.path

    assert found() == ("ok", copy)
    original.write_bytes(b"made anew")
    assert found() == ("stale", copy)
    original.unlink()
    assert found() == ("missing", original)


# Figures


FIGURE = Path("results/demo/figures/training_curves.png")


@pytest.fixture
def drawn(results: Path) -> dict:
    """A figure that shows nothing, and says that it was drawn from the losses of the run."""
    preset = configuration.preset("demo")
    (product,) = (one for one in plan.figure_products(preset, FIGURE.stem) if one.path == FOLDER / "train.csv")
    origin = figure.origin(FIGURE.stem, preset, [product])
    style.save(style.nothing(), FIGURE.with_suffix(""), origin)
    return origin


def of_figure() -> dict[str, tuple[str, str]]:
    """{name: (status, why)} of the figure's two files."""
    return {one.path.name: (one.status, one.why) for one in verify.drawn(FIGURE) if one.path.parent == FIGURE.parent}


def test_a_figure_is_what_it_was_drawn_from(drawn: dict, capsys: pytest.CaptureFixture[str]) -> None:
    assert of_figure() == {"training_curves.png": ("ok", ""), "training_curves.pdf": ("ok", "")}
    listed = verified(capsys, "results/demo", "--all")[1]
    assert f"ok        {FIGURE}" in listed
    (FOLDER / "train.csv").write_text("other losses")
    assert of_figure()["training_curves.png"] == ("stale", "other products")


def test_a_figure_of_other_code_or_labels_is_stale(drawn: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figure, "origin", lambda *_: drawn | {"code": "0" * 16, "labels": ["another"]})
    assert of_figure()["training_curves.png"] == ("stale", "other code, other labels")


def test_a_figure_that_says_nothing_is_stale(results: Path) -> None:
    style.save(style.nothing(), FIGURE.with_suffix(""))
    assert of_figure() == {"training_curves.png": ("stale", "drawn by an earlier version")}


@pytest.mark.parametrize("ending", [".png", ".pdf"])
def test_a_changed_figure_is_found(ending: str, drawn: dict) -> None:
    flip(FIGURE.with_suffix(ending))
    assert of_figure()[f"training_curves{ending}"][0] == "changed"


# Products that came along


def test_where_nothing_can_be_checked_it_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    Path("results/demo/logs").mkdir()
    Path("results/demo/logs/table2.log").touch()
    assert verified(capsys, "results/demo/logs") == (1, ["nothing was checked: no product here says how it was made"])


def test_products_without_notes_of_snakemake_are_told() -> None:
    """It would take them for current whatever their code was."""
    (told,) = explain.without_notes([RMSE, FOLDER / "train.json"])
    assert told.startswith(f"2 products came without Snakemake's notes of their making ({RMSE} and so on), ")
