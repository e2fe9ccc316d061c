"""Out of memory: sampling and features go on with smaller batches; training and fixed batches say so in a line."""

import numpy as np
import pytest
import torch
from torch import Tensor

from dtri import evaluation
from dtri.memory import in_batches
from dtri.metrics import features
from tests import test_contract


def full(limit: int, work=lambda start, stop: list(range(start, stop))):
    """`work` on a device that holds `limit` at once."""

    def limited(start: int, stop: int):
        if stop - start > limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore")
        return work(start, stop)

    return limited


def test_batches_are_halved_until_they_fit(capsys):
    assert list(in_batches(full(3), 10, 8)) == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]
    told = capsys.readouterr().out.splitlines()
    assert told == [f"the device's memory is full: going on with {n} images at once" for n in (4, 2)]


@pytest.mark.parametrize(("limit", "fixed"), [(0, ""), (3, "for a reason")])
def test_what_cannot_be_smaller_is_an_error_of_one_line(limit: int, fixed: str):
    with pytest.raises(ValueError, match=r"images at once.*, found: CUDA out of memory. Tried to allocate 2 GiB$"):
        list(in_batches(full(limit), 10, 8, fixed))


@pytest.mark.parametrize("name", ["vae", "coopnet"])
def test_samples_do_not_depend_on_memory(name: str, monkeypatch):
    model = test_contract.build(name, (1, 28, 28)).eval()
    plenty = evaluation.sample(model, 9, 1)
    for map_name in ("generate", "sample"):
        if work := getattr(model, map_name, None):
            monkeypatch.setattr(model, map_name, limited(work))
    assert np.abs(evaluation.sample(model, 9, 1).astype(int) - plenty).max() <= 1


def test_latents_do_not_depend_on_memory(monkeypatch):
    model = test_contract.build("vae", (1, 28, 28)).eval()
    stored = np.random.default_rng(0).integers(0, 256, (9, 1, 28, 28), dtype=np.uint8)
    plenty = evaluation.encode(model, stored)
    monkeypatch.setattr(model, "infer", limited(model.infer))
    torch.testing.assert_close(evaluation.encode(model, stored), plenty)


def test_batches_whose_statistics_count_are_not_halved(monkeypatch):
    model = test_contract.build("vae", (1, 28, 28)).train()
    monkeypatch.setattr(model, "generate", limited(model.generate))
    with pytest.raises(ValueError, match="batch norm takes the statistics of 100 together"):
        evaluation.sample(model, 9, 1)


def test_features_do_not_depend_on_memory():
    def network(batch: Tensor) -> tuple[Tensor]:
        if len(batch) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return (batch.float().flatten(1).mean(1, keepdim=True),)

    network.features_list, network.to = ["mean"], lambda *_, **__: network
    images = np.random.default_rng(0).integers(0, 256, (10, 1, 4, 4), dtype=np.uint8)
    found = features.Extractor("domain", "0" * 64, network).features(images, 8)["mean"]
    np.testing.assert_allclose(found[:, 0], images.mean((1, 2, 3)), rtol=1e-6)


def limited(work, limit: int = 3):
    def run(x: Tensor, *arguments):
        if len(x) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return work(x, *arguments)

    return run
