"""The layers of the decoder: its sizes, in one place."""

from __future__ import annotations

from functools import reduce
from typing import NamedTuple

LATENT = 8


class LayerShape(NamedTuple):
    """A transposed convolution without padding; batch norm and ELU follow all but the last, which ends in a sigmoid."""

    channels_in: int
    channels_out: int
    kernel: int
    stride: int


# Kernels and strides of the released implementation; the paper's last kernel, 3, would make 27 x 27. csrc/geometry.h
# says the same to the native code.
LAYERS = (LayerShape(LATENT, 32, 4, 1), LayerShape(32, 16, 5, 2), LayerShape(16, 16, 5, 2), LayerShape(16, 1, 4, 1))
SIDE = reduce(lambda side, layer: (side - 1) * layer.stride + layer.kernel, LAYERS, 1)  # of the image that comes out
PIXELS = SIDE * SIDE
FOLDED_SIZE = sum(layer.channels_in * layer.channels_out * layer.kernel**2 + layer.channels_out for layer in LAYERS)
