"""Device choice and GPU slots. No GPU is needed: the slots are tested with imagined ones."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from dtri import device

ROOT = Path(__file__).parents[1]
CUDA = torch.device("cuda")
CPU = torch.device("cpu")


@pytest.fixture
def two_gpus(monkeypatch, tmp_path):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setattr(device, "_gpus", lambda: range(2))
    monkeypatch.setattr(device, "_uuid", lambda gpu: f"GPU-{gpu}")
    monkeypatch.setattr(device, "SLOT_POLL_S", 0.01)
    return tmp_path


@pytest.fixture
def settings():
    """Puts the process-wide settings of PyTorch back."""
    threads = torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    tf32 = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)
    torch.set_flush_denormal(False)
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = tf32


@pytest.mark.parametrize("available", [True, False])
def test_choose(available, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert device.choose("cpu") == CPU
    assert device.choose("auto") == (CUDA if available else CPU)
    if available:
        assert device.choose("gpu") == CUDA
    else:
        with pytest.raises(ValueError, match="expected a GPU"):
            device.choose("gpu")


def test_choose_unknown():
    with pytest.raises(ValueError, match="expected device auto, cpu or gpu, found 'tpu'"):
        device.choose("tpu")


def test_each_slot_has_its_own_gpu(two_gpus):
    with device.gpu_slot(CUDA, folder=two_gpus) as first, device.gpu_slot(CUDA, folder=two_gpus) as second:
        assert {first, second} == {torch.device("cuda", 0), torch.device("cuda", 1)}


def test_gpus_fill_before_they_are_shared(two_gpus):
    held = [device.gpu_slot(CUDA, per_gpu=2, folder=two_gpus) for _ in range(4)]
    gpus = [slot.__enter__().index for slot in held]
    for slot in held:
        slot.__exit__(None, None, None)
    assert sorted(gpus[:2]) == sorted(gpus[2:]) == [0, 1]


def test_a_job_waits_for_a_slot_and_gets_the_freed_one(two_gpus):
    got = []

    def job():
        with device.gpu_slot(CUDA, folder=two_gpus) as where:
            got.append(where)

    with device.gpu_slot(CUDA, folder=two_gpus):
        with device.gpu_slot(CUDA, folder=two_gpus) as second:
            waiting = threading.Thread(target=job)
            waiting.start()
            waiting.join(0.1)
            assert waiting.is_alive()
            assert got == []
        waiting.join(10)
        assert got == [second]


def test_a_failing_job_frees_its_slot(two_gpus, monkeypatch):
    monkeypatch.setattr(device, "_gpus", lambda: range(1))
    for _ in range(2):
        with pytest.raises(KeyError), device.gpu_slot(CUDA, folder=two_gpus):
            raise KeyError


def test_cpu_and_slurm_pass_through(two_gpus, monkeypatch):
    with device.gpu_slot(CPU, folder=two_gpus) as where:
        assert where == CPU
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    with device.gpu_slot(CUDA, folder=two_gpus) as where:
        assert where == CUDA
    assert list(two_gpus.iterdir()) == []


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_precision(precision, settings):
    device.prepare(1, precision)
    assert torch.get_num_threads() == 1
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cuda.matmul.allow_tf32 is (precision == "tf32")
    assert torch.backends.cudnn.allow_tf32 is (precision == "tf32")
    with device.autocast(CPU, precision):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == (torch.bfloat16 if precision == "bf16" else torch.float32)


def test_description_names_the_processor():
    assert device.describe(CPU).startswith("cpu (")


def test_a_job_imports_neither_the_compiler_nor_torchvision():
    """Together they would add as many seconds to every job as torch itself takes."""
    code = (
        "import sys; import workflow.commands.score; from dtri import device; device.prepare(1, 'fp32'); "
        "print([name for name in ('torch._dynamo', 'torchvision', 'sklearn', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
