"""Makes a mixture from text in one go: cluster, train, publish.

    coterie-experts make my-documents/ --out mixture/ --quick

Leaves mixture/run/ and mixture/experts/, a folder for each expert; `coterie up --experts mixture/experts` serves them, and
--gateway publishes them into a cluster that runs. Interrupted, the same command goes on. --quick trains a few small experts,
within a quarter of an hour on two CPU cores: enough to see the mixture work, not to see its best.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import pathlib

from coterie_experts.commands import cluster as cluster_command
from coterie_experts.commands import options
from coterie_experts.commands import publish as publish_command
from coterie_experts.commands import train as train_command
from coterie_experts.progress import say
from coterie_experts.publishing import prototypes
from coterie_experts.training import learner as learners
from coterie_experts.training import sets
from coterie_experts.training.settings import Settings

# 4 experts x 16,000 tokens at 250 to 400 tokens/s on two cores: three to five minutes, after as many for embedding
# 4 x 1,500 chunks and starting torch.
QUICK_CLUSTERS, QUICK_CHUNKS = 4, 1500
QUICK = Settings(tokens_per_expert=16_000, layers="upper:15")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    cluster_command.add_corpus(parser)
    parser.set_defaults(clusters=None, max_chunks_per_source=None)  # what --quick chooses is not what was said
    train_command.add_settings(parser)
    parser.add_argument("--out", type=pathlib.Path, required=True, metavar="FOLDER", help="of the run and the experts")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_CLUSTERS} clusters of at most {QUICK_CHUNKS} chunks a source, "
                        f"{QUICK.tokens_per_expert} tokens an expert, {QUICK.layers}; what is said beside it holds")
    parser.add_argument("--jobs", type=options.whole(1, 1024), metavar="N", help="trainings beside each other (default: one a GPU, or one a core)")
    parser.add_argument("--gateway", metavar="HOST:PORT", help="of a running cluster: whose Embed is used, and where the experts are published")
    parser.add_argument("--admin", default="127.0.0.1:7071", metavar="HOST:PORT", help="that gateway's admin listener (default %(default)s)")
    parser.add_argument("--prefix", default="", metavar="TEXT", help="before every expert's name")
    options.add_models(parser)
    parser.set_defaults(embedder_threads=os.cpu_count() or 1, embedding_cache=None, set_name=sets.EXPERTS, expert_version="1",
                        prototypes=prototypes.DEFAULT_COUNT, min_score=None, routing_reference=False)
    parser.add_argument("--learner", default=learners.DEFAULT, help=argparse.SUPPRESS)


def _defaults(arguments: argparse.Namespace) -> Settings:
    """Fills in what was not said and returns the training's defaults."""
    if arguments.clusters is None:
        arguments.clusters = QUICK_CLUSTERS if arguments.quick else cluster_command.DEFAULT.n_clusters
    if arguments.max_chunks_per_source is None:
        arguments.max_chunks_per_source = QUICK_CHUNKS if arguments.quick else 0
    return dataclasses.replace(QUICK if arguments.quick else Settings(), seed=arguments.seed)


def run(arguments: argparse.Namespace) -> int:
    default = _defaults(arguments)
    train_command.end_trainers_on_sigterm()
    learners.check(arguments.learner)  # before minutes are spent on what training then cannot use
    settings = train_command.settings_of(arguments, default)
    made = cluster_command.cluster_once(arguments, arguments.out / "run")
    n_jobs = arguments.jobs or train_command.default_jobs(settings)
    train_command.train(made, arguments.set_name, settings, everything=False, model=arguments.model, n_jobs=n_jobs, learner=arguments.learner)
    experts = publish_command.write_folders(made, arguments, arguments.out / "experts")
    say(f"{len(experts)} experts in {arguments.out / 'experts'}")
    if arguments.gateway:
        publish_command.publish_folders(arguments.gateway, arguments.admin, made, experts)
    else:
        say(f"serve them: coterie up --experts {arguments.out / 'experts'}")
    return 0
