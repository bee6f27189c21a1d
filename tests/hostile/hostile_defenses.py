"""Defenses that break the contract, each in its own way."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import arena
from arena.interface.calibration import Calibration
from arena.interface.prototypes import FiniteSet, Points


class Bright(arena.Defense):
    """Honest: is the image bright? The hostile ones spoil its scores."""

    name = "bright"
    gradient = "autograd"

    def scores(self, x: Tensor) -> Tensor:
        light = x.flatten(1).sum(1)
        return torch.stack([light, 100 - light], 1)


class NanScores(Bright):
    name = "nan-scores"

    def scores(self, x: Tensor) -> Tensor:
        return super().scores(x) * float("nan")


class WrongShapeScores(Bright):
    name = "wrong-shape-scores"

    def scores(self, x: Tensor) -> Tensor:
        return super().scores(x)[:, 0]


class RaisesAtLoad(Bright):
    name = "raises-at-load"

    def __init__(self, **settings: Any) -> None:
        raise RuntimeError("this defense never loads")


class RandomScores(Bright):
    name = "random-scores"

    def scores(self, x: Tensor) -> Tensor:
        return super().scores(x) + 10 * torch.randn(len(x), 2)


class BatchCoupled(Bright):
    """As a batch norm left in training mode."""

    name = "batch-coupled"

    def scores(self, x: Tensor) -> Tensor:
        return super().scores(x - x.mean(0))


class MutatesImages(Bright):
    name = "mutates-its-images"

    def scores(self, x: Tensor) -> Tensor:
        return super().scores(x.round_() if not x.requires_grad else x)


class WrongGradient(Bright):
    name = "wrong-gradient"

    def scores(self, x: Tensor) -> Tensor:
        return super().scores(x.round() + x - x.detach())


class NotBinary(Bright):
    name = "not-binary"
    binary_threshold = 0.5


class HiddenWeights(Bright):
    name = "hidden-weights"

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.layers = (torch.ones(2) for _ in range(3))


def exit_if_told() -> None:
    """A file tells when: the store must have rows of it first."""
    if Path("exit-now").exists():
        os._exit(7)


class ExitingSet(FiniteSet):
    def nearest(self, input: Tensor) -> Points:
        exit_if_told()
        return super().nearest(input)


class Exits(Bright):
    """Honest until it ends its process."""

    name = "exits-when-asked"
    calibration = Calibration(alpha=1.0, eta=0.5)

    @property
    def prototypes(self) -> ExitingSet:
        return ExitingSet(list(torch.linspace(0, 1, 10)[:, None, None].expand(10, 1, 784)))

    def scores(self, x: Tensor) -> Tensor:
        exit_if_told()
        return torch.nn.functional.pad(super().scores(x), (0, 8), value=-1000.0)  # ten classes


HOSTILE: list[type[arena.Defense]] = [
    NanScores,
    WrongShapeScores,
    RaisesAtLoad,
    RandomScores,
    BatchCoupled,
    MutatesImages,
    WrongGradient,
    NotBinary,
    HiddenWeights,
]


@arena.hookimpl
def register_defenses(register: Callable[[type[arena.Defense]], None]) -> None:
    everyone: list[type[arena.Defense]] = [Bright, Exits, *HOSTILE]
    for cls in everyone:
        register(cls)
