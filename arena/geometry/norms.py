"""The norms: one place that names them."""

from __future__ import annotations

from typing import Literal, get_args

Norm = Literal["l0", "l2", "linf"]
NORMS: tuple[Norm, ...] = get_args(Norm)
