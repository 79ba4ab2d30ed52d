"""Writes an expert that is made of others: a folder with a card, and without an adapter of its own (docs/expert-format.md).

    coterie-experts mix experts/rowing --member postgres:0.6 --member python:0.4 --description "SQL from Python"
    coterie experts publish experts/rowing
    coterie-experts mix experts/rowing --kind blend --member postgres@0f3c5a17 --member python      # equal weights

Questions find it by the prototypes of its members, or by those that --examples of `coterie experts publish` make.
"""

from __future__ import annotations

import argparse
import pathlib

from coterie_experts.commands import options
from coterie_experts.progress import say
from coterie_experts.publishing import mixture


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=pathlib.Path, metavar="FOLDER", help="to write; replaced where it is there")
    parser.add_argument("--member", action="append", required=True, type=mixture.parse_member, metavar="NAME[@DIGEST][:WEIGHT]",
                        help="2 to 16 of them; weights, all or none, sum to 1")
    parser.add_argument("--kind", choices=mixture.KINDS, default="mixture", help="mixture: of what they say; blend: of their weights (default %(default)s)")
    parser.add_argument("--name", metavar="NAME", help="of the expert (default: the folder's)")
    parser.add_argument("--description", required=True, metavar="TEXT", help="what it is for, one line")
    parser.add_argument("--expert-version", default="1", metavar="VERSION", help="on the card (default %(default)s)")
    parser.add_argument("--tag", action="append", default=[], metavar="WORD", help="a request that declares it is sent here by rule")
    parser.add_argument("--min-score", type=options.bounded(float, -1, 1), metavar="SCORE", help="on the card: the cosine below which the router abstains")


def run(arguments: argparse.Namespace) -> int:
    card = mixture.make_card(name=arguments.name or arguments.folder.resolve().name, version=arguments.expert_version,
                             description=arguments.description, kind=arguments.kind, members=arguments.member, tags=arguments.tag,
                             min_score=arguments.min_score)
    mixture.write_folder(card, arguments.folder)
    say(f"{arguments.folder}")
    return 0
