"""Makes experts of a run's adapters (card, prototypes, digests) and publishes them, all that are not refused in one generation.

    coterie-experts publish run/ --out experts/                                      # folders, for coterie up --experts
    coterie-experts publish run/ --gateway 127.0.0.1:7070 --admin 127.0.0.1:7071     # straight into a running cluster
    coterie-experts publish run/ --store /srv/experts                                # into a store that no gateway serves yet
"""

from __future__ import annotations

import argparse
import pathlib
import tempfile

from coterie_experts.commands import options
from coterie_experts.errors import Refused
from coterie_experts.product import binaries
from coterie_experts.product.gateway import Gateway, own_gateway
from coterie_experts.progress import say
from coterie_experts.publishing import folders, live, prototypes
from coterie_experts.run import manifest
from coterie_experts.training import sets


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_folder", type=pathlib.Path, metavar="RUN", help="a folder that `cluster` made and `train` filled")
    parser.add_argument("--set", dest="set_name", default=sets.EXPERTS, metavar="NAME", help="which adapters of the run (default %(default)s)")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--out", type=pathlib.Path, metavar="FOLDER", help="write FOLDER/<name>/ for each expert")
    where.add_argument("--gateway", metavar="HOST:PORT", help="of a running cluster; with --admin")
    where.add_argument("--store", type=pathlib.Path, metavar="FOLDER", help="an expert store; a gateway is started on it for a moment")
    parser.add_argument("--admin", default="127.0.0.1:7071", metavar="HOST:PORT", help="the gateway's admin listener (default %(default)s)")
    parser.add_argument("--prefix", default="", metavar="TEXT", help="before every expert's name")
    parser.add_argument("--expert-version", default="1", metavar="VERSION", help="on the cards (default %(default)s)")
    parser.add_argument("--prototypes", type=options.whole(1, 1024), default=prototypes.DEFAULT_COUNT, metavar="N", help="of each expert (default %(default)s)")
    parser.add_argument("--min-score", type=options.bounded(float, -1, 1), metavar="SCORE", help="on the cards: the cosine below which the router "
                        "abstains (default: what `calibrate` found on validation passages, else the gateway's own); questions shorter than those may want another")
    parser.add_argument("--routing-reference", action="store_true", help="write on the cards how validation text scores against the prototypes, for "
                        "the gateway to notice drift; where passages of that kind are what will be asked")
    parser.add_argument("--restore-catalogue", action="store_true", help="where the store's catalogue is damaged or missing: write anew what is "
                        "served, then publish")
    options.add_models(parser)


def write_folders(run: manifest.Run, arguments: argparse.Namespace, out: pathlib.Path) -> list[pathlib.Path]:
    adapters = sets.open_set(run, arguments.set_name)
    return folders.write_experts(adapters, out, prefix=arguments.prefix, version=arguments.expert_version, n_prototypes=arguments.prototypes,
                                 min_score=arguments.min_score, routing_reference=arguments.routing_reference)


def _publish_all(gateway: Gateway, written: list[pathlib.Path], restore_catalogue: bool = False) -> None:
    """All in one generation. What is refused is named, and stops none of the others."""
    refused = []
    for folder, answer in live.publish_many(gateway, written, restore_catalogue):
        if not answer.HasField("published"):
            refused.append(f"{folder.name}: {answer.message}")
            continue
        expert = answer.published.expert
        state = "was already live" if answer.published.already_published else "is live"
        repaired = "; its files in the store were damaged and are whole again" if answer.published.repaired else ""
        say(f"{expert.name}@{expert.digest[:12]} {state} (generation {answer.published.catalogue_generation}){repaired}")
    if refused:
        raise Refused(f"{len(written) - len(refused)} of {len(written)} experts are live, refused were:\n  " + "\n  ".join(refused))


def publish_folders(address: str, admin: str, run: manifest.Run, written: list[pathlib.Path], restore_catalogue: bool = False) -> None:
    """Into the cluster at `address`, once it was seen to serve the run's base and embedder."""
    gateway = Gateway(address, admin)
    try:
        live.check_gateway(gateway, run.manifest)
        _publish_all(gateway, written, restore_catalogue)
    finally:
        gateway.close()


def run(arguments: argparse.Namespace) -> int:
    found = manifest.load(arguments.run_folder)
    if arguments.out:
        for folder in write_folders(found, arguments, arguments.out):
            say(f"{folder}")
        return 0
    with tempfile.TemporaryDirectory(prefix="coterie-experts-") as scratch:
        written = write_folders(found, arguments, pathlib.Path(scratch))
        if arguments.gateway:
            publish_folders(arguments.gateway, arguments.admin, found, written, arguments.restore_catalogue)
            return 0
        arguments.store.mkdir(parents=True, exist_ok=True)
        with own_gateway(binaries.find_base(arguments.model), binaries.find_embedder(arguments.embedder),
                         bin_folder=arguments.bin, store=arguments.store) as gateway:
            live.check_gateway(gateway, found.manifest)
            _publish_all(gateway, written, arguments.restore_catalogue)
    return 0
