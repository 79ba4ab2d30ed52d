"""Sets of adapters in a run: one set is one choice of settings, with an adapter for each cluster or one for everything.

    RUN/sets/<set>/settings.json                 what the set's adapters are made with
    RUN/sets/<set>/<name>/                       a finished adapter: PEFT's two files and training.json
    RUN/sets/<set>/work/<name>.{checkpoint,progress,log,lock}
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib

from coterie_experts.errors import Refused
from coterie_experts.files import beside, read_json, sha256, write_atomically
from coterie_experts.run.manifest import Run
from coterie_experts.training.settings import Settings, divide_tokens

EXPERTS = "experts"        # what a set is called when nobody says otherwise
EVERYTHING = "everything"  # the one adapter's name, and its set's by default


@dataclasses.dataclass(frozen=True)
class Task:
    """One adapter to train."""
    index: int
    name: str
    cluster: int | None  # None: all of them
    tokens: int


@dataclasses.dataclass(frozen=True)
class AdapterSet:
    """The settings of a set and the places of its files."""
    run: Run
    name: str
    settings: Settings
    everything: bool

    @property
    def folder(self) -> pathlib.Path:
        return self.run.folder / "sets" / self.name

    def adapter(self, task: Task) -> pathlib.Path:
        return self.folder / task.name

    def work(self, task: Task, suffix: str) -> pathlib.Path:
        return self.folder / "work" / f"{task.name}.{suffix}"

    def tasks(self) -> list[Task]:
        clusters = self.run.manifest.clusters
        tokens = divide_tokens(self.settings, [c.characters for c in clusters])
        if self.everything:
            return [Task(0, EVERYTHING, None, sum(tokens))]
        return [Task(c.index, c.name, c.index, n) for c, n in zip(clusters, tokens)]

    def tokens(self) -> int:
        """To train, all adapters together."""
        return sum(task.tokens for task in self.tasks())

    def texts(self, task: Task) -> list[str]:
        return [self.run.chunks[i].text for i in self.run.chunks_of(task.cluster)]

    def fingerprint(self, task: Task, base_digest: str) -> str:
        """Tells this very training from one of other settings, another base or other text."""
        parts = {"settings": self.settings.decides(), "tokens": task.tokens, "base": base_digest,
                 "text": sha256("\0".join(self.texts(task)))}
        return sha256(json.dumps(parts, sort_keys=True))

    def finished(self, task: Task) -> dict | None:
        """training.json of a finished adapter; None where there is none yet."""
        path = self.adapter(task) / "training.json"
        return read_json(path) if path.is_file() else None


def claim(run: Run, name: str, settings: Settings, everything: bool) -> AdapterSet:
    """The set `name`, made now or found with the very same settings. Many processes may claim at once."""
    wanted = {"settings": settings.decides(), EVERYTHING: everything}
    path = run.folder / "sets" / name / "settings.json"
    if not path.exists():
        mine = beside(path, "mine")
        write_atomically(mine, json.dumps(wanted, indent=1) + "\n")
        try:
            os.link(mine, path)
        except FileExistsError:
            pass
        finally:
            mine.unlink()
    found = read_json(path)
    if found != wanted:
        differing = [k for k in wanted["settings"] if found.get("settings", {}).get(k) != wanted["settings"][k]]
        what = f"{differing[0]} {found.get('settings', {}).get(differing[0])!r}, not {wanted['settings'][differing[0]]!r}" if differing else EVERYTHING
        raise Refused(f"set {name!r} of {run.folder} was begun with other settings ({what}); choose another --set, or remove {path.parent}")
    return AdapterSet(run, name, settings, everything)


def open_set(run: Run, name: str) -> AdapterSet:
    """A set that was begun."""
    path = run.folder / "sets" / name / "settings.json"
    if not path.is_file():
        begun = sorted(p.parent.name for p in run.folder.glob("sets/*/settings.json"))
        raise Refused(f"{run.folder} has no set {name!r}; it has {', '.join(begun) or 'none'}: train one with `coterie-experts train {run.folder}`")
    values = read_json(path)
    try:
        return AdapterSet(run, name, Settings(**values["settings"]), values[EVERYTHING])
    except (KeyError, TypeError) as error:
        raise Refused(f"{path} holds no settings that this version knows: {error!r}") from error
