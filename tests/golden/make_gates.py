#!/usr/bin/env python3
"""Gated mixtures of adapters in plain numpy and float64: gates.bin.

    make_gates.py

For each case NAME: `NAME.ids` u16 [n_tokens], `NAME.rows` u16 [n_rows], `NAME.logprobs` f32 [n_rows, vocab] of tiny-llama
under the case's members and gate (CASES below; tests/model/decoder/gates_test.cc has the same list).

For each pair `arrow/N`: `.a` f32 [rank, n_in], `.b` f32 [n_out, rank], `.v` f32 [n_in]: the top right singular vector of
B A by numpy's SVD, up to its sign.

Needs numpy alone.
"""

from __future__ import annotations

import json
import math
import pathlib
import re
import struct

import numpy as np

from golden_io import DATA, HERE, write_arrays

ALL = ["llama-all-linear", "llama-qv", "llama-top-layers", "llama-patterns"]
# Name: members, gate, adapters used of each module.
CASES = {
    "gateless": (ALL, "gateless", 4),
    "noisy": (ALL, "noisy", 2),
    "noisy-all": (["llama-rslora", "llama-regex", "llama-qv"], "noisy", 3),
    "arrow": (ALL, "arrow", 2),
    "arrow-all": (["llama-rslora", "llama-all-linear", "llama-patterns"], "arrow", 3),
    "arrow-one": (["llama-qv", "llama-all-linear", "llama-exclude", "llama-rslora"], "arrow", 1),
}
SEED = 0x1234567890ABCDEF
MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def tensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    raw = path.read_bytes()
    n, = struct.unpack_from("<Q", raw)
    out = {}
    for name, entry in json.loads(raw[8:8 + n]).items():
        if name == "__metadata__":
            continue
        begin, end = (8 + n + at for at in entry["data_offsets"])
        if entry["dtype"] == "BF16":
            values = (np.frombuffer(raw[begin:end], "<u2").astype("<u4") << 16).view("<f4")
        else:
            values = np.frombuffer(raw[begin:end], {"F32": "<f4", "F16": "<f2"}[entry["dtype"]])
        out[name] = values.astype(np.float64).reshape(entry["shape"])
    return out


class Adapter:
    def __init__(self, name: str):
        folder = DATA / "tiny-adapters" / name
        config = json.loads((folder / "adapter_config.json").read_text())
        self.pairs = {}
        for key, a in tensors(folder / "adapter_model.safetensors").items():
            if not key.endswith(".lora_A.weight"):
                continue
            layer, module = re.search(r"layers\.(\d+)\.\w+\.(\w+)\.lora_A", key).groups()
            b = tensors(folder / "adapter_model.safetensors")[key.replace("lora_A", "lora_B")]
            path = key.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            alpha = config["lora_alpha"]
            for pattern, value in config["alpha_pattern"].items():
                if re.match(rf"(.*\.)?({pattern})$", path):
                    alpha = value
                    break
            rank = a.shape[0]
            scale = alpha / math.sqrt(rank) if config["use_rslora"] else alpha / rank
            self.pairs[int(layer), module] = (a, b, scale, np.linalg.svd(b @ a)[2][0])


def philox(counter: list[int], key: list[int]) -> list[int]:
    c, k = list(counter), list(key)
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(p1 >> 32) ^ c[1] ^ k[0], p1 & 0xFFFFFFFF, (p0 >> 32) ^ c[3] ^ k[1], p0 & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


