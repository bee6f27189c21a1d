"""What may be asked about: images, and nothing else."""

from __future__ import annotations

import torch
from torch import Tensor

from arena.errors import PluginError
from arena.geometry.scale import extremes

HAIR = 1e-3  # of the distance
OVERSHOOT = 1e-5  # beyond the box, by which a library's rounding may miss it


def check_images(x: Tensor, shape: torch.Size) -> Tensor:
    """The images x as a plain tensor; raises PluginError unless they are float32 [N, *shape], finite and inside the box
    [0, 1]."""
    x = plain(x) if isinstance(x, Tensor) else x
    if not isinstance(x, Tensor) or x.dtype != torch.float32 or x.shape[1:] != shape:
        got = f"{x.dtype} {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
        raise PluginError(f"images must be float32 [N, {', '.join(map(str, shape))}], not {got}")
    if x.numel():
        low, high = extremes(x)
        if not (low >= 0 and high <= 1):  # also catches NaN
            raise PluginError(f"images must lie in the box [0, 1], not in [{low:g}, {high:g}]: clamp them first")
    return x


def clip_rounding(x: Tensor) -> Tensor:
    """The images x clipped to the box [0, 1] where rounding alone left it, by up to 1e-5; anything else as it is."""
    if isinstance(x, Tensor) and x.numel():
        low, high = extremes(x)
        if (low < 0 or high > 1) and low >= -OVERSHOOT and high <= 1 + OVERSHOOT:
            return x.clamp(0, 1)
    return x


def plain(x: Tensor) -> Tensor:
    """The same numbers and graph as a `torch.Tensor`: a subclass may lie about its shape or its distance."""
    if type(x) is Tensor:
        return x
    with torch._C.DisableTorchFunctionSubclass():
        return Tensor.as_subclass(x, Tensor)


def hair_beyond(clean: Tensor, images: Tensor) -> Tensor:
    """The images [B, ...] moved a thousandth of their distance further away from `clean`, inside the box [0, 1]: should
    rounding at another batch size undo an adversarial that lies on the boundary, this one holds."""
    return torch.lerp(clean, images, 1 + HAIR).clamp(0, 1)
