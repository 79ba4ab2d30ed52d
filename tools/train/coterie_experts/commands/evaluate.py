"""Do the experts help, and does the router find them? Scores held-out text under every expert, by the product itself.

    coterie-experts evaluate run/ --everything-set everything --out report/

Compares the base, the experts as each policy routes to them, the best expert for each passage (the oracle), a random one, and
the adapter trained on everything. Writes report/evaluation.json and report/evaluation.html. A gateway and a worker are started
for it. What was scored once is not scored again.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import os
import pathlib
import platform
import tempfile
from typing import Iterator

import numpy as np
from safetensors.numpy import load_file

from coterie_experts import files
from coterie_experts.commands import options
from coterie_experts.corpus.splits import HELD_OUT, OUTSIDE, VALIDATION
from coterie_experts.errors import Refused
from coterie_experts.evaluation import evaluating, report, routing, samples, scores
from coterie_experts.product import binaries, embeddings
from coterie_experts.product.gateway import Gateway, own_cluster
from coterie_experts.progress import say
from coterie_experts.publishing import folders, live, prototypes
from coterie_experts.run import manifest
from coterie_experts.training import sets

_TIMED_PROMPTS, _TIMED_CHARACTERS = 20, 500  # about 128 tokens


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    add_scoring(parser)
    parser.add_argument("--everything-set", metavar="NAME", help="a set trained with --everything, to compare with")
    parser.add_argument("--out", type=pathlib.Path, metavar="FOLDER", help="of the report (default RUN/sets/<set>/report)")


def add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_folder", type=pathlib.Path, metavar="RUN")
    parser.add_argument("--set", dest="set_name", default=sets.EXPERTS, metavar="NAME", help="the mixture (default %(default)s)")
    parser.add_argument("--seed", type=options.whole(0, 2**31 - 1), default=1)
    options.add_models(parser)


def add_scoring(parser: argparse.ArgumentParser) -> None:
    """How held-out text is scored."""
    parser.add_argument("--samples", type=options.whole(1, 100_000), default=24, metavar="N", help="passages of each source (default %(default)s)")
    parser.add_argument("--prompt-characters", type=options.whole(20, 4000), default=samples.DEFAULT_PROMPT_CHARACTERS, metavar="N",
                        help="of a passage are the prompt, which is routed by; the rest is scored (default %(default)s)")
    parser.add_argument("--prototypes", type=options.whole(1, 1024), default=prototypes.DEFAULT_COUNT, metavar="N", help="of each expert (default %(default)s)")
    parser.add_argument("--mode", choices=("fast", "exact"), default="fast", help="numerics of the worker (default %(default)s)")
    parser.add_argument("--worker-threads", type=options.whole(0, 256), default=0, metavar="N", help="0: one a core")


def scoring_of(arguments: argparse.Namespace, whole: sets.AdapterSet | None) -> dict:
    """What decides the figures beside the set itself; the number of threads only the times."""
    return {**{name: getattr(arguments, name) for name in ("samples", "prompt_characters", "prototypes", "mode", "seed", "worker_threads")},
            sets.EVERYTHING: whole.finished(whole.tasks()[0])["fingerprint"] if whole else None}


def numerics_of(found: manifest.Run, arguments: argparse.Namespace) -> str:
    """Tells scores of one base and mode from others in the cache."""
    return f"{found.manifest.base['digest']} {arguments.mode}"


@contextlib.contextmanager
def serving(found: manifest.Run, adapters: sets.AdapterSet, whole: sets.AdapterSet | None,
            arguments: argparse.Namespace) -> Iterator[tuple[Gateway, evaluating.Candidates]]:
    """A cluster of our own with the set's experts, and with the adapter of `whole`, ended with the block."""
    base, embedder = binaries.find_base(arguments.model), binaries.find_embedder(arguments.embedder)
    with tempfile.TemporaryDirectory(prefix="coterie-experts-") as scratch:
        folder = pathlib.Path(scratch)
        made = {"prefix": "", "version": "1", "n_prototypes": arguments.prototypes}
        written = folders.write_experts(adapters, folder / "experts", **made)
        everything = folders.write_experts(whole, folder / "everything", **made) if whole else []
        store = folder / "store"
        store.mkdir()
        with own_cluster(base, embedder, store, bin_folder=arguments.bin, mode=arguments.mode, threads=arguments.worker_threads) as gateway:
            live.check_gateway(gateway, found.manifest)
            yield gateway, _candidates(gateway, written, everything, found.manifest.base["digest"])


