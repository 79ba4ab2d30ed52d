"""Experts that are made of others: a card that names the members and their weights."""

from __future__ import annotations

import argparse
import dataclasses
import math
import pathlib
import re

from coterie_experts.errors import Refused
from coterie_experts.files import folder_in_making, write_atomically
from coterie_experts.publishing import card
from coterie_experts.publishing.folders import FILES

KINDS = ("mixture", "blend")
MOST_MEMBERS = 16  # as many as a worker combines in one sequence
SUM_TOLERANCE, LEAST_WEIGHT = 1 / 64, 1 / 64
_NAME = r"[a-z0-9][a-z0-9._-]{0,63}"
_MEMBER = re.compile(rf"({_NAME})(@[0-9a-f]{{8,64}})?(?::(.+))?")


@dataclasses.dataclass(frozen=True)
class Member:
    expert: str  # a name, or name@digest
    weight: float | None = None

    @property
    def name(self) -> str:
        return self.expert.partition("@")[0]


def parse_member(text: str) -> Member:
    """An argparse type: NAME[@DIGEST][:WEIGHT]."""
    found = _MEMBER.fullmatch(text)
    if not found or found[1] in ("auto", "base"):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME[@DIGEST][:WEIGHT]")
    try:
        weight = None if found[3] is None else float(found[3])
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: the weight {found[3]!r} is no number") from None
    return Member(found[1] + (found[2] or ""), weight)


def check_members(members: list[Member]) -> None:
    """Refused for what publishing would refuse without a look at the catalogue, naming the member."""
    if not 2 <= len(members) <= MOST_MEMBERS:
        raise Refused(f"{len(members)} members: the limits are 2 and {MOST_MEMBERS}")
    names = [member.name for member in members]
    for member in members:
        if names.count(member.name) > 1:
            raise Refused(f"{member.name} is a member twice; give it one weight")
        if (member.weight is None) != (members[0].weight is None):
            raise Refused(f"{member.name}: give every member a weight, or none")
    if members[0].weight is None:
        return
    for member in members:
        if not (math.isfinite(member.weight) and member.weight > 0):
            raise Refused(f"the weight of {member.name} is {member.weight:g}; it must be above 0 and finite")
    total = sum(member.weight for member in members)
    if not abs(total - 1) <= SUM_TOLERANCE:
        raise Refused(f"the members' weights sum to {total:g}; they must sum to 1 (within 1/64)")
    for member in members:
        if member.weight / total < LEAST_WEIGHT:
            raise Refused(f"the weight of {member.name} is {member.weight:g}, the limit is 1/64; leave it out or give it more")


def make_card(*, name: str, version: str, description: str, kind: str, members: list[Member], tags: list[str] = (),
              min_score: float | None = None, evaluation: dict | None = None) -> dict:
    check_members(members)
    if not re.fullmatch(_NAME, name) or name in ("auto", "base"):
        raise Refused(f"{name!r} is no expert's name (--name): a to z, 0 to 9, '.', '_' and '-', at most 64, the first a letter or digit")
    if name in [member.name for member in members]:
        raise Refused(f"{name} would be a member of itself; give it another name (--name)")
    return {"name": name, "version": version, "description": description,
            **({"tags": list(tags)} if tags else {}),
            **({"thresholds": {"min_score": min_score}} if min_score is not None else {}),
            "kind": kind,
            "members": [{"expert": m.expert, **({"weight": m.weight} if m.weight is not None else {})} for m in members],
            **({"evaluation": evaluation} if evaluation else {})}


def write_folder(values: dict, folder: pathlib.Path) -> None:
    """In the place of what is there, unless that has an adapter: a card would be lost that belongs to it."""
    for file in FILES[:2]:
        if (folder / file).exists():
            raise Refused(f"{folder} holds an adapter ({file}); write to another folder")
    with folder_in_making(folder) as making:
        write_atomically(making / "expert.yaml", card.text_of(values))
