"""The list of planted faults stays true: every source is found once, and a fault changes valid code into valid code."""

import ast
from pathlib import Path

import pytest
import yaml

from tests.mutants.faults import FAULTS, Fault
from tests.mutants.operators import changes

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_source_is_found_once(fault: Fault) -> None:
    assert fault.times(ROOT) == 1
    planted = fault.planted_in(ROOT)
    assert planted != (ROOT / fault.file).read_text("utf-8")
    (yaml.safe_load if fault.file.endswith(".yaml") else ast.parse)(planted)
    assert all((ROOT / test.partition("::")[0]).exists() for test in fault.tests)


def test_no_fault_is_listed_twice() -> None:
    assert len({(fault.file, fault.source, fault.planted) for fault in FAULTS}) == len(FAULTS)


def test_drawn_faults_change_operators_numbers_and_names() -> None:
    found = {line for _, line, _ in changes("a = b + 1\nif x <= -y and min(z) == 0.5:\n    pass\n")}
    expected = {"a = b - 1", "a = b + 2", "if x < -y and min(z) == 0.5:", "if x <= y and min(z) == 0.5:"}
    expected |= {"if x <= -y or min(z) == 0.5:", "if x <= -y and max(z) == 0.5:", "if x <= -y and min(z) != 0.5:"}
    assert found == {*expected, "if x <= -y and min(z) == 1.0:"}
