"""Every printed order of two systems as a claim, and which of them decide nothing.

No measurement here may stand beside some printed numbers (`Cell.incomparable`). These may not be ranked against their
neighbours either: they were measured by another protocol, or their sign is unknown.
"""

from dtri.report.cells import Cell
from dtri.report.claims import printed_orders
from workflow.tables import table1, table2, table3, table4

TABLES = (table1.TABLE, table2.TABLE, table3.TABLE, table4.TABLE)
BORROWED = "the printed Inception Scores are borrowed from other papers, which differ in networks, samples and splits"
TWO_PAPERS = "the two printed Inception Scores are of two papers, closer than splits of one set of samples"


def mixed(cell: Cell) -> str:
    """Why a printed number may not be ranked against its neighbours; "" where it may."""
    return {("A", "is"): TWO_PAPERS, ("B", "is"): BORROWED}.get((cell.paper, cell.metric), cell.incomparable)


CLAIMS = tuple(claim for table in TABLES for claim in printed_orders(table, mixed))
