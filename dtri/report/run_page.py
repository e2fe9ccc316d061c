"""The page of one training run: its numbers, curve, pictures, specification, log and provenance; and a list of runs."""

import base64
import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dtri.arrays import read_arrays
from dtri.report import grids
from dtri.report.layout import METRICS
from dtri.report.records import Record
from dtri.report.webpage import fill

SAMPLES, PAIRS, COLUMNS = 32, 16, 8  # images shown, and side by side
LOG_LINES = 12
WIDTH, HEIGHT = 300, 90  # of a curve, in units of its viewBox
MORE = ("parameters", "images_seen", "images_per_s", "peak_memory_mib", "attempts", "gpu_hours", "bad_step", "term")


@dataclass(frozen=True)
class Judged:
    """A product that was read, why this checkout would make another, and what was accepted of it."""

    made: Any
    stale: tuple[str, ...]
    accepted: tuple[str, ...]


@dataclass(frozen=True)
class Run:
    """What is known of a training: `training` holds its train.json, `records` are Records, `label` names the system."""

    folder: Path
    label: str
    training: Judged
    records: tuple[Judged, ...]

    @property
    def name(self) -> str:
        made = self.training.made
        return f"{made['dataset']}.{made['model']}.seed{made['seed']}"

    @property
    def system(self) -> tuple[str, str]:
        return self.training.made["dataset"], self.training.made["model"]

    @property
    def state(self) -> str:
        """done or diverged; stale where this checkout would train it otherwise."""
        return "stale" if self.training.stale else self.training.made["status"]


@dataclass(frozen=True)
class Curve:
    """A term of the loss over training: points of a polyline, and the least, greatest and last value."""

    term: str
    points: str
    low: float
    high: float
    last: float


PAGE = """
{% extends "frame" %}
{% macro pairs(entries) %}
<dl>{% for key, value in entries.items() %}<dt>{{ key }}</dt><dd>{{ value }}</dd>{% endfor %}</dl>
{% endmacro %}
{% block body %}
<section><h2>State</h2><p><span class="state {{ run.state }}">{{ run.state }}</span>
{% if run.training.stale %}this checkout would train it otherwise: {{ run.training.stale|join(", ") }}.
{% elif run.training.accepted %}accepted, though this checkout would train it otherwise:
{{ run.training.accepted|join("; ") }}.
{% else %}trained as this checkout would train it.{% endif %}</p>
{% if siblings|length > 1 %}
<p>{% for other in siblings %}{% if other.name == run.name %}seed {{ other.training.made.seed }}
{%- else %}<a href="{{ other.name }}.html">seed {{ other.training.made.seed }}</a>{% endif %}
{{ "" if loop.last else " · " }}{% endfor %}</p>
{% endif %}
</section>
<section><h2>Numbers</h2>
{% if run.records %}
<div class="scroll" tabindex="0" role="region" aria-label="Numbers"><table class="numbers">
<thead><tr>{% for head in heads %}<th scope="col">{{ head }}</th>{% endfor %}</tr></thead>
<tbody>{% for texts in numbers %}
<tr><th scope="row">{{ texts[0] }}</th>{% for text in texts[1:] %}<td>{{ text }}</td>{% endfor %}</tr>
{% endfor %}</tbody></table></div>
{% else %}
<p>nothing measured yet</p>
{% endif %}
</section>
<section><h2>Training curve</h2>
{% if curves %}
<div class="curves">{% for one in curves %}
<figure><figcaption><b>{{ one.term }}</b> {{ "%.4g"|format(one.last) }} at the end</figcaption>
<svg viewBox="-2 -4 {{ width + 4 }} {{ height + 8 }}" role="img" aria-label="{{ one.term }} over training">
<path d="M0 0V{{ height }}H{{ width }}"/><polyline points="{{ one.points }}"/></svg>
<small><span>{{ "%.4g"|format(one.low) }} to {{ "%.4g"|format(one.high) }}</span>
<span>iteration {{ steps }}</span></small>
</figure>
{% endfor %}</div>
{% else %}
<p>none</p>
{% endif %}
</section>
{% for heading, picture in pictures %}
<section><h2>{{ heading }}</h2>
{% if picture %}<img class="images" src="{{ picture }}" alt="{{ heading }}">{% else %}<p>{{ diverged }}</p>{% endif %}
</section>
{% endfor %}
<section><h2>Specification</h2>{{ pairs(specification) }}</section>
<section><h2>Provenance</h2>{{ pairs(provenance) }}</section>
<section><h2>Last lines of the log</h2><pre tabindex="0">{{ log or "no log" }}</pre></section>
<details><summary>Everything in the records</summary><pre tabindex="0">{{ raw }}</pre></details>
{% endblock %}
"""

