"""What runs a job again: a new value of a param, other input, another literal in a command; not a rule's wording.

Snakemake also runs a job again when the text of its shell command differs, or when a param is no more. Neither changes
a number here: the param `code` is a fingerprint over all code that the job reaches, `spec` says what it computes, and
both are values. So a rule may be reworded, its launcher renamed and a param split without training a network again.
"""

from typing import Any

from snakemake.persistence import NO_PARAMS_CHANGE, ParamsChange, PersistenceBase

_params_changed = PersistenceBase.params_changed


def by_values() -> None:
    """Let Snakemake compare jobs with what they were made by in this way."""
    PersistenceBase._code_changed = _literals_changed
    PersistenceBase.params_changed = _values_are_new


def literals(command: str) -> list[list[str]]:
    """Options of a rule's shell command that stand there as they are, with their values: what no param or input says.

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
    """Values that the job was not made with; an empty text says that there is nothing to say."""
    changes = _params_changed(persistence, job, file)
    return changes if changes.only_new - {"", repr("")} else NO_PARAMS_CHANGE
