"""Settings files: what their texts mean, where every entry stands, and that no value is taken for another."""

import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dtri.metrics import generation
from workflow import configuration, session, settings_file


def read(tmp_path: Path, text: str) -> settings_file.SettingsFile:
    path = tmp_path / "some.yaml"
    path.write_text(text, "utf-8")
    return settings_file.read(path)


@pytest.mark.parametrize(
    "text, value",
    [
        *[("1e-4", 1e-4), ("1E-4", 1e-4), ("1.5e3", 1500.0), ("1.0e-4", 1e-4), ("-.5", -0.5), ("2.", 2.0)],
        *[("7", 7), ("-7", -7), ("010", 10), ("0", 0), ("true", True), ("False", False), ("null", None), ("~", None)],
        *[("1_000", "1_000"), ("0x10", "0x10"), ("12:30", "12:30"), ("no", "no"), ("2024-01-01", "2024-01-01")],
        *[(".nan", ".nan"), (".inf", ".inf"), ("1e", "1e"), ("'1e-4'", "1e-4")],
    ],
)  # fmt: skip
def test_plain_values(text: str, value: object, tmp_path: Path) -> None:
    """As in YAML 1.2, so that a learning rate is a number and no time of day is."""
    found = read(tmp_path, f"a: [{text}]").entries["a"][0]
    assert (found, type(found)) == (value, type(value))


def test_every_entry_has_a_line(tmp_path: Path) -> None:
    """Of what was merged in, the line where it is written; of what is not there, that of the entry around it."""
    text = "one: &one\n  a: {b: 1}\n  c: 2\n\ntwo:\n  <<: *one\n  c: 3\n  d: [4,\n      5]\n"
    found = read(tmp_path, text)
    assert found.entries["two"] == {"a": {"b": 1}, "c": 3, "d": [4, 5]}
    assert found.where("two") == "some.yaml, line 5: two"
    assert found.where("two", "c") == "some.yaml, line 7: two.c"
    assert found.where("two", "a", "b") == "some.yaml, line 2: two.a.b"
    assert found.where("two", "d", 1) == "some.yaml, line 9: two.d.1"
    assert found.where("two", "e", "f") == "some.yaml, line 5: two.e.f"
    assert found.where("three") == "some.yaml: three"


def test_a_byte_order_mark_and_an_empty_file(tmp_path: Path) -> None:
    assert read(tmp_path, "\ufeffa: 1\n").entries == {"a": 1}
    assert read(tmp_path, "# nothing\n").entries == {}


@pytest.mark.parametrize(
    "content, said",
    [
        (b"a: 1\nb: \xe9\n", "expected UTF-8 text in some.yaml, line 2, found "),
        ("a: 1\n".encode("utf-16"), "expected UTF-8 text in some.yaml, line 1, found "),
        (b"a: 1\nb: 2\n# \x00\n", r"expected YAML in some.yaml, line 3, found a character .* allow, '\\x00'"),
        (b"\xef\xbb\xbfa: 1\r\nb: \x07\r\n", r"expected YAML in some.yaml, line 2, found a character .* '\\x07'"),
    ],
)
def test_what_is_no_text_has_a_line(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "some.yaml").write_bytes(content)
    with pytest.raises(ValueError, match=f"^{said}"):
        settings_file.read(tmp_path / "some.yaml")


def test_a_key_may_stand_in_two_mappings(tmp_path: Path) -> None:
    assert read(tmp_path, "a: {x: 1}\nb: {x: 2}\n").entries == {"a": {"x": 1}, "b": {"x": 2}}


@pytest.mark.parametrize("text", ["a: 1\na: 2\n", "a: {b: 1, c: 2, b: 1}\n", "a:\n- {b: 1, b: 2}\n", "a: 1\n'a': 2\n"])
def test_a_key_that_stands_twice(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"some.yaml, line \d: expected '[ab]' once, found it in line \d too"):
        read(tmp_path, text)


