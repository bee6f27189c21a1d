"""sigma-zero (Cinà et al. 2024, "sigma-zero: Gradient-based optimization of l0-norm adversarial examples")."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

import arena
from arena.toolbox import margin, normalized_margin, per_row, reset_best, scores_and_gradient

TINY = 1e-12
LAST_STEP = 0.1  # of the first; the steps shrink by a cosine (the authors' code)


class SigmaZero(arena.Attack):
    """Descends the margin and a smooth count of the perturbed pixels, s / (s + sigma) for a pixel changed by sqrt(s),
    by Adam; each step sets back the pixels that changed by less than a threshold, which rises while the image is
    adversarial (Algorithm 1).

    The margin is that of normalized logits: weighed against the count, it would depend on their scale. The count is
    of pixels, not values. Beyond the publication, what is found is reset pixel by pixel while it stays adversarial.
    """

    name = "sigma-zero"
    norm = "l0"
    access = "gradient"

    class Settings(arena.Settings):
        steps: int = Field(
            200, gt=0, description="of the descent, one query and gradient each (the publication's: 1000)"
        )
        step_size: float = Field(1.0, gt=0, description="Adam's learning rate at first; the last is a tenth of it")
        sigma: float = Field(1e-3, gt=0, description="squared change of a pixel that counts as half a pixel")
        threshold: float = Field(0.3, ge=0, lt=1, description="change below which a pixel is set back, at first (tau)")
        drift: float = Field(0.01, gt=0, description="by which the threshold moves, in step sizes (t)")

    def run(self, target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        s = self.settings
        change, threshold = torch.zeros_like(x), torch.full_like(x[:, 0, 0, 0], s.threshold)
        adam = torch.optim.Adam([change], lr=s.step_size)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, s.steps, LAST_STEP * s.step_size)
        for _ in range(s.steps):
            scores, uphill = scores_and_gradient(target, (x + change).clamp(0, 1), y, normalized_margin)
            fooled = margin(scores, y) > 0
            squared = change.square().sum(1, keepdim=True)
            counting = 2 * s.sigma * change / (squared + s.sigma).square() / squared[0].numel()
            gradient = torch.where(per_row(fooled, x), counting, counting - uphill)
            change.grad = gradient / per_row(gradient.flatten(1).abs().amax(1).clamp_min(TINY), x)
            adam.step()
            change.add_(x).clamp_(0, 1).sub_(x)
            schedule.step()
            drift = s.drift * schedule.get_last_lr()[0]
            threshold = (threshold + torch.where(fooled, drift, -drift)).clamp(0, 1)
            change.mul_(change.abs().amax(1, keepdim=True) >= per_row(threshold, x))
        return reset_best(target, x, y, self.norm, rng)
