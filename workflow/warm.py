"""Jobs without start-up: a process that has imported the heavy libraries forks one child per job.

    python -m workflow.warm train --spec ... --out ...     the same as python -m workflow.commands.train --spec ...

Importing torch, its compiler (every torch optimiser does), scikit-learn or torchvision takes 2 to 8 seconds, and most
jobs of a small run need less for their work. Where Snakemake runs on this machine it starts a server that imports the
libraries of others, once and when a job first needs them; each child imports the code of this project anew. The client
hands over arguments, environment, folder and standard streams, forwards signals and ends as the child ends. Whoever
kills the client kills the child; when the server dies, so do its children. Without a server (by hand, under Slurm, on a
system other than Linux) the client runs the command itself.
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
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

VARIABLE = "DTRI_WARM"  # where the server listens
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
    "overview": PLOTS[:1],
}
REQUEST_BYTES = 1 << 20
DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)

_held: list[object] = []  # what keeps the server alive: it ends when this process does


def start() -> None:
    """Start a server for the jobs of this process; they find it by an environment variable."""
    if sys.platform != "linux":
        return
    folder = Path(tempfile.mkdtemp(prefix="dtri-warm-"))  # readable by this user alone
    reader, writer = os.pipe()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener, open(reader, "rb") as alive:
        listener.bind(str(folder / "socket"))
        listener.listen(128)
        command = [sys.executable, "-m", "workflow.warm", "--serve", str(folder), str(listener.fileno())]
        _held.append(
            subprocess.Popen(
                command,
                stdin=alive,
                stdout=subprocess.DEVNULL,
                pass_fds=[listener.fileno()],
                start_new_session=True,  # so that Ctrl-C reaches jobs through their clients, once
            )
        )
    _held.append(open(writer, "wb"))  # noqa: SIM115 - closed by the end of the process
    os.environ[VARIABLE] = str(folder / "socket")


# The client


def main(argv: list[str]) -> int:
    command, arguments = argv[0], argv[1:]
    server = _ask(command, arguments)
    if server is None:
        return _run(command, arguments)
    for number in FORWARDED:
        signal.signal(number, lambda number, _: server.send(bytes([number])))
    try:
        answer = server.recv(16)
    except OSError:
        answer = b""
    if not answer:
        print(f"error: the process that ran {command} died", file=sys.stderr)
        return 1
    code = int(answer)
    if code < 0:
        if -code in FORWARDED:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


def _ask(command: str, arguments: list[str]) -> socket.socket | None:
    """The connection to a server that was handed the command; None where there is none."""
    path = os.environ.pop(VARIABLE, "")
    if not path or "SLURM_JOB_ID" in os.environ:  # a job of a cluster must be its own process, within its limits
        return None
    request = {"command": command, "arguments": arguments, "environment": dict(os.environ), "folder": os.getcwd()}
    server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        server.connect(path)
        socket.send_fds(server, [json.dumps(request).encode()], [0, 1, 2])
    except OSError:
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
        client, _ = self.listener.accept()
        client.settimeout(10)
        try:
            message, streams, *_ = socket.recv_fds(client, REQUEST_BYTES, 3)
            request = json.loads(message)
        except (OSError, ValueError):
            client.close()
            return
        client.settimeout(None)
        for name in LIBRARIES.get(request["command"], ()):
            try:
                importlib.import_module(name)
            except ImportError:
                break  # the child says so
        child = get_context("fork").Process(target=self._work, args=(request, streams))
        job = Job(child, client)
        self.selector.register(client, selectors.EVENT_READ, lambda: self._heard(job))
        child.start()
        for stream in streams:
            os.close(stream)
        self.jobs.append(job)
        self.selector.register(child.sentinel, selectors.EVENT_READ, lambda: self._ended(job))

    def _work(self, request: dict, streams: list[int]) -> None:
        """In the child: leave the server behind, take over what the client handed over, and run its command."""
        for key in list(self.selector.get_map().values()):
            if key.fd:
                os.close(key.fd)
        ctypes.CDLL(None).prctl(DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != self.pid:  # it died before the line above
            os._exit(1)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(line_buffering=stream.isatty())
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["folder"])
        _run(request["command"], request["arguments"])

    def _heard(self, job: Job) -> None:
        """A signal for the child, or the end of its client."""
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
