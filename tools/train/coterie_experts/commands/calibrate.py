"""Chooses when the base answers instead of an expert, and how sharply several are weighed, on validation text.

    coterie-experts calibrate run/
    coterie-experts publish run/ …          # the cards now carry thresholds.min_score

Takes the strictest thresholds that keep --keep of what routing gains there: text of no expert's field then goes to the base.
Written to RUN/sets/<set>/calibration.json, from which `publish` takes each card's threshold; the gateway's own flags are told.
"""

from __future__ import annotations

import argparse
import dataclasses

from coterie_experts import files
from coterie_experts.commands import evaluate as evaluate_command
from coterie_experts.commands import options
from coterie_experts.corpus.splits import VALIDATION
from coterie_experts.evaluation import calibrating, evaluating, routing, samples, scores
from coterie_experts.progress import say
from coterie_experts.publishing.card import CALIBRATION
from coterie_experts.run import manifest
from coterie_experts.training import sets


def add_arguments(parser: argparse.ArgumentParser) -> None:
    evaluate_command.add_run(parser)
    evaluate_command.add_scoring(parser)
    add_keep(parser)


def add_keep(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--keep", type=options.bounded(float, 0.0, 1.0), default=0.995, metavar="SHARE", help="of routing's gain (default %(default)s)")


def run(arguments: argparse.Namespace) -> int:
    found = manifest.load(arguments.run_folder)
    adapters = sets.open_set(found, arguments.set_name)
    chosen = calibrate(found, adapters, arguments)
    say(f"{adapters.folder / CALIBRATION}: the base answers {chosen.to_base:.0%} of the validation text, {chosen.kept:.1%} of the gain is kept\n"
        f"publish again for the cards; a gateway's own flags: --min-score {chosen.min_score} --min-margin {chosen.min_margin} --route-temperature {chosen.temperature}")
    return 0


def calibrate(found: manifest.Run, adapters: sets.AdapterSet, arguments: argparse.Namespace) -> calibrating.Calibration:
    """Chooses, writes and returns the thresholds. `arguments` are those of add_scoring() and add_keep()."""
    with evaluate_command.serving(found, adapters, None, arguments) as (gateway, candidates):
        drawn = samples.draw(found, VALIDATION, arguments.samples, arguments.prompt_characters, arguments.seed)
        names = [*candidates.experts, evaluating.BASE]
        cache = scores.ScoreCache(found.folder / "scores.sqlite")
        try:
            logprobs = scores.collect(gateway, {n: candidates.digests[n] for n in names}, drawn, evaluate_command.numerics_of(found, arguments), cache)
        finally:
            cache.close()
        cosines = routing.cosines(gateway, candidates.experts, drawn)
    chosen = calibrating.calibrate(logprobs, cosines, arguments.keep)
    files.write_json(adapters.folder / CALIBRATION, {**dataclasses.asdict(chosen), "samples": len(drawn), "keep": arguments.keep})
    return chosen
