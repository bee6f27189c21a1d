"""cnn and binary-cnn: cross entropy on slightly distorted images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from arena.interface.dataset import Dataset
from arena.models.augment import shift_and_rotate
from arena.models.cnn import MAPS, ConvolutionalNetwork


@dataclass(frozen=True)
class Classifier:
    """The paper (appendix A.5) gives loss and optimiser only; the other numbers are ours."""

    maps: tuple[int, ...] = MAPS
    binary_threshold: float | None = None
    epochs: int = 12
    restarts: tuple[int, ...] = ()
    batch_size: int = 128
    max_learning_rate: float = 3e-3
    shift: float = 2.0  # pixels
    rotation: float = 10.0  # degrees
    judged_on: tuple[str, ...] = ("train", "test")
    bfloat16: bool = False

    def on(self, data: Dataset) -> Classifier:
        return self

    def build(self) -> nn.Module:
        # Channels last is up to a third faster on a CPU; torch's type stubs do not know it.
        return ConvolutionalNetwork(self.maps, self.binary_threshold).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def loss(self, model: nn.Module, x: Tensor, y: Tensor, epoch: int, rng: torch.Generator) -> Tensor:
        device = next(model.parameters()).device
        x = shift_and_rotate(x, self.shift, self.rotation, rng)
        return functional.cross_entropy(model(x.to(device)), y.to(device))

    def classifier(self, model: nn.Module) -> nn.Module:
        return model.eval()

    def further_accuracies(self, model: nn.Module, x: Tensor, y: Tensor) -> dict[str, float]:
        return {}
