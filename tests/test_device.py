"""Device choice and GPU slots. No GPU is needed: the slots are tested with imagined ones."""

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch

from dtri import device, numerics

ROOT = Path(__file__).parents[1]
CUDA = torch.device("cuda")
CPU = torch.device("cpu")


@pytest.fixture
def two_gpus(monkeypatch, tmp_path):
    for name in ("SLURM_JOB_ID", "DTRI_RUNS_PER_GPU"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(device, "_gpus", lambda: range(2))
    monkeypatch.setattr(device, "_uuid", lambda gpu: f"GPU-{gpu}")
    monkeypatch.setattr(device.slots, "shared_folder", lambda name: tmp_path / name)
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
    assert device.choose_device("cpu") == CPU
    assert device.choose_device("auto") == (CUDA if available else CPU)
    if available:
        assert device.choose_device("gpu") == CUDA
    else:
        with pytest.raises(ValueError, match="expected a GPU"):
            device.choose_device("gpu")


def test_choose_unknown():
    with pytest.raises(ValueError, match="expected device auto, cpu or gpu, found 'tpu'"):
        device.choose_device("tpu")


def gpus(*indices: int) -> list[torch.device]:
    return [torch.device("cuda", index) for index in indices]


def test_each_slot_has_its_own_gpu(two_gpus):
    with device.hold_gpu(CUDA) as first, device.hold_gpu(CUDA) as second:
        assert [first, second] == gpus(0, 1)


def test_several_runs_share_a_gpu_when_asked_to(two_gpus, monkeypatch):
    monkeypatch.setenv("DTRI_RUNS_PER_GPU", "2")
    with ExitStack() as held:
        assert [held.enter_context(device.hold_gpu(CUDA)) for _ in range(4)] == gpus(0, 1, 0, 1)


def test_one_run_holds_several_gpus(two_gpus):
    with device.hold_gpus(CUDA, 2) as held:
        assert held == gpus(0, 1)
    with (
        pytest.raises(ValueError, match="expected 3 GPUs for 3 processes of one run, found 2"),
        device.hold_gpus(CUDA, 3),
    ):
        pass


def test_a_failing_job_frees_its_slot(two_gpus, monkeypatch):
    monkeypatch.setattr(device, "_gpus", lambda: range(1))
    for _ in range(2):
        with pytest.raises(KeyError), device.hold_gpu(CUDA):
            raise KeyError


def test_the_cpu_holds_nothing(two_gpus):
    with device.hold_gpu(CPU) as held, device.hold_gpus(CPU, 3) as several:
        assert [held, *several] == [CPU] * 4
    assert list(two_gpus.iterdir()) == []


def test_jobs_within_one_allocation_take_different_gpus(two_gpus, monkeypatch):
    """`salloc --gres=gpu:2`, then local jobs: all have its number, and see both GPUs."""
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    with device.hold_gpu(CUDA) as first, device.hold_gpu(CUDA) as second:
        assert [first, second] == gpus(0, 1)


def test_jobs_that_a_cluster_isolates_do_not_wait(two_gpus, monkeypatch):
    """Each sees one GPU, of another name."""
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setattr(device, "_gpus", lambda: range(1))
    names = iter(("GPU-a", "GPU-b"))
    monkeypatch.setattr(device, "_uuid", lambda gpu: next(names))
    with device.hold_gpu(CUDA) as first, device.hold_gpu(CUDA) as second:
        assert [first, second] == gpus(0, 0)


def test_an_evaluation_holds_what_it_was_told_to_use(two_gpus, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(numerics, "set_numerics", lambda *_: None)
    checked = []
    monkeypatch.setattr(numerics, "check_gpu", lambda *given: checked.append(given))
    monkeypatch.delenv("DTRI_DEVICE", raising=False)
    hold = numerics.hold_device
    with hold("auto", 1) as first, hold("gpu", 1) as second, hold("cpu", 1) as third:
        assert [first, second, third] == [*gpus(0, 1), CPU]
    assert checked == [(first, "fp32"), (second, "fp32"), (third, "fp32")]
    monkeypatch.setenv("DTRI_DEVICE", "cpu")
    with numerics.hold_device("gpu", 1) as held:
        assert held == CPU


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_precision(precision, settings):
    numerics.set_numerics(1, precision)
    assert torch.get_num_threads() == 1
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cuda.matmul.allow_tf32 is (precision == "tf32")
    assert torch.backends.cudnn.allow_tf32 is (precision == "tf32")
    with numerics.autocast(CPU, precision):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == (torch.bfloat16 if precision == "bf16" else torch.float32)


def test_description_names_the_processor():
    assert device.describe_device(CPU).startswith("cpu (")


def test_a_job_imports_neither_the_compiler_nor_torchvision():
    """Together they would add as many seconds to every job as torch itself takes."""
    code = (
        "import sys; import workflow.commands.score; from dtri import numerics; numerics.set_numerics(1, 'fp32'); "
        "print([name for name in ('torch._dynamo', 'torchvision', 'sklearn', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def no_gpu(monkeypatch, **environment: str) -> str:
    """The error of asking for a GPU where there is none; the words after "found"."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("DTRI_DEVICE", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match="expected a GPU") as found:
        device.choose_device("gpu")
    assert "\n" not in str(found.value)
    return str(found.value).partition("found ")[2]


def failing(error: Exception):
    def fail(*_: object, **__: object):
        raise error

    return fail


def test_a_build_without_gpus_is_named(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    assert no_gpu(monkeypatch).startswith("a PyTorch without GPU support")


@pytest.mark.parametrize("visible", ["", "-1", "-1,0"])
def test_hidden_gpus_are_named(visible, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    assert no_gpu(monkeypatch, CUDA_VISIBLE_DEVICES=visible).startswith(
        f"CUDA_VISIBLE_DEVICES={visible!r}, which hides"
    )


def test_gpus_beyond_the_cards_are_named(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    assert "'7', which names none" in no_gpu(monkeypatch, CUDA_VISIBLE_DEVICES="7")


def test_an_old_driver_is_named(monkeypatch):
    """The words are those of PyTorch on `torch.cuda.init()`."""
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    old = "The NVIDIA driver on your system is too old (found version 11040)"
    monkeypatch.setattr(torch.cuda, "init", failing(RuntimeError(f"{old}. Please update your GPU driver.\nmore")))
    assert no_gpu(monkeypatch).startswith(old)


def test_the_cpu_beside_a_gpu_is_a_warning(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(Path, "glob", lambda path, pattern: iter([path / "nvidia3"]))
    monkeypatch.setattr(device, "why_no_gpu", lambda: "an old driver")
    assert device.choose_device("auto") == CPU
    assert capsys.readouterr().err == "warning: computing on the CPU beside a GPU, found an old driver\n"


@pytest.fixture
def imagined_gpu(monkeypatch):
    monkeypatch.setattr(torch, "zeros", lambda *_, **__: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (40 << 30, 80 << 30))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")


def test_a_gpu_that_can_be_used_passes(imagined_gpu, capsys):
    device.check_gpu(CUDA, "fp32")
    device.check_gpu(CPU, "bf16")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (torch.OutOfMemoryError("CUDA out of memory.\nmore"), "expected memory on cuda, found it full"),
        (RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable\nmore"), "exclusive compute mode"),
    ],
)
def test_a_gpu_that_others_hold_is_an_error_of_one_line(error, told, imagined_gpu, monkeypatch):
    monkeypatch.setattr(torch, "zeros", failing(error))
    with pytest.raises(ValueError, match=told) as found:
        device.check_gpu(CUDA, "fp32")
    assert "\n" not in str(found.value)


def test_a_gpu_that_others_fill_is_a_warning(imagined_gpu, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (3 << 30, 80 << 30))
    device.check_gpu(CUDA, "fp32")
    assert capsys.readouterr().out == "warning: 3072 of 81920 MiB are free on cuda: other processes use it\n"


def test_bf16_needs_a_gpu_that_has_it(imagined_gpu):
    with pytest.raises(ValueError, match="expected a GPU that computes in bf16, found Tesla T4: use precision fp32"):
        device.check_gpu(CUDA, "bf16")


@pytest.mark.parametrize("runs", ["two", "0", "-1", "1.5", " "])
def test_runs_per_gpu_is_a_number(runs, two_gpus, monkeypatch):
    monkeypatch.setenv("DTRI_RUNS_PER_GPU", runs)
    with pytest.raises(ValueError, match=f"whole number as DTRI_RUNS_PER_GPU, found '{runs}'"), device.hold_gpus(CUDA):
        pass


def test_slices_of_a_card_are_devices_of_their_own(monkeypatch):
    """Runs on two slices of one card need not wait for each other."""
    properties = type("Properties", (), {"uuid": "GPU-1"})
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda gpu: properties)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-a,MIG-b")
    assert [device._uuid(gpu) for gpu in (0, 1)] == ["MIG-a", "MIG-b"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-GPU-1/2/0, MIG-GPU-1/3/0")
    assert [device._uuid(gpu) for gpu in (0, 1)] == ["MIG-GPU-1_2_0", "MIG-GPU-1_3_0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert device._uuid(0) == "GPU-1"
