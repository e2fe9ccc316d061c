"""Pack what was measured in a preset as a Workflow Run RO-Crate: one zip to publish or archive.

    dtri export demo --out demo.zip
    dtri export demo --out demo.zip --weights

Packed are tables, claims, figures and records; of every run its specification (train.json) and losses; of every dataset
hashes and terms; the lock file, the configuration and the Snakefile. ro-crate-metadata.json has each file's sha256.
Figures with images of a dataset are left out, and named, unless its terms let images be passed on: `share_images` of
workflow/config/datasets.yaml. Arrays, states, logs and the overview are not packed; weights only with --weights.

The profile is Workflow Run Crate 0.6. When the runs ended and who started them is not recorded, so it is not stated.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dtri.files import digest, replace
from workflow import configuration, plan, specs
from workflow.commands import verify
from workflow.commands.cli import run
from workflow.commands.provenance import provenance, versions
from workflow.fingerprint import ROOT

if TYPE_CHECKING:
    from rocrate.model import ContextEntity
    from rocrate.rocrate import ROCrate

TERMS = "https://w3id.org/ro/terms/workflow-run/context"
PROFILES = {"process": "Process Run Crate", "workflow": "Workflow Run Crate"}
PROFILE_VERSION = "0.6"
LICENCE = "https://spdx.org/licenses/MIT"
ABOUT = ("LICENSE", "CITATION.cff")
READ = ("requirements.lock", *(f"workflow/config/{name}.yaml" for name in ("datasets", "models", "presets")))
OF_PRESET = ("claims", "all", *plan.TABLES)
OF_RUN = ("train.json", "train.csv", "accepted.json", "landscape.csv", "metrics/*.json")
OF_DATA = ("meta.json", "fetch.json", "classifier.json", "accepted.json")
WEIGHTS = ("*/*/seed*/model.safetensors", "*/*/seed*/snapshots/*.safetensors")
# Products of a run that hold images of its dataset; figures that draw one show them.
WITH_IMAGES = ("reconstructions.npy", "interpolation.npy", "growth.npz", "landscape.npz")
FORMATS = {
    ".csv": "text/csv",
    ".md": "text/markdown",
    ".tex": "application/x-tex",
    ".html": "text/html",
    ".json": "application/json",
    ".png": "image/png",
    ".pdf": "application/pdf",
    ".yaml": "application/yaml",
}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset", metavar="PRESET", help="whose products below results/ are packed")
    parser.add_argument("--out", required=True, type=Path, help="the crate, .zip")
    parser.add_argument("--weights", action="store_true", help="pack weights too")
    parser.add_argument("--downloads", type=Path, default=Path("downloads"), help="drop folder of raw files")
    arguments = parser.parse_args(argv)
    if arguments.out.suffix != ".zip":
        raise ValueError(f"expected a .zip file for --out, found {arguments.out}")

    preset = configuration.preset(arguments.preset)
    runs = sorted(Path("results", preset.name).glob("*/*/seed*/train.json"))
    if not runs:
        raise FileNotFoundError(f"expected runs below results/{preset.name}, found none")
    check_library()
    stale, left_out = judged(preset, arguments.downloads), withheld(preset)
    names = list(dict.fromkeys(name for path in runs for name in used_datasets(path)))
    files = products(preset, names, [name for name in plan.FIGURES if name not in left_out], arguments.weights)
    crate = described(preset, files, names, remarks(left_out, stale))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    replace(arguments.out, crate.write_zip)

    for name, why in left_out.items():
        print(f"left out  results/{preset.name}/figures/{name}: {why}")
    if stale:
        print(f"{len(stale)} products are stale, {stale[0]} first: this checkout would make others")
    print(f"{len(files)} products of {len(runs)} runs in {arguments.out}")
    return 0


def check_library() -> None:
    """ValueError saying how to install it, where the optional library is not here."""
    try:
        import rocrate  # noqa: F401
    except ImportError:
        raise ValueError("expected the package rocrate, found none; pip install 'rocrate>=0.16,<1'") from None


def used_datasets(train: Path) -> Iterator[str]:
    """Names of the datasets that a run and its records use, given its train.json."""
    for path in (train, *sorted(train.parent.glob("metrics/*.json"))):
        yield from json.loads(path.read_text("utf-8")).get("data", {})


def products(preset: configuration.Preset, names: list[str], figures: list[str], with_weights: bool) -> list[Path]:
    """Files below results/ that are packed, each once.

    Args:
        preset: whose tables, claims and runs are packed.
        names: datasets whose descriptions are packed.
        figures: names of the preset's figures.
        with_weights: whether weights are packed too.
    """
    top = Path("results", preset.name)
    of_data = [*OF_DATA, *["classifier.safetensors"] * with_weights]
    found = [
        *(top / f"{name}{ending}" for name in OF_PRESET for ending in FORMATS),
        *(top / "figures" / f"{name}.{ending}" for name in figures for ending in plan.FIGURE_FORMATS),
        *(path for pattern in OF_RUN for path in sorted(top.glob(f"*/*/seed*/{pattern}"))),
        *(Path(specs.dataset(name).folder, file) for name in names for file in of_data),
        Path(plan.INCEPTION_RECORD),
        *(path for pattern in WEIGHTS * with_weights for path in sorted(top.glob(pattern))),
    ]
    return [path for path in dict.fromkeys(found) if path.exists()]


def withheld(preset: configuration.Preset) -> dict[str, str]:
    """{figure: why} for figures that show images of a dataset whose terms do not let images be passed on."""
    found = {}
    for name in plan.FIGURES:
        shown = (product.measured_on for product in plan.figure_products(preset, name) if shows_images(product.file))
        for data in map(specs.dataset, shown):
            if not data.terms[1]:
                found[name] = f"shows images of {data.config.label} ({data.terms[0] or 'no terms stated'})"
    return found


def shows_images(file: str) -> bool:
    """Whether a product that a figure draws (`FigureInput.file`) holds images of the dataset."""
    return file.startswith("data:") or file in WITH_IMAGES


def judged(preset: configuration.Preset, downloads: Path) -> list[Path]:
    """The stale products of a preset; ValueError where one is not what was written."""
    found = list(verify.findings(Path("results", preset.name), downloads))
    if changed := [one for one in found if one.status == "changed"]:
        raise ValueError(
            f"expected products as they were made, found {changed[0].path} changed and {len(changed) - 1} more "
            f"(dtri verify results/{preset.name})"
        )
    return [one.path for one in found if one.status == "stale"]


def remarks(left_out: dict[str, str], stale: list[Path]) -> str:
    """What a reader of the crate has to know that no file of it says."""
    told = [f"Left out: figure {name} {why}." for name, why in left_out.items()]
    told += [f"Stale when packed: {', '.join(map(str, stale))}."] if stale else []
    return " ".join(told)


def described(preset: configuration.Preset, files: list[Path], names: list[str], told: str) -> "ROCrate":
    """The crate: every file with its hash, the workflow, its execution, and the datasets with their terms.

    Args:
        preset: whose products are packed.
        files: the products, below results/.
        names: datasets that are named and not packed.
        told: remarks for the description of the crate.
    """
    from rocrate.rocrate import ROCrate

    crate = ROCrate()
    crate.metadata.extra_contexts.append(TERMS)
    crate.name = f"dtri, preset {preset.name}: {preset.label}"
    crate.description = f"Tables, claims, figures and records of two papers' models and their baselines. {told}".strip()
    crate.license = context(crate, LICENCE, "CreativeWork", name="MIT")
    for kind, name in PROFILES.items():
        profile = f"https://w3id.org/ro/wfrun/{kind}/{PROFILE_VERSION}"
        entity = context(crate, profile, "CreativeWork", name=name, version=PROFILE_VERSION)
        crate.root_dataset.append_to("conformsTo", entity)
    made = provenance()
    snakefile = {"name": "dtri", "version": commit(made), "sha256": digest(ROOT / "Snakefile", "sha256")}
    version = versions("snakemake")["snakemake"]
    workflow = crate.add_workflow(
        ROOT / "Snakefile", "Snakefile", main=True, lang="snakemake", lang_version=version, properties=snakefile
    )
    for name in ABOUT:
        add(crate, ROOT / name, name)
    read = [add(crate, ROOT / name, name) for name in READ]
    data = [described_data(crate, specs.dataset(name)) for name in names]
    written = [add(crate, path, path.as_posix()) for path in files]
    action = {"name": f"runs of preset {preset.name}", "description": origins(files)}
    crate.root_dataset.append_to(
        "mentions", crate.add_action(workflow, f"#{preset.name}", [*read, *data], written, action)
    )
    return crate


def add(crate: "ROCrate", source: Path, name: str) -> Any:
    """A file of the crate, at the path that it has in a checkout."""
    properties = {"name": name, "contentSize": str(source.stat().st_size), "sha256": digest(source, "sha256")}
    if source.suffix in FORMATS:
        properties["encodingFormat"] = FORMATS[source.suffix]
    return crate.add_file(source, name, properties=properties)


def context(crate: "ROCrate", identifier: str, kind: str, **properties: Any) -> "ContextEntity":
    from rocrate.model import ContextEntity

    return crate.add(ContextEntity(crate, identifier, properties={"@type": kind, **properties}))


def described_data(crate: "ROCrate", data: specs.Dataset) -> "ContextEntity":
    """A dataset that is named and not packed, with the terms of its images."""
    terms, _ = data.terms
    label = data.config.label if data.digit is None else f"{data.config.label} {data.digit}"
    licence = context(crate, f"#terms-{data.name}", "CreativeWork", name=terms or "no terms stated")
    return context(crate, f"#data-{data.name}", "CreativeWork", name=label, alternateName=data.name, license=licence)


def commit(made: dict[str, Any]) -> str:
    return f"{made.get('commit') or 'unknown'}{' and uncommitted changes' if made.get('dirty') else ''}"


def origins(files: list[Path]) -> str:
    """The commands that make such products, and the commits that these were made at."""
    found = set()
    for path in files:
        if path.name == "train.json" or path.parent.name == "metrics":
            found.add(commit(json.loads(path.read_text("utf-8")).get("provenance", {})))
    return f"Made by Snakemake (dtri run) at these commits of the code: {', '.join(sorted(found))}."


if __name__ == "__main__":
    sys.exit(run(main))
