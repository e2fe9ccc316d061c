"""Nothing that is read can run code: a scan of the sources for the calls that would let it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from workflow.fingerprint import FIRST_PARTY

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(path for room in FIRST_PARTY for path in (ROOT / room).rglob("*.py"))
NETWORK = ("socket", "urllib.request", "http.client", "requests", "ftplib")
# The restricted unpickler of the official image batches, the only module that downloads, and sockets of this machine.
EXCEPTIONS = {
    ("workflow/forkserver.py", "socket"),
    ("dtri/data/pickled_batches.py", "pickle"),
    ("dtri/data/download.py", "urllib.request"),
    ("dtri/data/download.py", "http.client"),
}
FORBIDDEN = {  # call -> why
    "eval": "runs code",
    "exec": "runs code",
    "os.system": "runs a shell",
    "os.popen": "runs a shell",
    "yaml.load": "builds any object; safe_load does not",
    "yaml.unsafe_load": "builds any object",
    "pandas.read_pickle": "unpickles",
    "pd.read_pickle": "unpickles",
    "joblib.load": "unpickles",
    "torch.hub.load": "downloads code",
    "torch.jit.load": "runs a program",
    "shutil.unpack_archive": "extracts without a filter",
    "cache_lookup_one_recompute_on_miss": "torch-fidelity's cache unpickles",
    "cache_lookup_group_recompute_all_on_any_miss": "torch-fidelity's cache unpickles",
}
REQUIRED = {  # call -> (keyword, value)
    "torch.load": ("weights_only", True),
    "extractall": ("filter", "data"),
    "extract": ("filter", "data"),
}


def problems(source: str, name: str) -> Iterator[str]:
    """What in a file could let what it reads run code, or open a socket."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            for module in names:
                if module in (*NETWORK, "pickle", "marshal", "shelve", "dill") and (name, module) not in EXCEPTIONS:
                    yield f"{name}:{node.lineno} imports {module}"
        if not isinstance(node, ast.Call):
            continue
        call = ast.unparse(node.func)
        keywords = {k.arg: k.value.value for k in node.keywords if isinstance(k.value, ast.Constant)}
        if call in FORBIDDEN:
            yield f"{name}:{node.lineno} {call} {FORBIDDEN[call]}"
        for required, (keyword, value) in REQUIRED.items():
            if (call == required or call.endswith(f".{required}")) and keywords.get(keyword) != value:
                yield f"{name}:{node.lineno} {call} without {keyword}={value!r}"
        if keywords.get("allow_pickle") or keywords.get("shell"):
            yield f"{name}:{node.lineno} {call} with allow_pickle or shell"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_file_of_ours_runs_what_it_reads(path: Path) -> None:
    assert list(problems(path.read_text(), path.relative_to(ROOT).as_posix())) == []


@pytest.mark.parametrize(
    "source",
    [
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=flag)",
        "np.load(path, allow_pickle=True)",
        "import pickle",
        "from pickle import loads",
        "tar.extractall(folder)",
        "yaml.load(text, Loader)",
        "subprocess.run(text, shell=True)",
        "eval(text)",
        "import urllib.request",
        "pd.read_pickle(path)",
    ],
)
def test_the_scan_finds(source: str) -> None:
    assert len(list(problems(source, "dtri/new.py"))) == 1


def test_the_scan_passes() -> None:
    harmless = "torch.load(p, weights_only=True); np.load(p); tar.extractall(f, filter='data'); model.eval()"
    assert list(problems(harmless, "dtri/new.py")) == []
    assert list(problems("import pickle", "dtri/data/pickled_batches.py")) == []


def test_exceptions_are_still_needed() -> None:
    for name, module in EXCEPTIONS:
        assert f"import {module}" in (ROOT / name).read_text()