INDEX = """
{% extends "frame" %}
{% block body %}
<section><div class="scroll" tabindex="0" role="region" aria-label="Runs"><table class="numbers">
<thead><tr>{% for head in heads %}<th scope="col">{{ head }}</th>{% endfor %}</tr></thead>
<tbody>{% for run in runs %}{% set made = run.training.made %}
<tr><th scope="row"><a href="{{ run.name }}.html">{{ run.label }}</a></th>
<td>{{ made.dataset }}</td><td>{{ made.seed }}</td><td><span class="state {{ run.state }}">{{ run.state }}</span></td>
<td>{{ run.records|length }}</td><td>{{ made.step }}</td><td>{{ "{:,}".format(made.parameters) }}</td>
<td>{{ "%.3g"|format(made.seconds / 3600) }}</td><td>{{ made.device }}</td></tr>
{% endfor %}</tbody></table></div></section>
{% endblock %}
"""


def page(run: Run, label: str, siblings: Sequence[Run] = ()) -> str:
    """The page of a run, for the folder `runs` of its preset.

    Args:
        run: files that it lacks are left out.
        label: the preset in words.
        siblings: runs of the same system on the same dataset, this one among them.
    """
    made = run.training.made
    return fill(
        PAGE,
        f"{made['preset']}, {made['dataset']}, seed {made['seed']}",
        run.label,
        label,
        "",
        CSS,
        links=(("Overview", "../overview.html"), ("All runs", "index.html")),
        run=run,
        siblings=siblings,
        heads=("metric", "value", "95 % by images", "n", "m", "features", "seconds", "state", "how measured"),
        numbers=[_number(one) for one in run.records],
        curves=_curves(run.folder / "train.csv"),
        width=WIDTH,
        height=HEIGHT,
        steps=made["step"],
        pictures=list(_pictures(run.folder)),
        diverged=grids.DIVERGED,
        specification={**made["spec"], "hparams": _words(made["hparams"]), "image_shape": _sizes(made["spec"])},
        provenance=_provenance(made),
        log=_log(run.folder / "logs" / "train.log"),
        raw=json.dumps([asdict(one.made) for one in run.records], indent=1),
    )


def index(runs: Sequence[Run], label: str) -> str:
    """The list of all runs, beside their pages."""
    done = sum(run.state == "done" for run in runs)
    summary = f"{len(runs)} trainings, {done} of them done and by this checkout's code, data and configuration"
    links = (("Overview", "../overview.html"),)
    heads = ("system", "dataset", "seed", "state", "numbers", "iterations", "parameters", "hours", "device")
    return fill(INDEX, "runs", "All runs", label, summary, CSS, links=links, runs=runs, heads=heads)


def _number(one: Judged) -> tuple[str, ...]:
    record: Record = one.made
    name, against = METRICS.get(record.metric, record.metric), record.extra.get("against", "")
    low, high = record.extra.get("ci_low"), record.extra.get("ci_high")
    return (
        f"{name} against {against}" if against else name,
        "diverged" if record.value is None else f"{record.value:.4g}",
        "-" if low is None or high is None else f"{low:.4g} to {high:.4g}",
        str(record.n_samples),
        str(record.n_reference or "-"),
        record.extractor or "-",
        f"{record.seconds:.1f}",
        f"stale: {', '.join(one.stale)}" if one.stale else "accepted" if one.accepted else "current",
        "; ".join(filter(None, (record.protocol, record.extra.get("warning")))),
    )


