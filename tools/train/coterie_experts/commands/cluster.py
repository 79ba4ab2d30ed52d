"""Sorts text into clusters, one future expert each, and writes the run's manifest.

    coterie-experts cluster my-documents/ --clusters 8 --out run/

Text is split into documents and chunks, near-duplicates are dropped, and what is left is embedded by the product's own
embedder: through the gateway at --gateway, or one that is started for it. What was embedded once is not embedded again.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib

from coterie_experts.commands import options
from coterie_experts.corpus.sources import read_sources
from coterie_experts.errors import Refused
from coterie_experts.product import binaries, embeddings
from coterie_experts.product.gateway import gateway_at
from coterie_experts.progress import say
from coterie_experts.run import making, manifest

DEFAULT = making.Settings()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_corpus(parser)
    parser.add_argument("--out", type=pathlib.Path, required=True, metavar="RUN", help="the run's folder")
    parser.add_argument("--gateway", metavar="HOST:PORT", help="whose Embed is used; without it one is started")
    parser.add_argument("--embedder-threads", type=options.whole(1, 256), default=1, metavar="N", help="of the gateway that is started")
    parser.add_argument("--embedding-cache", type=pathlib.Path, metavar="FOLDER", help="default $COTERIE_CACHE/embeddings")
    options.add_models(parser)


def add_corpus(parser: argparse.ArgumentParser) -> None:
    """What `make` takes too."""
    add_text(parser)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--method", choices=("kmeans", "hdbscan"), default="kmeans")
    how.add_argument("--labels", action="store_true", help="no clustering: each source is a cluster")
    parser.add_argument("--clusters", type=options.whole(1, 100_000), default=DEFAULT.n_clusters, metavar="N", help="of kmeans (default %(default)s)")
    parser.add_argument("--min-cluster-size", type=options.whole(2, 1_000_000), default=DEFAULT.min_cluster_size, metavar="CHUNKS",
                        help="of hdbscan (default %(default)s)")


def add_text(parser: argparse.ArgumentParser) -> None:
    """What to read, and what of it."""
    parser.add_argument("corpora", nargs="+", metavar="CORPUS",
                        help="a folder, a .jsonl file of {\"text\": …}, NAME=either, or a .yaml list of sources")
    parser.add_argument("--corpora", type=pathlib.Path, dest="root", metavar="FOLDER", help="what paths of a .yaml list are relative to")
    parser.add_argument("--licence", default="unknown", help="of the text, where a list does not say")
    parser.add_argument("--held-out", type=options.bounded(float, 0.0, 0.9), default=DEFAULT.held_out, metavar="SHARE",
                        help="of each source's documents, for evaluation (default %(default)s)")
    parser.add_argument("--validation", type=options.bounded(float, 0.0, 0.9), default=DEFAULT.validation, metavar="SHARE",
                        help="of each source's documents, for calibration (default %(default)s)")
    parser.add_argument("--holdout-source", action="append", default=[], metavar="NAME",
                        help="a source kept wholly out of training, to see abstaining (repeatable)")
    parser.add_argument("--near-duplicates", type=options.bounded(float, 0.0, 1.0), default=DEFAULT.near_duplicates, metavar="SIMILARITY",
                        help="drop chunks this alike; 0 keeps all (default %(default)s)")
    parser.add_argument("--chunk-characters", type=options.whole(100, 4000), default=DEFAULT.chunk_characters, metavar="N", help="default %(default)s")
    parser.add_argument("--max-chunks-per-source", type=options.whole(0, 10_000_000), default=0, metavar="N",
                        help="an even sample of each source's training chunks, and of the others in proportion; 0: all")
    parser.add_argument("--seed", type=options.whole(0, 2**31 - 1), default=DEFAULT.seed)


def settings_of(arguments: argparse.Namespace) -> making.Settings:
    if arguments.held_out + arguments.validation > 0.9:
        raise Refused(f"--held-out {arguments.held_out} and --validation {arguments.validation} leave less than a tenth to train on")
    return making.Settings(
        method="labels" if arguments.labels else arguments.method, n_clusters=arguments.clusters,
        min_cluster_size=arguments.min_cluster_size, held_out=arguments.held_out, validation=arguments.validation,
        chunk_characters=arguments.chunk_characters, near_duplicates=arguments.near_duplicates,
        max_chunks_per_source=arguments.max_chunks_per_source, seed=arguments.seed)


def cluster(arguments: argparse.Namespace, out: pathlib.Path) -> manifest.Run:
    """Makes the run `out` of the arguments of add_arguments()."""
    settings = settings_of(arguments)
    sources = read_sources(arguments.corpora, arguments.root, arguments.licence, arguments.holdout_source)
    with gateway_at(arguments.gateway, model=arguments.model, embedder=arguments.embedder, bin_folder=arguments.bin,
                    threads=arguments.embedder_threads) as gateway:
        identity = gateway.identity()
        base = {"name": identity.base_name, "digest": identity.base_digest, "file_sha256": ""}
        if not arguments.gateway:
            base["file_sha256"] = binaries.digest_of_model(binaries.find_base(arguments.model))
        embedder = {"name": (arguments.embedder or pathlib.Path(binaries.EMBEDDER_NAME)).resolve().name, "digest": identity.embedder_digest}
        cache = embeddings.EmbeddingCache(identity.embedder_digest, arguments.embedding_cache)
        try:
            made = making.make_run(sources, settings, lambda texts: embeddings.embed(gateway, texts, cache), base, embedder)
        finally:
            cache.close()
    return manifest.save(out, *made)


def cluster_once(arguments: argparse.Namespace, out: pathlib.Path) -> manifest.Run:
    """The run that is in `out`, where it was made with the same settings of unchanged text; otherwise a new one."""
    if not (out / manifest.MANIFEST).is_file():
        return cluster(arguments, out)
    found = manifest.load(out)
    if found.manifest.settings != dataclasses.asdict(settings_of(arguments)):
        raise Refused(f"{out} was made with other settings; choose another --out, or remove it")
    found.check_corpus()
    say(f"{out} is there: {len(found.manifest.clusters)} clusters")
    return found


def run(arguments: argparse.Namespace) -> int:
    made = cluster(arguments, arguments.out)
    for record in made.manifest.clusters:
        origins = ", ".join(f"{source} {share:.0%}" for source, share in list(record.sources.items())[:3])
        say(f"{record.index:4}  {record.name:40} {record.chunks.get('train', 0):6} chunks  {origins}")
    say(f"{made.folder / manifest.MANIFEST}: {len(made.manifest.clusters)} clusters; next: coterie-experts train {made.folder}")
    return 0
