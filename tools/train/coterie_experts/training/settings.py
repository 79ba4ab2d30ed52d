"""What decides an adapter, beside its text and the base."""

from __future__ import annotations

import dataclasses
import re

from coterie_experts.errors import Refused

# Modules of a Llama-like layer, by the words of --modules.
MODULE_GROUPS = {
    "attention": ("q_proj", "k_proj", "v_proj", "o_proj"),
    "mlp": ("gate_proj", "up_proj", "down_proj"),
}
MODULE_GROUPS["all"] = MODULE_GROUPS["attention"] + MODULE_GROUPS["mlp"]


@dataclasses.dataclass(frozen=True)
class Settings:
    """Rank, modules, rate and step are those of the demo's experts: 2.44 MB of adapter over SmolLM2-135M."""
    tokens_per_expert: int = 50_000  # training tokens, repeats included; the same for every expert…
    total_tokens: int = 0            # …unless this is above 0: then so many for all together,
    share: str = "proportional"      # to the clusters' text, or divided equally
    rank: int = 4
    alpha: int = 16
    modules: str = "all"             # all, attention, mlp, or names: q_proj,v_proj
    layers: str = "all"              # all, or upper:K: the lower ones stay the base's, for every expert alike
    learning_rate: float = 4e-3      # few steps and a small rank want a high rate
    batch_tokens: int = 512
    max_tokens: int = 256            # of one example
    warmup: float = 0.06             # share of the steps
    clip_norm: float = 1.0
    seed: int = 1
    threads: int = 1                 # of one training: another number adds up in another order and gives other bytes
    checkpoint_steps: int = 20       # lost at most when killed

    def __post_init__(self) -> None:
        if self.share not in ("equal", "proportional"):
            raise Refused(f"--share {self.share!r} is neither equal nor proportional")
        self.module_names()
        self.upper_layers()

    def module_names(self) -> list[str]:
        names = MODULE_GROUPS.get(self.modules) or tuple(self.modules.split(","))
        if unknown := [name for name in names if not re.fullmatch(r"[a-z][a-z0-9_]*", name)]:
            raise Refused(f"--modules {self.modules!r}: {unknown[0]!r} is no module; say all, attention, mlp, or names such as q_proj,v_proj")
        return list(names)

    def upper_layers(self) -> int | None:
        """How many layers, counted from the top, are adapted; None for all."""
        if self.layers == "all":
            return None
        match = re.fullmatch(r"upper:([1-9]\d{0,3})", self.layers)
        if not match:
            raise Refused(f"--layers {self.layers!r} is neither all nor upper:K with K from 1")
        return int(match.group(1))

    def decides(self) -> dict:
        """The fields that change an adapter's bytes; how often a checkpoint is written does not."""
        values = dataclasses.asdict(self)
        del values["checkpoint_steps"]
        return values


def divide_tokens(settings: Settings, characters: list[int]) -> list[int]:
    """Training tokens of each cluster, given the characters of its training text."""
    if not settings.total_tokens:
        return [settings.tokens_per_expert] * len(characters)
    equal = settings.total_tokens // len(characters)
    if equal == 0:
        raise Refused(f"--total-tokens {settings.total_tokens} are fewer than there are clusters, {len(characters)}")
    if settings.share == "equal":
        return [equal] * len(characters)
    least = min(settings.batch_tokens, equal)  # a step: an adapter that was not trained at all is nobody's expert
    return [max(least, settings.total_tokens * c // sum(characters)) for c in characters]
