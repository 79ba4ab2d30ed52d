"""The training of one adapter: steps, checkpoints, progress. Knows nothing of torch."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import pathlib
import time

from coterie_experts.errors import Refused
from coterie_experts.progress import say
from coterie_experts.training import checkpoint as checkpoints
from coterie_experts.training.checkpoint import Checkpoint
from coterie_experts.training.learner import Learner
from coterie_experts.training.plan import Plan
from coterie_experts.training.settings import Settings

_RECENT = 0.9  # of the running mean of the loss
_REPORT_SECONDS = 1.0


@dataclasses.dataclass(frozen=True)
class Result:
    steps: int
    tokens: int
    distinct_tokens: int
    seconds: float  # of all runs together
    loss: float     # running mean over the last steps, nats per token


def rate_at(settings: Settings, step: int, n_steps: int) -> float:
    """Linear warm-up, then a cosine down to a twentieth."""
    n_warmup = max(1, round(settings.warmup * n_steps))
    if step < n_warmup:
        return settings.learning_rate * (step + 1) / n_warmup
    done = (step - n_warmup) / max(1, n_steps - n_warmup)
    return settings.learning_rate * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done)))


class Progress:
    """{step, steps, loss} in a small file for whoever watches; a missed report costs nothing."""

    def __init__(self, path: pathlib.Path) -> None:
        self._path, self._last = path, -math.inf

    def report(self, step: int, n_steps: int, loss: float) -> None:
        if step < n_steps and time.monotonic() - self._last < _REPORT_SECONDS:
            return
        self._last = time.monotonic()
        partial = self._path.with_suffix(".partial")
        try:
            partial.write_text(json.dumps({"step": step, "steps": n_steps, "loss": round(loss, 4)}))
            os.replace(partial, self._path)
        except OSError:  # a full disk is met again, and told, where something is lost by it
            partial.unlink(missing_ok=True)


def train(learner: Learner, plan: Plan, settings: Settings, checkpoint: pathlib.Path, fingerprint: str, progress: Progress) -> Result:
    """Runs `plan` to its end, from the checkpoint where there is one of this very training. The adapter is in `learner`."""
    n_steps = len(plan.batches)
    found = checkpoints.load(checkpoint, fingerprint)
    first, spent, loss = 0, 0.0, math.nan
    if found:
        learner.restore(found.state)
        first, spent, loss = found.step, found.seconds, found.loss
        say(f"taken up again at step {first} of {n_steps}")
    started = time.monotonic()
    progress.report(first, n_steps, loss)
    for step in range(first, n_steps):
        now = learner.step(plan.batches[step], rate_at(settings, step, n_steps))
        if not math.isfinite(now):
            raise Refused(f"the loss is {now} at step {step}: lower --learning-rate ({settings.learning_rate:g})")
        loss = now if math.isnan(loss) else _RECENT * loss + (1 - _RECENT) * now
        progress.report(step + 1, n_steps, loss)
        if (step + 1) % settings.checkpoint_steps == 0 and step + 1 < n_steps:
            elapsed = time.monotonic() - started
            checkpoints.save(checkpoint, Checkpoint(fingerprint, step + 1, spent + elapsed, loss, learner.state()))
    return Result(n_steps, plan.n_tokens, plan.n_distinct, round(spent + time.monotonic() - started, 1), round(loss, 4))
