"""One start of Snakemake: the user's settings, the beginning of every job's shell, signals, the directory's lock."""

import fcntl
import os
import shlex
import signal
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PositiveInt, ValidationError, field_validator

from workflow import overlay
from workflow.configuration import Strict
from workflow.fingerprint import ROOT


class Settings(Strict):
    """What a user may set by `--config key=value`: where and how jobs run, and a folder of further configuration."""

    downloads: str = Field("downloads", min_length=1)
    device: Literal["auto", "cpu", "gpu"] | None = None
    offline: bool = False
    runs_per_gpu: PositiveInt = 1
    overlay: str | None = Field(None, min_length=1)

    @field_validator("downloads")
    @classmethod
    def _home(cls, folder: str) -> str:
        """Expand the `~` of `downloads=~/raw`, and a variable at the beginning, which may come from a profile.

        No shell expands them.
        """
        expanded = os.path.expanduser(os.path.expandvars(folder) if folder.startswith("$") else folder)
        if expanded.startswith(("~", "$")):
            what = "home of" if expanded.startswith("~") else "variable"
            raise ValueError(f"expected a folder, found no {what} {folder.partition('/')[0]!r}")
        if Path(expanded).exists() and not Path(expanded).is_dir():
            raise ValueError("expected a folder, found a file")
        return expanded

    @field_validator("runs_per_gpu", mode="before")
    @classmethod
    def _whole(cls, runs: Any) -> Any:
        if isinstance(runs, bool):
            raise ValueError("expected a whole number")
        return runs


VARIABLES = {  # they carry settings to jobs, and stand for settings that are not given
    "downloads": "DTRI_DOWNLOADS",
    "offline": "DTRI_OFFLINE",
    "device": "DTRI_DEVICE",
    "runs_per_gpu": "DTRI_RUNS_PER_GPU",
    "overlay": overlay.VARIABLE,
}
_settings = Settings()


def configure(config: dict[str, Any]) -> None:
    """Take Snakemake's `--config`, and variables for keys that it lacks; ValueError for an unknown key or value."""
    global _settings
    exported = {key: value for key, variable in VARIABLES.items() if (value := os.environ.get(variable))}
    try:
        _settings = Settings.model_validate({**exported, **config})
    except ValidationError as error:
        first = error.errors()[0]
        key, known = first["loc"][0], ", ".join(Settings.model_fields)
        where = f"--config {key}" if key in config else VARIABLES[key]
        raise ValueError(
            f"{where}: {first['msg'].removeprefix('Value error, ')}, found {first.get('input')!r} (known keys: {known})"
        ) from error
    if _settings.overlay:
        overlay.use(_settings.overlay)
    overlay.importable()
    if own := os.environ.get("PYTHONPATH"):  # whole paths, since the server that forks jobs works in another folder
        os.environ["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, own.split(os.pathsep)))


def settings() -> Settings:
    """What `configure` took, or the defaults."""
    return _settings


def shell_prefix(python: str) -> str:
    """Shell text before every job: this interpreter and these sources come first, wherever Snakemake was started from.

    It also sets the user's settings as variables. Braces are doubled, since Snakemake formats it.
    """
    sources = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    values = {
        "downloads": _settings.downloads,
        "offline": "1" if _settings.offline else "",
        **({"device": _settings.device} if _settings.device else {}),
        **({"runs_per_gpu": str(_settings.runs_per_gpu)} if _settings.runs_per_gpu > 1 else {}),
        **({"overlay": os.environ[overlay.VARIABLE]} if _settings.overlay else {}),
    }
    variables = {"PYTHONPATH": sources, **{VARIABLES[key]: value for key, value in values.items()}}
    exports = [f"export {name}={shlex.quote(value)}; " for name, value in variables.items()]
    text = "".join([f'export PATH={shlex.quote(str(Path(python).parent))}:"$PATH"; ', *exports])
    return text.replace("{", "{{").replace("}", "}}")


def ignore_sigusr1_under_slurm() -> None:
    """In a job of Slurm, ignore SIGUSR1 here and in programs started from here, unless they handle it.

    Slurm sends it to every process of a job whose time limit nears. Training then saves its state and stops. If
    Snakemake or a launcher died of the signal, Slurm would end the job and kill the training that saves.
    """
    if "SLURM_JOB_ID" in os.environ:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)


def stop_on_any_sigterm() -> None:
    """Let SIGTERM stop Snakemake at any moment.

    Snakemake's handler takes the scheduler's lock. The thread that it interrupts may hold this lock, since outputs are
    hashed under it, and then both wait for ever. Here another thread waits for the lock. A Snakemake without this
    handler is left as it is.
    """
    with suppress(ImportError, AttributeError):
        from snakemake.scheduling.job_scheduler import JobScheduler

        graceful = JobScheduler.exit_gracefully

        def in_a_thread(self: JobScheduler, *signal_and_frame: object) -> None:
            threading.Thread(target=graceful, args=(self, *signal_and_frame)).start()

        JobScheduler.exit_gracefully = in_a_thread


_lock = None


def lock_run() -> None:
    """Hold a kernel lock on this directory while Snakemake works; it ends with the process, however that dies.

    Raises:
        OSError: another process holds the lock.
    """
    global _lock
    path = Path(".snakemake/run.lock")
    path.parent.mkdir(exist_ok=True)
    _lock = open(path, "w", encoding="utf-8")  # noqa: SIM115 - held until the process ends
    try:
        fcntl.flock(_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise OSError("another snakemake is working on this directory; wait for it or stop it") from None
