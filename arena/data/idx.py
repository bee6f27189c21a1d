"""The IDX format of the original MNIST files: a magic number, the sizes, then raw bytes, all big-endian.

Source: LeCun, Cortes, Burges, "The MNIST database of handwritten digits".
"""

from __future__ import annotations

import struct

import numpy as np

_UNSIGNED_BYTES = 0x08


def encode(array: np.ndarray) -> bytes:
    """The IDX content of `array`, uint8 of any shape."""
    header = struct.pack(">HBB", 0, _UNSIGNED_BYTES, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


def decode(content: bytes) -> np.ndarray:
    """The uint8 array that `content` holds, a read-only view. `content` is trusted: its hash was checked."""
    return np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * content[3]).reshape(sizes(content))


def sizes(content: bytes) -> tuple[int, ...]:
    """The shape that the header of an IDX file announces."""
    return struct.unpack_from(f">{content[3]}I", content, 4)
