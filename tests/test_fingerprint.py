"""Fingerprints: what a person would call "the same code" hashes alike, and nothing else does."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from workflow import fingerprint
from workflow.fingerprint import normalised

ROOT = Path(__file__).resolve().parents[1]

PLAIN = """import os


class Box:
    side: int = 1

    def area(self) -> int:
        return self.side**2
"""
SAME = {
    "comments": PLAIN.replace("side: int = 1", "side: int = 1  # metres").replace("class", "# a box\nclass"),
    "module docstring": '"""Boxes.\n\nOf any size.\n"""\n' + PLAIN,
    "class docstring": PLAIN.replace("class Box:\n", 'class Box:\n    """A box."""\n\n'),
    "function docstring": PLAIN.replace("int:\n        r", "int:\n        '''Side\n        by side.\n'''\n        r"),
    "docstring in two parts": PLAIN.replace("class Box:\n", 'class Box:\n    "A " \\\n    "box."\n'),
    "blank lines": PLAIN.replace("\n", "\n\n"),
    "trailing blanks": PLAIN.replace("\n", "   \n"),
    "no newline at the end": PLAIN.rstrip("\n"),
    "a form feed between": PLAIN.replace("\n\n\n", "\n\n\f\n"),
}


@pytest.mark.parametrize("text", SAME.values(), ids=SAME)
def test_what_does_not_run_does_not_count(text: str) -> None:
    assert compile(text, "text", "exec")
    assert normalised(text) == normalised(PLAIN)


CHANGES = {
    "a value": ("x = 1\n", "x = 2\n"),
    "indentation": ("if a:\n    b()\nc()\n", "if a:\n    b()\n    c()\n"),
    "a number sign in a string": ('x = "a # b"\n', 'x = "a # c"\n'),
    "a number sign in an f-string": ('x = f"{a} # b"\n', 'x = f"{a} # c"\n'),
    "a number sign in a long string": ('x = """a\n# b\n"""\n', 'x = """a\n# c\n"""\n'),
    "a blank line in a long string": ('x = """a\n\nb"""\n', 'x = """a\nb"""\n'),
    "blanks at a line's end in a long string": ('x = """a  \nb"""\n', 'x = """a\nb"""\n'),
    "a blank line in a long f-string": ('x = f"""{a}\n\nb"""\n', 'x = f"""{a}\nb"""\n'),
    "blanks at a line's end in a long f-string": ('x = f"""{a}  \nb"""\n', 'x = f"""{a}\nb"""\n'),
    "a statement after a docstring": ('"""Doc."""; x = 1\n', '"""Doc."""; x = 2\n'),
    "a statement after a long docstring": ('"""Doc\n."""; x = 1\n', '"""Doc\n."""; x = 2\n'),
    "a statement after a docstring with umlauts": ('"""Döc – ü."""; x = 1\n', '"""Döc – ü."""; x = 2\n'),
    "the name of a one-line function": ('def f(): "Doc."\n', 'def g(): "Doc."\n'),
    "a default of a function that is only a docstring": (
        'def f(a=1):\n    """Doc."""\n',
        'def f(a=2):\n    """Doc."""\n',
    ),
    "a string that only looks like a docstring": ('x = 1\n"""a"""\n', 'x = 1\n"""b"""\n'),
    "a returned string": ('def f():\n    return "a"\n', 'def f():\n    return "b"\n'),
    "an f-string first": ('def f():\n    f"{a()}"\n', 'def f():\n    f"{b()}"\n'),
    "bytes first": ('b"a"\nx = 1\n', 'b"b"\nx = 1\n'),
    "a nested function": (
        'def f():\n    """Doc."""\n\n    def g():\n        """Doc."""\n        return 1\n\n    return g\n',
        'def f():\n    """Doc."""\n\n    def g():\n        """Doc."""\n        return 2\n\n    return g\n',
    ),
    "a separator that str.splitlines takes for a line's end": (
        'x = "\u2028"  # a\ny = 1\n',
        'x = "\u2028"  # a\ny = 2\n',
    ),
}


@pytest.mark.parametrize("before, after", CHANGES.values(), ids=CHANGES)
def test_what_runs_counts(before: str, after: str) -> None:
    assert compile(before, "before", "exec")
    assert compile(after, "after", "exec")
    assert normalised(before) != normalised(after)


TRICKY = '''"""Döc."""; first = "# no comment"  # a comment


class A:  # a class
    """A."""

    text = """ kept  

        # kept too
    """  # dropped

    def only(self): "Doc."

    async def nested(self):
        r"""Doc \\."""

        def inner():
            \'\'\'Doc.\'\'\'
            # dropped
            return f"{self.text!r:>{10}} # kept"  # dropped

        "not a docstring"
        return inner
'''


