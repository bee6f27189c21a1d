"""Types that many tests share, for whoever checks them."""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor

Batch = tuple[Tensor, Tensor]  # images [B, C, H, W] in [0, 1] and their labels [B]

Value = TypeVar("Value")


def present(value: Value | None) -> Value:
    """The value, which must be there."""
    assert value is not None
    return value