def _curves(path: Path) -> list[Curve]:
    """The curve of every term with a finite value; [] where there is no file."""
    if not path.exists():
        return []
    rows = list(csv.DictReader(io.StringIO(path.read_text("utf-8"))))
    found = []
    for term in [name for name in rows[0] if name != "step"] if rows else []:
        values = [(int(row["step"]), float(row[term])) for row in rows if row[term]]
        if finite := [(step, value) for step, value in values if isfinite(value)]:
            found.append(_curve(term, finite))
    return found


def _curve(term: str, values: list[tuple[int, float]]) -> Curve:
    low, high = min(value for _, value in values), max(value for _, value in values)
    across, up = WIDTH / values[-1][0], HEIGHT / (high - low or 1.0)
    points = " ".join(f"{step * across:.1f},{(high - value) * up:.1f}" for step, value in values)
    return Curve(term, points, low, high, values[-1][1])


def _pictures(folder: Path) -> list[tuple[str, str]]:
    """(heading, data address) of what there is; the address is "" for images that are not finite."""
    found = []
    if (folder / "grid.npy").exists():
        found.append(("Samples, the first, not selected", _address(grids.load(folder / "grid.npy", SAMPLES))))
    if (folder / "reconstructions.npy").exists():
        originals, rebuilt = read_arrays(folder / "reconstructions.npy", mapped=True)[:, :PAIRS]
        rows = [part[i : i + COLUMNS] for i in range(0, len(originals), COLUMNS) for part in (originals, rebuilt)]
        images = np.concatenate(rows) if rows else originals
        found.append(("Test images, each row above its reconstructions", _address(images)))
    return found


def _address(images: np.ndarray) -> str:
    """uint8 [N, C, H, W] -> a grid as a PNG in a data address."""
    if not len(images):
        return ""
    buffer = io.BytesIO()
    Image.fromarray(grids.tile(images, COLUMNS)).save(buffer, "png", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _words(values: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())


def _sizes(spec: dict[str, Any]) -> str:
    return " x ".join(map(str, spec["image_shape"]))


def _provenance(made: dict[str, Any]) -> dict[str, Any]:
    origin = made["provenance"]
    found = {
        "commit": f"{origin['commit'] or 'unknown'}{', with changes' if origin['dirty'] else ''}",
        "lock file": f"sha256 {origin['lock']}",
        "code": made["code"],
        "specification": made["spec_hash"],
        **{f"data {name}": f"sha256 {content}" for name, content in made["data"].items()},
        "device": made["device"],
        "seconds": made["seconds"],
        "versions": _words(made["versions"]),
    }
    further = {key.replace("_", " "): made[key] for key in MORE if made.get(key) is not None}
    weights = {f"{name}": f"sha256 {content}" for name, content in made["files"].items() if "/" not in name}
    return {**found, **further, **weights}


def _log(path: Path) -> str:
    return "\n".join(path.read_text("utf-8", "replace").splitlines()[-LOG_LINES:]) if path.exists() else ""


CSS = """
.state{display:inline-block;padding:1px 8px;border-radius:5px;background:var(--plain);color:var(--plain-ink)}
.state.diverged,.state.stale{background:var(--stale);color:var(--stale-ink)}
.numbers td,.numbers th{text-align:left;padding:6px 10px}
.numbers th[scope=row]{white-space:normal;max-width:40vw}
.numbers td:last-child{white-space:normal;min-width:22em;font-size:.84rem}
.curves{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,260px),1fr));gap:16px}
figure{margin:0}
figcaption,figure small{font-size:.84rem;color:var(--soft)}
figure small{display:flex;justify-content:space-between}
svg{display:block;width:100%}
svg *{fill:none;stroke:var(--line);stroke-width:1;vector-effect:non-scaling-stroke}
svg polyline{stroke:var(--link);stroke-width:1.5}
.images{width:100%;max-width:520px;image-rendering:pixelated}
dl{display:grid;grid-template-columns:minmax(7em,max-content) 1fr;gap:4px 14px;margin:0;font-size:.88rem}
dt{color:var(--soft)}
dd{margin:0;overflow-wrap:anywhere}
pre{overflow-x:auto;margin:0;font-size:.8rem}
p{margin:0 0 6px}
"""
