"""How a command reports a user's mistake: one line, a non-zero exit code, no traceback."""

import io
import os
import signal
import sys
from collections.abc import Callable

from dtri.messages import printable


def run(main: Callable[[], int]) -> int:
    """Exit code of `main`; expected errors become one line on stderr and code 2 (DTRI_TRACEBACK=1 shows all).

    What the terminal's encoding lacks is printed as an escape sequence. No shell expands the `~` of `--option=~/x`.
    A reader that has seen enough, such as `head`, ends the command silently, with the code that shells give SIGPIPE.
    """
    sys.argv = [_at_home(word) for word in sys.argv]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            return main()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more when it ends
        return 128 + signal.SIGPIPE
    except (ValueError, OSError, LookupError) as error:
        if os.environ.get("DTRI_TRACEBACK"):
            raise
        text = str(error) if not isinstance(error, KeyError) else error.args[0]
        print(f"error: {printable(' '.join(str(text).split()))}", file=sys.stderr)
        return 2


def _at_home(word: str) -> str:
    """A word of the command line with the `~` of its value expanded."""
    option, is_given, value = word.partition("=")
    return f"{option}={os.path.expanduser(value)}" if is_given and option.startswith("--") else word
