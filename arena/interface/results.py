"""Rows of the store: what the referee found for one sample of one match, and what an ascent from noise came to."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, get_args

import numpy as np

from arena.geometry.norms import Norm

BoundKind = Literal["certificate", "estimate", "statistical"]
BOUND_KINDS: tuple[BoundKind, ...] = get_args(BoundKind)


class Status(StrEnum):
    """Outcome for one sample."""

    MISCLASSIFIED = "misclassified"  # wrong without any perturbation: distance 0
    FOUND = "found"  # a verified adversarial
    NOT_FOUND = "not_found"  # the attack proposed none that holds: distance infinity
    REJECTED = "rejected"  # what it proposed is no image: distance infinity
    UNSTABLE = "unstable"  # it proposed one that the target saw fool and that no longer does: no distance
    ERROR = "error"  # the unit failed: no distance, it is no evidence either way


@dataclass(frozen=True, slots=True)
class Record:
    """What the referee measured for one sample.

    `distance` is in the attack's norm; `l0`, `l1`, `l2` and `linf` are those of the stored adversarial, in float64.
    `margin` is the winning logit minus that of the label (> 0; None: the label has no finite one). `queries` and
    `gradient_queries` are what the attack spent on this sample, `best_query` the number of both spent when the closest
    adversarial was seen (None if the attack returned it without asking). `adversarial` is float32 [C, H, W], `reason`
    one line for rejected, unstable and error, and for not_found where something was proposed.
    `fragile`: whether it vanishes once the defense's inference converges (None: the defense has none to converge).
    `progress`: [query, distance] of the first adversarial that the target saw, of each that was at least 1 % closer,
    in order, and of the closest; queries are counted as in `best_query`. Where it saw none, when
    what is stored was seen or returned.
    `masked`: how many of the `gradient_queries` were answered by a gradient that is zero everywhere or not finite.
    """

    sample: int
    label: int
    status: Status
    clean_label: int | None = None
    adversarial_label: int | None = None
    distance: float | None = None
    l0: float | None = None
    l1: float | None = None
    l2: float | None = None
    linf: float | None = None
    margin: float | None = None
    queries: int = 0
    gradient_queries: int = 0
    best_query: int | None = None
    seconds: float = 0.0
    adversarial: np.ndarray | None = None
    reason: str | None = None
    fragile: bool | None = None
    progress: list[list[float]] = field(default_factory=list)
    masked: int = 0


@dataclass(frozen=True, slots=True)
class DatasetIdentity:
    """What the store keeps of a data set: the SHA-256 of its content, the `description` that opens it again, and what
    is true of it; `thresholds` are the perturbation sizes at which accuracies are read, by norm."""

    data_hash: str
    description: dict[str, Any]
    shape: tuple[int, ...]
    classes: int
    class_names: tuple[str, ...] = ()
    thresholds: dict[Norm, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Identity:
    """What the store keeps of a plugin; `norm` and `access` are an attack's."""

    name: str
    fingerprint: str
    package: str
    version: str
    settings: dict[str, Any] = field(default_factory=dict)
    norm: Norm | None = None
    access: str | None = None


@dataclass(frozen=True, slots=True)
class Distal:
    """How the ascent from noise to the class `label` ended (paper, section 7, "Distal Adversarials").

    `confidence` is the one in that class at `image`, float32 [C, H, W] in [0, 1]; `status` is found or not_found.
    `gradient` is autograd, straight-through, exact or estimated. `steps` says how often the image was moved, `queries`
    and `gradient_queries` what was asked for it, `seconds` how long it took while the other classes ascended beside.
    """

    label: int
    gradient: str
    seed: int
    status: Status
    confidence: float
    steps: int
    queries: int
    gradient_queries: int
    seconds: float
    image: np.ndarray


@dataclass(frozen=True, slots=True)
class StoredMatch:
    """A match as it was stored: who met under which conditions, and in which environments the tournament was played.

    `description` opens their data set again; `norm` is the attack's; `budget` the queries per sample (None: no limit).
    """

    id: int
    conditions: dict[str, Any]
    description: dict[str, Any]
    environments: list[dict[str, str]]
    defense: Identity
    attack: Identity
    norm: Norm
    budget: int | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """A row as it was stored, to be checked again. Where it is no record, `record` is None and `damage` says why.

    pruned: its adversarial was removed to save space; its numbers alone can be checked.
    """

    sample: int
    record: Record | None
    damage: tuple[str, ...] = ()
    pruned: bool = False


@dataclass(frozen=True, slots=True)
class Verification:
    """How many rows were checked, one line for each that does not hold, and one for each that is below a bound but
    vanishes once the defense's inference converges: of that inference alone the bounds speak."""

    checked: int
    failures: list[str]
    fragile: list[str]
