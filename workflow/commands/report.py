"""Put the tables and figures that exist into one self-contained report, at any moment.

    dtri report --preset demo --out report.html

What is not there is named and left out. `snakemake demo --report report.html` itself needs all of it.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from workflow import configuration, plan
from workflow.commands.cli import run
from workflow.fingerprint import ROOT

SHOWN = (".html", ".png")  # of the formats that tables and figures have
LEFT_OUT = "/runs/index.html"  # it links to a page of every run


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", required=True)
    parser.add_argument("--out", required=True, type=Path, help="the report, .html or .zip")
    arguments = parser.parse_args(argv)
    if arguments.out.suffix not in (".html", ".zip"):
        raise ValueError(f"expected a .html or .zip file for --out, found {arguments.out}")

    products = plan.preset_products(configuration.preset(arguments.preset))
    expected = [path for path in products if path.endswith(SHOWN) and not path.endswith(LEFT_OUT)]
    there = [path for path in expected if Path(path).exists()]
    if not there:
        raise FileNotFoundError(f"expected a table or figure below results/{arguments.preset}, found none")
    options = ["--snakefile", str(ROOT / "Snakefile"), "--report", str(arguments.out)]
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", *there, *options], capture_output=True, text=True, errors="replace"
    )
    if done.returncode:
        raise ValueError(f"expected a report in {arguments.out}, found: {done.stdout + done.stderr}")
    print(f"{arguments.out}: {len(there)} of {len(expected)} tables, figures and pages")
    for path in expected:
        if path not in there:
            print(f"not there yet: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
