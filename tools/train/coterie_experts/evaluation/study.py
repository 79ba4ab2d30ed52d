"""The document of a study: what several clusterings, and one adapter on everything, do to held-out text."""

from __future__ import annotations

import dataclasses
import math
import pathlib
import shutil
import textwrap

from coterie_experts import files
from coterie_experts.corpus.splits import HELD_OUT, OUTSIDE, TRAIN
from coterie_experts.errors import Refused
from coterie_experts.evaluation import plots
from coterie_experts.evaluation.evaluating import BASE, BY_PRODUCT, COMPARED, EVERYTHING, ORACLE, RANDOM, best_policy
from coterie_experts.run.manifest import Run
from coterie_experts.training import sets

# What a deployment may expect, and what the document says was reached or missed.
LEAST_BELOW_BASE, LEAST_KEPT, MOST_OUTSIDE_ABOVE, MOST_ROUTING_SHARE = 0.20, 0.97, 0.01, 0.06


@dataclasses.dataclass(frozen=True)
class Result:
    """One evaluated set."""
    run: Run
    adapters: sets.AdapterSet
    found: dict  # evaluation.json

    @property
    def name(self) -> str:
        n = len(self.run.manifest.clusters)
        told = f"{n} sources as labels" if self.run.manifest.settings["method"] == "labels" else f"{n} clusters"
        return told if self.adapters.name == sets.EXPERTS else f"{told}, {self.adapters.name}"

    def chosen(self, mixing: bool = False) -> str:
        """The best policy on validation text."""
        return best_policy(self.found["validation_loss"], mixing)

    @property
    def validation_loss(self) -> float:
        return self.found["validation_loss"][self.chosen()]

    def policy(self, name: str) -> dict:
        return self.found["policies"][name]

    def seconds(self) -> float:
        """Of training, all adapters together."""
        return sum(self.adapters.finished(task)["seconds"] for task in self.adapters.tasks())


def evaluated(run: Run) -> list[Result]:
    """The run's sets that have a report. Refused, naming it, when one cannot be read."""
    results = []
    for path in sorted(run.folder.glob("sets/*/report/evaluation.json")):
        found = files.read_json(path)
        if missing := [name for name in (BASE, BY_PRODUCT, ORACLE) if name not in found.get("policies", {})]:
            raise Refused(f"{path} has no figures of {missing[0]!r}; evaluate that set again, or remove it")
        results.append(Result(run, sets.open_set(run, path.parent.parent.name), found))
    return results


def _table(heads: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in (heads, ["---"] * len(heads), *rows)) + "\n"


def _percent(share: float | None, digits: int = 1, sign: str = "") -> str:
    return "–" if share is None else f"{share:{sign}.{digits}%}".replace("%", " %")


def _from(shares: dict[str, float], most: int = 3) -> str:
    """"python 94 %, rust 3 %": where chunks come from."""
    return ", ".join(f"{source} {_percent(share, 0)}" for source, share in list(shares.items())[:most])


def _below(policy: dict) -> str:
    return _percent(policy["perplexity_below_base"])


def _minus_everything(policy: dict) -> str:
    mean, error = policy["minus_everything"]
    return f"{mean:+.3f}" + (f" ± {error:.3f}" if error is not None else "")


def _settings_table(results: list[Result], best: Result) -> str:
    rows = [[f"**{r.name}**" if r is best else r.name, f"{r.policy(BY_PRODUCT)['loss']:.3f}", _minus_everything(r.policy(BY_PRODUCT)), r.adapters.settings.share,
             *(_below(r.policy(name)) for name in (BY_PRODUCT, r.chosen(), r.chosen(mixing=True), ORACLE, RANDOM)), f"{r.seconds() / 60:.0f} min"]
            for r in results]
    first = results[0]
    whole = first.policy(EVERYTHING)
    rows = [["base", f"{first.policy(BASE)['loss']:.3f}", *"––––––––"],
            ["one adapter on everything (1 cluster)", f"{whole['loss']:.3f}", "–", "–", _below(whole), *"–––––"], *rows]
    return _table(["", "loss", "minus everything's", "tokens shared", "perplexity below the base, as the product routes", "by the best policy of one expert", "by the best of all policies", "oracle",
                   "random expert", "training, one core"], rows)


def _policies_table(result: Result) -> str:
    rows = [[f"**{name}**" if name in (result.chosen(), result.chosen(mixing=True)) else name, f"{p['loss']:.3f}", "–" if name == EVERYTHING else _minus_everything(p), _below(p), f"{p['regret']:.4f}", _percent(p["kept"]), _percent(p.get("to_base"), 0)]
            for name, p in result.found["policies"].items()]
    return _table(["", "loss", "minus everything's", "perplexity below the base", "regret", "of the oracle's gain kept", "sent to the base"], rows)


