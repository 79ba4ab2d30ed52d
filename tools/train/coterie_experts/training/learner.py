"""What the training loop asks of whatever learns. PeftLearner does it with torch; the tests' own do it without."""

from __future__ import annotations

import importlib
import importlib.util
import pathlib
from typing import Protocol

from coterie_experts.errors import Refused
from coterie_experts.training.settings import Settings

DEFAULT = "coterie_experts.training.peft_learner:PeftLearner"
_NEEDED = ("torch", "peft", "transformers", "tokenizers", "gguf", "jinja2")  # of the default learner


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
    """Refused where what `module:Class` needs is not installed; found without importing it, which takes seconds and memory."""
    for module in _NEEDED if name == DEFAULT else (name.partition(":")[0],):
        if importlib.util.find_spec(module) is None:
            raise _not_installed(module)


def load(name: str, model: pathlib.Path, settings: Settings) -> Learner:
    return _class(name)(model, settings)


def _class(name: str):
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise _not_installed(error.name) from error


def _not_installed(module: str) -> Refused:
    return Refused(f"training needs {module}, which is not installed: pip install 'coterie-experts[train]'")
