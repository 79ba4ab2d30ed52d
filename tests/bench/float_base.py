#!/usr/bin/env python3
"""Makes a base of floats out of a quantised GGUF file: the same file with its matrices dequantised and rounded to BF16, for what rounding
weights at load costs (bench_numerics) and buys (bench_decode --weights).

  tests/bench/float_base.py FROM.gguf TO.gguf [SPREAD]

With SPREAD every weight of a matrix is moved at random by up to so many halves of its block's step: with 1 the weights stand on no grid any
more, which rounding them again to the same type would otherwise find. Reads Q4_1, Q8_0, F16 and F32; metadata, tokenizer and norms stay as they are. Needs numpy. A folder of weights in BF16 holds the same values."""

import pathlib
import struct
import sys

import numpy as np

F32, F16, Q4_1, Q8_0, BF16 = 0, 1, 3, 8, 30
BLOCK_BYTES = {F32: (1, 4), F16: (1, 2), Q4_1: (32, 20), Q8_0: (32, 34)}
SCALAR_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
STRING, ARRAY = 8, 9


class Reader:
    def __init__(self, data: memoryview):
        self.data, self.at = data, 0

    def take(self, form: str):
        (value,) = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return value

    def text(self) -> str:
        n = self.take("Q")
        self.at += n
        return bytes(self.data[self.at - n:self.at]).decode()

    def skip_value(self, kind: int):
        if kind == STRING:
            self.text()
        elif kind == ARRAY:
            element, n = self.take("I"), self.take("Q")
            if element in SCALAR_BYTES:
                self.at += n * SCALAR_BYTES[element]
            else:
                for _ in range(n):
                    self.skip_value(element)
        else:
            self.at += SCALAR_BYTES[kind]


def values(kind: int, raw: np.ndarray, moved: np.ndarray | float = 0.0) -> np.ndarray:
    """The values of blocks as float32, by the reference's order of operations; `moved` in halves of a step."""
    if kind in (F32, F16):
        return raw.view(np.float32 if kind == F32 else np.float16).astype(np.float32)
    blocks = raw.reshape(-1, BLOCK_BYTES[kind][1])
    scale = blocks[:, :2].copy().view(np.float16).astype(np.float32)
    if kind == Q8_0:
        return (scale * (blocks[:, 2:].view(np.int8).astype(np.float32) + moved)).reshape(-1)
    minimum = blocks[:, 2:4].copy().view(np.float16).astype(np.float32)
    codes = np.concatenate([blocks[:, 4:] & 15, blocks[:, 4:] >> 4], axis=1).astype(np.float32)
    return (scale * (codes + moved) + minimum).reshape(-1)


def to_bf16(floats: np.ndarray) -> bytes:
    bits = floats.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16).tobytes()


def convert(data: bytes, spread: float) -> bytes:
    reader = Reader(memoryview(data))
    random = np.random.default_rng(1)
    magic, version, n_tensors, n_pairs = (reader.take(form) for form in ("4s", "I", "Q", "Q"))
    if magic != b"GGUF":
        raise SystemExit("the file is not GGUF")
    first_pair = reader.at
    for _ in range(n_pairs):
        if reader.text() == "general.alignment":
            raise SystemExit("the file has an alignment of its own: not known here")
        reader.skip_value(reader.take("I"))
    pairs = data[first_pair:reader.at]
    tensors = []
    for _ in range(n_tensors):
        name = reader.text()
        shape = [reader.take("Q") for _ in range(reader.take("I"))]
        tensors.append((name, shape, reader.take("I"), reader.take("Q")))
    data_at = (reader.at + 31) // 32 * 32
    infos, out = b"", bytearray()
    for name, shape, kind, offset in tensors:
        if kind not in BLOCK_BYTES:
            raise SystemExit(f"tensor {name} has type {kind}; known are F32, F16, Q4_1 and Q8_0")
        elements, n_bytes = BLOCK_BYTES[kind]
        begin = data_at + offset
        raw = np.frombuffer(data, np.uint8, int(np.prod(shape)) // elements * n_bytes, begin)
        floats = len(shape) > 1
        infos += struct.pack("<Q", len(name.encode())) + name.encode() + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape,
                                                                                    BF16 if floats else kind, len(out))
        if floats:
            moved = random.uniform(-spread / 2, spread / 2, (raw.size // n_bytes, elements)).astype(np.float32) if spread else 0.0
            out += to_bf16(values(kind, raw, moved))
        else:
            out += raw.tobytes()
        out += bytes(-len(out) % 32)
    head = struct.pack("<4sIQQ", magic, version, n_tensors, n_pairs) + pairs + infos
    return head + bytes(-len(head) % 32) + bytes(out)


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        raise SystemExit(__doc__)
    spread = float(sys.argv[3]) if len(sys.argv) == 4 else 0.0
    pathlib.Path(sys.argv[2]).write_bytes(convert(pathlib.Path(sys.argv[1]).read_bytes(), spread))
