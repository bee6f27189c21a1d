"""ALMA (Rony et al. 2021, "Augmented Lagrangian adversarial attacks")."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

import arena
from arena.toolbox import SPREAD, distance, movable, normalized_margin, per_row, scores_and_gradient, unit, walk_back

# As published:
SMOOTHING = 0.9  # of the multiplier, of squared gradients and of steps (alpha)
CHECK = 10  # steps between looks at whether the lead shrinks (M)
SHRUNK = 0.95  # of the last look's lead, that counts as less (tau)
GROWTH = 1.2  # of the penalty's sharpness where it does not (gamma)
LAST_STEP = 0.01  # of the first; they shrink from where the first adversarial is found
TOLERANCE = 1e-4  # by which the label is to fall behind
LEAST, MOST = 1e-6, 1e12  # multiplier
TINY = 1e-12


class ALMA(arena.Attack):
    """Descends the distance and a penalty of the label's lead, by RMSProp with momentum. The penalty (P2) has a
    multiplier, which follows its slope, and a sharpness, which grows until an adversarial is found where the lead does
    not shrink. The lead is a share of the logits' range, which two classes have too; the publication takes the DLR."""

    name = "alma"
    norm = "l2"
    access = "gradient"

    class Settings(arena.Settings):
        steps: int = Field(
            200, gt=0, description="of the descent, one query and gradient each (the publication's: 1000)"
        )
        first_step: float = Field(1.0, gt=0, description="how far the first step goes (epsilon), in L2")

    def run(self, target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        steps = self.settings.steps
        change, squares, momentum = torch.zeros_like(x), torch.ones_like(x), torch.zeros_like(x)
        multiplier = sharpness = torch.ones_like(x[:, 0, 0, 0])
        since = torch.zeros_like(multiplier)  # steps since the first adversarial
        for step in range(steps):
            scores, uphill = scores_and_gradient(target, (x + change).clamp(0, 1), y, lead_of)
            lead = lead_of(scores, y)
            found = target.best_distance.isfinite()
            if step == 0:
                checked = lead
            else:
                multiplier = torch.lerp(penalty_slope(lead, sharpness, multiplier), multiplier, SMOOTHING)
                multiplier = multiplier.clamp(LEAST, MOST)
            if (step + 1) % CHECK == 0:
                sharpness = torch.where(found | (lead < SHRUNK * checked), sharpness, GROWTH * sharpness)
                checked = lead
            slope = penalty_slope(lead, sharpness, multiplier)
            gradient = unit(change) + per_row(slope, x) * uphill
            squares = torch.lerp(gradient.square(), squares, SMOOTHING)
            momentum = SMOOTHING * momentum + gradient / squares.sqrt().clamp_min(TINY)
            if step == 0:
                reach = distance(self.norm, movable(x, -momentum), torch.zeros_like(x))
                first = self.settings.first_step / reach.clamp_min(TINY)
            length = first * LAST_STEP ** (since / (steps - step + since))
            since += found
            change = (x + change - per_row(length, x) * momentum).clamp(0, 1) - x
        return walk_back(target, x, y)


def lead_of(scores: Tensor, y: Tensor) -> Tensor:
    """By how much [n] of the logits' range the labels y [n] lead; not above zero where they are behind far enough."""
    return TOLERANCE - normalized_margin(scores, y) / SPREAD


def penalty_slope(lead: Tensor, sharpness: Tensor, multiplier: Tensor) -> Tensor:
    """The derivative [B] of the penalty P2 by the lead: that of a cubic where the label leads, falling to zero where
    it does not; at a lead of zero it is the multiplier."""
    ahead = sharpness * lead.clamp_min(0)
    behind = sharpness * lead.clamp_max(0)
    return multiplier * (1 + 2 * ahead) + ahead.square() / 2 + multiplier / (1 - behind).square() - multiplier
