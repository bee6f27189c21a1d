"""Distances between images, per sample, and the projections onto balls around them."""

from __future__ import annotations

from torch import Tensor

from arena.geometry.norms import Norm, spec_of


def distance(norm: Norm, x: Tensor, other: Tensor) -> Tensor:
    """Distance [B] between images x and other, each [B, C, H, W] or [B, P]: L0 counts pixels, of which all channels are
    one (the maximum over them), the others are in pixel units.

    Raises ValueError for an unknown norm.
    """
    spec, difference = spec_of(norm), x - other
    if spec.counts and difference.ndim == 4:
        difference = difference.abs().amax(1)
    return spec.length(difference.flatten(1))


def project(norm: Norm, x: Tensor, clean: Tensor, radius: Tensor) -> Tensor:
    """The images x [B, ...] moved onto the ball of `radius` [B] around `clean`; inner points stay.

    Raises ValueError for an unknown norm, and for L0, whose ball has no unique projection.
    """
    return spec_of(norm).project(x.flatten(1), clean.flatten(1), radius[:, None]).view_as(x)


def project_in_box(norm: Norm, x: Tensor, clean: Tensor, radius: Tensor) -> Tensor:
    """The same, and inside the box [0, 1]."""
    return spec_of(norm).project_in_box(x.flatten(1), clean.flatten(1), radius[:, None]).view_as(x)


def per_row(values: Tensor, x: Tensor) -> Tensor:
    """values [B] shaped [B, 1, ...] to broadcast over the rows of x."""
    return values.view(-1, *[1] * (x.ndim - 1))