def noise(position: int, layer: int, module: str, adapter: int) -> float:
    bits = philox([position, layer * 7 + MODULES.index(module), adapter // 4, 0x65746167],
                  [SEED & 0xFFFFFFFF, SEED >> 32])[adapter % 4]
    return ((bits - (1 << 32) if bits >> 31 else bits) >> 8) / 2**23


def gate_weights(kind: str, top_k: int, members: list[Adapter], layer: int, module: str, position: int, x: np.ndarray):
    if kind == "gateless":
        scores = np.zeros(len(members))
    elif kind == "noisy":
        scores = np.array([noise(position, layer, module, i) for i in range(len(members))])
    else:
        scores = np.array([abs(m.pairs[layer, module][3] @ x) if (layer, module) in m.pairs else 0.0 for m in members])
    used = np.argsort(-scores, kind="stable")[:top_k]
    weights = np.zeros(len(members))
    weights[used] = np.exp(scores[used] - scores[used].max())
    return weights / weights.sum()


def rms_norm(x, weight, eps):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * weight


def log_probs(weights, config, members: list[Adapter], kind: str, top_k: int, ids: list[int]) -> np.ndarray:
    def linear(layer, module, x):
        part = "self_attn" if module[0] in "qkvo" else "mlp"
        y = x @ weights[f"model.layers.{layer}.{part}.{module}.weight"].T
        for t in range(len(x)):
            for g, m in zip(gate_weights(kind, top_k, members, layer, module, t, x[t]), members):
                if (layer, module) in m.pairs:
                    a, b, scale, _ = m.pairs[layer, module]
                    y[t] += g * scale * (b @ (a @ x[t]))
        return y

    n, eps, d = len(ids), config["rms_norm_eps"], config["head_dim"]
    n_heads, n_kv = config["num_attention_heads"], config["num_key_value_heads"]
    # transformers computes the angles in float32.
    frequencies = (1 / np.float32(config["rope_theta"]) ** (np.arange(0, d, 2, dtype=np.float32) / np.float32(d))).astype(np.float32)
    angles = (np.arange(n, dtype=np.float32)[:, None] * frequencies).astype(np.float64)
    cos, sin = np.cos(angles), np.sin(angles)

    def rope(x):  # [n, heads, d]
        first, second = x[..., :d // 2], x[..., d // 2:]
        c, s = cos[:, None], sin[:, None]
        return np.concatenate([first * c - second * s, second * c + first * s], -1)

    x = weights["model.embed_tokens.weight"][ids]
    for layer in range(config["num_hidden_layers"]):
        name = f"model.layers.{layer}."
        h = rms_norm(x, weights[name + "input_layernorm.weight"], eps)
        q = rope(linear(layer, "q_proj", h).reshape(n, n_heads, d))
        k = rope(linear(layer, "k_proj", h).reshape(n, n_kv, d))
        v = linear(layer, "v_proj", h).reshape(n, n_kv, d)
        out = np.zeros((n, n_heads, d))
        for head in range(n_heads):
            kv = head * n_kv // n_heads
            scores = q[:, head] @ k[:, kv].T / math.sqrt(d)
            scores[np.triu_indices(n, 1)] = -np.inf
            scores = np.exp(scores - scores.max(-1, keepdims=True))
            out[:, head] = scores / scores.sum(-1, keepdims=True) @ v[:, kv]
        x = x + linear(layer, "o_proj", out.reshape(n, -1))
        h = rms_norm(x, weights[name + "post_attention_layernorm.weight"], eps)
        gate, up = linear(layer, "gate_proj", h), linear(layer, "up_proj", h)
        x = x + linear(layer, "down_proj", gate / (1 + np.exp(-gate)) * up)
    logits = rms_norm(x, weights["model.norm.weight"], eps) @ weights["lm_head.weight"].T
    logits = logits - logits.max(-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def arrow_pairs(rng) -> dict[str, np.ndarray]:
    arrays = {}

    def add(a, b):
        n = len(arrays) // 3
        a, b = a.astype("<f4"), b.astype("<f4")
        v = np.linalg.svd(b.astype(np.float64) @ a.astype(np.float64))[2][0]
        arrays.update({f"arrow/{n}.a": a, f"arrow/{n}.b": b, f"arrow/{n}.v": v.astype("<f4")})

    for rank, n_in, n_out in [(1, 24, 16), (4, 64, 32), (7, 40, 56), (16, 96, 48), (33, 64, 80)]:
        add(rng.normal(size=(rank, n_in)), rng.normal(size=(n_out, rank)))
    # B of less than full rank, A of less, both tiny, and singular values close to each other.
    a, b = rng.normal(size=(8, 32)), rng.normal(size=(24, 8))
    add(a, b * np.array([1, 0, 1, 1, 0, 0, 1, 1]))
    add(np.concatenate([a[:3], a[:3], a[:2]]), b)
    add(a * 1e-12, b * 1e-12)
    u, v = np.linalg.qr(rng.normal(size=(24, 4)))[0], np.linalg.qr(rng.normal(size=(32, 4)))[0].T
    add(np.array([[1.0], [0.999], [0.5], [0.25]]) * v, u)
    return arrays


def main() -> None:
    rng = np.random.default_rng(17)
    folder = DATA / "tiny-llama"
    weights, config = tensors(folder / "model.safetensors"), json.loads((folder / "config.json").read_text())
    arrays = {}
    for name, (members, kind, top_k) in CASES.items():
        ids = rng.integers(0, config["vocab_size"], 48)
        rows = [0, 1, 7, 15, 16, 31, 46, 47]
        out = log_probs(weights, config, [Adapter(m) for m in members], kind, top_k, ids.tolist())
        arrays |= {f"{name}.ids": ids.astype("<u2"), f"{name}.rows": np.array(rows, "<u2"),
                   f"{name}.logprobs": out[rows].astype("<f4")}
    write_arrays(HERE / "gates.bin", arrays | arrow_pairs(rng))


if __name__ == "__main__":
    main()
