#!/usr/bin/env python3
"""Quantised blocks of every GGUF type we read and what the `gguf` package makes of them, bit for bit.

Writes dequant.bin (layout in golden_io.py): for each type NAME the arrays `NAME.bytes` u8 [n_bytes] and
`NAME.values` f32 [n]. Quants are random bytes; scales are random finite float16, some subnormal, zero or negative.
"""

import numpy as np
import gguf

from golden_io import HERE, write_arrays

# Byte offsets of the float16 fields in a block; all other bytes may be anything.
SCALES = {"Q8_0": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
          "Q3_K": [108], "IQ4_NL": [0]}


def scales(rng: np.random.Generator, n: int) -> np.ndarray:
    values = rng.standard_normal(n) * 10.0 ** rng.integers(-7, 2, n)
    values[rng.random(n) < 0.05] = 0
    return values.astype("<f2")


def main() -> None:
    rng = np.random.default_rng(5)
    arrays = {}
    for name in ("F32", "F16", "BF16", *SCALES):
        kind = gguf.GGMLQuantizationType[name]
        block, size = gguf.GGML_QUANT_SIZES[kind]
        if name in SCALES:
            n_blocks = 1536 // block if block == 32 else 12
            raw = rng.integers(0, 256, (n_blocks, size), dtype=np.uint8)
            for at in SCALES[name]:
                raw[:, at:at + 2] = scales(rng, n_blocks).view(np.uint8).reshape(-1, 2)
        elif name == "F32":
            raw = rng.standard_normal(256).astype("<f4").view(np.uint8)
        else:
            bits = rng.integers(0, 1 << 16, 2048, dtype=np.uint16)
            exponent = 0x7C00 if name == "F16" else 0x7F80
            bits = bits[(bits & exponent) != exponent].astype("<u2")  # no NaN, no infinity
            raw = bits.view(np.uint8)
        raw = np.ascontiguousarray(raw).reshape(-1)
        values = gguf.quants.dequantize(raw.view("<f2") if name == "F16" else raw.view("<f4") if name == "F32" else raw, kind)
        arrays[f"{name}.bytes"], arrays[f"{name}.values"] = raw, np.asarray(values, dtype="<f4").reshape(-1)
        assert np.isfinite(arrays[f"{name}.values"]).all(), name
    write_arrays(HERE / "dequant.bin", arrays)


if __name__ == "__main__":
    main()
