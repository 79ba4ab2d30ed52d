#!/usr/bin/env python3
"""Draws what `coterie bench --samples` wrote: one picture with the distributions and the course of a run.

  coterie bench --rate 8 --requests 400 --samples calm.jsonl
  coterie bench --rate 16 --requests 800 --samples busy.jsonl
  tests/bench/plot.py out.png calm.jsonl busy.jsonl

Needs matplotlib. Answers that failed are counted in the legend and drawn nowhere."""

import argparse
import collections
import json
import pathlib
import statistics

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

MOST_EXPERTS = 20


def read(path: pathlib.Path):
    samples = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    return [s for s in samples if s["status"] == "OK"], sum(s["status"] != "OK" for s in samples)


def distribution(axes, runs, field: str, title: str) -> None:
    for name, samples in runs.items():
        values = sorted(s[field] for s in samples)
        axes.step(values, [(i + 1) / len(values) for i in range(len(values))], where="post", label=name)
    axes.set(title=title, xlabel="seconds", ylabel="share of answers", ylim=(0, 1))
    axes.grid(alpha=0.3)


def course(axes, runs) -> None:
    for name, samples in runs.items():
        axes.plot([s["start_seconds"] for s in samples], [s["first_token_seconds"] for s in samples], ".", markersize=3, label=name)
    axes.set(title="time to first token over the run", xlabel="meant to start at (s)", ylabel="seconds", ylim=(0, None))
    axes.grid(alpha=0.3)


def experts(axes, runs) -> None:
    asked = collections.Counter(s["expert"] for samples in runs.values() for s in samples)
    names = [name for name, _ in asked.most_common(MOST_EXPERTS)]
    for i, (run, samples) in enumerate(runs.items()):
        groups = collections.defaultdict(list)
        for s in samples:
            groups[s["expert"]].append(s["first_token_seconds"])
        heights = [statistics.median(groups[name]) if name in groups else 0 for name in names]
        axes.bar([p + i / (len(runs) + 1) for p in range(len(names))], heights, width=1 / (len(runs) + 1), label=run)
    axes.set_xticks(range(len(names)), [f"{name} ({asked[name]})" for name in names], rotation=60, ha="right", fontsize=7)
    axes.set(title=f"median time to first token by expert (at most {MOST_EXPERTS})", ylabel="seconds")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=pathlib.Path, help=".png, .svg or .pdf")
    parser.add_argument("samples", type=pathlib.Path, nargs="+", help="files of `coterie bench --samples`")
    options = parser.parse_args()
    runs = {}
    for path in options.samples:
        answered, failed = read(path)
        if not answered:
            parser.error(f"{path}: no answer in it")
        runs[path.stem + (f" ({failed} failed)" if failed else "")] = answered
    figure, axes = plt.subplots(2, 3, figsize=(15, 8), layout="constrained")
    distribution(axes[0][0], runs, "first_token_seconds", "time to first token")
    distribution(axes[0][1], runs, "per_output_token_seconds", "time per output token")
    distribution(axes[0][2], runs, "total_seconds", "whole answer")
    course(axes[1][0], runs)
    experts(axes[1][1], runs)
    distribution(axes[1][2], runs, "late_start_seconds", "sent late by")
    axes[0][0].legend()
    figure.savefig(options.picture, dpi=120)
    print(f"wrote {options.picture}")


if __name__ == "__main__":
    main()
