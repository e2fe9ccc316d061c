"""Faults drawn from the source itself: another operator, constant or comparison, by a seed."""

import ast
import random
from collections.abc import Iterator
from pathlib import Path

from tests.mutants.faults import FAULTS, Fault

SWAPPED = {ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*", ast.FloorDiv: "*", ast.Mod: "//", ast.Pow: "*"}
SWAPPED |= {ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "=="}
SWAPPED |= {ast.And: "or", ast.Or: "and", ast.BitAnd: "|", ast.BitOr: "&"}
OTHER_NAMES = {"min": "max", "max": "min", "amin": "amax", "amax": "amin", "minimum": "maximum", "maximum": "minimum"}
OTHER_NAMES |= {"mean": "sum", "sum": "mean", "any": "all", "all": "any", "ceil": "floor", "argmin": "argmax"}


def drawn(root: Path, n: int, seed: int, under: tuple[str, ...]) -> list[Fault]:
    """n faults of the files that the list names, each to be caught by any test that the list names for its file."""
    tests: dict[str, dict[str, None]] = {}
    for fault in FAULTS:
        if fault.file.endswith(".py") and fault.file.startswith(under):
            tests.setdefault(fault.file, {}).update(dict.fromkeys(fault.tests))
    found = [
        Fault(file, source, planted, tuple(tests[file]), place=place)
        for file in sorted(tests)
        for source, planted, place in changes((root / file).read_text("utf-8"))
    ]
    return random.Random(seed).sample(found, min(n, len(found)))


def changes(text: str) -> Iterator[tuple[str, str, int]]:
    """(line, changed line, its number from 1) of every operator, number and name that has another, in code alone."""
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        for line, start, stop, other in _of_node(node, lines):
            changed = lines[line][:start] + other + lines[line][stop:]
            yield lines[line], changed, line + 1


def _of_node(node: ast.AST, lines: list[str]) -> Iterator[tuple[int, int, int, str]]:
    """(line from 0, first and last column, the text to stand there)."""
    if isinstance(node, ast.BinOp) and type(node.op) in SWAPPED:
        yield from _between(node.left, node.right, SWAPPED[type(node.op)], lines)
    elif isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in SWAPPED:
        yield from _between(node.left, node.comparators[0], SWAPPED[type(node.ops[0])], lines)
    elif isinstance(node, ast.BoolOp):
        yield from _between(node.values[0], node.values[1], SWAPPED[type(node.op)], lines)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not | ast.Invert):
        line = node.lineno - 1
        yield line, *_columns(lines[line], node.col_offset, node.operand.col_offset), ""
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float, bool) and node.lineno == node.end_lineno:
        line, value = node.lineno - 1, node.value
        other = str(not value) if isinstance(value, bool) else repr(value + 1 if isinstance(value, int) else value * 2)
        if other != repr(value):
            yield line, *_columns(lines[line], node.col_offset, node.end_col_offset), other
    elif isinstance(node, ast.Attribute) and node.attr in OTHER_NAMES:
        line = node.end_lineno - 1
        start = node.end_col_offset - len(node.attr)
        yield line, *_columns(lines[line], start, node.end_col_offset), OTHER_NAMES[node.attr]
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in OTHER_NAMES:
        line = node.lineno - 1
        name = node.func
        yield line, *_columns(lines[line], name.col_offset, name.end_col_offset), OTHER_NAMES[name.id]


def _between(left: ast.expr, right: ast.expr, other: str, lines: list[str]) -> Iterator[tuple[int, int, int, str]]:
    """The operator between two operands on one line."""
    if left.end_lineno == right.lineno:
        line = right.lineno - 1
        start, stop = _columns(lines[line], left.end_col_offset, right.col_offset)
        text = lines[line][start:stop]
        operator = text.strip(" ()")
        if operator:
            at = start + text.index(operator)
            yield line, at, at + len(operator), other


def _columns(line: str, *offsets: int) -> tuple[int, ...]:
    """Offsets in UTF-8, as `ast` counts, to offsets in characters."""
    return tuple(len(line.encode()[:offset].decode()) for offset in offsets)
