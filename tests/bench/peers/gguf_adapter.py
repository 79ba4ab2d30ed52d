"""A made expert (bench_experts) as the GGUF adapter that llama.cpp reads: the same numbers in its container.

The rows of q and k are left in PEFT's order, where a converter of trained adapters would permute them: the weights are
random, so the work is the same. Standard library only."""

from __future__ import annotations

import json
import pathlib
import struct

ALIGNMENT = 32
F32, F16, BF16 = 0, 1, 30  # ggml's types
UINT32, FLOAT32, STRING = 4, 6, 8  # GGUF's value types
NAMES = {"q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output",
         "gate_proj": "ffn_gate", "up_proj": "ffn_up", "down_proj": "ffn_down"}


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def _name(peft: str) -> str:
    """base_model.model.model.layers.3.mlp.up_proj.lora_A.weight -> blk.3.ffn_up.weight.lora_a"""
    parts = peft.split(".")
    return f"blk.{parts[4]}.{NAMES[parts[6]]}.weight.lora_{parts[7][-1].lower()}"


def _f16(bf16: bytes) -> bytes:
    wide = bytearray(2 * len(bf16))
    wide[2::4], wide[3::4] = bf16[0::2], bf16[1::2]
    n = len(bf16) // 2
    return struct.pack(f"<{n}e", *struct.unpack(f"<{n}f", wide))


def convert(expert: pathlib.Path, out: pathlib.Path, kind: str = "f16") -> None:
    file = (expert / "adapter_model.safetensors").read_bytes()
    header_size = struct.unpack("<Q", file[:8])[0]
    header = json.loads(file[8:8 + header_size])
    alpha = json.loads((expert / "adapter_config.json").read_text())["lora_alpha"]
    infos, data = b"", b""
    for peft, tensor in header.items():
        begin, end = (8 + header_size + offset for offset in tensor["data_offsets"])
        values = _f16(file[begin:end]) if kind == "f16" else file[begin:end]
        rows, columns = tensor["shape"]
        infos += _text(_name(peft)) + struct.pack("<IQQIQ", 2, columns, rows, F16 if kind == "f16" else BF16, len(data))
        data += values + bytes(-len(values) % ALIGNMENT)
    keys = [("general.type", STRING, "adapter"), ("general.architecture", STRING, "llama"), ("general.name", STRING, expert.name),
            ("adapter.type", STRING, "lora"), ("adapter.lora.alpha", FLOAT32, float(alpha)), ("general.alignment", UINT32, ALIGNMENT)]
    body = b"GGUF" + struct.pack("<IQQ", 3, len(header), len(keys))
    for key, kind_of_value, value in keys:
        body += _text(key) + struct.pack("<I", kind_of_value)
        body += _text(value) if kind_of_value == STRING else struct.pack("<f" if kind_of_value == FLOAT32 else "<I", value)
    body += infos
    out.write_bytes(body + bytes(-len(body) % ALIGNMENT) + data)
