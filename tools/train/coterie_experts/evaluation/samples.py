"""What is scored: held-out chunks, each a prompt to route by and the rest to predict."""

from __future__ import annotations

import dataclasses
import random

from coterie_experts.errors import Refused
from coterie_experts.run.manifest import Run

DEFAULT_PROMPT_CHARACTERS = 300  # about 75 tokens; the router reads 64 of a question
_LEAST_COMPLETION = 100


@dataclasses.dataclass(frozen=True)
class Sample:
    chunk: int    # index into the run's
    domain: str   # its source: what a reader can check
    prompt: str
    completion: str


def _cut(text: str, characters: int) -> tuple[str, str]:
    """Before the first space from `characters` on: no word is cut in two."""
    at = text.find(" ", characters)
    return (text[:at], text[at:]) if at > 0 else (text, "")


def draw(run: Run, split: str, per_domain: int, prompt_characters: int, seed: int) -> list[Sample]:
    """At most `per_domain` samples of each source in `split`, the same for every clustering of the same text."""
    by_domain: dict[str, list[Sample]] = {}
    for i, chunk in enumerate(run.chunks):
        if chunk.split != split:
            continue
        prompt, completion = _cut(chunk.text, prompt_characters)
        if len(completion) >= _LEAST_COMPLETION:
            domain = run.manifest.documents[chunk.document].source
            by_domain.setdefault(domain, []).append(Sample(i, domain, prompt, completion))
    if not by_domain:
        raise Refused(f"{run.folder} has no text of split {split!r} with {prompt_characters + _LEAST_COMPLETION} characters")
    return [sample for domain, found in sorted(by_domain.items())
            for sample in random.Random(f"{seed}{domain}").sample(sorted(found, key=lambda s: s.prompt + s.completion), min(per_domain, len(found)))]
