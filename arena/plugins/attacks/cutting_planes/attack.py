"""The cutting-plane attacks: the closest image across all half-spaces that the defense's prototypes make."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

import arena
from arena.evaluation.bounds import Search, joint
from arena.interface.prototypes import HasPrototypes, Points
from arena.plugins.attacks.cutting_planes.duels import Duels, Each
from arena.toolbox import candidates, per_row, reset_best, smallest_epsilon

LONGER = (1, 3, 10, 30)  # times the last stretch


class CuttingPlanes(arena.Attack):
    """Crosses, by the smallest perturbation, every half-space that an adversarial must reach, as far as they are known;
    adds the one that this overlooked, and again (Kelley 1960; the half-spaces are those of
    `arena.evaluation.bounds.separation`).

    It begins with the prototypes that attain the joint lower bound, and serves every defense whose score is a minimum
    over prototypes. The rounds look into the defense, uncounted; what decides about images in the end are queries.
    """

    access = "white-box"

    class Settings(arena.Settings):
        classes: int = Field(3, ge=1, description="how many to aim at, those with the least bounds")
        starts: int = Field(4, ge=1, description="descents of the bound to every class")
        rounds: int = Field(14, ge=1, description="how often half-spaces are added")
        steps: int = Field(20, ge=1, description="of the search for a better explanation, in each round")
        bisections: int = Field(5, ge=0, description="of the last stretch (L2, Linf), a query each")

    @classmethod
    def applies_to(cls, defense: type[arena.Defense]) -> bool:
        return issubclass(defense, HasPrototypes)

    def run(self, target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        duels = self._duels(target.defense, x, y)
        for _ in range(self.settings.rounds):
            duels.play(self.settings.steps)
        sample = torch.arange(len(x), device=x.device).repeat_interleave(len(duels.x) // len(x))
        if self.norm == "l0" or target.defense.binary_threshold is not None:
            target.labels(duels.images, sample)
            reset_best(target, x, y, self.norm, rng)
        else:
            stretch(target, duels, sample, self.settings.bisections)
        return candidates(target, x)

    def _duels(self, defense: arena.Defense, x: Tensor, y: Tensor) -> Duels:
        """Each sample against the classes with the least bounds, in as many rows, one after the other."""
        bound = joint(defense, x, y, self.norm, search=Search(rounds=1, scouts=1, starts=self.settings.starts))
        classes = min(self.settings.classes, bound.per_class.shape[1] - 1)
        rival = bound.per_class.topk(classes, largest=False).indices.flatten()
        sample = torch.arange(len(x), device=x.device).repeat_interleave(classes)
        points = Points(*(field[sample] for field in bound.points))
        own, other = Each.of(points, y[sample]), Each.of(points, rival)
        return Duels(defense, self.norm, x[sample], y[sample], rival, own, other)


def stretch(target: arena.Target, duels: Duels, sample: Tensor, bisections: int) -> None:
    """Along the way to the image of each duel, which is about the sample [N], the first that is misclassified.

    The last stretch begins at the share of the way that was `reached`: below, one is adversarial only while nobody
    looks for the explanations that the attack knows. Where the image is not misclassified, it goes on beyond.
    """

    def attempt(times: Tensor, index: Tensor) -> Tensor:
        share = duels.reached[index] + times * (1 - duels.reached[index])
        images = torch.lerp(duels.x[index], duels.images[index], per_row(share, duels.x)).clamp(0, 1)
        return target.labels(images, sample[index]) != duels.label[index]

    smallest_epsilon(attempt, torch.tensor(LONGER).to(duels.x), len(duels.x), bisections)


class L0CuttingPlanes(CuttingPlanes):
    """Pixels move as far as the box allows; those not needed in the end are set back."""

    name = "cutting-plane-l0"
    norm = "l0"


class L2CuttingPlanes(CuttingPlanes):
    """The L2 form: each step is a small quadratic program."""

    name = "cutting-plane-l2"
    norm = "l2"


class LinfCuttingPlanes(CuttingPlanes):
    """The Linf form: each step is a small linear program."""

    name = "cutting-plane-linf"
    norm = "linf"
