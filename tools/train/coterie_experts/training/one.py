"""Trains one adapter of a set, in this process: from its checkpoint, to its folder."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import fcntl
import pathlib
import signal
from typing import Iterator

from coterie_experts.errors import Refused
from coterie_experts.files import folder_in_making, write_json
from coterie_experts.progress import say
from coterie_experts.training import learner as learners
from coterie_experts.training import loop, plan
from coterie_experts.training.sets import AdapterSet, Task

_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """A trainer whose starter is killed ends too, instead of going on unseen beside its successor (Linux)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@contextlib.contextmanager
def _alone(path: pathlib.Path, what: str) -> Iterator[None]:
    """Two trainers of one adapter would write over each other's checkpoint. The lock ends with its process."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Refused(f"{what} is being trained by another process ({path} is locked)") from error
        yield


def is_done(adapters: AdapterSet, task: Task, base_digest: str) -> bool:
    """Whether the adapter is there; Refused where one is that was made of something else."""
    record = adapters.finished(task)
    if record is None:
        return False
    if record.get("fingerprint") != adapters.fingerprint(task, base_digest):
        raise Refused(f"{adapters.adapter(task)} was trained on other text, settings or another base; choose another --set, or remove it")
    return True


def train_one(adapters: AdapterSet, task: Task, model: pathlib.Path, base_digest: str, learner_name: str = learners.DEFAULT) -> None:
    settings = adapters.settings
    with _alone(adapters.work(task, "lock"), f"{task.name} of set {adapters.name!r}"):
        if is_done(adapters, task, base_digest):
            say(f"{task.name}: is there")
            return
        learner = learners.load(learner_name, model, settings)
        examples = plan.examples_of(learner.encode(adapters.texts(task)), settings.max_tokens)
        try:
            steps = plan.make_plan(examples, task.tokens, settings.batch_tokens, settings.seed)
        except Refused as error:
            raise Refused(f"{task.name}: {error}") from error
        say(f"{task.name}: {len(steps.batches)} steps, {steps.n_tokens} tokens ({steps.n_tokens / steps.n_distinct:.2f} times its text)")
        fingerprint = adapters.fingerprint(task, base_digest)
        checkpoint = adapters.work(task, "checkpoint")
        result = loop.train(learner, steps, settings, checkpoint, fingerprint, loop.Progress(adapters.work(task, "progress")))
        with folder_in_making(adapters.adapter(task)) as folder:
            learner.save_adapter(folder)
            write_json(folder / "training.json", {"fingerprint": fingerprint, "base_file_sha256": base_digest, **dataclasses.asdict(result)})
        checkpoint.unlink(missing_ok=True)
        say(f"{task.name}: done, loss {result.loss:.3f} in the last steps, {result.seconds:.0f} s")
