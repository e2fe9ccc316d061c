"""What every test starts from: one thread, so that sums are taken in one order, and a known seed."""

import os
import sys
from collections.abc import Iterator

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is loaded; for fixtures of modules, and for child processes

# A file's tests stay in one process, so files of minutes come first: one that begins last is waited for alone.
LONG = ("test_slurm", "test_reruns", "test_distributed", "test_gpu_bench", "test_newcomer", "test_landscape_command")
LONG += ("test_kill", "test_faults", "test_forkserver", "test_landscape")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {name: i for i, name in enumerate(LONG)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(LONG)))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)
