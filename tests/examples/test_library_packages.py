"""The packages that wrap attack libraries: with the libraries themselves, in arena as outside it."""

from __future__ import annotations

import math
import random
from typing import Any

import libraries
import numpy
import pytest
import torch
from torch import Tensor

import arena
from arena.geometry.distances import distance
from arena.geometry.norms import Norm
from arena.interface.registry import declaration_faults
from arena.target.images import hair_beyond
from arena.testing import LinearDefense, check_attack
from arena.toolbox.library import SampleBySample

SLOW = ("autoattack-",)  # thousands of queries a sample, even where it is quick
SAMPLES = 1


class Network(arena.Defense):
    """A small ReLU network with random weights: not linear, and quick."""

    name, gradient = "small", "autograd"

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        rng = torch.Generator().manual_seed(0)
        self.inner = torch.randn(784, 32, generator=rng) / 10
        self.outer = torch.randn(32, 10, generator=rng)

    def scores(self, x: Tensor) -> Tensor:
        return (x.flatten(1) @ self.inner).relu() @ self.outer


class Counted(torch.nn.Module):
    """The network as a library would get it without arena: counts rows, and keeps the closest adversarial."""

    classes = 10

    def __init__(self, defense: arena.Defense, norm: Norm, x: Tensor, y: Tensor) -> None:
        super().__init__()
        self.defense, self.norm, self.x, self.y = defense, norm, x, y
        self.placement = torch.nn.Parameter(torch.zeros(1), requires_grad=False)
        self.forwards = self.backwards = 0
        self.closest = torch.inf
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        x = x.float()
        scores = self.defense.scores(x)
        self.forwards += len(x)
        if scores.requires_grad:
            scores.register_hook(self._count)
        self.note(x.detach(), scores.detach())
        return scores

    def _count(self, gradient: Tensor) -> None:
        self.backwards += len(gradient)

    def note(self, x: Tensor, scores: Tensor) -> None:
        x = x.clamp(0, 1)[scores.argmax(1) != self.y]
        if len(x):
            self.closest = min(self.closest, float(distance(self.norm, x.double(), self.x.double()).min()))


def attacks(library: str, monkeypatch: pytest.MonkeyPatch) -> list[type[SampleBySample]]:
    registered: list[type[SampleBySample]] = []
    libraries.example(library, monkeypatch).register_attacks(registered.append)
    return registered


def outside(attack: Any, defense: arena.Defense, x: Tensor, y: Tensor, epsilon: list[float]) -> Counted:
    """The same call on a plain model, under the seeds that arena draws."""
    (seed,) = torch.randint(2**31, (1,), generator=torch.Generator().manual_seed(0)).tolist()
    for seeded in (random.seed, numpy.random.seed, torch.manual_seed):
        seeded(seed)
    model = Counted(defense, attack.norm, x, y)
    if attack.access == "decision":
        model.register_forward_hook(lambda _, __, scores: torch.nn.functional.one_hot(scores.argmax(1), 10).float())
    image = torch.as_tensor(attack.strike(model, x.clone(), y.clone(), *epsilon)).detach().float()
    model.note(image, defense.scores(image.clamp(0, 1)))
    if not math.isfinite(model.closest):  # DeepFool may end on the boundary to the last bit
        beyond = hair_beyond(x, image.clamp(0, 1))
        model.note(beyond, defense.scores(beyond))
    return model


@pytest.mark.parametrize("library", libraries.LIBRARIES)
def test_distances_and_counts_are_those_of_the_library_alone(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    defense = Network()
    images = LinearDefense(classes=10).sample_images(20)[0]
    best, second = defense.scores(images).topk(2).values.T
    images = images[(best - second).topk(SAMPLES).indices]  # not at the boundary already
    labels = defense.scores(images).argmax(1)
    for cls in attacks(library, monkeypatch):
        if cls.name.startswith(SLOW):
            continue
        fixed = {"linf": 0.1, "l2": 2.0}.get(cls.norm) if issubclass(cls, arena.FixedEpsilonAttack) else None
        attack = cls() if fixed is None else cls(epsilon=fixed)
        for x, y in zip(images.split(1), labels.split(1), strict=True):
            (record,) = arena.play(defense, attack, x, y)
            alone = outside(attack, defense, x, y, [] if fixed is None else [fixed])
            counts = record.queries - 1, record.gradient_queries  # one query more, about what was returned
            assert counts == (alone.forwards, alone.backwards), cls.name
            assert record.distance == pytest.approx(alone.closest, rel=2e-3), cls.name  # a hair, where rounding decides


@pytest.mark.parametrize("library", libraries.LIBRARIES)
def test_declarations_are_sound(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for cls in attacks(library, monkeypatch):
        assert not declaration_faults("attack", cls), cls.name


@pytest.mark.slow
@pytest.mark.parametrize("library", libraries.LIBRARIES)
def test_they_keep_the_contract(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reports = [check_attack(cls, timeout=600) for cls in attacks(library, monkeypatch)]
    assert all(report.ok for report in reports), "\n".join(str(report) for report in reports if not report.ok)
