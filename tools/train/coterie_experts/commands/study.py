"""Do experts help, how many, and against one adapter trained on everything? Answers with a document.

    coterie-experts study corpora.yaml --corpora corpora/ --settings 4,8,16,labels --total-tokens 400000 --out study/ \\
        --document docs/do-experts-help.md

For each setting: clusters, trains with the same tokens in all, calibrates, evaluates. Interrupted, the same command goes on;
what is finished is not made again. Sets that `cluster`, `train` and `evaluate` left in --out beside the study's own are reported too.
Figures and the best setting's page go into a folder beside the document.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import pathlib
import re

from coterie_experts import files
from coterie_experts.commands import calibrate as calibrate_command
from coterie_experts.commands import cluster as cluster_command
from coterie_experts.commands import evaluate as evaluate_command
from coterie_experts.commands import options
from coterie_experts.commands import train as train_command
from coterie_experts.errors import Refused
from coterie_experts.evaluation import study
from coterie_experts.progress import say
from coterie_experts.publishing.card import CALIBRATION
from coterie_experts.run import manifest
from coterie_experts.training import learner as learners
from coterie_experts.training import sets
from coterie_experts.training.settings import Settings


def _settings(text: str) -> list[str]:
    words = list(dict.fromkeys(text.split(",")))
    if wrong := [w for w in words if w != "labels" and not re.fullmatch(r"[1-9]\d{0,4}", w)]:
        raise argparse.ArgumentTypeError(f"{wrong[0]!r} is neither a number of clusters nor labels")
    if all(word == "1" for word in words):
        raise argparse.ArgumentTypeError(f"{text!r}: one cluster is the adapter on everything, which is always trained; name another")
    return [word for word in words if word != "1"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    cluster_command.add_text(parser)
    parser.add_argument("--settings", type=_settings, default=["4", "8", "16", "labels"], metavar="LIST",
                        help="numbers of clusters, and labels: one cluster a source (default 4,8,16,labels)")
    train_command.add_settings(parser)
    evaluate_command.add_scoring(parser)
    calibrate_command.add_keep(parser)
    parser.add_argument("--jobs", type=options.whole(1, 1024), metavar="N", help="trainings beside each other (default: one a GPU, or one a core)")
    parser.add_argument("--out", type=pathlib.Path, required=True, metavar="FOLDER", help="of the runs")
    parser.add_argument("--document", type=pathlib.Path, metavar="FILE.md", help="default FOLDER/do-experts-help.md")
    parser.add_argument("--command", dest="told_command", default="", metavar="WORDS", help="the command that the document names, where it is not this one")
    options.add_models(parser)
    parser.add_argument("--embedder-threads", type=options.whole(1, 256), default=os.cpu_count() or 1, metavar="N", help="of the gateway that embeds")
    parser.add_argument("--learner", default=learners.DEFAULT, help=argparse.SUPPRESS)
    parser.set_defaults(gateway=None, embedding_cache=None, method="kmeans", min_cluster_size=cluster_command.DEFAULT.min_cluster_size, labels=False, clusters=0)


def run(arguments: argparse.Namespace) -> int:
    train_command.end_trainers_on_sigterm()
    learners.check(arguments.learner)
    settings = train_command.settings_of(arguments, dataclasses.replace(Settings(), seed=arguments.seed))
    if not settings.total_tokens:
        raise Refused("--total-tokens is missing: settings are compared at the same tokens in all")
    runs = {name: _clustered(arguments, name) for name in arguments.settings}
    # What cannot be read is refused before anything is trained.
    beside = _evaluated_beside(arguments.out, {made.folder.name for made in runs.values()})
    for made in runs.values():
        study.evaluated(made)
    first = next(iter(runs.values()))
    _train(first, sets.EVERYTHING, settings, arguments)
    for made in runs.values():
        _train(made, sets.EXPERTS, settings, arguments)
    whole = sets.open_set(first, sets.EVERYTHING)
    for made in runs.values():
        _evaluate(made, sets.open_set(made, sets.EXPERTS), whole, arguments)
    document = arguments.document or arguments.out / "do-experts-help.md"
    study.write(document, list(runs.values()), beside, whole, arguments.told_command)
    say(f"{document}")
    return 0


def _clustered(arguments: argparse.Namespace, name: str) -> manifest.Run:
    chosen = argparse.Namespace(**vars(arguments))
    chosen.labels = name == "labels"
    chosen.clusters = cluster_command.DEFAULT.n_clusters if chosen.labels else int(name)
    return cluster_command.cluster_once(chosen, arguments.out / (name if chosen.labels else f"k{name}"))


def _evaluated_beside(out: pathlib.Path, names: set[str]) -> list[study.Result]:
    """The evaluated sets of other runs in `out`."""
    folders = {report.parents[3] for report in out.glob("*/sets/*/report/evaluation.json")}
    return [result for folder in sorted(folders) if folder.name not in names for result in study.evaluated(manifest.load(folder))]


def _train(made: manifest.Run, set_name: str, settings: Settings, arguments: argparse.Namespace) -> None:
    train_command.train(made, set_name, settings, everything=set_name == sets.EVERYTHING, model=arguments.model,
                        n_jobs=arguments.jobs, learner=arguments.learner)


def _evaluate(made: manifest.Run, adapters: sets.AdapterSet, whole: sets.AdapterSet, arguments: argparse.Namespace) -> None:
    """Unless that was done in this way since the last adapter was trained."""
    report, calibration = adapters.folder / "report", adapters.folder / CALIBRATION
    trained = max((of.adapter(task) / "training.json").stat().st_mtime for of in (adapters, whole) for task in of.tasks())
    is_there = files.made_after(calibration, trained) and files.made_after(report / "evaluation.json", calibration.stat().st_mtime)
    if is_there and files.read_json(calibration)["keep"] == arguments.keep \
            and files.read_json(report / "evaluation.json").get("scoring") == evaluate_command.scoring_of(arguments, whole):
        say(f"{report} is there")
        return
    calibrate_command.calibrate(made, adapters, arguments)
    evaluate_command.evaluate(made, adapters, whole, report, arguments)
