"""Jobs without start-up: a process that has imported the heavy libraries forks one child per job.

    python -m workflow.forkserver train --spec ... --out ...    the same as python -m workflow.commands.train --spec ...

It takes 2 to 8 seconds to import torch, scikit-learn, torchvision, or the compiler that every torch optimiser imports.
Most jobs of a small run need less for their work. Where Snakemake runs on this machine, it starts a server. The server
imports the libraries of others once, when a job first needs them; each child imports the code of this project anew.

The client hands over arguments, environment, folder and standard streams. It forwards signals and ends as the child
ends. Whoever kills the client kills the child; when the server dies, so do its children.

The client runs the command itself where there is no server: by hand, under Slurm, on a system other than Linux, or
where none could be started. It also does so where the server dies before an answer. That is safe, since every command
can be killed and given again.
"""

import contextlib
import ctypes
import importlib
import json
import os
import runpy
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VARIABLE = "DTRI_FORKSERVER"  # where the server listens
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
TORCH, RANKING, PLOTS = ("torch", "safetensors.torch"), ("sklearn.metrics",), ("pandas", "matplotlib.pyplot", "seaborn")
LIBRARIES = {
    "train": (*TORCH, "torch._dynamo"),
    "classifier": (*TORCH, "torch._dynamo"),
    "sample": (*TORCH, "torchvision.utils"),
    "generation": (*TORCH, "torch_fidelity"),
    "reconstruct": TORCH,
    "interpolate": TORCH,
    "growth": TORCH,
    "score": TORCH,
    "landscape": TORCH,
    "ranking": RANKING,
    "figure": PLOTS,
    "table": PLOTS[:1],
    "measured": PLOTS[:1],
    "overview": PLOTS[:1],
    "claims": PLOTS,
}
REQUEST_BYTES = 1 << 20
DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)

_held: list[object] = []  # what keeps the server alive: it ends when this process does


def start() -> None:
    """Start a server for the jobs of this process; they find it by an environment variable.

    Nothing depends on it: where it cannot be started, jobs are ordinary processes.
    """
    if sys.platform != "linux":
        return
    folder = None
    try:
        folder = Path(tempfile.mkdtemp(prefix="dtri-forkserver-"))  # readable by this user alone
        _start(folder)
    except (OSError, AttributeError) as error:  # no socket: a long TMPDIR, too many processes, a sandbox
        print(f"jobs start one by one, each importing its libraries: {error}", file=sys.stderr)
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _start(folder: Path) -> None:
    reader, writer = os.pipe()
    with open(reader, "rb") as alive, open(writer, "wb") as held, ExitStack() as opened:
        listener = opened.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        listener.bind(str(folder / "socket"))
        listener.listen(128)
        server = subprocess.Popen(
            [sys.executable, "-m", "workflow.forkserver", "--serve", str(folder), str(listener.fileno())],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
            stdin=alive,
            stdout=subprocess.DEVNULL,
            pass_fds=[listener.fileno()],
            start_new_session=True,  # so that Ctrl-C reaches jobs through their clients, once
        )
        _held.extend((server, os.fdopen(os.dup(held.fileno()), "wb")))  # closed by the end of the process
    os.environ[VARIABLE] = str(folder / "socket")


# The client


def main(argv: list[str]) -> int:
    command, arguments = argv[0], argv[1:]
    server = _ask(command, arguments)
    if server is None:
        return _run(command, arguments)
    received: list[int] = []

    def forward(number: int, _frame: object) -> None:
        received.append(number)
        with contextlib.suppress(OSError):
            server.send(bytes([number]))

    before = {number: signal.signal(number, forward) for number in FORWARDED}
    try:
        answer = server.recv(16)
    except OSError:
        answer = b""
    for number, handler in before.items():
        signal.signal(number, handler)
    if not answer:
        if received:
            signal.signal(received[0], signal.SIG_DFL)
            os.kill(os.getpid(), received[0])
        print(f"the process that ran {command} died, running it anew", file=sys.stderr, flush=True)
        return _run(command, arguments)
    code = int(answer)
    if code < 0:
        if -code in FORWARDED:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


