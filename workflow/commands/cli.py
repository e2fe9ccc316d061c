"""How a command reports a user's mistake: one line, a non-zero exit code, no traceback."""

import os
import sys
from collections.abc import Callable

from dtri.files import printable


def run(main: Callable[[], int]) -> int:
    """Exit code of `main`; expected errors become one line on stderr and code 2 (DTRI_TRACEBACK=1 shows all)."""
    try:
        return main()
    except (ValueError, OSError, LookupError) as error:
        if os.environ.get("DTRI_TRACEBACK"):
            raise
        text = str(error) if not isinstance(error, KeyError) else error.args[0]
        print(f"error: {printable(' '.join(str(text).split()))}", file=sys.stderr)
        return 2
