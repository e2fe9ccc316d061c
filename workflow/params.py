"""Inputs, params and resources of the rules: functions of wildcards alone, so that Snakemake can compare their values.

A param that only says where files lie takes `input` or `output` too. Snakemake then does not compare the param, since
it compares the files. What can change a number is in `spec` or `code`.
"""

import importlib
import re
import shlex
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dtri.data import rawfiles
from dtri.experiment import canonical_json, text_hash
from dtri.files import digest
from workflow import jobcode, plan, session, specs, status
from workflow.configuration import datasets, preset

SCORED_TRAIN_IMAGES = 10_000  # of the training split, for the last panel of A Fig. 3
INCEPTION_WEIGHTS = "inception/weights-inception-2015-12-05-6726825d.pth"  # below the drop folder


def dataset_pattern(*kinds: str) -> str:
    """Regular expression of the dataset names that are `trainable`, `ood` (test images only) or `holdout`."""
    names = {"trainable": [], "ood": [], "holdout": []}
    for name, entry in datasets().items():
        if entry.holdout_of:
            names["holdout"].append(f"{name}[0-9]")
        elif entry.any_shape:
            names["ood"].append(f"{name}_[0-9]+x[0-9]+x[0-9]+")
        elif entry.test_only:
            names["ood"].append(name)
        else:
            names["trainable"].append(name)
    return "|".join(name for kind in kinds for name in names[kind]) or "(?!)"


def run_of(wildcards: Any) -> specs.Run:
    return specs.Run(wildcards.preset, wildcards.dataset, wildcards.model, int(wildcards.seed))


def folder(wildcards: Any, output: Any) -> str:
    """The folder of a job's first product."""
    return str(Path(output[0]).parent)


def code_of(kind: str) -> Callable[[Any], str]:
    """The param `code` of jobs of a kind on a run.

    It is the fingerprint of the command, and of the model where one is built.
    """
    return lambda wildcards: jobcode.model_code(kind, wildcards.model)


# Datasets


def fetch_arguments(wildcards: Any) -> str:
    """Arguments of the fetch command: the dataset's module and raw files, and the options that it has."""
    data = specs.dataset(wildcards.dataset)
    options = data.config.options
    arguments = [f'--module {data.config.module} --raw "$DTRI_DOWNLOADS/{data.base}"']
    if "archive" in options:
        arguments.append(f"--archive {shlex.quote(options['archive'])}")
    if "sha256" in options:
        arguments.append(f"--sha256 {options['sha256']}")
    if index := options.get("split", {}).get("index"):
        arguments.append(f"--index {shlex.quote(index)}")
    return " ".join(arguments)


def replaced_raw(wildcards: Any) -> str:
    """A text that changes when raw files are replaced after they were fetched."""
    data = specs.dataset(wildcards.dataset)
    return rawfiles.replaced(Path(data.folder) / "fetch.json", Path(session.settings().downloads) / data.base)


def fetch_code(wildcards: Any) -> str:
    return jobcode.code("fetch", specs.dataset(wildcards.dataset).config.module)


def prepare_inputs(wildcards: Any) -> list[str]:
    data = specs.dataset(wildcards.dataset)
    if data.config.holdout_of:
        source = specs.dataset(data.config.holdout_of).folder
        return [f"{source}/{file}" for file in ("train.npy", "test.npy", "index.npz", "meta.json")]
    return [f"{data.folder}/fetch.json"]


def module(wildcards: Any, output: Any) -> str:
    return specs.dataset(wildcards.dataset).config.module


def image_shape(wildcards: Any, output: Any) -> str:
    return ",".join(map(str, specs.dataset(wildcards.dataset).image_shape))


def options(wildcards: Any, output: Any) -> str:
    return canonical_json(specs.dataset(wildcards.dataset).config.options)


def raw(wildcards: Any, output: Any) -> str:
    """The folder of raw files, below the drop folder."""
    return specs.dataset(wildcards.dataset).base


def holdout_of(wildcards: Any, output: Any) -> str:
    return specs.dataset(specs.dataset(wildcards.dataset).config.holdout_of).folder


def digit(wildcards: Any, output: Any) -> int:
    return specs.dataset(wildcards.dataset).digit


def prepare_code(wildcards: Any) -> str:
    return jobcode.data_code(specs.dataset(wildcards.dataset))


# Where jobs compute


def threads(wildcards: Any) -> int:
    return preset(wildcards.preset).threads


def device(wildcards: Any) -> str:
    """The device of this preset's jobs, unless --config says otherwise.

    It is a resource of the rules and no param, so a change runs nothing again.
    """
    return preset(wildcards.preset).device


def gpus(wildcards: Any) -> int:
    """1 where jobs of this preset compute on a GPU, else 0: asked for, or "auto" and this machine has a GPU."""
    wanted = session.settings().device or device(wildcards)
    if wanted == "auto":
        return int(any(Path("/dev").glob("nvidia[0-9]*")))  # a container may show any of a machine's GPUs
    return int(wanted == "gpu")


