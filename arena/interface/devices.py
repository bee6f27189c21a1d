"""Where to compute."""

from __future__ import annotations

import torch

from arena.errors import UserError


def resolve_device(name: str) -> torch.device:
    """The torch device for a name such as "cpu", "cuda:1" or "auto" (a GPU if there is one); raises UserError."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"device = {name!r}: unknown; use auto, cpu or cuda") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device = {name!r}: torch finds no CUDA device here; use cpu")
    return device
