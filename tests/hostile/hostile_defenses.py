"""Defenses that break the contract, each in its own way."""

import torch

import arena


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
    for cls in [Bright, *HOSTILE]:
        register(cls)
