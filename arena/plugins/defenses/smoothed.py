"""Randomized smoothing (Cohen, Rosenfeld and Kolter 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

import arena
from arena.plugins.defenses.cnn import CNN

_APART = 2**32  # added to the seed: no attack or bound under the same seed draws the same noise


class Noise(arena.Settings):
    sigma: float = Field(0.25, gt=0, description="standard deviation of the noise")
    votes: int = Field(50, ge=1, description="noisy copies of an image")
    seed: int = Field(0, ge=0, lt=2**32, description="of the noise")


class Smoothed(arena.Defense):
    """The votes of a base classifier on noisy copies of the image.

    Every image meets the same noise, drawn once: the defense is deterministic, an approximation of the classifier that
    the theorem speaks of. Attacks follow the mean softmax through a straight-through estimator (Salman et al. 2019).
    """

    gradient = "straight-through"
    batch_size = 16  # images; so many times the votes are noisy copies
    base: ClassVar[type[arena.Defense]]

    def __init__(self, weights: str | Path | None = None, device: str = "cpu", **settings: Any) -> None:
        super().__init__(weights, device, **settings)
        self._base = self.base(weights, device, **self.settings.model_dump(exclude=set(Noise.model_fields)))

    @classmethod
    def settings_for(cls, data: arena.Dataset, given: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the base classifier follow from the data, for all that it says."""
        of_base = {key: value for key, value in given.items() if key not in Noise.model_fields}
        return {**given, **cls.base.settings_for(data, of_base)}

    @property
    def sigma(self) -> float:
        return float(self.settings.sigma)

    def base_scores(self, x: Tensor) -> Tensor:
        return self._base.scores(x)

    def scores(self, x: Tensor) -> Tensor:
        """How many of the copies are taken for each class [B, classes]."""
        copies = (x[:, None] + self._noise(x.shape[1:])).flatten(0, 1)
        logits = self.base_scores(copies).unflatten(0, (len(x), -1))
        votes = functional.one_hot(logits.argmax(-1), logits.shape[-1]).sum(1).to(x.dtype)
        if not x.requires_grad:
            return votes
        soft = logits.softmax(-1).sum(1)
        return votes + soft - soft.detach()

    def _noise(self, shape: torch.Size) -> Tensor:
        """[votes, C, H, W], the same whatever the device."""
        if shape not in self._drawn:
            rng = torch.Generator().manual_seed(_APART + self.settings.seed)
            noise = torch.randn(self.settings.votes, *shape, generator=rng)
            self._drawn[shape] = self.sigma * noise.to(self.device)
        return self._drawn[shape]

    @cached_property
    def _drawn(self) -> dict[torch.Size, Tensor]:
        """The noise for images of each shape, kept: drawing costs as much as a small network."""
        return {}


def smoothed(cls: type[arena.Defense]) -> type[Smoothed]:
    """The defense `cls`, smoothed: "smoothed-NAME", with the settings of both."""

    class SmoothedDefense(Smoothed):
        __doc__ = f"The votes of {cls.name} on noisy copies of the image."
        name = f"smoothed-{cls.name}"
        shape, classes, base = cls.shape, cls.classes, cls

        class Settings(cls.Settings, Noise):  # type: ignore[misc, name-defined]
            pass

    return SmoothedDefense


SmoothedCNN = smoothed(CNN)
