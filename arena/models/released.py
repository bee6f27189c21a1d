"""The checkpoints that the paper's authors released, as state dicts of our classes."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from arena.models.weights import read_tensors

FILES = tuple(f"ABS_{c}.net" for c in range(10))
# Paper, appendix A.5; the code, not the checkpoints, holds them. They belong to these weights alone.
SCALES = (1, 0.96, 1.001, 1.06, 0.98, 0.96, 1.03, 1, 1, 1)


def read_released_abs(folder: Path, binary: bool) -> dict[str, Tensor]:
    """The state dict of an `AnalysisBySynthesis` from the ten files ABS_0.net to ABS_9.net in `folder`.

    binary: for Binary ABS, whose scores the authors scale. Raises UserError if one of the files cannot be read.
    """
    states = [read_tensors(folder / file) for file in FILES]
    named = {f"vaes.{c}.{name}": tensor for c, state in enumerate(states) for name, tensor in state.items()}
    return named | {"scales": torch.tensor(SCALES) if binary else torch.ones(len(FILES))}
