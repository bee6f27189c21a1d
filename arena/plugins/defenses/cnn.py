"""The plain convolutional network: accurate, and not meant to be robust."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from arena.contracts import Defense, Gradient
from arena.models import cnn
from arena.models.weights import ZOO, load_calibration, load_weights


class CNN(Defense):
    """The vanilla CNN of the paper (appendix A.5).

    Raises:
        UserError: `weights` cannot be read, or are those of another architecture.
    """

    name = "cnn"
    gradient: ClassVar[Gradient] = "autograd"

    def __init__(self, weights: str | Path | None = None, device: str = "cpu", **settings: Any) -> None:
        super().__init__(weights, device, **settings)
        self.network = cnn.CNN(binary_threshold=self.binary_threshold)
        path = Path(weights or ZOO / f"{self.name}.safetensors")
        load_weights(self.network, path)
        self.calibration = load_calibration(path)
        self.network.eval().requires_grad_(False).to(self.device)
        # A fifth faster on a CPU; torch's type stubs do not know it.
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def scores(self, x: Tensor) -> Tensor:
        return self.network(x)
