"""A Slurm of one machine with two pretended GPUs, which lives as long as a command. No systemd, no /etc.

    python -m tests.cluster.slurm snakemake --workflow-profile workflow/profiles/slurm TARGET

Needs Debian's packages munge, slurmctld, slurmd and slurm-client. Configuration, keys, sockets and logs lie in one
temporary folder and ports are free ones, so that a real Slurm on the machine is not touched. The daemons are children
that the kernel kills with their parent. CPUs, memory and GPUs are claims: nothing is pinned or enforced but time.
"""

import ctypes
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue", "scancel", "sinfo")
SBIN = "/usr/sbin:/sbin"  # where Debian puts daemons, and not on every user's path
NODE = "n1"
GPUS = 2
TIMEOUT_S = 240.0
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)

SLURM_CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmdSpoolDir={folder}/spool
# No cgroups and no pinning: runs in any container.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
MpiDefault=none
AccountingStorageType=accounting_storage/none
# The plugin asks for --gpus=N, which only cons_tres understands. Without a default a job takes all memory.
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=500
GresTypes=gpu
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2,sched_min_interval=0
# Short clocks. squeue has to remember a job for longer than Snakemake takes to ask again.
KillWait=5
SlurmdTimeout=10
InactiveLimit=0
MinJobAge=3600
ReturnToService=2
SlurmdParameters=config_overrides
NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={node_port} CPUs=8 RealMemory=64000 Gres=gpu:{gpus}
PartitionName=main Nodes={node} Default=YES DefaultTime=60 MaxTime=INFINITE State=UP
"""
# A GPU has to be a character device, each of its own name: links to /dev/null pass.
GRES_CONF = "AutoDetect=off\nName=gpu File={folder}/gpu[0-{last}]\n"
CGROUP_CONF = "CgroupAutomount=no\nConstrainCores=no\nConstrainRAMSpace=no\nConstrainDevices=no\n"
# The plugin's inner srun loses SLURM_CONF on its way.
SRUN = '#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {srun} "$@"\n'


def missing() -> list[str]:
    """Programs that are not installed."""
    path = f"{os.environ.get('PATH', '')}:{SBIN}"
    return [name for name in PROGRAMS if shutil.which(name, path=path) is None]


class Cluster:
    """The running daemons; `environment` is that of a process which submits jobs."""

    def __init__(self, folder: Path):
        self.folder = folder
        path = f"{os.environ['PATH']}:{SBIN}"
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_"))}
        self.environment = {**clean, "PATH": f"{folder}/bin:{path}", "SLURM_CONF": f"{folder}/slurm.conf"}
        self.mark = f"SLURM_CONF={folder}/slurm.conf\0".encode()
        self.daemons: dict[str, subprocess.Popen] = {}
        values = {
            "folder": folder,
            "host": socket.gethostname().split(".")[0],
            "user": pwd.getpwuid(os.getuid()).pw_name,
            "port": _free_port(),
            "node": NODE,
            "node_port": _free_port(),
            "gpus": GPUS,
            "last": GPUS - 1,
            "srun": shutil.which("srun", path=path),
        }
        for name in ("state", "spool", "bin"):
            (folder / name).mkdir()
        for name, text in (("slurm.conf", SLURM_CONF), ("gres.conf", GRES_CONF), ("bin/srun", SRUN)):
            (folder / name).write_text(text.format(**values))
        (folder / "cgroup.conf").write_text(CGROUP_CONF)
        (folder / "bin/srun").chmod(0o755)
        (folder / "munge.key").write_bytes(os.urandom(1024))
        (folder / "munge.key").chmod(0o400)
        for gpu in range(GPUS):
            (folder / f"gpu{gpu}").symlink_to("/dev/null")

    def start(self) -> None:
        at = self.folder
        files = [f"--key-file={at}/munge.key", f"--socket={at}/munge.socket", f"--pid-file={at}/munged.pid"]
        self._start(
            "munged", "--foreground", "--force", *files, f"--seed-file={at}/munge.seed", f"--log-file={at}/m.log"
        )
        self.wait("munged", lambda: (at / "munge.socket").exists())
        self._start("slurmctld", "-D", "-i")
        self.wait("slurmctld", lambda: "is UP" in self.ask("scontrol", "ping"))
        self.start_node()

    def start_node(self) -> None:
        self._start("slurmd", "-D", "-N", NODE)
        states = ("idle", "mixed", "allocated")
        self.wait("the node", lambda: self.ask("sinfo", "-h", "-n", NODE, "-o", "%T").strip() in states)

    def kill_node(self, jobs: bool) -> None:
        """SIGKILL to the node's daemon, as if it crashed; with `jobs` to all that runs there, as if power failed."""
        self.daemons["slurmd"].kill()
        self.daemons["slurmd"].wait()
        if jobs:
            self._kill(lambda name, environment: name == "slurmstepd" or b"SLURMD_NODENAME=" in environment)

    def ask(self, *command: str) -> str:
        """stdout of a command of Slurm; "" when it fails."""
        done = subprocess.run(
            command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        return done.stdout

    def wait(self, what: str, condition: Callable[[], bool]) -> None:
        limit = time.monotonic() + TIMEOUT_S
        while not condition():
            if time.monotonic() > limit:
                raise TimeoutError(f"waited {TIMEOUT_S:.0f} s for {what}\n{self.logs()}")
            time.sleep(0.1)

    def logs(self) -> str:
        """The end of every daemon's log."""
        return "\n".join(f"== {path.name}\n{path.read_text()[-2000:]}" for path in sorted(self.folder.glob("*.log")))

    def stop(self) -> None:
        """End all jobs and daemons; nothing survives."""
        self.ask("scancel", "--quiet", "--user", pwd.getpwuid(os.getuid()).pw_name)
        for name in ("slurmd", "slurmctld", "munged"):
            if name in self.daemons:
                self.daemons[name].terminate()
                try:
                    self.daemons[name].wait(10)
                except subprocess.TimeoutExpired:
                    self.daemons[name].kill()
                    self.daemons[name].wait()
        self._kill(lambda name, environment: True)

    def _start(self, name: str, *arguments: str) -> None:
        with (self.folder / f"{name}.log").open("a") as log:
            self.daemons[name] = subprocess.Popen(
                [shutil.which(name, path=self.environment["PATH"]), *arguments],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=lambda: LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL),
            )

    def _kill(self, chosen: Callable[[str, bytes], bool]) -> None:
        """SIGKILL to processes of this cluster, told by its configuration in their environment."""
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                environment = (entry / "environ").read_bytes()
                if self.mark in environment and chosen((entry / "comm").read_text().strip(), environment):
                    os.kill(int(entry.name), signal.SIGKILL)
            except OSError:  # it has ended, or belongs to another user
                continue


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A cluster that is up; on leaving, everything of it is gone."""
    with tempfile.TemporaryDirectory(prefix="dtri-slurm-", ignore_cleanup_errors=True) as folder:
        up = Cluster(Path(folder))
        try:
            up.start()
            yield up
        finally:
            up.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def main() -> int:
    if len(sys.argv) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    if missing():
        print(f"error: expected a Slurm to bring up, found no {', '.join(missing())} on the path", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with cluster() as up:
        return subprocess.run(sys.argv[1:], env=up.environment).returncode


if __name__ == "__main__":
    sys.exit(main())