def train_threads(wildcards: Any) -> int:
    return threads(wildcards) * specs.train_spec(run_of(wildcards)).processes


def train_gpus(wildcards: Any) -> int:
    return gpus(wildcards) * specs.train_spec(run_of(wildcards)).processes


def train_memory_mb(wildcards: Any) -> int:
    """Memory of a training in MB, 10,000 per process.

    On the CPU libraries take 0.7 GB, measured. Weights, optimisers and activations take at most 1.1 GB. That is the
    largest of 19 pairs of system and dataset (CIFAR-10, CelebA) at full width, counted on meta tensors. Images are held
    up to 4 GiB (dtri/batches.py). The rest is for the context of a GPU, which was not measured.
    """
    return 10_000 * specs.train_spec(run_of(wildcards)).processes


# Runs


def train_launcher(wildcards: Any, output: Any) -> str:
    """The program that runs the train command, in as many processes as the run has."""
    processes = specs.train_spec(run_of(wildcards)).processes
    if processes == 1:
        return "python -m workflow.forkserver train"
    return f"python -m torch.distributed.run --standalone --nproc-per-node {processes} -m workflow.commands.train"


def train_spec(wildcards: Any) -> str:
    return specs.train_spec(run_of(wildcards)).to_json()


def train_code(wildcards: Any) -> str:
    return jobcode.training_code(run_of(wildcards))


def n_samples(wildcards: Any) -> int:
    return specs.n_samples(run_of(wildcards))


def sampler(wildcards: Any) -> str:
    return canonical_json(specs.sampler(run_of(wildcards)))


def scored_images(wildcards: Any) -> str:
    limit = f" --limit {SCORED_TRAIN_IMAGES}" if wildcards.split == "train" else ""
    return f"--data {specs.dataset(wildcards.scored).folder} --split {wildcards.split}{limit}"


def landscape_spec(wildcards: Any) -> str:
    return canonical_json(asdict(preset(wildcards.preset).landscape))


def landscape_classifier(wildcards: Any) -> str:
    return plan.extractor_files(wildcards.dataset, "domain")[0]


def extractor_files(wildcards: Any) -> list[str]:
    return plan.extractor_files(wildcards.dataset, wildcards.extractor)


def generation_spec(wildcards: Any) -> str:
    run = run_of(wildcards)
    comparisons = [one.model_dump() for one in specs.comparisons(run)]
    return canonical_json({"comparisons": comparisons, "sampler": specs.sampler(run)})


def network(wildcards: Any, output: Any) -> str:
    """Arguments that name the feature network's files; for the domain classifier also its summary."""
    if wildcards.extractor == "inception":
        return f'--weights "$DTRI_DOWNLOADS/{INCEPTION_WEIGHTS}"'
    if wildcards.extractor == "imagenet_lite":
        return ""
    weights, summary = extractor_files(wildcards)
    return f"--weights {weights} --summary {summary}"


# Tables, figures, and the pages over all of them


def table_records(wildcards: Any) -> list[str]:
    return plan.table_records(preset(wildcards.preset), wildcards.table)


def table_sources(wildcards: Any) -> list[str]:
    return plan.sources_of(table_records(wildcards))


def table_absent(wildcards: Any) -> str:
    return _absent(f"results/{wildcards.preset}/{wildcards.table}.csv", table_records(wildcards))


def table_spec(wildcards: Any) -> str:
    chosen = preset(wildcards.preset)
    extractors = [chosen.extractor, chosen.label_free_extractor]
    return canonical_json({"label": chosen.label, "seeds": chosen.seeds, "extractors": extractors})


def table_code(wildcards: Any) -> str:
    return jobcode.code("table", f"workflow.tables.{wildcards.table}")


def table_labels(wildcards: Any) -> dict[str, str]:
    return {"table": plan.table(wildcards.table).title, "preset": wildcards.preset}


def claim_records(wildcards: Any) -> list[str]:
    return plan.claim_records(preset(wildcards.preset))


def claim_sources(wildcards: Any) -> list[str]:
    return plan.sources_of(claim_records(wildcards))


def claim_absent(wildcards: Any) -> str:
    return _absent(f"results/{wildcards.preset}/claims.csv", claim_records(wildcards))


def claim_spec(wildcards: Any) -> str:
    return canonical_json([table_spec(wildcards), preset(wildcards.preset).caveat])


def claim_code(wildcards: Any) -> str:
    """Fingerprint over the claims and the tables that print their numbers, overlays included."""
    named = (("claims", plan.CLAIMS), ("tables", plan.TABLES))
    return jobcode.code("claims", *(f"workflow.{kind}.{name}" for kind, names in named for name in names))


def claim_labels(wildcards: Any) -> dict[str, str]:
    return {"page": "what the papers claim, and what holds", "preset": wildcards.preset}


