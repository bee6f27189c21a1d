"""The Latent Descent attack (paper section 5, equation 9): towards what the defense would take for another class."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

import arena
from arena.toolbox import bisect_between, walk_back


class LatentDescent(arena.Attack):
    """Steps towards the reconstruction by the most likely wrong class, until that class it is; then bisects within the
    last step, and between its end and the clean image. What a binarising defense does not see of the perturbation,
    the referee takes away (section 5, "Postprocessing"). Scores and reconstructions are a query each.
    """

    name = "latent-descent"
    norm = "l2"
    access = "reconstruction"

    class Settings(arena.Settings):
        epsilon: float = Field(
            1e-2, gt=0, le=1, description="share of the way to the reconstruction that a step goes (equation 9)"
        )
        steps: int = Field(1000, gt=0, description="steps at most, a query and a reconstruction each")
        bisections: int = Field(10, ge=0, description="of the last step")

    def run(self, target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        before, after, fooled = self._descend(target, x, y)
        bisect_between(target, before, after, y, fooled, self.settings.bisections)
        return walk_back(target, x, y)

    def _descend(self, target: arena.Target, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The images [B, ...] before and after the last step of each sample, and whether [B] that step fooled."""
        before, after = x.clone(), x.clone()
        index = torch.arange(len(x), device=x.device)
        likely = rival(target.scores(x), y)
        for _ in range(self.settings.steps):
            before[index] = after[index]
            images = before[index]
            aim = target.reconstructions(images, index)[torch.arange(len(index), device=x.device), likely]
            images = torch.lerp(images, aim, self.settings.epsilon).clamp(0, 1)
            after[index] = images
            scores = target.scores(images, index)
            correct = scores.argmax(1) == y[index]
            index = index[correct]
            if not len(index):
                break
            likely = rival(scores[correct], y[index])
        fooled = torch.ones_like(y, dtype=torch.bool)
        fooled[index] = False
        return before, after, fooled


def rival(scores: Tensor, y: Tensor) -> Tensor:
    """The most likely class [n] besides the label y [n]."""
    return scores.scatter(1, y[:, None], -torch.inf).argmax(1)
