"""JSON files that carry a checksum of their content, so that damage and edits are noticed."""

import hashlib
import json
from pathlib import Path
from typing import Any

from dtri.files import write_text
from dtri.messages import AGAIN


def write_json(path: Path, value: Any) -> None:
    """Write sorted, indented JSON."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")


def write_sealed(path: Path, values: dict[str, Any]) -> None:
    """Write sorted, indented JSON atomically: `values` and their "seal", the sha256 of the rest."""
    if "seal" in values:
        raise ValueError(f"expected no entry of the name 'seal', which is the checksum's ({path})")
    write_json(path, {**values, "seal": _seal(values)})


def read_sealed(path: Path, what: str) -> dict[str, Any]:
    """The values of a file without their seal. A file without a seal is of an older version and passes.

    Raises:
        FileNotFoundError: there is no file.
        ValueError: names the file when it is damaged or was changed.
    """
    try:
        values = json.loads(Path(path).read_text("utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"expected {what} in {path}, found no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"expected {what} in {path}, found: {error}; {AGAIN}") from error
    if not isinstance(values, dict):
        raise ValueError(f"expected {what} in {path}, found a {type(values).__name__}; {AGAIN}")
    expected = values.pop("seal", None)
    if expected is not None and expected != (found := _seal(values)):
        raise ValueError(f"expected {what} with the seal {expected[:12]} in {path}, found {found[:12]}; {AGAIN}")
    return values


def _seal(values: dict[str, Any]) -> str:
    """sha256 of the values as canonical JSON, in the form that a reader of the file gets."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