@pytest.mark.parametrize("text", ["a:\n\tb: 1\n", "\ta: 1\n", "a: [1,\n\t- 2]\n", "a: *b\n", "a: b: c\n", "---\n---\n"])
def test_what_is_no_yaml_names_the_file_and_the_line(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^expected YAML in some.yaml, line \d, found: \S"):
        read(tmp_path, text)


@pytest.mark.parametrize(
    "text",
    ["!!int abc", "!!float x", "!!float 1_0", "!!bool 3", "!!timestamp foo", "!!set {a, b}", "!!int [1]", "!other 3"],
)
def test_a_tag_that_does_not_fit(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^some.yaml, line 2: expected no tag or one that fits, found !\w*"):
        read(tmp_path, f"a: 1\nb: {text}\n")


def test_a_tag_that_fits(tmp_path: Path) -> None:
    assert read(tmp_path, "a: !!int 3\nb: !!str 3\nc: !!map {d: !!seq [1]}\n").entries == {
        "a": 3,
        "b": "3",
        "c": {"d": [1]},
    }


def test_what_is_too_long_or_too_deep(tmp_path: Path) -> None:
    assert read(tmp_path, f"a: {'1' * 5000}\n").entries == {"a": "1" * 5000}  # text, refused where a number goes
    with pytest.raises(ValueError, match="expected fewer lists and mappings inside each other"):
        read(tmp_path, f"a: {'[' * 3000}{']' * 3000}\n")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"some\.yaml"):
        settings_file.read(tmp_path / "some.yaml")


def test_sample_quality_needs_as_many_images_as_the_plan_says() -> None:
    assert configuration.FEWEST_IMAGES == generation.IS_SPLITS


# --config


@pytest.fixture(autouse=True)
def settings_kept() -> Iterator[None]:
    before = session._settings
    yield
    session._settings = before


@pytest.mark.parametrize(
    "given, expected",
    [
        *(("~/raw", "{home}/raw"), ("~", "{home}"), ("$HOME/raw", "{home}/raw"), ("${HOME}/raw", "{home}/raw")),
        *((literal, literal) for literal in ("raw", "/data/~/raw", "a~b", "a$HOME", "/data/$HOME")),
    ],
)
def test_downloads_below_home(given: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    session.configure({"downloads": given})
    assert f"export DTRI_DOWNLOADS={shlex.quote(expected.format(home=tmp_path))}; " in session.shell_prefix("python")


@pytest.mark.parametrize(
    "given, said",
    [
        ({"downloads": ""}, "at least 1 character"),
        ({"downloads": "~nobodyofthatname/raw"}, "found no home of '~nobodyofthatname'"),
        ({"downloads": "$NO_VARIABLE_OF_THAT_NAME/raw"}, "found no variable '$NO_VARIABLE_OF_THAT_NAME'"),
        ({"downloads": __file__}, "expected a folder, found a file"),
        ({"downloads": 5}, "valid string, found 5"),
        ({"device": ""}, "'auto', 'cpu' or 'gpu', found ''"),
        ({"offline": "maybe"}, "found 'maybe'"),
        ({"runs_per_gpu": 0}, "greater than 0, found 0"),
        ({"runs_per_gpu": True}, "expected a whole number, found True"),
        ({"runs_per_gpu": 1.5}, "found 1.5"),
        ({"gpu": 1}, "--config gpu: Extra inputs"),
    ],
)
def test_settings_that_are_none(given: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=r"^--config ") as raised:
        session.configure(given)
    assert said in str(raised.value)
    assert "known keys: downloads, device, offline, runs_per_gpu" in str(raised.value)


def test_variables_stand_for_settings_that_are_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is exported for jobs to read is not undone by the defaults."""
    given = {"DTRI_OFFLINE": "1", "DTRI_DOWNLOADS": "/raw", "DTRI_DEVICE": "cpu", "DTRI_RUNS_PER_GPU": "3"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    session.configure({})
    assert all(f"export {name}={value}; " in session.shell_prefix("python") for name, value in given.items())
    session.configure({"offline": False, "device": "gpu"})
    assert "export DTRI_OFFLINE=''; export DTRI_DEVICE=gpu; " in session.shell_prefix("python")
    monkeypatch.setenv("DTRI_DEVICE", "cuda:7")
    with pytest.raises(ValueError, match=r"^DTRI_DEVICE: .*'auto', 'cpu' or 'gpu', found 'cuda:7'"):
        session.configure({})


def test_home_in_the_value_of_an_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell expands `--downloads ~/raw`, but leaves the `~` of `--downloads=~/raw` alone."""
    from workflow.commands import cli

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["verify", "results", "--downloads=~/raw", "a=~/b", '--spec={"a": "~"}'])
    given: list[str] = []
    assert cli.run(lambda: given.extend(sys.argv) or 0) == 0
    assert given == ["verify", "results", f"--downloads={os.environ['HOME']}/raw", "a=~/b", '--spec={"a": "~"}']
