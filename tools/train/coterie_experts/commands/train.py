"""Trains one LoRA adapter for each cluster of a run, independent of each other; with --everything, one on all of them.

    coterie-experts train run/ --jobs 2
    coterie-experts train run/ --everything             # the same training tokens in one adapter, to compare with

Killed and started again it goes on where it was, and ends in the same bytes. With --index (or JOB_COMPLETION_INDEX, which
Kubernetes sets in an indexed Job) it trains that cluster alone: see deploy/training/.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import pathlib
import signal
import sys

from coterie_experts.commands import options
from coterie_experts.errors import Refused
from coterie_experts.product import binaries
from coterie_experts.progress import say
from coterie_experts.run import manifest
from coterie_experts.training import learner as learners
from coterie_experts.training import jobs, one, sets
from coterie_experts.training.settings import Settings

_DEFAULT = Settings()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_folder", type=pathlib.Path, metavar="RUN", help="a folder that `cluster` made")
    parser.add_argument("--set", dest="set_name", metavar="NAME", help=f"of this choice of settings (default experts; {sets.EVERYTHING} with --everything)")
    parser.add_argument("--everything", action="store_true", help="one adapter on all clusters, with the tokens of all experts together")
    parser.add_argument("--jobs", type=options.whole(1, 1024), metavar="N", help="trainings beside each other (default: one a GPU, or one a core)")
    parser.add_argument("--index", type=options.whole(0, 10_000_000), metavar="I", help="train only this cluster, in this process")
    parser.add_argument("--without-corpus", action="store_true", help="do not compare the corpus with the manifest: it is on another machine")
    add_settings(parser)
    parser.add_argument("--seed", type=options.whole(0, 2**31 - 1), help=f"the same seed gives the same adapters (default {_DEFAULT.seed})")
    parser.add_argument("--model", type=pathlib.Path, metavar="PATH", help="the base: a .gguf file or a Hugging Face folder")
    parser.add_argument("--learner", default=learners.DEFAULT, help=argparse.SUPPRESS)
    parser.add_argument("--end-with-parent", action="store_true", help=argparse.SUPPRESS)


def add_settings(parser: argparse.ArgumentParser) -> None:
    """What `make` takes too. None where nothing was said."""
    tokens = parser.add_mutually_exclusive_group()
    tokens.add_argument("--tokens-per-expert", type=options.whole(1, 10**12), metavar="N", help=f"training tokens, repeats included (default {_DEFAULT.tokens_per_expert})")
    tokens.add_argument("--total-tokens", type=options.whole(1, 10**13), metavar="N", help="for all experts together")
    parser.add_argument("--share", choices=("equal", "proportional"), help="how --total-tokens are divided: equally, or by the clusters' text (default proportional)")
    parser.add_argument("--rank", type=options.whole(1, 1024), metavar="R", help=f"default {_DEFAULT.rank}")
    parser.add_argument("--alpha", type=options.whole(1, 65536), metavar="A", help=f"the adapter counts alpha / rank (default {_DEFAULT.alpha})")
    parser.add_argument("--modules", metavar="WHICH", help="all, attention, mlp, or names: q_proj,v_proj (default all)")
    parser.add_argument("--layers", metavar="WHICH", help="all, or upper:K, which trains faster and leaves the lower layers shared (default all)")
    parser.add_argument("--learning-rate", "--lr", type=options.bounded(float, 1e-8, 1.0), metavar="RATE", help=f"default {_DEFAULT.learning_rate:g}")
    parser.add_argument("--batch-tokens", type=options.whole(32, 10**7), metavar="N", help=f"of a step (default {_DEFAULT.batch_tokens})")
    parser.add_argument("--max-tokens", type=options.whole(32, 8192), metavar="N", help=f"of an example (default {_DEFAULT.max_tokens})")
    parser.add_argument("--threads", type=options.whole(1, 256), metavar="N", help=f"of one training (default {_DEFAULT.threads}); part of what decides its bytes")
    parser.add_argument("--checkpoint-steps", type=options.whole(1, 10**6), metavar="N", help=f"default {_DEFAULT.checkpoint_steps}")


def settings_of(arguments: argparse.Namespace, default: Settings = _DEFAULT) -> Settings:
    said = {f.name: v for f in dataclasses.fields(Settings) if (v := getattr(arguments, f.name, None)) is not None}
    if arguments.tokens_per_expert is not None:
        said["total_tokens"] = 0
    return dataclasses.replace(default, **said)


def train(run: manifest.Run, set_name: str, settings: Settings, *, everything: bool, model: pathlib.Path | None, n_jobs: int | None = None,
          index: int | None = None, with_corpus: bool = True, learner: str = learners.DEFAULT) -> None:
    """Trains what is missing of the set. Raises Refused, naming those that failed once the others are done."""
    learners.check(learner)
    base = binaries.find_base(model)
    base_digest = binaries.digest_of_model(base)
    if run.manifest.base["file_sha256"] not in ("", base_digest):
        raise Refused(f"the base {base} (SHA-256 {base_digest[:12]}…) is not the one that {run.folder} was made with "
                      f"({run.manifest.base['name']}, {run.manifest.base['file_sha256'][:12]}…)")
    if with_corpus:
        run.check_corpus()
    adapters = sets.claim(run, set_name, settings, everything)
    tasks = adapters.tasks()
    if index is not None and index >= len(tasks):
        raise Refused(f"--index {index}: set {set_name!r} has {len(tasks)} adapters, 0 to {len(tasks) - 1}")
    if index is not None:
        one.train_one(adapters, tasks[index], base, base_digest, learner)
        return
    missing = [task for task in tasks if not one.is_done(adapters, task, base_digest)]
    say(f"set {set_name!r}: {len(tasks)} adapters, {len(tasks) - len(missing)} are there")
    if not missing:
        return
    command = [sys.executable, "-m", "coterie_experts", "train", str(run.folder), "--set", set_name, "--model", str(base),
               "--without-corpus", "--end-with-parent", "--learner", learner, *(["--everything"] if everything else []), *_flags(settings)]
    if failed := jobs.run_jobs(adapters, missing, min(n_jobs or default_jobs(settings), len(missing)), command):
        raise Refused(f"not trained: {', '.join(failed)}; logs in {adapters.folder / 'work'}")


def _flags(settings: Settings) -> list[str]:
    """The settings as options of this command."""
    values = dataclasses.asdict(settings)
    del values["warmup"], values["clip_norm"]
    del values["tokens_per_expert" if settings.total_tokens else "total_tokens"]
    return [word for name, value in values.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def _interrupt(*_) -> None:
    raise KeyboardInterrupt


def end_trainers_on_sigterm() -> None:
    """As an interruption at the keyboard does: in order, their checkpoints kept."""
    signal.signal(signal.SIGTERM, _interrupt)


def default_jobs(settings: Settings) -> int:
    """One a GPU, or as many as the cores have room for."""
    return len(jobs.gpus()) or max(1, len(os.sched_getaffinity(0)) // settings.threads)


def run(arguments: argparse.Namespace) -> int:
    end_trainers_on_sigterm()
    if arguments.end_with_parent:
        one.end_with_parent()
    index = arguments.index
    if index is None and "JOB_COMPLETION_INDEX" in os.environ:
        index = int(os.environ["JOB_COMPLETION_INDEX"])
    found = manifest.load(arguments.run_folder)
    set_name = arguments.set_name or (sets.EVERYTHING if arguments.everything else sets.EXPERTS)
    train(found, set_name, settings_of(arguments), everything=arguments.everything, model=arguments.model, n_jobs=arguments.jobs,
          index=index, with_corpus=not arguments.without_corpus, learner=arguments.learner)
    if index is None:
        say(f"all there; next: coterie-experts publish {found.folder} --set {set_name}")
    return 0
