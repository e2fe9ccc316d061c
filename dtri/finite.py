"""NaN and infinities are counted and refused where numbers become a result: as pixels they would look like one.

Values are arrays or tensors; this module imports neither torch nor numpy.
"""

from typing import Any


class NonFinite(ValueError):
    """Values that are not finite. `rest` holds the values that can still be used; None where there are none."""

    def __init__(self, message: str, rest: Any = None):
        super().__init__(message)
        self.rest = rest


class Count:
    """Counts the rows of tensors [n, ...] that hold a value that is not finite, over several batches."""

    def __init__(self) -> None:
        self.rows = self.bad = self.nan = self.infinite = 0

    def add(self, values: Any) -> Any:
        """Count the rows of a tensor [B, ...] and return which are finite, bool [B]. Waits for its device."""
        finite = values.isfinite().flatten(1).all(1) if values.ndim > 1 else values.isfinite()
        self.rows += len(values)
        if bad := int((~finite).sum()):
            self.bad += bad
            self.nan += int(values.isnan().sum())
            self.infinite += int(values.isinf().sum())
        return finite

    def refuse(self, what: str, rest: Any = None) -> None:
        """Raise NonFinite with the counts, unless all rows so far were finite; `what` names the rows in the plural."""
        if self.bad:
            values = f"{self.nan} NaN and {self.infinite} infinite values"
            raise NonFinite(f"expected finite {what}, found {values} in {self.bad} of {self.rows}", rest)


def check(what: str, values: Any) -> None:
    """NonFinite unless every value of a tensor [n, ...] is finite."""
    count = Count()
    count.add(values)
    count.refuse(what)
