"""Overlays add systems, datasets, presets and tables to the committed ones, and change none of those."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import workflow.tables
from dtri.report.render import render
from tests import overlays
from tests.overlays import used, written
from workflow import checks, configuration, jobcode, overlay, plan, session, specs, status

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return written(
        tmp_path / "own",
        models=overlays.MODELS,
        datasets=overlays.DATASETS,
        presets=overlays.PRESETS,
        tables_another=overlays.TABLE,
        claims_another=overlays.CLAIMS,
    )


def test_entries_stand_beside_the_committed_ones(own: Path) -> None:
    before = {name: dict(getattr(configuration, name)()) for name in ("datasets", "models", "presets")}
    spec = specs.train_spec(specs.Run("demo", "digits", "vae", 0))
    with used(own):
        checks.check_configuration()
        for kind, name in (("datasets", "own_images"), ("models", "own_vae"), ("presets", "own")):
            found = dict(getattr(configuration, kind)())
            assert found.pop(name).label.startswith("own")
            assert found == before[kind]
        assert specs.train_spec(specs.Run("demo", "digits", "vae", 0)) == spec
        mine = specs.train_spec(specs.Run("own", "own_images", "own_vae", 1))
        assert (mine.steps, mine.batch_size, mine.hparams) == (4, 20, {"width": 0.0625})
        assert specs.comparisons(specs.Run("own", "own_images", "own_vae", 1))[0].reference == "test"


@pytest.mark.parametrize("kind, name", [("models", "vae"), ("datasets", "mnist"), ("presets", "demo")])
def test_a_name_that_is_taken_is_refused(kind: str, name: str, own: Path) -> None:
    text = (configuration.CONFIG / f"{kind}.yaml").read_text("utf-8")
    entry = text[text.index(f"\n{name}:\n") + 1 :].split("\n\n")[0]
    written(own, **{kind: "# mine\n" + entry.replace("*digits", "{}") + "\n"})
    message = rf"^own/{kind}.yaml, line 2: {name}: expected a new name, found '{name}' in {kind}.yaml, line \d+: {name}"
    with used(own), pytest.raises(ValueError, match=message):
        getattr(configuration, kind)()


@pytest.mark.parametrize(
    "texts, message",
    [
        ({"models": overlays.MODELS + "  stepz: 3\n"}, r"^own/models.yaml, line 8: own_vae.stepz: Extra inputs"),
        (
            {"models": overlays.MODELS + "  hparams: {z: 3}\n"},
            r"^own/models.yaml, line 8: own_vae.hparams.z: unknown hyperparameter 'z'",
        ),
        (
            {"models": overlays.MODELS.replace("baselines.vae", "no.such.package")},
            r"^own/models.yaml, line 3: own_vae.entry: expected a model entry 'module:Class' of these sources",
        ),
        (
            {"datasets": overlays.DATASETS.replace("test: test}", "test: test}, cut: 3")},
            r"^own/datasets.yaml, line 5: own_images.options.cut: unknown option 'cut'",
        ),
        ({"model": ""}, r"expected datasets.yaml, models.yaml, presets.yaml in .*own, found model.yaml"),
    ],
)
def test_a_mistake_names_the_overlays_file(texts: dict[str, str], message: str, own: Path) -> None:
    written(own, **texts)
    with used(own), pytest.raises(ValueError, match=message):
        configuration.check_entries()


def test_the_local_folder_is_read_and_ignored_by_git(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = subprocess.run(["git", "check-ignore", "workflow/config/local/models.yaml"], cwd=ROOT, capture_output=True)
    assert listed.stdout or not (ROOT / ".git").exists()
    both = written(own.parent / "further", models=overlays.MODELS.replace("own_vae", "further_vae"))
    monkeypatch.setattr(overlay, "LOCAL", own)
    with used(both):
        assert {"vae", "own_vae", "further_vae"} <= set(configuration.models())
    written(both, models=overlays.MODELS)
    with (
        used(both),
        pytest.raises(ValueError, match=r"^further/models.yaml.* found 'own_vae' in own/models.yaml, line 1"),
    ):
        configuration.models()


TABLES = """from workflow import jobcode, plan
plan.claim_book()
print([plan.table(name).name for name in plan.TABLES], plan.CLAIMS)
"""


def python(code: str, folder: Path | str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, overlay.VARIABLE: str(folder)}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )


def test_tables_and_claims_stand_behind_the_committed_ones(own: Path) -> None:
    done = python(f"{TABLES}print(jobcode.code('table', 'workflow.tables.another'))", own)
    assert done.stderr == ""
    listed, code = done.stdout.splitlines()
    assert listed == (
        "['table1', 'table2', 'table3', 'table4', 'another'] ('paper_a', 'paper_b', 'printed', 'another')"
    )
    assert code != jobcode.code("table"), "what a table prints is in its hash of code"


@pytest.mark.parametrize(
    "name, message",
    [
        ("table1", "own/tables/table1.py: expected a new name, found 'table1' among the tables"),
        ("claims", "own/tables/claims.py: expected a new name, found 'claims' among the tables"),
        ("Mine", "own/tables/Mine.py: expected a name of a-z, 0-9 and _ that begins with a letter, found 'Mine'"),
    ],
)
def test_names_of_tables_that_are_refused(name: str, message: str, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflow.tables, "__path__", list(workflow.tables.__path__))
    written(own, **{f"tables_{name}": overlays.TABLE})
    with used(own), pytest.raises(ValueError, match=message):
        overlay.extended("tables", ("table1",))


def test_a_table_says_the_name_of_its_file(own: Path) -> None:
    (own / "tables" / "another.py").rename(own / "tables" / "other.py")
    assert "ValueError: expected the table 'other' in tables/other.py, found 'another'" in python(TABLES, own).stderr


@pytest.mark.parametrize("name", ["table1", "table2", "table3", "table4"])
def test_an_own_system_is_one_line_of_a_papers_table(name: str, own: Path) -> None:
    """In every block whose metric it has, with no printed number; what the papers print stays as it is."""
    committed = plan.table(name)
    with used(written(own, models=f"{overlays.MODELS}  tables: [{name}]\n")):
        table, preset = plan.table(name), configuration.preset("demo")
        assert table.cells[: len(committed.cells)] == committed.cells
        cells = table.cells[len(committed.cells) :]
        assert {cell.model for cell in cells} == {"own_vae"}
        assert {(cell.paper, cell.metric) for cell in cells} == {(cell.paper, cell.metric) for cell in committed.cells}
        assert all(cell.published is None and not cell.bold and "own VAE" in (cell.row, cell.column) for cell in cells)
        assert {cell.score for cell in cells} == ({"", "recall"} if name == "table1" else {""})
        wanted = set(plan.table_records(preset, name))
        assert any("/own_vae/" in path for path in wanted)
        frame = status.frame(preset, table)
        shown = frame[(frame.model == "own_vae") & (frame.variant == "")]
        assert set(shown.published.isna()) == {True}
        assert all("own VAE" in render(table, frame, preset.label, kind) for kind in ("md", "tex", "html"))
    assert plan.table(name) == committed


@pytest.mark.parametrize(
    "tables, message",
    [
        ("[table9]", r"own_vae.tables: unknown table 'table9' \(known: table1, table2, table3, table4"),
        (
            "[table1]\n  label: VAE",
            r"own_vae.tables: expected a label that no other system has, found 'VAE' of own_vae",
        ),
    ],
)
def test_lines_that_are_refused(tables: str, message: str, own: Path) -> None:
    models = overlays.MODELS.replace("  label: own VAE\n", "" if "label" in tables else "  label: own VAE\n")
    written(own, models=f"{models}  tables: {tables}\n")
    with used(own), pytest.raises(ValueError, match=f"^own/models.yaml, line \\d+: {message}"):
        plan.check_configuration()


def test_a_method_may_lie_in_the_overlay(own: Path) -> None:
    """Its file counts as code that trains; other files beside it do not."""
    text = (ROOT / "baselines" / "vae.py").read_text("utf-8")
    (own / "method_of_the_overlay.py").write_text(text)
    written(own, models=overlays.MODELS.replace("baselines.vae", "method_of_the_overlay"))
    run = "specs.Run('own', 'digits', 'own_vae', 0)"
    code = f"from workflow import jobcode, specs; print(jobcode.training_code({run}))"
    first = python(code, own)
    (own / "other.py").write_text("A = 1\n")
    (own / "method_of_the_overlay.py").write_text(text + "A = 1\n")
    second = python(code, own)
    assert first.stderr == second.stderr == ""
    assert first.stdout != second.stdout


def test_jobs_see_the_overlay(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a variable, whatever the folder they start in; own packages by whole paths, since forking starts elsewhere."""
    monkeypatch.setenv(overlay.VARIABLE, "")
    monkeypatch.setenv("PYTHONPATH", f"mine{os.pathsep}/other")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(own.parent)
    try:
        session.configure({"overlay": "own"})
        words = shlex.split(session.shell_prefix(sys.executable).replace(";", " "))
    finally:
        session.configure({})
    assert f"{overlay.VARIABLE}={own}" in words
    assert f"PYTHONPATH={ROOT}:{own.parent / 'mine'}:/other:{own}" in words


@pytest.mark.parametrize("folder", ["nowhere", "file"])
def test_an_overlay_that_is_no_folder(folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(overlay.VARIABLE, "")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=f"expected a folder as overlay, found none at .*{folder}"):
        session.configure({"overlay": str(tmp_path / folder)})
    session.configure({})


def test_the_front_hands_it_to_the_command(own: Path) -> None:
    words = ["dtri", "table", "--overlay", str(own), "another", "--preset", "own", "--partial"]
    code = f"import sys; sys.argv = {words}; from workflow import cli; sys.exit(cli.main())"
    done = python(code, "")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Another paper, Table 1: error of reconstruction" in done.stdout
