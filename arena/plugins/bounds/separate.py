"""The paper's bound (section 4, appendices A.2 and A.3), mended: label and rival are perturbed separately."""

from __future__ import annotations

import torch
from torch import Tensor

import arena
from arena.evaluation.bounds import Descent, separate
from arena.evaluation.bounds.separate import SeparateBound
from arena.plugins.bounds.joint import Joint
from arena.toolbox import Norm


class Separate(Joint):
    """How far must an image move until its label may be worse, and another class better, than the other? For
    comparison: it is never above the joint bound, and far below it.
    """

    name, norms, cheap = "separate", SeparateBound.norms, False
    Settings = Descent

    def run(self, defense: arena.Defense, x: Tensor, y: Tensor, norm: Norm, rng: torch.Generator) -> Tensor:
        return separate(defense, x, y, norm, seed=rng.initial_seed(), search=self.settings).value
