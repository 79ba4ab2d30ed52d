"""A set's adapters as expert folders (docs/expert-format.md)."""

from __future__ import annotations

import pathlib
import re
import shutil

import numpy as np

from coterie_experts.corpus.splits import VALIDATION
from coterie_experts.errors import Refused
from coterie_experts.files import folder_in_making, write_atomically
from coterie_experts.publishing import card, prototypes
from coterie_experts.training.sets import AdapterSet, Task

FILES = ("adapter_config.json", "adapter_model.safetensors", "expert.yaml", "prototypes.safetensors")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def expert_name(task: Task, prefix: str) -> str:
    name = prefix + task.name
    if not _NAME.fullmatch(name):
        raise Refused(f"{name!r} is no expert's name: a to z, 0 to 9, '.', '_' and '-', at most 64, the first a letter or digit")
    return name


def finished_tasks(adapters: AdapterSet) -> list[Task]:
    """All of the set. Refused, naming one, while any is missing: a mixture is published whole or not at all."""
    tasks = adapters.tasks()
    missing = [task.name for task in tasks if adapters.finished(task) is None]
    if missing:
        raise Refused(f"{len(missing)} of {len(tasks)} adapters of set {adapters.name!r} are not trained yet, such as {missing[0]}; "
                      f"run `coterie-experts train {adapters.run.folder}` with the same options to its end")
    return tasks


def write_experts(adapters: AdapterSet, out: pathlib.Path, *, prefix: str, version: str, n_prototypes: int,
                  min_score: float | None = None, routing_reference: bool = False) -> list[pathlib.Path]:
    """Writes out/<name>/ for each adapter of the set, each whole or not at all, and returns the folders.

    `min_score` goes onto the cards instead of the calibrated one."""
    points, written = adapters.run.embeddings(), []
    for task in finished_tasks(adapters):
        name = expert_name(task, prefix)
        own = points[np.array(adapters.run.chunks_of(task.cluster))]
        with folder_in_making(out / name) as folder:
            for file in FILES[:2]:
                shutil.copyfile(adapters.adapter(task) / file, folder / file)
            found = prototypes.make_prototypes(own, n_prototypes, adapters.settings.seed)
            values = card.make_card(adapters, task, name, version, min_score)
            unseen = points[np.array(adapters.run.chunks_of(task.cluster, VALIDATION), dtype=int)]
            if routing_reference and len(unseen) > 0:
                values["routing"] = prototypes.routing_reference(unseen, found)
            write_atomically(folder / "expert.yaml", card.text_of(values))
            prototypes.save_prototypes(folder / "prototypes.safetensors", found, adapters.run.manifest.embedder)
        written.append(out / name)
    return written
