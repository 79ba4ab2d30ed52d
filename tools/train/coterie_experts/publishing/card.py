"""The expert's card, expert.yaml: what it is, what it was made from, and how (docs/expert-format.md)."""

from __future__ import annotations

import yaml

from coterie_experts.corpus.splits import TRAIN
from coterie_experts.files import read_json
from coterie_experts.product.binaries import base_name
from coterie_experts.run.manifest import Manifest, Run
from coterie_experts.training.sets import EVERYTHING, AdapterSet, Task

CALIBRATION = "calibration.json"  # of a set; `calibrate` writes it
_TERMS_TOLD, _SOURCES_TOLD = 6, 4


def _licence(manifest: Manifest, sources: dict[str, float]) -> str:
    licences = {s.name: s.licence for s in manifest.sources}
    told = [licences.get(name, "unknown") for name in sources]
    return "; ".join(dict.fromkeys(told)) or "unknown"


def _sources_of(run: Run, task: Task) -> dict[str, float]:
    """Share of each source in the training chunks, largest first."""
    if task.cluster is not None:
        return run.manifest.clusters[task.cluster].sources
    counts: dict[str, int] = {}
    for cluster in run.manifest.clusters:
        for source, share in cluster.sources.items():
            counts[source] = counts.get(source, 0) + round(share * cluster.chunks.get(TRAIN, 0))
    total = sum(counts.values())
    return {s: round(n / total, 4) for s, n in sorted(counts.items(), key=lambda item: -item[1])}


def _thresholds(adapters: AdapterSet, min_score: float | None) -> dict:
    path = adapters.folder / CALIBRATION
    if min_score is None and path.is_file():
        min_score = read_json(path)["min_score"]
    return {} if min_score is None else {"thresholds": {"min_score": min_score}}


def make_card(adapters: AdapterSet, task: Task, name: str, version: str, min_score: float | None = None) -> dict:
    run, manifest = adapters.run, adapters.run.manifest
    sources, record = _sources_of(run, task), adapters.finished(task)
    origins = ", ".join(f"{source} {share:.0%}" for source, share in list(sources.items())[:_SOURCES_TOLD])
    if task.cluster is None:
        description = f"One adapter on everything: {origins}"
    else:
        told = manifest.clusters[task.cluster].terms[:_TERMS_TOLD]
        description = f"{', '.join(told)} ({origins})" if told else origins
    chunks = run.chunks_of(task.cluster)
    labelled = task.cluster is not None and manifest.settings["method"] == "labels"
    return {
        "name": name, "version": version, "description": description,
        **({"tags": [manifest.clusters[task.cluster].name]} if labelled else {}),
        **_thresholds(adapters, min_score),
        "base": base_name(manifest.base["name"]), "base_digest": manifest.base["digest"],
        "embedder": manifest.embedder["name"], "licence": _licence(manifest, sources),
        "training_data": {"sources": sources, "documents": len({run.chunks[i].document for i in chunks}), "chunks": len(chunks),
                          "clusters": EVERYTHING if task.cluster is None else manifest.settings["method"]},
        "training": {**{k: getattr(adapters.settings, k) for k in ("rank", "alpha", "modules", "layers", "learning_rate", "seed")},
                     **{k: record[k] for k in ("steps", "tokens", "distinct_tokens", "seconds", "loss")}},
    }


def text_of(card: dict) -> str:
    return yaml.safe_dump(card, sort_keys=False, allow_unicode=True, width=100, default_flow_style=None)
