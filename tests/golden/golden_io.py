"""The one binary layout that the logit and embedding goldens share, and where the test data lies.

A file is little-endian: 4 bytes magic, u32 version (1), u32 n_arrays, then for each array
    u16 name length, name (UTF-8), u8 type (0 f32, 1 f16, 2 u16, 3 u32, 4 i32, 5 u8), u8 n_dims, n_dims x u32, values.
Values follow each other without padding.
"""

from __future__ import annotations

import pathlib
import struct
import sys

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
DATA = HERE.parent / "data"
sys.path.insert(0, str(ROOT / "tools/train"))

_TYPES = {np.dtype("<f4"): 0, np.dtype("<f2"): 1, np.dtype("<u2"): 2, np.dtype("<u4"): 3, np.dtype("<i4"): 4, np.dtype("u1"): 5}


def write_arrays(path: pathlib.Path, arrays: dict[str, np.ndarray], magic: bytes = b"CGLD") -> None:
    parts = [struct.pack("<4sII", magic, 1, len(arrays))]
    for name, array in arrays.items():
        array = np.ascontiguousarray(array)
        encoded = name.encode()
        parts.append(struct.pack("<H", len(encoded)) + encoded + struct.pack("<BB", _TYPES[array.dtype], array.ndim)
                     + struct.pack(f"<{array.ndim}I", *array.shape) + array.tobytes())
    path.write_bytes(b"".join(parts))
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1e3:.0f} kB, {len(arrays)} arrays")


def read_arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    raw = path.read_bytes()
    n_arrays = struct.unpack_from("<4sII", raw)[2]
    at, arrays, types = 12, {}, {v: k for k, v in _TYPES.items()}
    for _ in range(n_arrays):
        length, = struct.unpack_from("<H", raw, at)
        name = raw[at + 2:at + 2 + length].decode()
        at += 2 + length
        kind, n_dims = struct.unpack_from("<BB", raw, at)
        shape = struct.unpack_from(f"<{n_dims}I", raw, at + 2)
        at += 2 + 4 * n_dims
        count = int(np.prod(shape, dtype=np.int64))
        arrays[name] = np.frombuffer(raw, types[kind], count, at).reshape(shape)
        at += count * types[kind].itemsize
    return arrays
