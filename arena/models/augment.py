"""Small random distortions of images, for training."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


@torch.autocast("cpu", enabled=False)  # type: ignore[untyped-decorator]  # bfloat16: off by a tenth of a pixel
def shift_and_rotate(x: Tensor, shift: float, rotation: float, rng: torch.Generator) -> Tensor:
    """Move each image by up to `shift` pixels along either of its axes and turn it by up to `rotation` degrees.

    Both are drawn uniformly and independently for each image from `rng`; pixels are interpolated bilinearly,
    and what comes in from outside is 0.

    Args:
        x: images, float32 [B, C, H, W], on the CPU.

    Returns:
        Images like x, in the range of x widened to hold 0.
    """
    height, width = x.shape[-2:]
    angle, down, right = (2 * torch.rand(3, len(x), generator=rng) - 1).unbind()
    angle = angle * math.radians(rotation)
    cos, sin = angle.cos(), angle.sin()
    offset_x, offset_y = 2 * shift * right / width, 2 * shift * down / height  # the grid spans [-1, 1]
    theta = torch.stack([cos, -sin, offset_x, sin, cos, offset_y], dim=1).view(-1, 2, 3)
    grid = functional.affine_grid(theta, list(x.shape), align_corners=False)
    return functional.grid_sample(x, grid, align_corners=False)
