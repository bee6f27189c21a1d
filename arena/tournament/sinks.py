"""Where answers go: each is checked, then its rows are committed, whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar

from arena.interface.results import Identity, Record, Status
from arena.store import bounds as bound_rows
from arena.store import distals as distal_rows
from arena.store.store import MatchKey, Store, Unit
from arena.tournament import answers
from arena.tournament.executors import Failure
from arena.tournament.jobs import BoundJob, DistalJob, Job, MatchJob, ReplayJob, VerifyJob

Claim = Literal["ours", "theirs", "settled"]
J = TypeVar("J", bound=Job, contravariant=True)


class Sink(Protocol[J]):
    """Takes what jobs came to; the coordinator alone calls it."""

    def begin(self) -> None:
        """Before the first job: what an earlier run committed counts from now on."""
        ...

    def claim(self, job: J) -> Claim:
        """Ask for a job before it is played: it is this coordinator's, or another plays it, or has settled it."""
        ...

    def take(self, job: J, rows: Any) -> list[str]:
        """Accept an answer; returns what there is to say of it, a line each. Raises WrongAnswer, nothing accepted."""
        ...

    def fail(self, job: J, failure: Failure) -> None:
        """Record that a job has no answer."""
        ...

    def flush(self) -> None:
        """Commit all that was accepted and recorded since the last time."""
        ...


@dataclass
class PlannedMatch:
    """A match and how many of its jobs are not over; `match_id` is None until it is registered by its first commit."""

    key: MatchKey
    match_id: int | None
    jobs_left: int


class MatchSink:
    """Results of matches."""

    def __init__(self, store: Store, labels: tuple[int, ...], matches: dict[tuple[str, str], PlannedMatch]) -> None:
        """labels: of all samples; matches: by names of defense and attack."""
        self._store, self._labels, self._matches = store, labels, matches
        self._current = _Current(store)
        self._ready: list[tuple[MatchJob, Unit]] = []

    def begin(self) -> None:
        for match in self._matches.values():
            if match.match_id is not None:
                self._current.make(match.key.defense, match.key.conditions)
                if not match.jobs_left:
                    self._store.finish(match.match_id)  # a kill can come between the last chunk and this

    def claim(self, job: MatchJob) -> Claim:
        match = self._match(job)
        if not self._store.claim(match.key, job.samples[0]):
            return "theirs"
        if match.match_id is None:
            match.match_id = self._store.find_match(match.key)
        if match.match_id is None or not set(job.samples) <= self._store.settled(match.match_id):
            return "ours"
        self._over(job)
        return "settled"

    def take(self, job: MatchJob, rows: Any) -> list[str]:
        records = answers.records(job, self._labels, rows)
        self._ready.append((job, Unit(self._match(job).key, records, clean=answers.clean_images(rows))))
        return []

    def fail(self, job: MatchJob, failure: Failure) -> None:
        rows = [Record(one, self._labels[one], Status.ERROR, reason=failure.reason) for one in job.samples]
        self._ready.append((job, Unit(self._match(job).key, rows, failure.traceback or failure.reason)))

    def flush(self) -> None:
        """In one transaction: the disk takes as long for many units as for one."""
        ready, self._ready = self._ready, []
        if ready:
            played = {unit.match.defense.fingerprint for _, unit in ready}
            self._store.commit([unit for _, unit in ready], current=not played <= self._current.made)
            self._current.made |= played
        for job, _ in ready:
            self._over(job)

    def _match(self, job: MatchJob) -> PlannedMatch:
        return self._matches[job.defense, job.attack]

    def _over(self, job: MatchJob) -> None:
        match = self._match(job)
        self._store.release(match.key, job.samples[0])
        match.jobs_left -= 1
        if not match.jobs_left:
            match_id = self._store.find_match(match.key)
            assert match_id is not None  # the commit registered it
            self._store.finish(match_id)


class BoundSink:
    """Lower bounds."""

    def __init__(
        self, store: Store, data_hash: str, defenses: dict[str, Identity], bounds: dict[str, Identity]
    ) -> None:
        self._store, self._data_hash, self._defenses, self._bounds = store, data_hash, defenses, bounds
        self._current: set[tuple[str, str]] = set()  # defenses and bounds that this run has committed values of

    def begin(self) -> None:
        current = _Current(self._store)
        for defense in self._defenses.values():
            current.make(defense)
        for bound in self._bounds.values():
            bound_rows.make_current(self._store, bound)

    def claim(self, job: BoundJob) -> Claim:
        return "ours"

    def take(self, job: BoundJob, rows: Any) -> list[str]:
        values, defense, bound = answers.bounds(job, rows), self._defenses[job.defense], self._bounds[job.bound]
        series = bound_rows.Series(defense, bound, job.kind, self._data_hash, job.norm, job.seed)
        bound_rows.commit(self._store, series, values, current=(job.defense, job.bound) not in self._current)
        self._current.add((job.defense, job.bound))
        return []

    def fail(self, job: BoundJob, failure: Failure) -> None:
        """The next run tries again."""

    def flush(self) -> None:
        """Each answer is committed as it comes."""


class DistalSink:
    """Ascents from noise."""

    def __init__(self, store: Store, defenses: dict[str, Identity]) -> None:
        self._store, self._defenses = store, defenses
        self._current = _Current(store)

    def begin(self) -> None:
        for defense in self._defenses.values():
            self._current.make(defense)

    def claim(self, job: DistalJob) -> Claim:
        return "ours"

    def take(self, job: DistalJob, rows: Any) -> list[str]:
        ended, defense = answers.distal(job, rows), self._defenses[job.defense]
        defense_id = self._store.register_defense(defense)
        distal_rows.append(self._store, defense_id, ended)
        self._current.make(defense)
        return []

    def fail(self, job: DistalJob, failure: Failure) -> None:
        """The next run tries again."""

    def flush(self) -> None:
        """Each answer is committed as it comes."""


@dataclass
class VerifySink:
    """Counts what the check of stored rows came to; what it says is passed on, not kept."""

    checked: int = 0
    replayed: int = 0
    failures: int = 0
    fragile: int = 0
    pruned: int = 0

    def begin(self) -> None:
        """Reading never writes."""

    def claim(self, job: VerifyJob) -> Claim:
        return "ours"

    def take(self, job: VerifyJob, rows: Any) -> list[str]:
        found = answers.verification(job, rows)
        if isinstance(job, ReplayJob):
            self.replayed += found.checked
        else:
            self.checked += found.checked
            self.pruned += sum(row.pruned for row in job.rows)
        self.failures += len(found.failures)
        self.fragile += len(found.fragile)
        return [f"{job.where}, {line}" for line in found.fragile + found.failures]

    def fail(self, job: VerifyJob, failure: Failure) -> None:
        """Its rows are neither right nor wrong."""

    def flush(self) -> None:
        """Reading never writes."""


@dataclass
class _Current:
    """The defenses that this run has made current: those of which it, or an earlier run, has committed something."""

    store: Store
    made: set[str] = field(default_factory=set)

    def make(self, defense: Identity, conditions: Mapping[str, Any] | None = None) -> None:
        """Make a defense current, and the tournament of these conditions, unless it is or has committed nothing."""
        defense_id = self.store.find_defense(defense) if defense.fingerprint not in self.made else None
        if defense_id is not None:
            self.store.make_current(defense_id, self.store.find_tournament(conditions) if conditions else None)
            self.made.add(defense.fingerprint)
