"""Jobs forked from a process that has the libraries: as by themselves, and they die with who asked for them."""

import os
import re
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import training
from workflow import forkserver

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="children die with their parent on Linux only")
HOLDER = (
    "import os, sys; from workflow import forkserver; forkserver.start(); "
    "print(os.environ[forkserver.VARIABLE], flush=True); input()"
)


class Holder:
    """A process that started a server, as Snakemake does."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER], cwd=training.ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.socket = self.process.stdout.readline().strip()
        (self.server,) = _children(self.process.pid)

    def job(self, command: str, *arguments: str, **options) -> subprocess.Popen:
        environment = {**os.environ, forkserver.VARIABLE: self.socket, **options.pop("variables", {})}
        words = [sys.executable, "-m", "workflow.forkserver", command, *arguments]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(words, **{"cwd": training.ROOT, "env": environment, **streams, **options})

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def holder() -> Iterator[Holder]:
    holder = Holder()
    yield holder
    holder.stop()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return training.prepare_digits(tmp_path_factory.mktemp("data"))


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def eventually(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + training.TIMEOUT_S
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.01)


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def training_job(holder: Holder, data: Path, out: Path, **changes) -> tuple[subprocess.Popen, int]:
    """A training run that is under way, and the process that trains."""
    before = set(_children(holder.server))
    job = holder.job("train", *training.arguments(data, out, **changes))
    training.wait_for(lambda: training.events(out, "start"), job)
    (child,) = set(_children(holder.server)) - before
    return job, child


def test_a_warm_run_makes_what_a_cold_one_makes(holder: Holder, data: Path, tmp_path: Path):
    cold = training.complete(data, tmp_path / "cold")
    job = holder.job("train", *training.arguments(data, tmp_path / "warm"))
    text = job.communicate()[0]
    assert job.returncode == 0, text
    assert training.outputs(tmp_path / "warm") == cold
    assert "300 iterations on cpu" in text


def test_errors_are_the_commands_own(holder: Holder, tmp_path: Path):
    missing = tmp_path / "missing.npz"
    arguments = ["auroc", "--own", str(missing), "--out", str(tmp_path / "x.json"), "--code", "c", "--train", "t"]
    cold = subprocess.run(
        [sys.executable, "-m", "workflow.commands.ranking", *arguments], cwd=training.ROOT, capture_output=True
    )
    job = holder.job("ranking", *arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert (
        job.communicate()[1].splitlines()[-1].split(": ", 1)[1]
        == cold.stderr.decode().splitlines()[-1].split(": ", 1)[1]
    )
    assert job.returncode == cold.returncode == 2


def test_folder_and_environment_are_the_clients(holder: Holder, data: Path, tmp_path: Path):
    arguments = training.arguments(data, Path("run"), steps=5)
    job = holder.job("train", *arguments, cwd=tmp_path, variables={"PYTHONPATH": str(training.ROOT)})
    assert job.wait() == 0
    assert (tmp_path / "run" / "model.safetensors").exists()
    job = holder.job("train", *arguments, variables={"DTRI_DEVICE": "teapot"})
    assert "expected device auto, cpu or gpu, found 'teapot'" in job.communicate()[0]
    assert job.returncode == 2


def test_signals_reach_the_child(holder: Holder, data: Path, tmp_path: Path):
    job, child = training_job(holder, data, tmp_path / "run", steps=100_000)
    job.send_signal(signal.SIGTERM)
    assert job.wait() == 143
    assert gone(child)
    assert [event["reason"] for event in training.events(tmp_path / "run", "interrupted")] == ["signal"]


def test_a_killed_client_takes_its_child_along(holder: Holder, data: Path, tmp_path: Path):
    job, child = training_job(holder, data, tmp_path / "run", steps=100_000)
    job.kill()
    eventually(lambda: gone(child))


def test_a_killed_child_is_told_from_a_failed_one(holder: Holder, data: Path, tmp_path: Path):
    job, child = training_job(holder, data, tmp_path / "run", steps=100_000)
    os.kill(child, signal.SIGKILL)
    assert job.wait() == -signal.SIGKILL


def test_a_job_outlives_its_server(data: Path, tmp_path: Path):
    """The server dies with its children; the job continues by itself and ends in the same bytes."""
    holder = Holder()
    job, child = training_job(holder, data, tmp_path / "run")
    os.kill(holder.server, signal.SIGKILL)
    text = job.communicate()[0]
    assert gone(child)
    assert job.returncode == 0, text
    assert "the process that ran train died, running it anew" in text
    assert training.outputs(tmp_path / "run") == training.complete(data, tmp_path / "cold")
    alone = holder.job("train", *training.arguments(data, tmp_path / "alone", steps=5))  # the next one runs by itself
    assert alone.wait() == 0
    holder.stop()


def test_a_signal_after_the_servers_death_ends_the_job(data: Path, tmp_path: Path):
    holder = Holder()
    job, _ = training_job(holder, data, tmp_path / "run", steps=100_000)
    os.kill(holder.server, signal.SIGSTOP)
    job.send_signal(signal.SIGTERM)  # received by the client, and never by the child
    time.sleep(0.2)
    os.kill(holder.server, signal.SIGKILL)
    assert job.wait() == -signal.SIGTERM
    holder.stop()


def started(monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether a server was started, which must not raise."""
    monkeypatch.setenv(forkserver.VARIABLE, "")
    monkeypatch.setattr(forkserver, "_held", [])
    forkserver.start()
    return bool(os.environ[forkserver.VARIABLE])