def _ask(command: str, arguments: list[str]) -> socket.socket | None:
    """The connection to a server that has the command now; None where there is none."""
    path = os.environ.pop(VARIABLE, "")
    if not path or "SLURM_JOB_ID" in os.environ:  # a job of a cluster must be its own process, within its limits
        return None
    request = {"command": command, "arguments": arguments, "environment": dict(os.environ), "folder": os.getcwd()}
    try:
        server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        server.connect(path)
        socket.send_fds(server, [json.dumps(request).encode()], [0, 1, 2])
    except (OSError, AttributeError):
        return None
    return server


def _run(command: str, arguments: list[str]) -> int:
    sys.argv = [command, *arguments]
    runpy.run_module(f"workflow.commands.{command}", run_name="__main__", alter_sys=True)
    return 0


# The server


@dataclass
class Job:
    """A child at work, and the connection to its client while there is one."""

    child: BaseProcess
    client: socket.socket | None


class Server:
    """Forks a child per request, until Snakemake and all jobs are gone."""

    def __init__(self, listener: socket.socket):
        self.listener, self.pid = listener, os.getpid()
        self.jobs: list[Job] = []
        self.abandoned = False
        self.selector = selectors.DefaultSelector()
        self.selector.register(listener, selectors.EVENT_READ, self._accept)
        self.selector.register(0, selectors.EVENT_READ, self._abandoned)

    def serve(self) -> None:
        while self.jobs or not self.abandoned:
            for key, _ in self.selector.select():
                key.data()

    def _abandoned(self) -> None:
        """Snakemake has ended: finish what runs."""
        self.selector.unregister(0)
        self.abandoned = True

    def _accept(self) -> None:
        try:
            client, _ = self.listener.accept()
        except OSError:  # no descriptors left: later clients run by themselves
            self.selector.unregister(self.listener)
            self.listener.close()
            return
        client.settimeout(10)
        streams: list[int] = []
        try:
            message, streams, *_ = socket.recv_fds(client, REQUEST_BYTES, 3)
            request = json.loads(message)
            client.settimeout(None)
            for name in LIBRARIES.get(request["command"], ()):
                try:
                    importlib.import_module(name)
                except Exception:  # the child says so
                    break
            child = get_context("fork").Process(target=self._work, args=(request, streams, client))
            child.start()
        except (OSError, ValueError):  # a cut request, no process left: the client runs it
            client.close()
            return
        finally:
            for stream in streams:
                os.close(stream)
        job = Job(child, client)
        self.jobs.append(job)
        self.selector.register(client, selectors.EVENT_READ, lambda: self._heard(job))
        self.selector.register(child.sentinel, selectors.EVENT_READ, lambda: self._ended(job))

    def _work(self, request: dict, streams: list[int], client: socket.socket) -> None:
        """In the child: leave the server behind, take over what the client handed over, and run its command."""
        client.close()
        for key in list(self.selector.get_map().values()):
            if key.fd:
                os.close(key.fd)
        ctypes.CDLL(None).prctl(DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != self.pid:  # the server died before the line above
            os._exit(1)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        for name in ("stdout", "stderr"):  # the server's streams know another kind of file behind them
            old = getattr(sys, name)
            new = open(old.fileno(), "w", 1, encoding=old.encoding, errors=old.errors, closefd=False)  # noqa: SIM115
            setattr(sys, name, new)
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["folder"])
        _run(request["command"], request["arguments"])

    def _heard(self, job: Job) -> None:
        """Pass a signal on to the child; at the end of the client, kill the child."""
        try:
            data = job.client.recv(1)
        except OSError:
            data = b""
        if job.child.exitcode is None:
            os.kill(job.child.pid, data[0] if data else signal.SIGKILL)
        if not data:
            self._hang_up(job)

    def _hang_up(self, job: Job) -> None:
        self.selector.unregister(job.client)
        job.client.close()
        job.client = None

    def _ended(self, job: Job) -> None:
        self.selector.unregister(job.child.sentinel)
        job.child.join()
        self.jobs.remove(job)
        if job.client is not None:
            with contextlib.suppress(OSError):  # the client may be gone by now
                job.client.send(str(job.child.exitcode).encode())
            self._hang_up(job)


def _serve(folder: Path, listener: int) -> int:
    Server(socket.socket(fileno=listener)).serve()
    shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        sys.exit(_serve(Path(sys.argv[2]), int(sys.argv[3])))
    sys.exit(main(sys.argv[1:]))