def _domains_table(result: Result) -> str:
    rows = [[domain, *(f"{result.policy(name)['by_domain'][domain]:.3f}" for name in COMPARED),
             _percent(1 - math.exp(result.policy(BY_PRODUCT)["by_domain"][domain] - loss))]
            for domain, loss in sorted(result.policy(BASE)["by_domain"].items())]
    return _table(["", *COMPARED, "perplexity below the base, as routed"], rows)


def _outside(result: Result) -> str:
    kept_out = ", ".join(s.name for s in result.run.manifest.sources if s.holdout)
    if not kept_out:
        return ""
    rows = [[name, f"{p['loss']:.3f}", _percent(p["above_base"], sign="+"), _percent(p["to_base"], 0)]
            for name, p in result.found["outside"].items() if name not in (ORACLE, RANDOM)]
    return f"""## Text of no field

Kept out of training altogether: {kept_out}. Such text should go to the base, or lose little by an expert.

{_table(["", "loss", "above the base", "sent to the base"], rows)}
"""


def _bars(best: Result) -> str:
    routed, one, any_of = best.policy(BY_PRODUCT), best.chosen(), best.chosen(mixing=True)
    base, everything = best.policy(BASE)["by_domain"], best.policy(EVERYTHING)["by_domain"]
    worse = [d for d, loss in routed["by_domain"].items() if loss >= base[d]]
    outside, first = best.found["outside"].get(BY_PRODUCT), best.found["first_token"]

    def told(met: bool) -> str:
        return "reached" if met else "**missed**"

    rows = [["routed loss below the base's on every domain", f"{len(base) - len(worse)} of {len(base)}" + (f", not {', '.join(worse)}" if worse else ""), told(not worse)],
            [f"perplexity at least {_percent(LEAST_BELOW_BASE, 0)} below the base's", _below(routed), told(routed["perplexity_below_base"] >= LEAST_BELOW_BASE)],
            [f"routing keeps {_percent(LEAST_KEPT, 0)} of the oracle's gain, by the policy chosen on validation text",
             f"{_percent(best.policy(any_of)['kept'])} ({any_of}); with one expert {_percent(best.policy(one)['kept'])} ({one})", told((best.policy(any_of)["kept"] or 0) >= LEAST_KEPT)]]
    if outside:
        rows.append([f"text of no field at most {_percent(MOST_OUTSIDE_ABOVE, 0)} worse than with the base",
                     f"{_percent(outside['above_base'], sign='+')}, {_percent(outside['to_base'], 0)} sent to the base", told(outside["above_base"] <= MOST_OUTSIDE_ABOVE)])
    mean, error = routed["minus_everything"]
    n_better = sum(loss < everything[d] for d, loss in routed["by_domain"].items())
    said = "" if error is None else "wins (2 errors)" if mean < -2 * error else "loses (2 errors)" if mean > 2 * error else "within 2 errors"
    rows.append(["loss as routed, minus that of one adapter trained on everything with the same tokens", f"{_minus_everything(routed)} nats, lower on {n_better} of {len(base)} domains", said])
    rows.append([f"routing at most {_percent(MOST_ROUTING_SHARE, 0)} of the time to the first token",
                 f"{_percent(first['routing_share'])} of {first['first_token_seconds'] * 1e3:.0f} ms at {first['prompt_tokens']:.0f} prompt tokens, {best.found['experts']} experts; [benchmarks](benchmarks.md): 64", told(first["routing_share"] <= MOST_ROUTING_SHARE)])
    return _table(["", "found", ""], rows)


def _others_table(results: list[Result]) -> str:
    if not results:
        return "None.\n"
    rows = [[f"{r.run.folder.name}: {r.name}", f"{r.adapters.tokens() // len(r.adapters.tasks()):,}", f"{r.adapters.settings.learning_rate:g}", str(r.adapters.settings.batch_tokens),
             r.adapters.settings.share, str(r.adapters.settings.rank), r.adapters.settings.layers, str(r.found["samples"]), f"{r.policy(BASE)['loss'] - r.policy(BY_PRODUCT)['loss']:.3f}",
             f"{r.policy(BASE)['loss'] - r.policy(ORACLE)['loss']:.3f}",
             f"{r.policy(BASE)['loss'] - r.policy(EVERYTHING)['loss']:.3f}" if EVERYTHING in r.found["policies"] else "–"] for r in results]
    return _table(["set", "tokens an expert", "learning rate", "tokens a step", "shares", "rank", "layers", "passages", "gain as routed", "gain of the oracle", "of everything"], rows)


