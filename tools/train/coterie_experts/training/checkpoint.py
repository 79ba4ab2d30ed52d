"""Where a killed training goes on: one file, replaced whole every few steps."""

from __future__ import annotations

import dataclasses
import json
import pathlib

from coterie_experts.files import sha256, write_atomically
from coterie_experts.progress import say


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    fingerprint: str  # of settings, base and text
    step: int         # the next one to do
    seconds: float    # spent so far
    loss: float       # recent mean, nats per token
    state: bytes      # the learner's


def save(path: pathlib.Path, checkpoint: Checkpoint) -> None:
    """A line of JSON, then the learner's bytes."""
    head = {k: v for k, v in dataclasses.asdict(checkpoint).items() if k != "state"} | {"sha256": sha256(checkpoint.state)}
    write_atomically(path, json.dumps(head).encode() + b"\n" + checkpoint.state)


def load(path: pathlib.Path, fingerprint: str) -> Checkpoint | None:
    """None, and aloud, where it is of another training or not whole; None where there is none."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        line, _, state = raw.partition(b"\n")
        head = json.loads(line)
        if head.pop("sha256") != sha256(state):
            raise ValueError("its bytes are not those that were written")
        found = Checkpoint(state=state, **head)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        say(f"{path} is no whole checkpoint ({error}); starting over")
        return None
    if found.fingerprint != fingerprint:
        say(f"{path} is of other settings or other text; starting over")
        return None
    return found
