"""dtri: two papers on generative models, reproduced beside their baselines.

dtri run results/demo/table1.csv        make a table, a figure, a run or a whole preset
dtri plan results/table1.csv            what that would run, why, and what it costs
dtri COMMAND --help                     what a command takes
dtri COMMAND ... --overlay DIR          with systems, datasets, presets, tables of your own: workflow/config/README.md
"""

import argparse
import importlib
import os
import sys
from pathlib import Path

from workflow import overlay
from workflow.commands.cli import run

COMMANDS = {  # name -> (module:function of workflow.commands, what it does)
    "run": ("run:main", "make TARGET...: files, rules, folders of runs, presets or datasets (Snakemake)"),
    "plan": ("explain:main", "what a run of TARGET... would make, why, and what it costs"),
    "status": ("status:main", "how far every run is that TARGET... needs, and the time left"),
    "table": ("table:main", "render one table, also of a part of its records"),
    "figure": ("figure:main", "draw one figure"),
    "claims": ("claims:main", "judge what the papers claim by what was measured"),
    "measured": ("measured:main", "everything measured in a preset, with or without a cell in a table"),
    "compare": ("compare:main", "two presets, folders, systems or the values of a sweep, quantity by quantity"),
    "report": ("report:main", "all tables and figures of a preset in one file"),
    "sample": ("sample:main", "draw samples from trained weights"),
    "reconstruct": ("pairs:main", "show images beside their reconstructions by trained weights"),
    "score": ("score:main", "score the images of a dataset by trained weights, larger = stranger"),
    "tensorboard": ("tensorboard:main", "write losses and pictures of runs for TensorBoard"),
    "new": ("new:main", "begin a baseline of your own: its file and its entry"),
    "fetch": ("run:fetch", "check the raw files of datasets, and download missing ones"),
    "prepare": ("run:prepare", "turn raw files into prepared datasets"),
    "verify": ("verify:main", "hash products again, and compare their making with this checkout"),
    "export": ("export:main", "pack a preset's products as a Workflow Run RO-Crate"),
    "accept": ("accept:main", "accept results after a harmless change, with the reason"),
}
STARTING = ("run", "plan", "report", "fetch", "prepare", "accept")  # they start Snakemake
# Called by the rules, or by those who maintain the project.
INTERNAL = (
    *("classifier", "columns", "fetch", "findings", "generation", "growth", "growth_memory", "inception"),
    *("interpolate", "landscape", "overview", "prepare", "ranking", "reconstruct", "train"),
)
SHELLS = {
    "bash": """\
_dtri() {
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W "%s" -- "${COMP_WORDS[1]}"))
    fi
}
complete -o default -F _dtri dtri
""",
    "zsh": """\
#compdef dtri
_dtri() {
    if (( CURRENT == 2 )); then compadd -- %s; else _files; fi
}
compdef _dtri dtri
""",
}


def text() -> str:
    """The help: every public command, and the names of the others."""
    width = max(map(len, COMMANDS)) + 2
    lines = [f"    {name:{width}}{what}" for name, (_, what) in COMMANDS.items()]
    lines += [f'    {"completion":{width}}names of commands for the shell: eval "$(dtri completion bash)", or zsh']
    apart = f"Called by rules and maintainers, as python -m workflow.commands.NAME:\n    {', '.join(INTERNAL)}"
    return "\n".join([__doc__.strip(), "", "Commands:", *lines, "", apart])


def completion(shell: str) -> str:
    """A script that completes names of commands, then files; ValueError for another shell."""
    if shell not in SHELLS:
        raise ValueError(f"unknown shell {shell!r} (known: {', '.join(SHELLS)})")
    return SHELLS[shell] % " ".join([*COMMANDS, "completion"])


def overlaid(words: list[str]) -> list[str]:
    """Put `--overlay DIR` to use, and return the other words.

    The overlay has to be known before a command is imported.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--overlay", metavar="DIR")
    given, rest = parser.parse_known_args(words)
    if given.overlay is not None:
        overlay.use(given.overlay)
    overlay.importable()
    return rest


def dispatch(words: list[str]) -> int:
    """Run the command that the first word names; its module is imported only now."""
    words = overlaid(words)
    match words:
        case [] | ["-h" | "--help", *_]:
            print(text())
            return 0
        case ["completion", *rest]:
            print(completion(" ".join(rest)), end="")
            return 0
        case [name, *rest] if name in COMMANDS:
            module, _, function = COMMANDS[name][0].partition(":")
            sys.argv = [f"dtri {name}", *rest]
            if name in STARTING:
                keep_cache()
            return getattr(importlib.import_module(f"workflow.commands.{module}"), function)(rest)
    raise ValueError(f"unknown command {words[0]!r} (known: {', '.join([*COMMANDS, 'completion'])})")


def keep_cache() -> None:
    """Keep Snakemake's cache in this directory where none can be written at home, as a container's user may not."""
    try:
        home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        Path(home, "snakemake").mkdir(parents=True, exist_ok=True)
    except OSError:
        os.environ["XDG_CACHE_HOME"] = str(Path(".snakemake", "cache").resolve())


def main() -> int:
    return run(lambda: dispatch(sys.argv[1:]))


if __name__ == "__main__":
    sys.exit(main())
