"""The exact bytes of one image, compressed: no 8-bit rounding that would destroy an adversarial.

A blob is the version 1 (one byte), channels, height and width (32 bits each, little-endian), and zlib over float32
values, little-endian. Blobs without that head are older: zlib, which begins with another byte, over a grey, square
image.
"""

from __future__ import annotations

import math
import struct
import zlib
from typing import Any

import numpy as np

PRUNED = b"pruned"  # stands where `arena store prune` removed an image

_HEAD = struct.Struct("<B3I")
_VERSION = 1
_HEADLESS = 4096  # values: more than those images have


def pack(image: Any) -> bytes:
    """Bytes of an image, float32 [C, H, W] (array or CPU tensor); raises TypeError for anything else."""
    array = np.asarray(image)
    if array.dtype != np.float32 or array.ndim != 3:
        raise TypeError(f"an adversarial is float32 [C, H, W], not {array.dtype} {list(array.shape)}")
    return _HEAD.pack(_VERSION, *array.shape) + zlib.compress(array.astype("<f4").tobytes())


def unpack(blob: bytes) -> np.ndarray:
    """The image that `pack` was given, float32 [C, H, W]; raises ValueError for any other bytes."""
    if blob[:1] == bytes([_VERSION]) and len(blob) >= _HEAD.size:
        _, *sizes = _HEAD.unpack_from(blob)
        values = _values(blob[_HEAD.size :], math.prod(sizes))
        if len(values) == math.prod(sizes):
            return values.reshape(sizes)
        raise ValueError(f"its bytes are not those of an image {sizes}")
    values = _values(blob, _HEADLESS)
    side = math.isqrt(len(values))
    if not 0 < len(values) == side * side:
        raise ValueError("its bytes are not those of a square image")
    return values.reshape(1, side, side)


def _values(body: bytes, most: int) -> np.ndarray:
    """The float32 values of a compressed body, one more than `most` at most: damage must not fill the memory."""
    try:
        content = zlib.decompressobj().decompress(body, 4 * most + 4)
    except (zlib.error, OverflowError) as failure:
        raise ValueError(str(failure)) from failure
    return np.frombuffer(content, "<f4", len(content) // 4).astype(np.float32)
