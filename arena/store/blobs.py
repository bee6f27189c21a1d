"""The exact bytes of one image, compressed: no 8-bit rounding that would destroy an adversarial.

A blob is the version 1 (one byte), channels, height and width (32 bits each, little-endian), and zlib over float32
values, little-endian. Blobs without that head are older: zlib, which begins with another byte, over [C, H, W].
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np

_HEAD = struct.Struct("<B3I")
_VERSION = 1
_HEADLESS_SHAPE = (1, 28, 28)


def pack(image: Any) -> bytes:
    """Bytes of an image, float32 [C, H, W] (array or CPU tensor); raises TypeError for anything else."""
    array = np.asarray(image)
    if array.dtype != np.float32 or array.ndim != 3:
        raise TypeError(f"an adversarial is float32 [C, H, W], not {array.dtype} {list(array.shape)}")
    return _HEAD.pack(_VERSION, *array.shape) + zlib.compress(array.astype("<f4").tobytes())


def unpack(blob: bytes) -> np.ndarray:
    """The image that `pack` was given, float32 [C, H, W]; raises ValueError for any other bytes."""
    shape, body = _HEADLESS_SHAPE, blob
    if blob[:1] == bytes([_VERSION]) and len(blob) >= _HEAD.size:
        _, *sizes = _HEAD.unpack_from(blob)
        shape, body = tuple(sizes), blob[_HEAD.size :]
    values = shape[0] * shape[1] * shape[2]
    try:
        content = zlib.decompressobj().decompress(body, 4 * values + 1)  # damage must not fill the memory
    except (zlib.error, OverflowError) as failure:
        raise ValueError(str(failure)) from failure
    if len(content) != 4 * values:
        raise ValueError(f"its bytes are not those of an image {list(shape)}")
    return np.frombuffer(content, "<f4").astype(np.float32).reshape(shape)
