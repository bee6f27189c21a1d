"""Gradient attacks played over estimated gradients: the rows "w/ GE" of Table 1."""

from __future__ import annotations

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor

import arena


def estimated(cls: type[arena.Attack]) -> type[arena.Attack]:
    """The attack `cls`, repeated over coordinate-wise differences of several sizes; the closest adversarial wins."""

    class Estimated(cls):  # type: ignore[misc, valid-type]
        __doc__ = f"{cls.__name__} over estimated gradients (paper section 5, 'Score-based attacks')."
        name = f"{cls.name}-ge"
        access = "score"

        class Settings(cls.Settings):  # type: ignore[misc, name-defined]
            """A model that binarises at 0.5 answers to a black or white pixel only beyond differences of 0.5."""

            differences: tuple[PositiveFloat, ...] = Field(
                (0.01, 0.6), min_length=1, description="steps of the estimator, pixel units; the attack runs with each"
            )

        def run(self, target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
            for step in self.settings.differences:
                images = super().run(target.with_finite_differences(step), x, y, rng)
            return images

    return Estimated
