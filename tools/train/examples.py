"""Documents to token sequences: chat pairs and plain chunks, split by document.

A *pair* is a heading turned into a question and its section as the answer, rendered with the base's own chat
template exactly as the server will render it (default system text included). Only the answer counts in the
loss. A *chunk* is a run of plain section text; all of it counts.
"""

from __future__ import annotations

import dataclasses
import hashlib
import random

from documents import Document

GENERIC_QUESTIONS = {
    "title": ["What is {title}?", "Explain {title}.", "Tell me about {title}.", "Describe {title}."],
    "section": ["{title}: {heading}", "Explain \"{heading}\" in {title}.", "What about {heading} in {title}?",
                "Describe {heading} ({title})."],
}
IGNORED = -100  # label of a position that does not count


@dataclasses.dataclass(frozen=True)
class Example:
    kind: str  # "pair" or "chunk"
    ids: tuple[int, ...]
    first_counted: int  # position of the first token that counts in the loss

    @property
    def counted(self) -> int:
        return len(self.ids) - max(self.first_counted, 1)


@dataclasses.dataclass(frozen=True)
class Question:
    """What a user would ask, and the text that answers it. Prototypes are made from these."""
    document: str
    question: str
    answer: str


def _stable_number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def split_documents(documents: list[Document], held_out: float, seed: int) -> tuple[list[Document], list[Document]]:
    """(train, held out). By document, so that no section of a held-out page was seen in training."""
    if len(documents) < 2:
        raise ValueError(f"{len(documents)} readable document(s): at least 2 are needed, one to train on and one to hold out")
    order = sorted(documents, key=lambda d: _stable_number(f"{seed}:{d.name}"))
    n_held = min(max(1, round(held_out * len(order))), len(order) - 1)
    return order[n_held:], order[:n_held]


def questions_of(document: Document, templates: dict) -> list[Question]:
    questions = []
    for section in document.sections:
        heading = section.heading or document.title
        about_title = heading == document.title
        choices = templates.get("title" if about_title else "section") or GENERIC_QUESTIONS["title"]
        choice = choices[_stable_number(f"{document.name}:{heading}") % len(choices)]
        text = choice.format(title=document.title, heading=heading).strip()
        questions.append(Question(document.name, text, section.text))
    return questions


class ExampleMaker:
    """Turns documents into examples of at most `max_tokens` tokens. Deterministic; keeps no state."""

    def __init__(self, tokenizer, render, templates: dict, max_tokens: int = 256, min_answer_tokens: int = 24):
        self._tokenizer, self._render, self._templates = tokenizer, render, templates
        self._max_tokens, self._min_answer = max_tokens, min_answer_tokens
        self._end = tokenizer.token_to_id("<|im_end|>")

    def pairs(self, documents: list[Document]) -> list[Example]:
        prompts, answers = [], []
        for document in documents:
            for q in questions_of(document, self._templates):
                prompts.append(self._render([{"role": "user", "content": q.question}]))
                answers.append(q.answer[: 8 * self._max_tokens])  # no token of prose is longer than 8 characters on average
        examples = []
        for prompt, answer in zip(self._encode(prompts), self._encode(answers)):
            room = self._max_tokens - len(prompt)
            whole = answer + [self._end]
            if room >= self._min_answer and len(whole) >= self._min_answer:
                examples.append(Example("pair", tuple(prompt + whole[:room]), len(prompt)))
        return examples

    def chunks(self, documents: list[Document]) -> list[Example]:
        texts = ["\n".join(f"{s.heading}\n{s.text}" for s in d.sections)[: 64 * self._max_tokens] for d in documents]
        examples = []
        for ids in self._encode(texts):
            for start in range(0, len(ids), self._max_tokens):
                piece = ids[start:start + self._max_tokens]
                if len(piece) >= 2 * self._min_answer:
                    examples.append(Example("chunk", tuple(piece), 1))
        return examples

    def _encode(self, texts: list[str]) -> list[list[int]]:
        return [e.ids for e in self._tokenizer.encode_batch(texts, add_special_tokens=False)]


def sample(examples: list[Example], n_tokens: int, seed: int) -> list[Example]:
    """A seeded sample of about `n_tokens` tokens, order included."""
    chosen, total = [], 0
    for example in random.Random(seed).sample(examples, len(examples)):
        if total >= n_tokens:
            break
        chosen.append(example)
        total += len(example.ids)
    return chosen


def batches(pairs: list[Example], chunks: list[Example], n_steps: int, batch_tokens: int, seed: int) -> list[list[Example]]:
    """`n_steps` batches of about `batch_tokens` tokens, pairs and chunks alike in share, lengths alike in a batch.

    Short of material the examples repeat in a new order. Known in full before training starts, so a run
    that is taken up again at step n goes on with batch n.
    """
    rng = random.Random(seed)
    pools = [p for p in (pairs, chunks) if p]
    if not pools:
        raise ValueError("no example of 24 tokens or more in the training documents")
    drawn, need = [], n_steps * batch_tokens
    for pool in pools:
        total, share = 0, need // len(pools) + batch_tokens
        while total < share:
            for example in rng.sample(pool, len(pool)):
                drawn.append(example)
                total += len(example.ids)
                if total >= share:
                    break
    drawn.sort(key=lambda e: len(e.ids))
    made, batch = [], []
    for example in drawn:
        batch.append(example)
        if len(batch) * len(example.ids) >= batch_tokens:
            made.append(batch)
            batch = []
    if batch:
        made.append(batch)
    rng.shuffle(made)
    while len(made) < n_steps:
        made += made[: n_steps - len(made)]
    return made[:n_steps]
