"""The nearest neighbour among all training images."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import Field
from torch import Tensor

import arena
from arena.data import DEFAULT, load_split, open_dataset
from arena.models import nearest_neighbor
from arena.models.weights import load_calibration, shipped

SPLIT = "train"


class Settings(arena.Settings):
    trained_on: str | dict[str, Any] | None = Field(
        None, description='data set with a split "train"; default: the one that is played, else mnist'
    )


class NearestNeighbor(arena.Defense):
    """The class of the nearest training image in L2 (paper, appendix A.5): robust to a degree, not accurate.

    It takes any images: those of the data set that is played, if that has a split "train".

    Raises:
        UserError: `weights` were given, there are none to replace; or the data set can be neither read nor fetched, or
            has no training image of a class.
    """

    name = "nearest-neighbor"
    gradient = "exact"
    batch_size = 2048  # the images of an estimated gradient together: they share their candidates
    Settings = Settings

    def __init__(self, weights: str | Path | None = None, device: str = "cpu", **settings: Any) -> None:
        super().__init__(weights, device, **settings)
        if weights is not None:
            raise arena.UserError(f"{self.name} takes no weights, it is the training set itself: remove {weights}")
        trained_on = self.settings.trained_on or DEFAULT.name
        data = open_dataset({"name": trained_on} if isinstance(trained_on, str) else trained_on)
        x, y = load_split(data, SPLIT)
        if missing := sorted(set(range(data.classes)) - set(y.tolist())):
            raise arena.UserError(f"{self.name}: {data.name}, {SPLIT}, has no image of class {missing[0]}")
        self.network = nearest_neighbor.NearestNeighborModel(x, y).eval().to(self.device)
        self.calibration = load_calibration(shipped(self.name, data.name))

    @classmethod
    def settings_for(cls, data: arena.Dataset, given: Mapping[str, Any]) -> dict[str, Any]:
        settings = super().settings_for(data, given)
        if settings.get("trained_on") is not None or data is DEFAULT:
            return settings
        if SPLIT not in data.splits:
            raise arena.NotApplicable(
                f'defense {cls.name}: {data.name} has no split "{SPLIT}": add one, or set trained_on'
            )
        described = data.description
        return settings | {"trained_on": data.name if described == {"name": data.name} else described}

    def fingerprint_state(self) -> Any:
        """The training images; their mean and norms follow from them, to the last bit only on one machine."""
        return self.network.prototypes, self.network.sizes, self.calibration

    def scores(self, x: Tensor) -> Tensor:
        return self.network(x)

    def score_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.network.score_gradient(x)

    @cached_property
    def prototypes(self) -> arena.FiniteSet:
        """The training images; the least squared distance decides as the least distance."""
        return arena.FiniteSet(self.network.prototypes.split(self.network.sizes))
