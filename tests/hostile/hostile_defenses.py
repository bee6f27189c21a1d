"""Defenses that break the contract, each in its own way."""

import os
from pathlib import Path

import torch

import arena
from arena.interface.calibration import Calibration
from arena.interface.prototypes import FiniteSet


class Bright(arena.Defense):
    """Honest: is the image bright? The hostile ones spoil its scores."""

    name = "bright"
    gradient = "autograd"

    def scores(self, x):
        light = x.flatten(1).sum(1)
        return torch.stack([light, 100 - light], 1)


class NanScores(Bright):
    name = "nan-scores"

    def scores(self, x):
        return super().scores(x) * float("nan")


class WrongShapeScores(Bright):
    name = "wrong-shape-scores"

    def scores(self, x):
        return super().scores(x)[:, 0]


class RaisesAtLoad(Bright):
    name = "raises-at-load"

    def __init__(self, **settings):
        raise RuntimeError("this defense never loads")


class RandomScores(Bright):
    name = "random-scores"

    def scores(self, x):
        return super().scores(x) + 10 * torch.randn(len(x), 2)


class BatchCoupled(Bright):
    """As a batch norm left in training mode."""

    name = "batch-coupled"

    def scores(self, x):
        return super().scores(x - x.mean(0))


class MutatesImages(Bright):
    name = "mutates-its-images"

    def scores(self, x):
        return super().scores(x.round_() if not x.requires_grad else x)


class WrongGradient(Bright):
    name = "wrong-gradient"

    def scores(self, x):
        return super().scores(x.round() + x - x.detach())


class NotBinary(Bright):
    name = "not-binary"
    binary_threshold = 0.5


class HiddenWeights(Bright):
    name = "hidden-weights"

    def __init__(self, **settings):
        super().__init__(**settings)
        self.layers = (torch.ones(2) for _ in range(3))


def exit_if_told():
    """A file tells when: the store must have rows of it first."""
    if Path("exit-now").exists():
        os._exit(7)


class ExitingSet(FiniteSet):
    def nearest(self, input):
        exit_if_told()
        return super().nearest(input)


class Exits(Bright):
    """Honest until it ends its process."""

    name = "exits-when-asked"
    calibration = Calibration(alpha=1.0, eta=0.5)

    @property
    def prototypes(self):
        return ExitingSet(list(torch.linspace(0, 1, 10)[:, None, None].expand(10, 1, 784)))

    def scores(self, x):
        exit_if_told()
        return torch.nn.functional.pad(super().scores(x), (0, 8), value=-1000.0)  # ten classes


HOSTILE = [
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
def register_defenses(register):
    for cls in [Bright, Exits, *HOSTILE]:
        register(cls)