def _text_table(run: Run) -> str:
    chunks = {}
    for chunk in run.chunks:
        of_source = chunks.setdefault(run.manifest.documents[chunk.document].source, {})
        of_source[chunk.split] = of_source.get(chunk.split, 0) + len(chunk.text)
    rows = [[s.name, s.licence, f"{s.documents:,}", *(f"{chunks.get(s.name, {}).get(split, 0) / 1e6:.2f}" for split in (TRAIN, HELD_OUT, OUTSIDE))] for s in run.manifest.sources]
    return _table(["source", "licence", "documents", "training, 10⁶ characters", "held out", "never trained on"], rows)


def _clusters_table(run: Run) -> str:
    rows = [[c.name, f"{c.chunks.get(TRAIN, 0):,}", _from(c.sources), ", ".join(c.terms[:6])]
            for c in run.manifest.clusters]
    return _table(["expert", "chunks", "where they come from", "telling terms"], rows)


def _preface(best: Result, whole: sets.AdapterSet) -> str:
    found, settings = best.found, whole.settings
    return f"""{found["made"][:10]}, {found["machine"]}. Base {found["base"]}; scored by the product's own `Score`, numerics `{found["numerics"]}`, on
{found["samples"]} held-out passages ({found["tokens"]:,} tokens) of documents that nobody trained on. The beginning of a passage is its prompt, by
which it is routed; the rest is predicted. Every setting trains {whole.tokens():,} tokens in all (repeats included), rank {settings.rank}, {settings.layers} layers, learning rate {settings.learning_rate:g}, {settings.batch_tokens} tokens a step. Losses, gains and regret are in
nats per token, with the standard error over passages of these domains behind a ± (another training would differ, too). The best
setting, in bold, is the one of least loss on validation text."""


def text(results: list[Result], best: Result, others: list[Result], whole: sets.AdapterSet, command: str, pictures: str) -> str:
    found, first = best.found, best.found["first_token"]
    return f"""# Do experts help?

    {command or "coterie-experts study …"}

{textwrap.fill(_preface(best, whole), 128)}

## What was reached

{_bars(best)}
## How many experts

{_settings_table(results, best)}
![Perplexity below the base by setting]({pictures}/settings.svg)

The oracle takes for each passage the expert of least loss; it knows the answer. A random expert says what routing is worth. Policies
are chosen on validation text; c-BTM mixes the distributions of several experts and costs the time of each. A name behind a comma is
that of a set which `train --set` and `evaluate --set` added, with as many tokens.

## {best.name}: policies

{_policies_table(best)}
## {best.name}: domains

{_domains_table(best)}
![Loss by domain]({pictures}/domains.svg)

The whole matrix of experts and domains is on [the page of this setting]({pictures}/evaluation.html).

{_outside(best)}## What routing costs

{_percent(first["routing_share"])} of {first["first_token_seconds"] * 1e3:.0f} ms to the first token at {first["prompt_tokens"]:.0f} prompt tokens with {found["experts"]} experts (medians of {first["prompts"]}); more in [benchmarks](benchmarks.md).

## Other settings that were tried

{_others_table(others)}
## The experts of the best setting

{_clusters_table(best.run)}
## The text

{_text_table(best.run)}"""


def _how(adapters: sets.AdapterSet) -> dict:
    """The settings, without how much and of what."""
    left_out = ("tokens_per_expert", "total_tokens", "share", "seed")
    return {name: value for name, value in adapters.settings.decides().items() if name not in left_out}


def write(document: pathlib.Path, runs: list[Run], beside: list[Result], whole: sets.AdapterSet, command: str) -> None:
    """`document` and, in a folder of its name beside it, its pictures and the page of the best setting.

    The sets of `runs` that were trained as `whole` was, but for how tokens are shared, and evaluated alike are compared;
    all others, and `beside`, were tried too."""
    every = [result for run in runs for result in evaluated(run)]
    scoring = next(r.found["scoring"] for r in every if r.adapters.name == sets.EXPERTS)
    results, others = [], list(beside)
    for r in every:
        alike = r.found.get("scoring") == scoring and abs(r.adapters.tokens() - whole.tokens()) <= 0.01 * whole.tokens() and _how(r.adapters) == _how(whole)
        (results if alike else others).append(r)
    pictures = document.with_suffix("")
    best = min(results, key=lambda r: r.validation_loss)
    shown = (ORACLE, BY_PRODUCT, RANDOM)
    files.write_atomically(pictures / "settings.svg", plots.as_svg(plots.settings_figure(
        [r.name for r in results], {name: [r.policy(name)["perplexity_below_base"] for r in results] for name in shown}, results[0].policy(EVERYTHING)["perplexity_below_base"])))
    files.write_atomically(pictures / "domains.svg", plots.as_svg(plots.domains_figure(best.found["policies"], COMPARED)))
    shutil.copyfile(best.adapters.folder / "report" / "evaluation.html", pictures / "evaluation.html")
    files.write_atomically(document, text(results, best, others, whole, command, pictures.name))
