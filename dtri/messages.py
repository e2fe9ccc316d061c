"""Errors in words. No hash of code counts this module: docs/determinism.md says why."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

AGAIN = "delete it and give the command again, which makes it anew"


@contextmanager
def reading(where: Path | str, claim: str) -> Iterator[None]:
    """Whatever a reader raises becomes a ValueError: `claim`, which says what was expected, the error, and `where`.

    A damaged file makes libraries raise errors of any type. OSError and ValueError that name `where` pass.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, (OSError, ValueError)) and str(where) in str(error):
            raise
        raise ValueError(f"{claim}: {reason(error)} ({where})") from error


def reason(error: Exception) -> str:
    """An error in words; with its type where the text alone says little."""
    cryptic = (ArithmeticError, AttributeError, LookupError, MemoryError, TypeError)
    text = re.sub(r" <\S+ object at 0x[0-9a-f]+>", "", str(error))
    if isinstance(error, cryptic) or type(error).__module__.endswith("pickle"):
        return repr(error)
    return text or type(error).__name__


def printable(text: str) -> str:
    """Text with names of files in it, of which Linux allows any bytes, as every output takes it."""
    return text.encode("utf-8", "backslashreplace").decode()
