"""What a worker sends back: plain data there, checked rows here. Nothing in an answer is believed."""

from __future__ import annotations

import math
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import chain
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from arena.geometry.norms import NORMS, Norm
from arena.interface.results import BoundKind, DatasetIdentity, Distal, Identity, Record, Status, Verification
from arena.tournament.jobs import ApplicableJob, BoundJob, DistalJob, IdentifyJob, MatchJob, VerifyJob

T = TypeVar("T")

_LARGEST = 2**63  # what a database can count


class WrongAnswer(Exception):
    """An answer that is not what was asked for; the message says in which way."""


@dataclass(frozen=True)
class Roster:
    """Who can take part in what is planned.

    `defenses`, `attacks` and `bounds`: package by name, in order of play; `unfit`: defenses that the data set is not
    for; `dataset` and the `labels` of its samples where they are needed.
    """

    defenses: dict[str, str]
    attacks: dict[str, str]
    bounds: dict[str, str]
    unfit: tuple[str, ...]
    dataset: DatasetIdentity | None
    labels: tuple[int, ...]
    problems: tuple[str, ...]

    @property
    def data_hash(self) -> str:
        assert self.dataset is not None  # distals alone need none
        return self.dataset.data_hash


@dataclass(frozen=True)
class Identified:
    """A plugin that loads, and what planning must know of it; `unfit`: why it cannot take part, in one line;
    `warnings`: what may mislead about its results, a line each; `attacks`: of a defense, those that it is played
    against."""

    identity: Identity
    unfit: str | None = None
    warnings: tuple[str, ...] = ()
    attacks: tuple[str, ...] = ()
    norms: tuple[Norm, ...] = ()  # bounds: those that it speaks of
    gradient: str = ""  # distals: the one that is followed
    classes: int = 0  # distals


@dataclass(frozen=True)
class Applicable:
    """What a bound is worth for a defense, or why it says nothing of it."""

    bound: str
    kind: BoundKind | None
    refusal: str | None


def plain(row: Any) -> dict[str, Any]:
    """A row (a dataclass) as plain data, images as shape and bytes."""
    values = {field.name: getattr(row, field.name) for field in fields(row)}
    for name, value in values.items():
        if isinstance(value, np.ndarray):
            values[name] = as_plain(value)
        elif isinstance(value, np.generic):
            values[name] = value.item()
        elif isinstance(value, Status):
            values[name] = str(value)
        elif isinstance(value, Identity | DatasetIdentity):
            values[name] = plain(value)
        elif isinstance(value, frozenset):
            values[name] = [list(one) if isinstance(one, tuple) else one for one in sorted(value)]
    return values


def as_plain(image: np.ndarray) -> list[Any]:
    """float32 as shape and bytes."""
    return [list(image.shape), np.ascontiguousarray(image, "<f4").tobytes()]


def clean_images(value: Any) -> dict[int, np.ndarray]:
    """The clean images that came with the records of a match's chunk, which `records` has checked, by sample."""
    return {one["sample"]: _image(one["clean"]) for one in value if "clean" in one}


def records(job: MatchJob, labels: Sequence[int], value: Any) -> list[Record]:
    """The records of a match's chunk: one for each sample that was asked for, in order."""
    rows = [_row(Record, _without_clean(one)) for one in _list(value)]
    if [row.sample for row in rows] != list(job.samples):
        raise WrongAnswer(f"the samples are not {job.samples[0]} to {job.samples[-1]}")
    for row in rows:
        if row.label != labels[row.sample]:
            raise WrongAnswer(f"sample {row.sample}: the label is {labels[row.sample]}, not {row.label}")
        if not _means_something(row):
            raise WrongAnswer(f"sample {row.sample}: {row.status} does not go with the distances and images given")
    return rows


def _without_clean(value: Any) -> Any:
    return {name: one for name, one in value.items() if name != "clean"} if isinstance(value, dict) else value


def bounds(job: BoundJob, value: Any) -> dict[int, float]:
    """The lower bounds, by sample."""
    values = [_checked(float, one, "bound") for one in _list(value)]
    if len(values) != len(job.samples) or any(value < 0 for value in values):
        raise WrongAnswer(f"it has not one bound for each of {len(job.samples)} samples")
    return dict(zip(job.samples, values, strict=True))


def applicable(job: ApplicableJob, value: Any) -> list[Applicable]:
    """Which bounds speak of a defense: one row for each that was asked for, in order."""
    rows = [_row(Applicable, one) for one in _list(value)]
    one_of_two = all((row.kind is None) != (row.refusal is None) for row in rows)
    if [row.bound for row in rows] != list(job.bounds) or not one_of_two:
        raise WrongAnswer(f"it does not say of each of {', '.join(job.bounds)} whether it applies")
    return rows


