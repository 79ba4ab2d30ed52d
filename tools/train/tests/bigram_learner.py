"""A learner without torch: one number a token, and an adapter in PEFT's format that fits tests/data/tiny-llama.

COTERIE_TEST_STEP_SECONDS makes each step take so long, for tests that kill a training in the middle; COTERIE_TEST_FAIL_ON
is a word whose text cannot be learnt.
"""

from __future__ import annotations

import json
import os
import pathlib
import time

import numpy as np
from coterie_experts.errors import Refused
from safetensors.numpy import save_file

_VOCABULARY = 256


class BigramLearner:
    """Learns how often each byte occurs, by gradient descent with momentum; see learner.Learner."""

    def __init__(self, model: pathlib.Path, settings) -> None:
        config = json.loads((model / "config.json").read_text())
        self._width, self._settings = config["hidden_size"], settings
        self._logits = np.random.default_rng(settings.seed).normal(0, 0.01, _VOCABULARY)
        self._momentum = np.zeros(_VOCABULARY)

    def encode(self, texts):
        word = os.environ.get("COTERIE_TEST_FAIL_ON")
        if word and any(word in text for text in texts):
            raise Refused(f"cannot learn {word!r}, as it was told")
        return [list(text.encode()) for text in texts]

    def step(self, batch, rate):
        time.sleep(float(os.environ.get("COTERIE_TEST_STEP_SECONDS", "0")))
        counts = np.bincount([i for example in batch for i in example], minlength=_VOCABULARY)
        p = np.exp(self._logits - self._logits.max())
        p /= p.sum()
        share = counts / counts.sum()
        loss = float(-(share * np.log(p)).sum())
        self._momentum = 0.9 * self._momentum + (p - share)
        self._logits = self._logits - 100 * rate * self._momentum
        return loss

    def state(self):
        return np.stack([self._logits, self._momentum]).tobytes()

    def restore(self, state):
        self._logits, self._momentum = np.frombuffer(state).reshape(2, _VOCABULARY).copy()

    def save_adapter(self, folder):
        rank = self._settings.rank
        a = np.resize(self._logits, (rank, self._width)).astype(np.float32)
        name = "base_model.model.model.layers.0.self_attn.q_proj"
        save_file({f"{name}.lora_A.weight": a, f"{name}.lora_B.weight": np.ascontiguousarray(a.T)}, str(folder / "adapter_model.safetensors"))
        config = {"peft_type": "LORA", "r": rank, "lora_alpha": self._settings.alpha, "target_modules": ["q_proj"],
                  "layers_to_transform": [0], "layers_pattern": "layers", "bias": "none"}
        (folder / "adapter_config.json").write_text(json.dumps(config, sort_keys=True))