def refuse(*_: object, **__: object) -> None:
    raise BlockingIOError(11, "Resource temporarily unavailable")


@pytest.mark.parametrize("missing", ["a short path", "a folder", "sockets", "processes", "pipes"])
def test_without_a_server_jobs_are_ordinary(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    folder = tmp_path
    if missing == "a short path":
        folder = tmp_path / ("long" * 25)
        folder.mkdir()
    monkeypatch.setattr(forkserver.tempfile, "tempdir", str(folder / "gone" if missing == "a folder" else folder))
    if missing == "sockets":
        monkeypatch.delattr(socket, "AF_UNIX")
    if missing == "processes":
        monkeypatch.setattr(forkserver.subprocess, "Popen", refuse)
    if missing == "pipes":
        monkeypatch.setattr(os, "pipe", refuse)
    descriptors = len(os.listdir("/proc/self/fd"))
    assert not started(monkeypatch)
    assert "jobs start one by one" in capsys.readouterr().err
    assert list(folder.iterdir()) == []
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_a_client_without_sockets_runs_its_command(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(forkserver.VARIABLE, "/somewhere")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.delattr(socket, "AF_UNIX")
    assert forkserver._ask("train", []) is None


@pytest.mark.parametrize("request_text", [b'{"command": "train", "argu', b'{"command": "nothing"}'])
def test_a_server_that_cannot_fork_sends_the_client_away(
    request_text: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Also when the request was cut. The server goes on with its other jobs."""
    monkeypatch.setattr(forkserver, "get_context", refuse)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener, open(os.devnull, "rb") as null:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        server = forkserver.Server.__new__(forkserver.Server)
        server.listener, server.jobs = listener, []
        client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        client.connect(str(tmp_path / "s"))
        socket.send_fds(client, [request_text], [null.fileno()] * 3)
        server._accept()
        assert client.recv(16) == b""
        assert server.jobs == []
        client.close()


def test_a_server_without_descriptors_takes_no_more_clients(tmp_path: Path):
    server = forkserver.Server.__new__(forkserver.Server)
    server.selector = selectors.DefaultSelector()
    server.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # never listens: accept fails
    server.selector.register(server.listener, selectors.EVENT_READ)
    server._accept()
    assert len(server.selector.get_map()) == 0


def test_the_server_ends_with_snakemake_and_the_last_job(data: Path, tmp_path: Path):
    holder = Holder()
    job, _ = training_job(holder, data, tmp_path / "run", steps=1_000)
    holder.stop()
    assert job.wait() == 0
    eventually(lambda: gone(holder.server))
    assert not Path(holder.socket).parent.exists()


def test_a_clusters_job_is_a_process_of_its_own(holder: Holder, data: Path, tmp_path: Path):
    before = set(_children(holder.server))
    arguments = training.arguments(data, tmp_path / "run", steps=100_000)
    job = holder.job("train", *arguments, variables={"SLURM_JOB_ID": "7"})
    training.wait_for(lambda: training.events(tmp_path / "run", "start"), job)
    assert set(_children(holder.server)) == before
    job.kill()


def test_rules_name_commands_that_exist():
    commands = training.ROOT / "workflow" / "commands"
    assert all((commands / f"{name}.py").exists() for name in forkserver.LIBRARIES)
    sources = [*(training.ROOT / "workflow" / "rules").glob("*.smk"), training.ROOT / "workflow" / "params.py"]
    used = {name for path in sources for name in re.findall(r"python -m workflow\.forkserver (\w+)", path.read_text())}
    assert used == set(forkserver.LIBRARIES)
