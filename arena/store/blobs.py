"""The exact bytes of one image, compressed: no 8-bit rounding that would destroy an adversarial.

A blob is the version (one byte), channels, height and width (32 bits each, little-endian), and zlib. Version 1: over
the float32 values, little-endian. Version 2: over the bits of those values XOR those of the sample's image in the table
`clean`, which is a blob of version 1. Blobs without that head are older: zlib, which begins with another byte, over a
grey, square image.
"""

from __future__ import annotations

import math
import struct
import zlib
from typing import Any

import numpy as np

PRUNED = b"pruned"  # stands where `arena store prune` removed an image

_HEAD = struct.Struct("<B3I")
_WHOLE, _DIFFERENCE = 1, 2
_SMALL = 2**14  # values
_HEADLESS = 4096  # values: more than those images have


def pack(image: Any, clean: np.ndarray | None = None) -> bytes:
    """Bytes of an image, float32 [C, H, W] (array or CPU tensor), as what differs from `clean` where that is smaller.

    Raises TypeError for anything else.
    """
    array = np.asarray(image)
    if array.dtype != np.float32 or array.ndim != 3:
        raise TypeError(f"an adversarial is float32 [C, H, W], not {array.dtype} {list(array.shape)}")
    whole = _HEAD.pack(_WHOLE, *array.shape) + zlib.compress(array.astype("<f4").tobytes())
    if clean is None or clean.shape != array.shape:
        return whole
    bits = _bits(array) ^ _bits(clean)
    if array.size < _SMALL and 2 * np.count_nonzero(bits) > array.size:  # 9 % are won, for twice the time
        return whole
    return min(whole, _HEAD.pack(_DIFFERENCE, *array.shape) + zlib.compress(bits.tobytes()), key=len)


def is_difference(blob: bytes) -> bool:
    """Whether it takes the clean image to unpack the blob."""
    return blob[:1] == bytes([_DIFFERENCE]) and len(blob) >= _HEAD.size


def unpack(blob: bytes, clean: np.ndarray | None = None) -> np.ndarray:
    """The image that `pack` was given, float32 [C, H, W]; clean: for a difference. Raises ValueError for any others."""
    if blob[:1] in (bytes([_WHOLE]), bytes([_DIFFERENCE])) and len(blob) >= _HEAD.size:
        _, *sizes = _HEAD.unpack_from(blob)
        values = _values(blob[_HEAD.size :], math.prod(sizes))
        if len(values) != math.prod(sizes):
            raise ValueError(f"its bytes are not those of an image {sizes}")
        values = values.reshape(sizes)
        if not is_difference(blob):
            return values
        if clean is None or list(clean.shape) != sizes:
            raise ValueError("it is a difference from a clean image of the same shape")
        return (_bits(values) ^ _bits(clean)).view("<f4").astype(np.float32)
    values = _values(blob, _HEADLESS)
    side = math.isqrt(len(values))
    if not 0 < len(values) == side * side:
        raise ValueError("its bytes are not those of a square image")
    return values.reshape(1, side, side)


def _bits(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(image, "<f4").view("<u4")


def _values(body: bytes, most: int) -> np.ndarray:
    """The float32 values of a compressed body, one more than `most` at most: damage must not fill the memory."""
    try:
        content = zlib.decompressobj().decompress(body, 4 * most + 4)
    except (zlib.error, OverflowError) as failure:
        raise ValueError(str(failure)) from failure
    return np.frombuffer(content, "<f4", len(content) // 4).astype(np.float32)
