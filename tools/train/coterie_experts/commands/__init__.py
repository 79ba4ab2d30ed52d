"""The command `coterie-experts`. A sub-command is a module of this folder, named in COMMANDS, whose docstring is its help,
with

    add_arguments(parser) -> None
    run(arguments) -> int           the exit code; raises Refused for what a person can put right
"""

from __future__ import annotations

import argparse
import importlib
import sys

from coterie_experts import __version__
from coterie_experts.errors import Refused

COMMANDS = {
    "make": "cluster, train and publish in one go",
    "cluster": "sort a corpus into clusters",
    "train": "train an adapter for each cluster",
    "publish": "publish a run's adapters as experts",
    "mix": "write an expert that is made of others",
    "calibrate": "choose the router's thresholds on validation text",
    "evaluate": "score held-out text: do the experts help?",
    "study": "all of it for several clusterings, beside one adapter on everything",
}
INTERRUPTED = 130


def _parser(chosen: str) -> argparse.ArgumentParser:
    """Only the chosen command's module is imported: a trainer has no use for the others' packages."""
    parser = argparse.ArgumentParser(prog="coterie-experts", description="From a folder of text to a running mixture of experts.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, summary in COMMANDS.items():
        one = commands.add_parser(name, help=summary, formatter_class=argparse.RawDescriptionHelpFormatter)
        if name == chosen:
            module = importlib.import_module(f"{__name__}.{name}")
            one.description = module.__doc__
            module.add_arguments(one)
            one.set_defaults(run=module.run)
    return parser


def main(argv: list[str] | None = None) -> int:
    words = sys.argv[1:] if argv is None else argv
    arguments = _parser(words[0] if words else "").parse_args(words)
    try:
        return arguments.run(arguments)
    except Refused as error:
        print(f"coterie-experts {arguments.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"coterie-experts {arguments.command}: interrupted; run it again to go on", file=sys.stderr)
        return INTERRUPTED
