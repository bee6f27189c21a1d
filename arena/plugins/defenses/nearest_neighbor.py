"""The nearest neighbour among all training images."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from arena.data import load_data
from arena.errors import UserError
from arena.interface.contracts import Defense
from arena.interface.prototypes import FiniteSet
from arena.models import nearest_neighbor
from arena.models.weights import ZOO, load_calibration


class NearestNeighbor(Defense):
    """The class of the nearest MNIST training image in L2 (paper, appendix A.5): robust to a degree, not accurate.

    Raises:
        UserError: `weights` were given, there are none to replace; or MNIST can be neither read nor fetched.
    """

    name = "nearest-neighbor"
    gradient = "exact"
    shape, classes = (1, 28, 28), 10
    batch_size = 2048  # the images of an estimated gradient together: they share their candidates

    def __init__(self, weights: str | Path | None = None, device: str = "cpu", **settings: Any) -> None:
        super().__init__(weights, device, **settings)
        if weights is not None:
            raise UserError(f"{self.name} takes no weights, it is the training set itself: remove {weights}")
        self.network = nearest_neighbor.NearestNeighborModel(*load_data("mnist", "train")).eval().to(self.device)
        self.calibration = load_calibration(ZOO / f"{self.name}.safetensors")

    def fingerprint_state(self) -> Any:
        """The training images; their mean and norms follow from them, to the last bit only on one machine."""
        return self.network.prototypes, self.network.sizes, self.calibration

    def scores(self, x: Tensor) -> Tensor:
        return self.network(x)

    def score_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.network.score_gradient(x)

    @cached_property
    def prototypes(self) -> FiniteSet:
        """The training images; the least squared distance decides as the least distance."""
        return FiniteSet(self.network.prototypes.split(self.network.sizes))
