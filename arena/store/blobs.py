"""The exact bytes of one image, compressed: no 8-bit rounding that would destroy an adversarial."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

IMAGE_SHAPE = (1, 28, 28)


def pack(image: Any) -> bytes:
    """Bytes of an image, float32 [1, 28, 28] (array or CPU tensor): zlib over little-endian values."""
    array = np.asarray(image)
    if array.dtype != np.float32 or array.shape != IMAGE_SHAPE:
        raise TypeError(f"an adversarial is float32 {IMAGE_SHAPE}, not {array.dtype} {array.shape}")
    return zlib.compress(array.astype("<f4").tobytes())


def unpack(blob: bytes) -> np.ndarray:
    """The image that `pack` was given, float32 [1, 28, 28]; raises ValueError for any other bytes."""
    try:
        return np.frombuffer(zlib.decompress(blob), "<f4").astype(np.float32).reshape(IMAGE_SHAPE)
    except zlib.error as failure:
        raise ValueError(str(failure)) from failure
