"""The worked example of docs/another_paper.md: its files are an overlay that plans, prints and judges."""

import os
import re
import subprocess
import sys
from pathlib import Path

from workflow import overlay

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "another_paper.md").read_text("utf-8")
# Five seeds of each system, but for one that was not run.
PLANTED = """
from pathlib import Path

from dtri.report import claims_page
from tests.test_measured import record
from workflow import checks, configuration
from workflow.commands import claims, table

checks.check_configuration()
for model, fid, score in (("wgan", 50, 6.0), ("wgan_gp", 45, 6.5), ("sngan", 30, 7.5)):
    for seed in range(5):
        folder = f"results/sngan_paper/cifar10/{model}/seed{seed}"
        record(folder, "fid_inception", fid + seed / 10, extractor="inception:0")
        record(folder, "is_inception", score + seed / 100, extractor="inception:0")
judged = claims.judged(configuration.preset("sngan_paper"))
print({one.claim.id: one.verdict for one in judged.claims if one.claim.paper == "SNGAN"})
Path("claims.md").write_text(claims_page.render(judged, "md"))
assert table.main(["sngan_table2", "--preset", "sngan_paper", "--partial"]) == 0
"""


def test_the_example_plans_prints_and_judges(tmp_path: Path) -> None:
    folder = tmp_path / "sngan_paper"
    files = re.findall(r"```\w+\n# (\S+)\n(.*?)```", PAGE, re.S)
    assert [name for name, _ in files] == ["models.yaml", "presets.yaml", "tables/sngan_table2.py", "claims/sngan.py"]
    for name, text in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, "utf-8")
    environment = {**os.environ, overlay.VARIABLE: str(folder), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", PLANTED], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    verdicts, _, printed = done.stdout.partition("\n")
    assert verdicts == "{'SNGAN.better': 'holds', 'SNGAN.hinge': 'not measured'}"
    assert "Miyato et al., Table 2: FID" in printed
    assert re.search(r"WGAN-GP.*6\.68.*6\.52", printed), "printed and measured"
    page = (tmp_path / "claims.md").read_text("utf-8")
    assert "Claims of paper SNGAN" in page
    assert page.index("Claims of paper A") < page.index("Claims of paper B") < page.index("Claims of paper SNGAN")
