"""The expert's card, expert.yaml: what it is, what it was made from, and how well it did."""

from __future__ import annotations

import pathlib

import yaml


def write_card(path: pathlib.Path, card: dict) -> None:
    text = yaml.safe_dump(card, sort_keys=False, allow_unicode=True, width=100, default_flow_style=None)
    path.write_text(text, encoding="utf-8")


def read_card(path: pathlib.Path) -> dict:
    return yaml.safe_load(path.read_text(encoding="utf-8"))
