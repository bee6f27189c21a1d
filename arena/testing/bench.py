"""Plays an attack under the referee and notes what it did: what the checks of the conformance kit look at."""

from __future__ import annotations

import copy
import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import numpy
import torch
from torch import Tensor

from arena.errors import BudgetExhausted
from arena.evaluation.referee import play
from arena.interface.contracts import Attack
from arena.target.target import Target
from arena.testing.known import KnownDefense

GUARD = 30.0  # added to a logit: several times the usual margin, and no softmax is exactly one


class TimeIsUp(BaseException):
    """A run took too long. No Exception, so that an attack that swallows those still ends."""


@dataclass
class Trial:
    """One run: what the attack returned (None: nothing), raised, and whether it left x and y alone; and by the
    referee the distances [B], float64, infinity where nothing held, and the queries [B] of both kinds."""

    returned: Any = None
    failure: BaseException | None = None
    intact: bool = True
    distance: Tensor = field(default_factory=lambda: torch.empty(0))
    asked: Tensor = field(default_factory=lambda: torch.empty(0))

    def equals(self, other: Trial) -> bool:
        """Whether two runs ended with the same bits, NaN included, and the same distances."""
        images = (trial.returned for trial in (self, other))
        bits = [None if image is None else image.detach().cpu().numpy().tobytes() for image in images]
        return bits[0] == bits[1] and torch.equal(self.distance, other.distance)


@dataclass
class _Witness:
    """Runs an attack in the referee's stead: notes what it does, and hands on what the referee can rule on."""

    attack: Attack
    timeout: float
    scramble: int | None
    trial: Trial = field(default_factory=Trial)

    def run(self, target: Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        if self.scramble is not None:
            for seed in (random.seed, numpy.random.seed, torch.manual_seed):
                seed(self.scramble)
        given_x, given_y = x.clone(), y.clone()
        try:
            with _time_limit(self.timeout):
                self.trial.returned = self.attack.run(target, given_x, given_y, rng)
        except BudgetExhausted:
            raise
        except (Exception, SystemExit, TimeIsUp) as failure:
            self.trial.failure = failure
        finally:
            self.trial.intact = torch.equal(given_x, x) and torch.equal(given_y, y)
        return self.trial.returned if misshapen(self.trial.returned, x) is None else x


@dataclass
class Bench:
    """An attack, its opponent and the limits of each run: queries for each sample, and seconds."""

    attack: Attack
    defense: KnownDefense
    budget: int | None
    timeout: float

    def run(self, x: Tensor, seed: int = 0, scramble: int | None = None) -> Trial:
        """Play once; `scramble` seeds the global generators otherwise than the referee does."""
        witness = _Witness(self.attack, self.timeout, scramble)
        y = self.defense.scores(x).argmax(1)
        watched = copy.copy(self.attack)
        watched.run = witness.run  # type: ignore[method-assign]
        records = play(self.defense, watched, x, y, seed=seed, budget=self.budget)
        witness.trial.distance = torch.tensor([record.distance for record in records], dtype=torch.float64)
        witness.trial.asked = torch.tensor([record.queries + record.gradient_queries for record in records])
        return witness.trial


def guarded(defense: KnownDefense, clean: Tensor) -> KnownDefense:
    """The same defense, save that what is nearest to every other one of the images `clean` is hardly ever taken for
    another class: an attack breaks some samples at once, others late or never."""
    guard = copy.copy(defense)
    labels = defense.scores(clean).argmax(1)

    def scores(x: Tensor) -> Tensor:
        logits = defense.scores(x)
        gaps = torch.cdist(x.detach().flatten(1), clean.flatten(1), compute_mode="donot_use_mm_for_euclid_dist")
        nearest = gaps.argmin(1)
        bonus = torch.nn.functional.one_hot(labels[nearest], logits.shape[1]) * (nearest % 2)[:, None]
        return logits + GUARD * bonus

    guard.scores = scores  # type: ignore[method-assign]
    return guard


def misshapen(images: Any, x: Tensor) -> str | None:
    """Why what an attack returned for the images x is no batch of images, or None."""
    if not isinstance(images, Tensor):
        return f"run returned {type(images).__name__}, not a tensor"
    if images.shape != x.shape or images.dtype != x.dtype:
        return f"run returned {images.dtype} {list(images.shape)} for {x.dtype} {list(x.shape)}"
    return None


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raises TimeIsUp in the block after so many seconds; not outside the main thread."""

    def ring(_signal: int, _frame: FrameType | None) -> None:
        raise TimeIsUp(f"still running after {seconds:g} s")

    try:
        previous = signal.signal(signal.SIGALRM, ring)
    except ValueError:  # not the main thread
        yield
        return
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
