"""The plain convolutional network: accurate, and not meant to be robust."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from arena.contracts import Defense
from arena.models import cnn
from arena.models.weights import ZOO, load_weights


class CNN(Defense):
    """The vanilla CNN of the paper (appendix A.5).

    Raises:
        UserError: `weights` cannot be read, or are those of another architecture.
    """

    name = "cnn"
    gradient = "autograd"

    def __init__(self, weights: str | Path | None = None, device: str = "cpu", **settings: Any) -> None:
        super().__init__(weights, device, **settings)
        self.network = cnn.CNN(binary_threshold=self.binary_threshold)
        load_weights(self.network, weights or ZOO / f"{self.name}.safetensors")
        self.network.eval().requires_grad_(False).to(self.device)

    def scores(self, x: Tensor) -> Tensor:
        return self.network(x)