def _candidates(gateway: Gateway, written: list[pathlib.Path], everything: list[pathlib.Path], base_digest: str) -> evaluating.Candidates:
    """Publishes all and says who they are."""
    for folder, answer in live.publish_many(gateway, written + everything):
        if not answer.HasField("published"):
            raise Refused(f"cannot publish {folder.name}: {answer.message}")
    listed, token = {}, ""
    while True:
        page = gateway.admin_call("ExpertService.List", gateway.protocol.ListExpertsRequest(page_size=1000, page_token=token))
        listed |= {e.name: e.digest for e in page.experts}
        token = page.next_page_token
        if not token:
            break
    return evaluating.Candidates([f.name for f in written], {**listed, evaluating.BASE: base_digest},
                                 [load_file(f / "prototypes.safetensors")["prototypes"] for f in written], bool(everything))


def run(arguments: argparse.Namespace) -> int:
    found = manifest.load(arguments.run_folder)
    adapters = sets.open_set(found, arguments.set_name)
    whole = sets.open_set(found, arguments.everything_set) if arguments.everything_set else None
    if adapters.everything or (whole and not whole.everything):
        raise Refused(f"--set is a mixture and --everything-set one adapter; here they are {arguments.set_name!r} and {arguments.everything_set!r}")
    out = arguments.out or adapters.folder / "report"
    result = evaluate(found, adapters, whole, out, arguments)
    for name, figures in result["policies"].items():
        say(f"{name:32} loss {figures['loss']:.3f}  perplexity {figures['perplexity_below_base']:7.1%} below base  regret {figures['regret']:.3f}")
    say(f"{out / 'evaluation.html'}")
    return 0


def evaluate(found: manifest.Run, adapters: sets.AdapterSet, whole: sets.AdapterSet | None, out: pathlib.Path, arguments: argparse.Namespace) -> dict:
    """The figures of evaluation.json, which is written to `out` with its page. `arguments` are those of add_scoring()."""
    with serving(found, adapters, whole, arguments) as (gateway, candidates):
        result = _evaluate(gateway, found, adapters, whole, candidates, arguments)
    files.write_json(out / "evaluation.json", result)
    files.write_atomically(out / "evaluation.html", report.page(result))
    return result


def _evaluate(gateway: Gateway, found: manifest.Run, adapters: sets.AdapterSet, whole: sets.AdapterSet | None, candidates: evaluating.Candidates,
              arguments: argparse.Namespace) -> dict:
    vectors = embeddings.EmbeddingCache(found.manifest.embedder["digest"])
    cache = scores.ScoreCache(found.folder / "scores.sqlite")
    how = dict(per_domain=arguments.samples, prompt_characters=arguments.prompt_characters, seed=arguments.seed,
               numerics=numerics_of(found, arguments), cache=cache, embed=lambda texts: embeddings.embed(gateway, texts, vectors))
    try:
        held_out = evaluating.evaluate(gateway, found, candidates, HELD_OUT, **how)
        there = {chunk.split for chunk in found.chunks}
        validation, outside = (evaluating.evaluate(gateway, found, candidates, split, **how)["policies"] if split in there else {}
                               for split in (VALIDATION, OUTSIDE))
        drawn = held_out.pop("drawn")
        chosen = [drawn[i] for i in np.linspace(0, len(drawn) - 1, min(len(drawn), _TIMED_PROMPTS)).astype(int)]
        first = routing.share_of_first_token(gateway, candidates.experts, [(s.prompt + s.completion)[:_TIMED_CHARACTERS] for s in chosen])
    finally:
        cache.close()
        vectors.close()
    of_base = outside[evaluating.BASE]["loss"] if outside else 0.0
    return {
        "made": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="minutes"), "machine": f"{_processor()}, {os.cpu_count()} cores",
        "numerics": arguments.mode, "base": found.manifest.base["name"], "experts": len(candidates.experts), "set": adapters.name,
        "scoring": scoring_of(arguments, whole), "settings": adapters.settings.decides(), "clustering": found.manifest.settings, **held_out, "first_token": first,
        "validation_loss": {name: p["loss"] for name, p in validation.items()},
        "outside": {name: {"loss": p["loss"], "above_base": p["loss"] / of_base - 1, "by_domain": p["by_domain"], "to_base": p.get("to_base")}
                    for name, p in outside.items()},
    }


def _processor() -> str:
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()
