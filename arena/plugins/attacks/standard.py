"""AutoAttack, standard (Croce & Hein 2020, "Reliable evaluation of adversarial robustness"): what falls in epsilon."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

import arena
from arena.plugins.attacks.apgd import (
    APGD,
    L2CrossEntropyAPGD,
    L2TargetedAPGD,
    LinfCrossEntropyAPGD,
    LinfTargetedAPGD,
    TargetedAPGD,
)
from arena.plugins.attacks.fab import FAB, TargetedL2FAB, TargetedLinfFAB
from arena.plugins.attacks.square import L2Square, LinfSquare, Square
from arena.toolbox import candidates

SHARE = 0.8  # of the image, that Square's first window covers in either norm, as in the authors' code


class Standard(arena.Attack):
    """APGD on the cross entropy, APGD-T, FAB-T and Square at one epsilon, each on the samples that still stand.

    It answers whether a sample falls within epsilon, not how near its closest adversarial is. The distance reported is
    that of the closest image that fooled, walked back to the boundary: within epsilon of a sample that fell to the
    first that came along, so seldom the smallest; beyond epsilon of one that stands, where FAB met it. Robust accuracy
    at epsilon is read from it as from any other.

    The losses are those of the attacks by themselves: the cross entropy of normalized logits. A sample that falls to
    FAB or to Square is played to the end of that attack.
    """

    access = "gradient"
    climbing: ClassVar[type[APGD]]
    targeted: ClassVar[type[TargetedAPGD]]
    walking: ClassVar[type[FAB]]
    searching: ClassVar[type[Square]]

    class Settings(arena.Settings):
        epsilon: float | None = Field(
            None, gt=0, description="radius of the ball, in the attack's norm; none: the data set's threshold"
        )
        steps: int = Field(100, gt=0, description="of APGD, and for each class of APGD-T and FAB-T")
        candidates: int = Field(
            10, gt=1, description="classes considered: the label and the likeliest others of the clean image"
        )
        windows: int = Field(5000, gt=0, description="drawn by Square, one query each")

    @classmethod
    def settings_for(cls, data: arena.Dataset, given: Mapping[str, Any]) -> dict[str, Any]:
        """The data set's threshold where no epsilon is given."""
        settings = super().settings_for(data, given)
        if settings.get("epsilon") is None:
            if cls.norm not in data.thresholds:
                raise arena.NotApplicable(f"attack {cls.name}: {data.name} has no threshold in {cls.norm}: set epsilon")
            settings["epsilon"] = data.thresholds[cls.norm]
        return settings

    @property
    def fixed_epsilon(self) -> float | None:
        """That of the settings."""
        epsilon: float | None = self.settings.epsilon
        return epsilon

    def run(self, target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        """Raises UserError if there is no epsilon."""
        if self.fixed_epsilon is None:
            raise arena.UserError(
                f"attack {self.name}: set epsilon, or name a data set with a threshold in {self.norm}"
            )
        for stage in self._stages(self.fixed_epsilon):
            standing = (target.best_distance.double() > self.fixed_epsilon).nonzero().flatten()
            if len(standing):
                stage.run(target.subset(standing), x[standing], y[standing], rng)
        return candidates(target, x)

    def _stages(self, epsilon: float) -> Iterator[arena.Attack]:
        s = self.settings
        ball = {"steps": s.steps, "max_epsilon": epsilon, "epsilons": 1, "bisections": 0}
        yield self.climbing(**ball)
        yield self.targeted(**ball, candidates=s.candidates)
        yield self.walking(steps=s.steps, candidates=s.candidates)
        yield self.searching(steps=s.windows, epsilon=epsilon, share=SHARE)


class LinfStandard(Standard):
    """The Linf form."""

    name = "standard-linf"
    norm = "linf"
    climbing, targeted, walking, searching = LinfCrossEntropyAPGD, LinfTargetedAPGD, TargetedLinfFAB, LinfSquare


class L2Standard(Standard):
    """The L2 form."""

    name = "standard-l2"
    norm = "l2"
    climbing, targeted, walking, searching = L2CrossEntropyAPGD, L2TargetedAPGD, TargetedL2FAB, L2Square