def test_the_text_that_is_hashed_is_spelled_out() -> None:
    """The exact text, so that no Python version may cut another one. Changing it changes every fingerprint."""
    assert normalised(TRICKY).split("\n") == [
        '; first = "# no comment"',
        "class A:",
        '    text = """ kept  ',
        "",
        "        # kept too",
        '    """',
        "    def only(self):",
        "    async def nested(self):",
        "        def inner():",
        '            return f"{self.text!r:>{10}} # kept"',
        '        "not a docstring"',
        "        return inner",
    ]


def test_hashes_are_of_that_text() -> None:
    text = normalised((ROOT / "dtri" / "seeding.py").read_text("utf-8"))
    expected = hashlib.sha256(text.encode()).hexdigest()[:16]
    assert fingerprint.module_hash("dtri.seeding") == expected
    together = hashlib.sha256(f"{expected} dtri.seeding".encode()).hexdigest()[:16]
    assert fingerprint.fingerprint(("dtri.seeding",)) == together


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A small checkout: a -> b -> c, a -> d inside a function, e reached by nobody."""
    sources = {
        "dtri/__init__.py": "",
        "dtri/a.py": "import os\n\nimport torch\n\nfrom dtri import b\n\n\ndef f():\n    from dtri.d import thing\n",
        "dtri/b.py": "import dtri.c\n",
        "dtri/c.py": "x = 1\n",
        "dtri/d.py": "thing = 1\n",
        "dtri/e.py": "from dtri import a\n",
        "baselines/f.py": "try:\n    from dtri.b import c\nexcept ImportError:\n    c = None\n",
    }
    for name, text in sources.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_lazy_and_guarded_imports_are_seen(package: Path) -> None:
    assert fingerprint.imports("dtri.a", package) == {"dtri.b", "dtri.d"}
    assert fingerprint.imports("baselines.f", package) == {"dtri.b"}
    assert fingerprint.closure(["dtri.a"], package) == ["dtri.a", "dtri.b", "dtri.c", "dtri.d"]


@pytest.mark.parametrize(
    "changed, moves", [("a", True), ("b", True), ("c", True), ("d", True), ("e", False)], ids="abcde"
)
def test_only_what_is_reached_moves_the_fingerprint(package: Path, changed: str, moves: bool) -> None:
    before = fingerprint.fingerprint(("dtri.a",), package)
    fingerprint._read.cache_clear()
    fingerprint.fingerprint.cache_clear()
    path = package / "dtri" / f"{changed}.py"
    path.write_text(path.read_text() + "y = 1\n")
    assert (fingerprint.fingerprint(("dtri.a",), package) != before) == moves


def test_renaming_a_module_moves_the_fingerprint(package: Path) -> None:
    before = fingerprint.fingerprint(("dtri.c",), package)
    (package / "dtri" / "c.py").rename(package / "dtri" / "g.py")
    assert fingerprint.fingerprint(("dtri.g",), package) != before


def listing(*modules: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "workflow.fingerprint", *modules]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_the_command_lists_what_is_reached() -> None:
    done = listing("baselines.vae")
    assert done.returncode == 0
    *lines, last = done.stdout.splitlines()
    listed = [line.split() for line in lines]
    assert [[code, name] for code, _, name in listed] == [
        [fingerprint.module_hash(name), name] for name in fingerprint.hashed(["baselines.vae"])
    ]
    n = sum(int(n) for _, n, _ in listed)
    assert {"baselines.vae", "dtri.model", "dtri.networks.convolutional"} <= {name for *_, name in listed}
    assert last.split() == [fingerprint.fingerprint(("baselines.vae",)), str(n), "(together)"]


@pytest.mark.parametrize("modules, said", [(("dtri.nothing",), "error: no module 'dtri.nothing'"), ((), "usage:")])
def test_the_command_says_what_it_cannot_list(modules: tuple[str, ...], said: str) -> None:
    done = listing(*modules)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(said)
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("damage", ["not JSON", "[]", '{"a": null}', "", "one digest changed"])
def test_a_damaged_memory_is_made_anew(damage: str, tmp_path: Path) -> None:
    """What was read of sources is kept on the disk between processes; never believed unless it is whole."""
    for name in ("workflow/__init__.py", "workflow/fingerprint.py", "baselines/__init__.py", "baselines/vae.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    command = [sys.executable, "-m", "workflow.fingerprint", "baselines.vae"]
    first = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    (memory,) = (tmp_path / ".snakemake").glob("sources-*.json")
    text, digest = memory.read_text(), first.split()[0]
    assert digest in text
    memory.write_text(text.replace(digest, digest[::-1]) if damage == "one digest changed" else damage)
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout == first


# Code of one's own, outside the checkout

METHOD = """import math

