"""How a command reports a user's mistake: one line, a non-zero exit code, no traceback."""

import io
import os
import signal
import sys
from collections.abc import Callable

from dtri.messages import printable


def run(main: Callable[[], int]) -> int:
    """Exit code of `main`; expected errors become one line on stderr and code 2 (DTRI_TRACEBACK=1 shows all).

    Characters that the terminal's encoding lacks are printed as escape sequences. The `~` of `--option=~/x`, which no
    shell expands, is expanded. Where a reader such as `head` closes the pipe early, the command ends silently. Its exit
    code is then 128 + SIGPIPE, as in shells.
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
    """A word of the command line, with the `~` of its value expanded."""
    option, is_given, value = word.partition("=")
    return f"{option}={os.path.expanduser(value)}" if is_given and option.startswith("--") else word
