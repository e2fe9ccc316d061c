"""What runs a job again: a new value of a param, other input, another literal in a command; not a rule's wording.

Snakemake also runs a job again when the text of its shell command differs, or when a param was removed. Neither changes
a number here. The param `code` is a fingerprint over all code that the job reaches, and `spec` says what it computes.
Both are values. So a rule may be reworded, its launcher renamed and a param split without training a network again.
"""

from typing import Any

from snakemake.persistence import NO_PARAMS_CHANGE, ParamsChange, PersistenceBase

_params_changed = PersistenceBase.params_changed


def by_values() -> None:
    """Let Snakemake compare jobs in this way with what they were made by."""
    PersistenceBase._code_changed = _literals_changed
    PersistenceBase.params_changed = _values_are_new


def literals(command: str) -> list[list[str]]:
    """Options that a rule's shell command gives as they are, with their values; no param or input holds them.

    >>> literals("python -m x --grid --n 64 --model {input.model} --late > {log} 2>&1")
    [['--grid'], ['--late'], ['--n', '64']]
    """
    options: list[list[str]] = []
    for word in command.partition(" > ")[0].split():
        if word.startswith("--"):
            options.append([word])
        elif options:
            options[-1].append(word)
    return sorted(option for option in options if "{" not in "".join(option))


def _literals_changed(persistence: PersistenceBase, job: Any, file: str | None = None) -> bool:
    recorded = persistence.code(file)
    return recorded is not None and literals(recorded) != literals(persistence._code(job.rule) or "")


def _values_are_new(persistence: PersistenceBase, job: Any, file: str | None = None) -> ParamsChange:
    """Values that the job was not made with; a param that became an empty text is no change."""
    changes = _params_changed(persistence, job, file)
    return changes if changes.only_new - {"", repr("")} else NO_PARAMS_CHANGE
