"""What a worker is asked to do: plain data, so that it can travel to another process or machine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from arena.geometry.norms import Norm
from arena.interface.results import BoundKind, Evidence, StoredMatch

Purpose = Literal["match", "bound", "distal"]


@dataclass(frozen=True)
class Job(ABC):
    """One call of a worker, at most `timeout` seconds of it.

    foreign: code of a third party takes part, which could change its process; the job gets one of its own.
    """

    timeout: float
    foreign: bool

    @property
    @abstractmethod
    def label(self) -> str:
        """What messages call it."""

    @property
    def group(self) -> str:
        """Jobs of a group are alike: what one costs a sample tells what the others will."""
        return self.label

    @property
    def size(self) -> int:
        """How many samples, classes or rows it is about."""
        return 1


@dataclass(frozen=True)
class NodeJob(Job):
    """What decides rows on a machine, beside the plugins' own fingerprints."""

    @property
    def label(self) -> str:
        return "the description of a machine"


@dataclass(frozen=True)
class RosterJob(Job):
    """Who can take part: the names that are asked for, and the data for it."""

    purpose: Purpose

    @property
    def label(self) -> str:
        return "the roster"


@dataclass(frozen=True)
class IdentifyJob(Job):
    """The identity of one plugin under the configured settings, and what planning must know of a defense."""

    kind: Literal["defense", "attack", "bound"]
    name: str
    purpose: Purpose
    estimated: bool = False  # a distal's gradient

    @property
    def label(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True)
class ApplicableJob(Job):
    """Which of some bounds speak of a defense."""

    defense: str
    bounds: tuple[str, ...]

    @property
    def label(self) -> str:
        return f"{', '.join(self.bounds)} for {self.defense}"


@dataclass(frozen=True)
class MatchJob(Job):
    """One chunk of one match. The fingerprints are those that it was planned with, here and below."""

    defense: str
    defense_fingerprint: str
    attack: str
    attack_fingerprint: str
    samples: tuple[int, ...]
    seed: int
    budget: int | None

    @property
    def label(self) -> str:
        return f"{self.group}, {_span('sample', self.samples)}"

    @property
    def group(self) -> str:
        return f"{self.attack} against {self.defense}"

    @property
    def size(self) -> int:
        return len(self.samples)


@dataclass(frozen=True)
class BoundJob(Job):
    """The values of one lower bound for some samples; `kind` is what they are worth."""

    defense: str
    defense_fingerprint: str
    bound: str
    bound_fingerprint: str
    kind: BoundKind
    norm: Norm
    seed: int
    samples: tuple[int, ...]

    @property
    def label(self) -> str:
        return f"{self.group}, {_span('sample', self.samples)}"

    @property
    def group(self) -> str:
        return f"{self.bound} {self.norm} bound of {self.defense}, seed {self.seed}"

    @property
    def size(self) -> int:
        return len(self.samples)


@dataclass(frozen=True)
class DistalJob(Job):
    """The ascent to one class: by itself, so that its row does not depend on what else was missing."""

    defense: str
    defense_fingerprint: str
    gradient: str  # as `distal.gradient_source` says
    steps: int
    seed: int
    target: int

    @property
    def label(self) -> str:
        return f"{self.group}, class {self.target}"

    @property
    def group(self) -> str:
        return f"ascent on {self.defense}"


@dataclass(frozen=True)
class VerifyJob(Job):
    """Some stored rows of one match, to be checked again; bounds: on their distances, by sample, norm, name and
    kind."""

    match: StoredMatch
    rows: tuple[Evidence, ...]
    bounds: Mapping[tuple[int, Norm, str, str], float]

    @property
    def label(self) -> str:
        return f"{self.where}, {_span('sample', [row.sample for row in self.rows])}"

    @property
    def where(self) -> str:
        """Which match it is, for readers."""
        return f"{match_group(self.match.id)}, {self.match.attack.name} against {self.match.defense.name}"

    @property
    def group(self) -> str:
        return match_group(self.match.id)

    @property
    def size(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class ReplayJob(VerifyJob):
    """The rows of one chunk of a stored match, to be played again under the chunk's seed.

    same_environment: they were played in one like this.
    """

    seed: int
    same_environment: bool

    @property
    def group(self) -> str:
        return f"{match_group(self.match.id)} again"


def match_group(match_id: int) -> str:
    """The group of the verification of a match."""
    return f"match {match_id}"


def _span(what: str, numbers: Collection[int]) -> str:
    first, last = min(numbers), max(numbers)
    return f"{what} {first}" if first == last else f"{what}s {first} to {last}"
