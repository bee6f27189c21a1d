"""What the feed-forward defenses share: a torch module and its weights."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

import arena
from arena.models.weights import load_calibration, load_weights
from arena.plugins.defenses.trained import TrainedSettings, trained_for, weights_of


class Network(arena.Defense):
    """A feed-forward classifier, differentiable by autograd.

    Raises:
        UserError: `weights` cannot be read, or are those of another architecture.
    """

    gradient: ClassVar[Literal["autograd", "straight-through"]] = "autograd"
    shape, classes = (1, 28, 28), 10
    Settings = TrainedSettings

    def __init__(self, weights: str | Path | None = None, device: str = "cpu", **settings: Any) -> None:
        super().__init__(weights, device, **settings)
        self.network = self.build()
        path = weights_of(self)
        load_weights(self.network, path)
        self.calibration = load_calibration(path)
        self.network.eval().requires_grad_(False).to(self.device)
        # A fifth faster on a CPU; torch's type stubs do not know it.
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @classmethod
    def settings_for(cls, data: arena.Dataset, given: Mapping[str, Any]) -> dict[str, Any]:
        return trained_for(cls.name, data, super().settings_for(data, given))

    @abstractmethod
    def build(self) -> nn.Module:
        """The module with any weights."""

    def scores(self, x: Tensor) -> Tensor:
        return self.network(x)
