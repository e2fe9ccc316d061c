"""The ranking command: which numbers a record holds beside its value."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import auc, average_precision_score, precision_recall_curve

from dtri.data import saving, store
from dtri.report.records import Record
from workflow.commands import ranking

N_NORMAL, N_STRANGE = 30, 20
SUMMARY = {
    "preset": "demo",
    "dataset": "set",
    "model": "bigan",
    "seed": 0,
    "spec_hash": "s",
    "code": "t",
    "data": {"set": "d"},
    "gpu_hours": None,
    "seconds": 1.0,
    "device": "cpu",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A hold-out set whose last images are anomalies, their scores, and those of another set of the same size."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [N_NORMAL, N_STRANGE])
    splits = {split: rng.integers(0, 256, (len(labels), 1, 28, 28), dtype=np.uint8) for split in ("train", "test")}
    indices = {split: np.arange(len(labels)) for split in splits}
    saving.save(saving.Arrays(splits, indices, {"test": labels}, None, "noise"), tmp_path / "set", "set")
    for name in ("own", "other"):
        columns = {"energy": labels + rng.normal(0, 2, 50), "sse": rng.random(50), "fm": labels + 0.1 * rng.random(50)}
        np.savez(tmp_path / f"{name}.npz", **columns)
    return tmp_path


def measured(folder: Path, *arguments: str, status: str = "done", scores: str = "own") -> Record:
    (folder / "train.json").write_text(json.dumps({**SUMMARY, "status": status}))
    common = ["--train", str(folder / "train.json"), "--code", "c", "--scores", str(folder / f"{scores}.npz")]
    assert ranking.main([*common, *arguments, "--out", str(folder / "record.json")]) == 0
    return Record.read(folder / "record.json")


def auprc(folder: Path, **options) -> Record:
    return measured(folder, "--labels-of", str(folder / "set"), "--split", "test", **options)


def auroc(folder: Path, **options) -> Record:
    against = ["--against", str(folder / "other.npz"), "--against-data", str(folder / "set")]
    return measured(folder, *against, **options)


@pytest.mark.parametrize("measure", [auprc, auroc])
def test_every_further_score_is_ranked_like_the_energy(measure, folder):
    record = measure(folder)
    other_scores = record.extra["scores"]
    assert set(other_scores) == {"sse", "fm"} | ({"reversed"} if measure is auroc else set())
    for name in ("sse", "fm"):
        for file in ("own", "other"):
            columns = dict(np.load(folder / f"{file}.npz"))
            np.savez(folder / f"{file}.npz", **{**columns, "energy": columns[name], "mine": columns["energy"]})
        swapped = measure(folder)
        assert swapped.value == pytest.approx(other_scores[name])
        assert swapped.extra["scores"]["mine"] == pytest.approx(record.value)
        for file in ("own", "other"):
            columns = dict(np.load(folder / f"{file}.npz"))
            np.savez(folder / f"{file}.npz", energy=columns["mine"], sse=columns["sse"], fm=columns["fm"])


def test_fm_of_the_labels_is_perfect(folder):
    record = auprc(folder)
    assert record.extra["scores"]["fm"] == pytest.approx(1.0)
    assert record.extra["chance"] == pytest.approx(N_STRANGE / (N_NORMAL + N_STRANGE))
    precision = record.extra["variants"]["average precision"]
    assert precision["value"] == record.extra["average_precision"]
    assert precision["protocol"].startswith("average precision, anomalies positive")


def test_reversed_sign_gives_the_other_side(folder):
    """The AUROC of -energy, as the command itself measures it."""
    record = auroc(folder)
    for file in ("own", "other"):
        columns = dict(np.load(folder / f"{file}.npz"))
        np.savez(folder / f"{file}.npz", energy=-columns["energy"])
    turned = auroc(folder)
    assert record.extra["scores"]["reversed"] == pytest.approx(turned.value)
    assert turned.extra["scores"] == {"reversed": pytest.approx(record.value)}


def test_a_diverged_run_has_no_numbers(folder):
    for measure in (auprc, auroc):
        record = measure(folder, status="diverged")
        assert (record.value, record.extra) == (None, {})


@pytest.mark.parametrize("measure", [auprc, auroc])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_are_not_finite_are_a_diverged_run(measure, bad, folder):
    columns = dict(np.load(folder / "own.npz"))
    columns["energy"][:3] = bad
    np.savez(folder / "own.npz", **columns)
    record = measure(folder)
    assert (record.value, record.status) == (None, "diverged")
    assert "3" in record.extra["diverged"]
    columns["energy"][:3], columns["fm"][0] = 0.0, bad
    np.savez(folder / "own.npz", **columns)
    record = measure(folder)
    assert record.status == "done"
    assert record.extra["scores"]["fm"] is None
    assert record.extra["scores"]["sse"] is not None


@pytest.mark.parametrize("measure", [auprc, auroc])
def test_equal_scores_are_warned_of(measure, folder):
    assert measure(folder).extra["warning"] == ""
    for name in ("own", "other"):
        columns = dict(np.load(folder / f"{name}.npz"))
        np.savez(folder / f"{name}.npz", **{**columns, "energy": np.zeros(50), "fm": np.ones(50)})
    record = measure(folder)
    assert "ties decide" in record.extra["warning"]
    assert "ties decide" in record.extra["score_warnings"]["fm"]
    assert all("ties decide" in other["warning"] for other in record.extra.get("variants", {}).values())
    assert record.extra["score_warnings"]["sse"] == ""


def test_auprc_is_the_mean_over_late_weights(folder):
    columns = dict(np.load(folder / "own.npz"))
    records = {name: measured_as(folder, columns, name) for name in ("energy", "sse", "fm")}
    alone = {name: record.value for name, record in records.items()}
    late = {"energy@90": columns["sse"], "energy@80": columns["fm"], "sse@80": columns["fm"], "sse@90": columns["fm"]}
    late |= {f"fm@{t}": columns["fm"] for t in (80, 90)}
    np.savez(folder / "own.npz", **columns, **late)
    record = auprc(folder)
    assert record.extra["late"] == pytest.approx([alone["fm"], alone["sse"], alone["energy"]])
    assert record.value == pytest.approx(np.mean(record.extra["late"]))
    for key in ("ci_low", "ci_high", "average_precision"):  # they stand beside the mean, so they are means too
        assert record.extra[key] == pytest.approx(np.mean([one.extra[key] for one in records.values()]))
    assert record.extra["variants"]["average precision"]["value"] == record.extra["average_precision"]
    assert record.extra["late_std"] == pytest.approx(np.std(record.extra["late"], ddof=1))
    assert record.extra["scores"] == pytest.approx({"sse": (2 * alone["fm"] + alone["sse"]) / 3, "fm": alone["fm"]})
    assert record.extra["variants"]["weights at the end"]["value"] == pytest.approx(alone["energy"])
    assert "mean over 3 sets of weights, from iteration 80 to the last" in record.protocol


def measured_as(folder: Path, columns: dict[str, np.ndarray], name: str) -> Record:
    np.savez(folder / "one.npz", energy=columns[name])
    return auprc(folder, scores="one")


# Values, recomputed from the files


@pytest.fixture
def uneven(folder: Path) -> Path:
    """A hold-out whose two test splits differ in size and labels; scores of both, and of 70 images of another set."""
    rng = np.random.default_rng(1)
    sizes = {"train": 40, "test": 50, "test_leaky": 60}
    splits = {split: rng.integers(0, 256, (n, 1, 28, 28), dtype=np.uint8) for split, n in sizes.items()}
    labels = {split: (rng.random(sizes[split]) < 0.3).astype(int) for split in ("test", "test_leaky")}
    arrays = saving.Arrays(splits, {split: np.arange(n) for split, n in sizes.items()}, labels, None, "noise")
    saving.save(arrays, folder / "uneven", "uneven")
    for name, n in (("clean", 50), ("leaky", 60), ("strange", 70)):
        np.savez(folder / f"{name}.npz", **{score: rng.normal(0, 1, n) for score in ("energy", "fm")})
    return folder


def test_each_split_is_ranked_by_its_own_labels(uneven: Path) -> None:
    """The trapezoid, average precision, and the interval of 1,000 resamples within each class."""
    (uneven / "train.json").write_text(json.dumps({**SUMMARY, "status": "done"}))
    names = {"test": "clean", "test_leaky": "leaky"}
    outs = [uneven / f"{name}.json" for name in names.values()]
    given = ["--train", uneven / "train.json", "--code", "c", "--labels-of", uneven / "uneven", "--split", *names]
    given += ["--scores", *(uneven / f"{name}.npz" for name in names.values()), "--out", *outs]
    assert ranking.main([str(text) for text in given]) == 0
    dataset = store.load(uneven / "uneven")
    for split, out in zip(names, outs, strict=True):
        labels, scores, record = dataset.labels(split), np.load(uneven / f"{names[split]}.npz"), Record.read(out)
        for name, value, precision in (
            ("energy", record.value, record.extra["average_precision"]),
            ("fm", record.extra["scores"]["fm"], record.extra["score_precisions"]["fm"]),
        ):
            precisions, recalls, _ = precision_recall_curve(labels, scores[name])
            assert value == pytest.approx(auc(recalls, precisions))
            assert precision == pytest.approx(average_precision_score(labels, scores[name]))
        assert record.metric == ("auprc" if split == "test" else "auprc_leaky")
        assert ("leaky EGBAD split (test normals seen" in record.protocol) == (split == "test_leaky")
        assert (record.n_samples, record.n_reference) == (len(labels), labels.sum())
        assert record.extra["chance"] == pytest.approx(labels.mean())
        draw, areas = np.random.default_rng(0), []
        for _ in range(1000):
            drawn = [draw.choice(np.flatnonzero(labels == k), (labels == k).sum()) for k in (1, 0)]
            chosen = np.concatenate(drawn)
            precisions, recalls, _ = precision_recall_curve(labels[chosen], scores["energy"][chosen])
            areas.append(auc(recalls, precisions))
        interval = record.extra["ci_low"], record.extra["ci_high"]
        assert interval == pytest.approx(tuple(np.quantile(areas, [0.025, 0.975])), abs=1e-9)


def test_an_auroc_counts_pairs(uneven: Path) -> None:
    record = measured(
        uneven, "--against", str(uneven / "strange.npz"), "--against-data", str(uneven / "uneven"), scores="clean"
    )
    usual, strange = (dict(np.load(uneven / f"{name}.npz")) for name in ("clean", "strange"))
    expected = {name: (usual[name][:, None] < strange[name]).mean() for name in ("energy", "fm")}
    assert record.value == pytest.approx(expected["energy"])
    assert record.extra["scores"] == pytest.approx({"fm": expected["fm"], "reversed": 1 - expected["energy"]})
    assert (record.n_samples, record.n_reference, record.extra["chance"]) == (50, 70, 0.5)
    assert record.data == {"set": "d", "uneven": store.load(uneven / "uneven").content}
    assert "energy of 50 test images below that of 70 of uneven" in record.protocol