def distal(job: DistalJob, value: Any) -> Distal:
    """The end of the ascent that was asked for."""
    row = _row(Distal, value)
    if (row.label, row.gradient, row.seed) != (job.target, job.gradient, job.seed):
        raise WrongAnswer(f"it is about class {row.label}, gradient {row.gradient}, seed {row.seed}")
    if row.status not in (Status.FOUND, Status.NOT_FOUND) or not 0 <= row.confidence <= 1:
        raise WrongAnswer(f"{row.status} with a confidence of {row.confidence} means nothing")
    return row


def verification(job: VerifyJob, value: Any) -> Verification:
    """What the check of stored rows came to."""
    found = _row(Verification, value)
    if found.checked != len(job.rows):
        raise WrongAnswer(f"{found.checked} rows were checked, not {len(job.rows)}")
    return found


def roster(value: Any) -> Roster:
    """Who can take part."""
    return _row(Roster, value)


def identified(job: IdentifyJob, value: Any) -> Identified:
    """Who the plugin is that was asked for."""
    found = _row(Identified, value)
    identity = found.identity
    if identity.name != job.name or (identity.norm is None) != (job.kind != "attack"):
        raise WrongAnswer(f"it is about {identity.name}, norm {identity.norm}")
    return found


def rows_and_seconds(value: Any) -> tuple[Any, float]:
    """The two halves of every answer that has rows: what is still to be checked, and the seconds that it took."""
    if not isinstance(value, dict) or value.keys() != {"rows", "seconds"}:
        raise WrongAnswer("it has not rows and seconds")
    return value["rows"], _checked(float, value["seconds"], "seconds")


def _row(kind: type[T], value: Any) -> T:
    """A dataclass from a dict with exactly its fields, each of the declared type."""
    hints = get_type_hints(kind)
    if not isinstance(value, dict) or value.keys() != hints.keys():
        raise WrongAnswer(f"it is no {kind.__name__}")
    return kind(**{name: _checked(hints[name], one, name) for name, one in value.items()})


def _checked(hint: Any, value: Any, name: str) -> Any:
    """`value` as the declared type; raises WrongAnswer for any other, for NaN, and for numbers beyond 64 bits."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return None if value is None and type(None) in inner else _checked(inner[0], value, name)
    if origin in (list, tuple, frozenset) and isinstance(value, list | tuple):
        if origin is tuple and inner[-1] is not Ellipsis:
            if len(inner) == len(value):
                return tuple(_checked(of, one, name) for of, one in zip(inner, value, strict=True))
        else:
            return origin(_checked(inner[0], one, name) for one in value)
    if origin is dict and isinstance(value, dict):
        return {_checked(inner[0], key, name): _checked(inner[1], one, name) for key, one in value.items()}
    if origin is Literal and isinstance(value, str) and value in inner:
        return value
    if hint is np.ndarray:
        return _image(value)
    if hint in (Identity, DatasetIdentity):
        return _row(hint, value)
    if hint is Status and isinstance(value, str) and value in list(Status):
        return Status(value)
    if hint is float and type(value) is float and not math.isnan(value):
        return value
    if hint in (int, float) and type(value) is int and -_LARGEST <= value < _LARGEST:
        return value
    if hint in (str, bool) and type(value) is hint:
        return value
    if hint is Any:  # settings
        return _json(value, name)
    raise WrongAnswer(f"{name} is {value!r:.80}")


def _json(value: Any, name: str) -> Any:
    if value is None or type(value) in (str, bool, int, float):
        return value
    if isinstance(value, list | tuple):
        return [_json(one, name) for one in value]
    if isinstance(value, dict):
        return {_checked(str, key, name): _json(one, name) for key, one in value.items()}
    raise WrongAnswer(f"{name} is {value!r:.80}")


def _image(value: Any) -> np.ndarray:
    """float32 of the given shape."""
    shape, data = value if isinstance(value, list | tuple) and len(value) == 2 else (None, None)
    if not (isinstance(shape, list | tuple) and all(type(side) is int and side > 0 for side in shape)):
        raise WrongAnswer(f"an image is {value!r:.80}")
    if not isinstance(data, bytes) or len(data) != 4 * math.prod(shape):
        raise WrongAnswer(f"an image of {list(shape)} has not as many bytes")
    return np.frombuffer(data, "<f4").reshape(shape)


def _means_something(row: Record) -> bool:
    """Whether status, distances and image agree, as the table demands; a worker never reports an error as a row."""
    if not all(math.isfinite(value) for value in (row.seconds, row.margin or 0.0, *chain(*row.progress))):
        return False
    distances: Mapping[str, float | None] = {name: getattr(row, name) for name in ("distance", *NORMS)}
    if row.status == Status.FOUND:
        measured = all(value is not None and 0 <= value < math.inf for value in distances.values())
        return measured and row.adversarial is not None
    expected = {"misclassified": 0.0, "not_found": math.inf, "rejected": math.inf, "unstable": None}
    return row.status in expected and row.distance == expected[row.status]


def _list(value: Any) -> Sequence[Any]:
    if not isinstance(value, list | tuple):
        raise WrongAnswer(f"it is {value!r:.80}")
    return value