def measured_records(wildcards: Any) -> str:
    """16 hex digits over the records there are, and over whether each is stale.

    This is a param and no input: the job shows stale records as stale, and does not make them anew.
    """
    paths = status.records(Path("results", wildcards.preset))
    judged = (f"{path} {digest(path, 'sha256')} {status.judged(path)}" for path in paths)
    return text_hash(*judged)[:16]


def measured_code(wildcards: Any) -> str:
    return jobcode.code("measured")


def overview_records(wildcards: Any) -> list[str]:
    """Records of all tables and claims, summaries of all trainings, and products that the pages of runs show."""
    chosen = preset(wildcards.preset)
    records = [path for name in plan.TABLES for path in plan.table_records(chosen, name)] + plan.claim_records(chosen)
    drawn = (product for name in plan.FIGURES for product in plan.figure_products(chosen, name))
    pictures = (str(product.path) for product in drawn if product.file in plan.PICTURES)
    return list(dict.fromkeys([*records, *(f"{run.folder}/train.json" for run in plan.runs(chosen)), *pictures]))


def overview_sources(wildcards: Any) -> list[str]:
    return plan.sources_of(overview_records(wildcards))


def overview_absent(wildcards: Any) -> str:
    """Deleted products behind the landing page, as `_absent`; pages of trained runs are among them."""
    runs = (run for run in plan.runs(preset(wildcards.preset)) if _is_trained(run.folder))
    pages = [plan.run_page(run) for run in runs]
    return _absent(f"results/{wildcards.preset}/overview.html", overview_records(wildcards), pages)


def overview_spec(wildcards: Any) -> str:
    return canonical_json([claim_spec(wildcards), [plan.figure_title(name) for name in plan.FIGURES]])


def overview_code(wildcards: Any) -> str:
    return jobcode.code("overview", *(f"workflow.tables.{name}" for name in plan.TABLES))


def overview_labels(wildcards: Any) -> dict[str, str]:
    return {"page": "what was reproduced: every cell, claims, figures, cost, findings", "preset": wildcards.preset}


def figure_products(wildcards: Any) -> list[str]:
    return [str(product.path) for product in plan.figure_products(preset(wildcards.preset), wildcards.figure)]


def figure_sources(wildcards: Any) -> list[str]:
    return plan.figure_sources(preset(wildcards.preset), wildcards.figure)


def figure_absent(wildcards: Any) -> str:
    made = f"results/{wildcards.preset}/figures/{wildcards.figure}.png"
    return _absent(made, figure_products(wildcards), figure_sources(wildcards))


def figure_spec(wildcards: Any) -> str:
    chosen = preset(wildcards.preset)
    products = plan.figure_products(chosen, wildcards.figure)
    shown = [[product.dataset, product.model_label, str(product.path)] for product in products]
    return canonical_json({"label": chosen.label, "products": shown})


def figure_code(wildcards: Any) -> str:
    return jobcode.code("figure", f"workflow.figures.{wildcards.figure}")


def figure_caption(wildcards: Any) -> str:
    return importlib.import_module(f"workflow.figures.{wildcards.figure}").CAPTION


def figure_labels(wildcards: Any) -> dict[str, str]:
    module = importlib.import_module(f"workflow.figures.{wildcards.figure}")
    return {"figure": f"{module.TITLE} ({module.PAPER})", "preset": wildcards.preset}


def published_table_absent(wildcards: Any) -> str:
    return _absent(f"results/{wildcards.table}.csv", [], plan.originals(f"results/{wildcards.table}"))


def published_claims_absent(wildcards: Any) -> str:
    return _absent("results/claims.csv", [], plan.originals("results/claims"))


def published_figure_absent(wildcards: Any) -> str:
    made = f"results/figures/{wildcards.figure}"
    return _absent(f"{made}.png", [], plan.originals(made))


def _absent(made: str, inputs: list[str], sources: list[str] = ()) -> str:
    """Deleted products behind `made`, as one text; "" where `made` is not there, or nothing was deleted.

    This is a param, since an absent input alone is no reason for Snakemake to run a job. A product that was never made
    is not counted, for instance of a new seed: its run's folder has no summary.

    Args:
        made: a product on disk.
        inputs: products that it is made of.
        sources: further products behind these.
    """
    if not Path(made).exists():
        return ""
    behind = [*sources, *(one for path in inputs if Path(path).exists() for one in plan.record_sources(Path(path)))]
    gone = [path for path in dict.fromkeys(behind) if not Path(path).exists()]
    begun = (path for path in inputs if (match := re.match(r"(results/.*/seed\d+)/", path)) and _is_trained(match[1]))
    return " ".join(dict.fromkeys([*gone, *(path for path in begun if not Path(path).exists())]))


def _is_trained(folder: str) -> bool:
    return Path(folder, "train.json").exists()
