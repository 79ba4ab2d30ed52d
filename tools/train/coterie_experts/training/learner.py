"""What the training loop asks of whatever learns. PeftLearner does it with torch; the tests' own do it without."""

from __future__ import annotations

import importlib
import pathlib
from typing import Protocol

from coterie_experts.errors import Refused
from coterie_experts.training.settings import Settings

DEFAULT = "coterie_experts.training.peft_learner:PeftLearner"


class Learner(Protocol):
    """One adapter in the making. Made as Class(model: Path, settings: Settings); the same seed makes the same one."""

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Token ids as the product's own tokenizer gives them, without special tokens."""

    def step(self, batch: list[tuple[int, ...]], rate: float) -> float:
        """One optimiser step on examples of token ids; returns the loss before it in nats per token."""

    def state(self) -> bytes:
        """All that a later step depends on, optimiser included."""

    def restore(self, state: bytes) -> None: ...

    def save_adapter(self, folder: pathlib.Path) -> None:
        """Writes adapter_config.json and adapter_model.safetensors, the same bytes for the same adapter."""


def check(name: str) -> None:
    """Refused where `module:Class` cannot be imported. It is imported only here and in load(): nothing else needs torch."""
    _class(name)


def load(name: str, model: pathlib.Path, settings: Settings) -> Learner:
    return _class(name)(model, settings)


def _class(name: str):
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise Refused(f"training needs {error.name}, which is not installed: pip install 'coterie-experts[train]'") from error
