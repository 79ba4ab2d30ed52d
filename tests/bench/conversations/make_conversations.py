#!/usr/bin/env python3
"""Conversations to hold the router's rule for conversations against: what people ask experts of different fields with what they
say around it.

    make_conversations.py > conversations.json

Three sets of the same make. "chosen" and "looked at" share out tests/golden/questions.yaml (the texts of the study of the shipped
experts) and phrases.yaml: the rule's thresholds were chosen on the first, and changed once more after a look at the second.
"held out" is made of held_out.yaml alone. No question and no phrase stands in two sets.

A list of {"set", "kind", "turns": [{"text", "expect"}], "system", "answers"}. `expect` is what a turn should reach: a field's
expert, "base", or "same" as the turn before. The same sources always give the same list. Needs PyYAML only."""

from __future__ import annotations

import itertools
import json
import pathlib
import random
import sys

import yaml

HERE = pathlib.Path(__file__).resolve().parent
QUESTIONS = HERE.parents[1] / "golden" / "questions.yaml"
CHOSEN, LOOKED_AT, HELD_OUT = SETS = ("chosen", "looked at", "held out")
LANGUAGES = ("german", "french", "spanish")
SAME, BASE, NO_FIELD = "same", "base", "none"
LONG, LONG_TURNS = "long", 9


def read(path: pathlib.Path) -> dict:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def sources(name: str) -> tuple[dict, dict]:
    """A set's questions by field, and its phrases."""
    if name == HELD_OUT:
        phrases = read(HERE / "held_out.yaml")
        return phrases.pop("questions"), phrases
    part = slice(SETS.index(name), None, 2)
    # The demo's question is the first of its field.
    questions = {field: [q["demo"], *q["questions"]][part] for field, q in read(QUESTIONS).items()}
    phrases = {phrases: values[part] if isinstance(values, list) else {field: texts[part] for field, texts in values.items()}
               for phrases, values in read(HERE / "phrases.yaml").items()}
    return questions, phrases


class Maker:
    """Makes one set of its texts, each list gone through in turn, so that all of it is used about equally often."""

    def __init__(self, name: str) -> None:
        self.name, self.conversations = name, []
        self._draw = random.Random(2026 + SETS.index(name))
        questions, phrases = sources(name)
        self.fields = [field for field in questions if field != NO_FIELD]
        self._questions = {field: self._cycle(texts) for field, texts in questions.items()}
        self._lists = {name: self._cycle(values) for name, values in phrases.items() if isinstance(values, list)}
        self._by_field = {name: {field: self._cycle(texts) for field, texts in values.items()}
                          for name, values in phrases.items() if isinstance(values, dict)}

    def _cycle(self, values: list) -> itertools.cycle:
        values = list(values)
        self._draw.shuffle(values)
        return itertools.cycle(values)

    def question(self, field: str) -> dict:
        return {"text": next(self._questions[field]), "expect": BASE if field == NO_FIELD else field}

    def say(self, phrases: str, field: str | None = None, expect: str = SAME) -> dict:
        source = self._lists[phrases] if field is None else self._by_field[phrases][field]
        return {"text": next(source), "expect": expect}

    def follow_up(self, field: str) -> dict:
        """In the conversation's language."""
        return self.say("foreign_follow_ups", field) if field in LANGUAGES else self.say("follow_ups")

    def other(self, *fields: str) -> str:
        return self._draw.choice([field for field in self.fields if field not in fields])

    def bridged(self, field: str) -> dict:
        turn = self.question(field)
        return {**turn, "text": next(self._lists["bridges"]) + turn["text"]}

    def add(self, kind: str, *turns: dict) -> None:
        answers = [next(self._lists["answers"]) for _ in turns[1:]]
        system = next(self._lists["system_prompts"]) if len(self.conversations) % 2 else ""
        self.conversations.append({"set": self.name, "kind": kind, "turns": list(turns), "system": system, "answers": answers})


def fill(maker: Maker) -> None:
    for field in maker.fields:
        for _ in range(3):
            maker.add("follow-up", maker.question(field), maker.follow_up(field))
        maker.add("follow-ups", maker.question(field), maker.follow_up(field), maker.follow_up(field))
        for _ in range(4):
            maker.add("switch", maker.question(field), maker.bridged(maker.other(field)))
        maker.add("follow-up, then switch", maker.question(field), maker.follow_up(field), maker.bridged(maker.other(field)))
        second = maker.other(field)
        maker.add("switch, then follow-up", maker.question(field), maker.bridged(second), maker.follow_up(second))
        third = maker.other(field, *LANGUAGES)
        maker.add("there and back", maker.question(field), maker.bridged(third), maker.follow_up(third), maker.question(field))
        maker.add("small talk, then follow-up", maker.question(field), maker.say("small_talk"), maker.follow_up(field))
        maker.add("small talk first", maker.say("small_talk", expect=BASE), maker.question(field), maker.follow_up(field))
        maker.add("leaves all fields", maker.question(field), maker.question(NO_FIELD))
        language = next(name for name in LANGUAGES if name != field)
        maker.add("another language in the middle", maker.question(field), maker.say("foreign_follow_ups", language), maker.follow_up(field))
    for kind in ("field_follow_ups", "code"):
        for field, texts in maker._by_field[kind].items():
            for _ in range(2):
                maker.add({"code": "pasted code", "field_follow_ups": "follow-up of the field"}[kind], maker.question(field), maker.say(kind, field))
    for _ in range(6):
        maker.add("of no field", maker.question(NO_FIELD), maker.say("small_talk"), maker.say("follow_ups"))
        maker.add("small talk alone", maker.say("small_talk", expect=BASE), maker.say("small_talk"))
        maker.add("enters a field", maker.question(NO_FIELD), maker.bridged(maker.other()))
    for field in maker.fields:
        between = [maker.say("small_talk") if n % 4 == 2 else maker.follow_up(field) for n in range(LONG_TURNS - 2)]
        maker.add(LONG, maker.question(field), *between, maker.follow_up(field))


def make() -> list[dict]:
    makers = [Maker(name) for name in SETS]
    for maker in makers:
        fill(maker)
    return [conversation for maker in makers for conversation in maker.conversations]


if __name__ == "__main__":
    json.dump(make(), sys.stdout, ensure_ascii=False, indent=1)
