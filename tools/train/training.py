"""LoRA training with PEFT: a fixed number of steps, a checkpoint every few, the same adapter for the same seed."""

from __future__ import annotations

import dataclasses
import math
import pathlib
import sys
import time

import peft
import torch

from evaluation import summed_loss
from examples import Example


@dataclasses.dataclass(frozen=True)
class Settings:
    rank: int = 4            # 2.44 MB in bfloat16 over all linear layers of the base
    alpha: int = 16
    steps: int = 120
    batch_tokens: int = 1024
    learning_rate: float = 2e-3   # few steps and a small rank want a high rate
    warmup_steps: int = 5
    clip_norm: float = 1.0
    seed: int = 1
    checkpoint_every: int = 20


def wrap_base(base, settings: Settings):
    """The base with a fresh adapter on every linear layer but the head. Adapter weights train in float32."""
    torch.manual_seed(settings.seed)
    config = peft.LoraConfig(task_type="CAUSAL_LM", r=settings.rank, lora_alpha=settings.alpha, lora_dropout=0.0,
                             bias="none", target_modules="all-linear")
    return peft.get_peft_model(base, config, autocast_adapter_dtype=True)


def _rate(settings: Settings, step: int) -> float:
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    done = (step - settings.warmup_steps) / max(1, settings.steps - settings.warmup_steps)
    return settings.learning_rate * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done)))


def train(model, plan: list[list[Example]], settings: Settings, checkpoint: pathlib.Path, fingerprint: str) -> dict:
    """Runs `plan`, one batch a step, from the checkpoint where one with the same `fingerprint` exists.

    Leaves the trained adapter in `model`; returns {'steps', 'tokens', 'seconds'} (seconds of all runs together).
    """
    weights = {n: p for n, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(weights.values(), lr=settings.learning_rate, weight_decay=0.0, betas=(0.9, 0.99))
    first, seconds = 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        if state["fingerprint"] == fingerprint:
            with torch.no_grad():
                for name, parameter in weights.items():
                    parameter.copy_(state["weights"][name])
            optimizer.load_state_dict(state["optimizer"])
            first, seconds = state["step"], state["seconds"]
            print(f"  taken up again at step {first} of {settings.steps}", flush=True)
        else:
            print(f"  {checkpoint} was made with other settings or documents; starting over", flush=True)
    model.train()
    started, recent = time.monotonic(), []
    for step in range(first, settings.steps):
        for group in optimizer.param_groups:
            group["lr"] = _rate(settings, step)
        loss, tokens = summed_loss(model, plan[step])
        loss = loss / tokens
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights.values(), settings.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        recent = (recent + [loss.item()])[-20:]
        if not math.isfinite(recent[-1]):
            raise RuntimeError(f"loss is {recent[-1]} at step {step}: lower learning_rate ({settings.learning_rate})")
        elapsed = time.monotonic() - started
        _progress(step + 1, settings.steps, sum(recent) / len(recent), elapsed / (step + 1 - first))
        if (step + 1) % settings.checkpoint_every == 0 and step + 1 < settings.steps:
            _save(checkpoint, {"fingerprint": fingerprint, "step": step + 1, "seconds": seconds + elapsed,
                               "weights": {n: p.detach() for n, p in weights.items()},
                               "optimizer": optimizer.state_dict()})
    model.eval()
    return {"steps": settings.steps, "tokens": sum(len(e.ids) for b in plan for e in b),
            "seconds": round(seconds + time.monotonic() - started)}


def _save(path: pathlib.Path, state: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial")
    torch.save(state, temporary)
    temporary.replace(path)  # a kill in the middle of a write leaves the one before


def _progress(step: int, steps: int, loss: float, seconds_per_step: float) -> None:
    line = f"  step {step}/{steps}  loss {loss:.3f}  {seconds_per_step:.2f} s/step  {(steps - step) * seconds_per_step:.0f} s left"
    if sys.stdout.isatty():
        print("\r" + line.ljust(78), end="\n" if step == steps else "", flush=True)
    elif step % 10 == 0 or step == steps:
        print(line, flush=True)
