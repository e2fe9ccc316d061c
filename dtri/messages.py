"""The wording of errors. No hash of code counts this module: docs/determinism.md says why."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

AGAIN = "delete it and give the command again, which makes it anew"


@contextmanager
def reading(where: Path | str, claim: str) -> Iterator[None]:
    """Turn any error inside the block into a ValueError with `claim` (what was expected), the error and `where`.

    A damaged file makes libraries raise errors of any type. An OSError or ValueError that names `where` passes.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, (OSError, ValueError)) and str(where) in str(error):
            raise
        raise ValueError(f"{claim}: {reason(error)} ({where})") from error


def reason(error: Exception) -> str:
    """An error in words, with its type where the text alone says little."""
    cryptic = (ArithmeticError, AttributeError, LookupError, MemoryError, TypeError)
    text = re.sub(r" <\S+ object at 0x[0-9a-f]+>", "", str(error))
    if isinstance(error, cryptic) or type(error).__module__.endswith("pickle"):
        return repr(error)
    return text or type(error).__name__


def printable(text: str) -> str:
    """`text` in a form that every output can show. It may hold names of files, in which Linux allows any bytes."""
    return text.encode("utf-8", "backslashreplace").decode()