from baselines.vae import VAE

from .parts import layers


def f():
    import rare_library
"""
DESCRIBED = "Metadata-Version: 2.1\nName: rare-library\nVersion: 1.2\n"


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on Python's path with the package `own_methods`, and one of installed packages with `rare_library`."""
    sources = {
        "own/own_methods/__init__.py": "",
        "own/own_methods/method.py": METHOD,
        "own/own_methods/parts/__init__.py": "SCALE = 1\n",
        "own/own_methods/parts/layers.py": "from own_methods.parts.deep import WIDTH\n",
        "own/own_methods/parts/deep.py": "WIDTH = 1\n",
        "own/own_methods/apart.py": "from . import parts\n",
        "site-packages/rare_library/__init__.py": "A = 1\n",
        "site-packages/rare_library-1.2.dist-info/METADATA": DESCRIBED,
        "site-packages/rare_library-1.2.dist-info/top_level.txt": "rare_library\n",
        "site-packages/nameless/__init__.py": "",
    }
    for name, text in sources.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path / "site-packages")
    monkeypatch.syspath_prepend(tmp_path / "own")
    forget()
    yield tmp_path
    forget()


def forget() -> None:
    for name in ("_read", "_elsewhere", "_distribution", "imports", "fingerprint"):
        getattr(fingerprint, name).cache_clear()


def test_sources_of_ones_own_are_reached(own: Path) -> None:
    """By relative imports, in packages around them, and the library by its version."""
    reached = set(fingerprint.closure(["own_methods.method"]))
    assert {name for name in reached if not name.startswith("dtri.")} == {
        *("own_methods", "own_methods.method", "own_methods.parts"),
        *("own_methods.parts.layers", "own_methods.parts.deep"),
        *("baselines.vae", "rare-library==1.2"),
    }
    assert "dtri.model" in reached


@pytest.mark.parametrize(
    "file, moves",
    [
        ("own/own_methods/method.py", True),
        ("own/own_methods/parts/__init__.py", True),
        ("own/own_methods/parts/deep.py", True),
        ("own/own_methods/apart.py", False),
        ("site-packages/rare_library/__init__.py", False),
        ("site-packages/rare_library-1.2.dist-info/METADATA", True),
    ],
)
def test_what_of_it_moves_the_fingerprint(file: str, moves: bool, own: Path) -> None:
    before = fingerprint.fingerprint(("own_methods.method",))
    text = (own / file).read_text()
    (own / file).write_text(text.replace("Version: 1.2", "Version: 1.3") if "METADATA" in file else text + "y = 1\n")
    forget()
    assert (fingerprint.fingerprint(("own_methods.method",)) != before) == moves


def test_an_installed_method_counts_by_version_with_all_of_ours_that_it_reaches(own: Path) -> None:
    library = own / "site-packages" / "rare_library"
    (library / "__init__.py").write_text("from rare_library import method\n")
    (library / "method.py").write_text("from dtri.model import Model\n\nimport nameless\n")
    with pytest.raises(ValueError, match="expected nameless outside site-packages or installed as a package"):
        fingerprint.closure(["rare_library.method"])
    (library / "method.py").write_text("from dtri.model import Model\n")
    forget()
    assert {"dtri.model", "rare_library", "rare_library.method"} <= set(fingerprint.closure(["rare_library.method"]))
    assert fingerprint.module_hash("rare_library.method") == fingerprint.module_hash("rare-library==1.2")


@pytest.mark.parametrize(
    "text, found",
    [
        ("import importlib\n\nimportlib.import_module('own_methods.' + 'apart')\n", "import_module in line 3"),
        ("exec(open('f.py').read())\n", "exec in line 1"),
        ("__import__('own_methods.apart')\n", "__import__ in line 1"),
    ],
)
def test_imports_that_no_reader_can_follow_are_refused(text: str, found: str, own: Path) -> None:
    (own / "own" / "own_methods" / "method.py").write_text(text)
    with pytest.raises(ValueError, match=f"written out in own_methods.method, so that .*, found {found}"):
        fingerprint.closure(["own_methods.method"])


def test_own_code_that_is_no_source_is_refused(own: Path) -> None:
    import _ctypes  # any module that was compiled

    shutil.copy(_ctypes.__file__, own / "own" / "own_methods" / f"fast{Path(_ctypes.__file__).suffix}")
    (own / "own" / "own_methods" / "method.py").write_text("from own_methods import fast\n")
    with pytest.raises(ValueError, match=r"expected Python source of own_methods.fast, found fast\."):
        fingerprint.closure(["own_methods.method"])
