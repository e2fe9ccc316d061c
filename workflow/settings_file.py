"""A YAML file of settings: no value is taken for another type, and every key knows its line.

Plain values are read by the core schema of YAML 1.2, to which PyYAML (YAML 1.1) is held here: `1e-4` is a number, `010`
is ten, `no` and `12:30` are text. A key that stands twice is an error. Not-a-number and infinity are text, and so are
whole numbers of over thirty digits. They are refused wherever a number is expected. A tag must be text, or the type
that the value has without it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Keys = tuple[str | int, ...]  # from the top of a file to an entry


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, list] = {}  # noqa: RUF012 - as PyYAML wants it


_TAG = "tag:yaml.org,2002:"
_PATTERNS: dict[str, re.Pattern[str]] = {}  # tag -> pattern of the plain values that have it
for tag, pattern, first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]{1,30}", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+", list("-+.0123456789")),
    ("merge", r"<<", ["<"]),
):
    _PATTERNS[_TAG + tag] = re.compile(f"^(?:{pattern})$")
    _Loader.add_implicit_resolver(_TAG + tag, _PATTERNS[_TAG + tag], first)
_Loader.add_constructor(f"{_TAG}int", lambda loader, node: int(loader.construct_scalar(node)))
_Loader.add_constructor(f"{_TAG}float", lambda loader, node: float(loader.construct_scalar(node)))


@dataclass(frozen=True)
class SettingsFile:
    """What a file holds by its top keys, and the line of every entry."""

    name: str
    entries: dict[str, Any]
    lines: dict[Keys, int]

    def where(self, *keys: str | int) -> str:
        """File, line and key of an entry, for a message; the line is the innermost known entry's."""
        known = next((keys[:n] for n in range(len(keys), 0, -1) if keys[:n] in self.lines), None)
        line = f", line {self.lines[known]}" if known else ""
        return f"{self.name}{line}: {'.'.join(map(str, keys))}"


def read(path: Path, name: str = "") -> SettingsFile:
    """The settings of a file.

    Args:
        path: of the file.
        name: stands for the file in messages; "": the file's name.

    Raises:
        ValueError: the text is no mapping of names; the message names file, line and key.
        OSError: there is no such file.
    """
    name = name or path.name
    content = path.read_bytes()
    try:
        loader = _Loader(content.decode("utf-8-sig"))
        node = loader.get_single_node()
        _check(node, name, ())
        entries = {} if node is None else loader.construct_document(node)
    except RecursionError:
        raise ValueError(f"expected fewer lists and mappings inside each other in {name}") from None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"expected UTF-8 text in {name}, line {line}, found {error}") from error
    except yaml.reader.ReaderError as error:
        line = content.decode("utf-8-sig").count("\n", 0, error.position) + 1
        found = f"a character that YAML does not allow, {chr(error.character)!r}"
        raise ValueError(f"expected YAML in {name}, line {line}, found {found}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or error
        raise ValueError(f"expected YAML in {name}{line}, found: {problem}{_hint(str(problem))}") from error
    if not isinstance(entries, dict):
        raise ValueError(f"expected a mapping in {name}, found {type(entries).__name__}")
    return SettingsFile(name, entries, dict(_lines(node, ())))


def _hint(problem: str) -> str:
    return " (a tab; YAML wants blanks)" if "\\t" in problem else ""


def _check(node: yaml.Node | None, name: str, above: tuple[yaml.Node, ...]) -> None:
    """Check a node and all below it.

    Raises:
        ValueError: a key stands twice or is no text, an entry contains itself, or a value does not fit its tag.
    """
    if node is not None and not _fits(node):
        line, tag = node.start_mark.line + 1, node.tag.replace(_TAG, "!!")
        raise ValueError(f"{name}, line {line}: expected no tag or one that fits, found {tag}")
    if node in above:
        raise ValueError(f"{name}, line {node.start_mark.line + 1}: expected no entry that contains itself")
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode) or not key.tag.endswith((":str", ":merge")):
                found = f"{key.value!r}" if isinstance(key, yaml.ScalarNode) else "a list or a mapping"
                raise ValueError(f"{name}, line {line}: expected text as a key, found {found}")
            if key.value in seen:
                first = seen[key.value]
                raise ValueError(f"{name}, line {line}: expected {key.value!r} once, found it in line {first} too")
            seen[key.value] = line
            _check(value, name, (*above, node))
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _check(value, name, (*above, node))


def _fits(node: yaml.Node) -> bool:
    """Whether the tag of a value is text, or the type that the value has without it."""
    if isinstance(node, yaml.ScalarNode):
        return node.tag == f"{_TAG}str" or bool((found := _PATTERNS.get(node.tag)) and found.match(node.value))
    return node.tag == _TAG + ("map" if isinstance(node, yaml.MappingNode) else "seq")


def _lines(node: yaml.Node | None, keys: Keys) -> Iterator[tuple[Keys, int]]:
    """The line where every entry below a node is written; the node's merges were carried out."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield (*keys, key.value), key.start_mark.line + 1
            yield from _lines(value, (*keys, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            yield (*keys, number), value.start_mark.line + 1
            yield from _lines(value, (*keys, number))
