"""Accept existing results after a change that is known to be harmless, such as a refactoring.

    dtri accept results/demo/table2.csv --reason "variables renamed, same bytes in a test"

For every product behind the targets that would be made again, an `accepted.json` beside it notes what differs: old and
new hash, who, when, why. Tables and `verify` then show the product as accepted, and Snakemake as up to date. The note
holds for exactly that pair of hashes: after the next change the product is stale again. What is accepted of a training
holds for every record of its run, also for later ones. A product that is missing, damaged or of another run cannot be
accepted. Neither can raw files that were replaced since they were fetched. Tables and overviews are rendered again,
with what was accepted. Figures are drawn again that other code drew, or from other products.
"""

import argparse
import getpass
import json
import subprocess
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

from dtri.sealed import read_sealed, write_sealed
from workflow import params, plan, session, status, targets
from workflow.commands import verify
from workflow.commands.cli import run
from workflow.commands.explain import dry_run
from workflow.fingerprint import ROOT


def differing(paths: list[Path]) -> dict[Path, list[status.Difference]]:
    """The products that differ, with their unaccepted differences; ValueError where one cannot be accepted."""
    found = {}
    for path in paths:
        found[path] = status.unaccepted(path)
        if refused := [one.what for one in found[path] if not one.new]:
            raise ValueError(f"expected a product of this configuration in {path}, found: {', '.join(refused)}")
    return {path: new for path, new in found.items() if new}


def note(path: Path, differences: list[status.Difference], who: str, reason: str) -> None:
    """Write differences into the `accepted.json` beside a product."""
    file, product = status.acceptances(path)
    entries = read_sealed(file, "accepted results")["accepted"] if file.exists() else []
    when = datetime.now(UTC).isoformat(timespec="seconds")
    signed = {"who": who, "when": when, "reason": reason}
    write_sealed(file, {"accepted": [*entries, *({"product": product, **asdict(d), **signed} for d in differences)]})


def snakemake(*arguments: str) -> None:
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--cores", "1", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if done.returncode:
        raise ValueError(f"expected Snakemake to accept the targets, found: {done.stdout + done.stderr}")


def is_stale(figure: Path) -> bool:
    return any(finding.status == "stale" for finding in verify.drawn(figure))


def signer() -> str:
    """The user's name on this machine; ValueError where it has none, as in a container."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        raise ValueError("expected the user's name, found none on this machine; give --who") from None


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "targets", nargs="+", metavar="TARGET", help="as for dtri run: a file, a rule, a folder below results/"
    )
    parser.add_argument("--reason", required=True, help="why the change is harmless")
    parser.add_argument("--who", default="", help="default: the user's name on this machine")
    parser.add_argument("--downloads", default="downloads", help="drop folder of raw files")
    arguments = parser.parse_args(argv)
    arguments.targets = [path for word in arguments.targets for path in targets.expand(word)]
    if not arguments.reason.strip():
        raise ValueError("expected a reason for --reason, found none")

    who, configured = arguments.who or signer(), ("--config", f"downloads={arguments.downloads}")
    session.configure({"downloads": arguments.downloads})
    products = [Path(path) for job in dry_run(arguments.targets, "--forceall", *configured) for path in job.output]
    missing = [path for path in products if not path.exists() and path.name not in plan.TEMPORARY]
    if missing:
        raise ValueError(f"expected all products to be there, found none at {missing[0]} and {len(missing) - 1} more")
    for path in products:
        if path.name == "fetch.json":
            known = json.loads(path.read_text("utf-8")).get("replaced", "")
            if params.replaced_raw(SimpleNamespace(dataset=path.parent.name)) != known:
                raise ValueError(f"expected the raw files that {path} lists, found others in {arguments.downloads}")
    paths = [path for path in products if path.suffix == ".json"]
    differing(paths)  # nothing is noted where something cannot be accepted
    accepted: set[Path] = set()
    for names in (("meta.json",), ("classifier.json",), ()):  # first what the others were made of
        for path, new in differing([path for path in paths if not names or path.name in names]).items():
            note(path, new, who, arguments.reason.strip())
            accepted.add(path)
            print(f"accepted  {path}: {', '.join(map(str, new))}")
    snakemake("--touch", *configured, "--", *arguments.targets)
    figures = [str(path) for path in products if verify.is_figure(path) and is_stale(path)]
    shown = ("table", "overview", *figures)  # they show what was accepted
    snakemake("--forcerun", *shown, *configured, "--", *arguments.targets)
    print(f"{len(accepted)} products accepted")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
