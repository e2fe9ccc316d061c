"""Where numbers become a result, NaN and infinities are counted and refused: cast to pixels they would look like one.

Neither torch nor numpy is imported: values are arrays or tensors.
"""

from typing import Any


class NonFinite(ValueError):
    """Values that are not finite. `rest`: what can still be used, of what holds them; None where nothing can."""

    def __init__(self, message: str, rest: Any = None):
        super().__init__(message)
        self.rest = rest


class Count:
    """Counts rows [n, ...] with a value that is not finite, over batches of tensors."""

    def __init__(self) -> None:
        self.rows = self.bad = self.nan = self.infinite = 0

    def add(self, values: Any) -> Any:
        """Account for a tensor [B, ...]; bool [B], the rows that are finite. Waits for its device."""
        finite = values.isfinite().flatten(1).all(1) if values.ndim > 1 else values.isfinite()
        self.rows += len(values)
        if bad := int((~finite).sum()):
            self.bad += bad
            self.nan += int(values.isnan().sum())
            self.infinite += int(values.isinf().sum())
        return finite

    def refuse(self, what: str, rest: Any = None) -> None:
        """NonFinite, with the counts, unless all rows so far were finite; `what` names them in the plural."""
        if self.bad:
            values = f"{self.nan} NaN and {self.infinite} infinite values"
            raise NonFinite(f"expected finite {what}, found {values} in {self.bad} of {self.rows}", rest)


def check(what: str, values: Any) -> None:
    """NonFinite unless all of a tensor [n, ...] is finite."""
    count = Count()
    count.add(values)
    count.refuse(what)
