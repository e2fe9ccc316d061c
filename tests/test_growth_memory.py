"""Memory of the levels before training: sizes that can be added up by hand, and one clear last line."""

import numpy as np
import pytest
import torch

from dtri.experiment import TrainSpec
from workflow.commands import growth_memory
from workflow.commands.growth_memory import Ledger

ENTRY = "dtri.models.divergence_triangle_progressive:ProgressiveTriangle"


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_the_ledger_counts_what_is_alive(device: str) -> None:
    with Ledger() as ledger:
        a = torch.zeros(1000, device=device)
        b = (a + 1).view(10, 100)  # a view takes nothing
        assert (ledger.now, ledger.peak) == (8000, 8000)
        del a
        c = b * 2
        assert ledger.now == 8000
        del b, c
    assert (ledger.now, ledger.peak) == (0, 8000)


def test_a_graph_keeps_what_its_backward_needs() -> None:
    weight = torch.ones(100, device="meta", requires_grad=True)
    with Ledger() as ledger:
        y = (weight.exp() * weight.exp()).sum()  # both factors are kept, the product is not
        assert ledger.now == 2 * 400 + 4
        del y
        assert ledger.now == 0


def test_levels_grow_with_their_pixels_and_batches() -> None:
    hparams = {"width": 0.05, "z_dim": 5, "channel_base": 64, "fade_kimg": 1.0, "stable_kimg": 1.0}
    spec = TrainSpec("noise", "grown", ENTRY, (3, 32, 32), {**hparams, "batch_sizes": [16] * 9}, 10_000, 16, 0)
    rows = growth_memory.levels(spec)
    assert [row[0] for row in rows] == [4, 8, 16, 32]
    assert all(row[2] == rows[0][2] for row in rows)
    optimisers, activations = (np.array([row[column] for row in rows]) for column in (3, 4))
    assert (np.diff(optimisers) > 0).all()
    assert (np.diff(activations) > 0).all()
    assert activations[3] / activations[2] == pytest.approx(4, rel=0.25)  # eight channels at both
    halved = growth_memory.levels(
        TrainSpec("noise", "grown", ENTRY, (3, 32, 32), {**hparams, "batch_sizes": [8] * 9}, 10_000, 8, 0)
    )
    assert activations[3] / halved[3][4] == pytest.approx(2, rel=0.1)


def test_the_last_line_says_whether_it_fits(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(growth_memory, "levels", lambda spec: [(4, 16, 1.0, 2.0, 3.0), (8, 16, 1.0, 3.0, 40.0)])
    for free, code, said in ((50.0, 0, "fits into 50 MiB free"), (10.0, 1, "does not fit into 10 MiB free")):
        monkeypatch.setattr(growth_memory, "_free", lambda where, free=free: free)
        assert growth_memory.main(["--preset", "demo", "--device", "cpu"]) == code
        last = capsys.readouterr().out.splitlines()[-1]
        assert last.startswith("8 pixels need most, 44 MiB: ")
        assert said in last
        assert ("batch_sizes" in last) == bool(code)
    with pytest.raises(ValueError, match="expected a dataset that preset lite has, found 'imagenet32'"):
        growth_memory.main(["--preset", "lite", "--dataset", "imagenet32"])
