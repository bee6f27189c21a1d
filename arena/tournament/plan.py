"""What is asked for and the store does not have, as jobs: matches, lower bounds, distals."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from arena.geometry.norms import Norm
from arena.interface.results import BoundKind, Identity
from arena.store import bounds as bound_rows
from arena.store import distals as distal_rows
from arena.store.store import MatchKey, Store
from arena.tournament.config import Config
from arena.tournament.jobs import BoundJob, DistalJob, Job, MatchJob
from arena.tournament.roster import Contestants, identities, is_foreign
from arena.tournament.sinks import BoundSink, DistalSink, MatchSink, PlannedMatch, Sink

BOUND_CHUNK = 20  # samples bounded, and committed, at once


@dataclass
class Plan:
    """Jobs in order of play, and where their answers go.

    total: the number of jobs; sizes: of each group of them, in samples; settled: samples that an earlier run has done.
    """

    jobs: Iterable[Job]
    sink: Sink[Any]
    total: int
    sizes: Counter[str]
    settled: int = 0

    @classmethod
    def of(cls, jobs: list[Any], sink: Sink[Any], settled: int = 0) -> Plan:
        """A plan whose jobs are all known."""
        sizes: Counter[str] = Counter()
        for job in jobs:
            sizes[job.group] += job.size
        return cls(jobs, sink, len(jobs), sizes, settled)


@dataclass(frozen=True)
class Column:
    """The bounds of one defense that a table shows together: one series a seed, of the first `samples` samples."""

    defense: Identity
    bound: Identity
    kind: BoundKind
    norm: Norm
    seeds: int
    samples: int


def plan_matches(config: Config, store: Store, contestants: Contestants) -> Plan:
    """Every chunk of every match that the store lacks."""
    roster, tournament = contestants.roster, config.tournament
    chosen = tournament.model_dump(include={"dataset", "split", "seed", "chunk"})
    conditions = chosen | {"data_hash": roster.data_hash}
    matches: dict[tuple[str, str], PlannedMatch] = {}
    jobs: list[MatchJob] = []
    settled = 0
    for defense in identities(contestants.defenses).values():
        for attack in identities(contestants.attacks).values():
            if attack.name in contestants.defenses[defense.name].attacks:
                budget = config.for_match(defense.name, attack.name).budget
                key = MatchKey(conditions, defense, attack, budget, roster.dataset)
                match_id = store.find_match(key)
                done = store.settled(match_id) if match_id is not None else set()
                lacking, present = _match_jobs(config, key, done)
                matches[defense.name, attack.name] = PlannedMatch(key, match_id, len(lacking))
                jobs += lacking
                settled += present
    # The first samples of every match come first: a tournament cut short is a complete one on fewer samples.
    jobs.sort(key=lambda job: (job.samples[0] // tournament.chunk, job.foreign))
    return Plan.of(jobs, MatchSink(store, roster.labels, matches), settled)


def plan_bounds(
    config: Config, store: Store, contestants: Contestants, norm: Norm | None = None, seeds: int = 1
) -> tuple[Plan, list[Column]]:
    """The bounds that the store lacks, and the columns that they complete.

    norm: that one only, by default all; where attacks are played too, those of the attacks. Of a certificate one seed
    says all.
    """
    data_hash, columns = contestants.roster.data_hash, list(_columns(config, contestants, norm, seeds))
    jobs: list[BoundJob] = []
    settled = 0
    for column in columns:
        timeout = config.for_bound(column.bound.name).timeout or config.tournament.timeout
        lacking, present = _bound_jobs(store, column, timeout, data_hash)
        jobs += lacking
        settled += present
    jobs.sort(key=lambda job: job.samples[0] // BOUND_CHUNK)
    sink = BoundSink(store, data_hash, identities(contestants.defenses), identities(contestants.bounds))
    return Plan.of(jobs, sink, settled), columns


def plan_distals(config: Config, store: Store, contestants: Contestants, steps: int) -> Plan:
    """The ascents that the store lacks: classes not reached, in fewer steps than are allowed now."""
    jobs, settled, seed = [], 0, config.tournament.seed
    for name, one in contestants.defenses.items():
        defense_id = store.find_defense(one.identity)
        done = distal_rows.settled(store, defense_id, one.gradient, seed, steps) if defense_id is not None else set()
        settled += len(done)
        how = config.tournament.timeout, is_foreign(one.identity.package), name, one.identity.fingerprint
        jobs += [DistalJob(*how, one.gradient, steps, seed, label) for label in range(one.classes) if label not in done]
    jobs.sort(key=lambda job: job.target)
    return Plan.of(jobs, DistalSink(store, identities(contestants.defenses)), settled)


def bounds_of(store: Store, column: Column, data_hash: str) -> list[list[float]]:
    """The bounds of a column that the store has: of each seed, in order of samples."""
    known = [_known(store, column, data_hash, seed) for seed in range(column.seeds)]
    return [[of_seed[sample] for sample in range(column.samples) if sample in of_seed] for of_seed in known]


def job_seed(seed: int, defense: str, attack: str, first_sample: int) -> int:
    """The seed of one chunk of a match, below 2**63: independent for all, the same in any order of play."""
    text = f"{seed}/{defense}/{attack}/{first_sample}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def _match_jobs(config: Config, match: MatchKey, done: Container[int]) -> tuple[list[MatchJob], int]:
    """The chunks of a match with samples that are not done, and how many are."""
    defense, attack, tournament = match.defense, match.attack, config.tournament
    section = config.for_match(defense.name, attack.name)
    foreign = is_foreign(defense.package, attack.package)
    jobs, settled = [], 0
    for chunk in _chunks(section.samples or 0, tournament.chunk):
        samples = tuple(sample for sample in chunk if sample not in done)
        settled += len(chunk) - len(samples)
        if samples:
            jobs.append(
                MatchJob(
                    timeout=section.timeout or tournament.timeout,
                    foreign=foreign,
                    defense=defense.name,
                    defense_fingerprint=defense.fingerprint,
                    attack=attack.name,
                    attack_fingerprint=attack.fingerprint,
                    samples=samples,
                    seed=job_seed(tournament.seed, defense.name, attack.name, samples[0]),
                    budget=match.budget,
                )
            )
    return jobs, settled


def _columns(config: Config, contestants: Contestants, norm: Norm | None, seeds: int) -> Iterator[Column]:
    for name, defense in contestants.defenses.items():
        played = {attack.identity.norm for of, attack in contestants.attacks.items() if of in defense.attacks}
        for of in contestants.applicable.get(name, ()):
            if of.kind is not None:
                bound = contestants.bounds[of.bound]
                samples = min(config.for_bound(of.bound).samples or config.tournament.samples, config.samples_of(name))
                for each in bound.norms:
                    if norm in (None, each) and (not contestants.roster.attacks or each in played):
                        of_seeds = 1 if of.kind == "certificate" else seeds
                        yield Column(defense.identity, bound.identity, of.kind, each, of_seeds, samples)


def _bound_jobs(store: Store, column: Column, timeout: float, data_hash: str) -> tuple[list[BoundJob], int]:
    """The chunks of a column with samples that are not done, and how many are."""
    defense, bound, jobs, settled = column.defense, column.bound, [], 0
    for seed in range(column.seeds):
        known = _known(store, column, data_hash, seed)
        for chunk in _chunks(column.samples, BOUND_CHUNK):
            samples = tuple(sample for sample in chunk if sample not in known)
            settled += len(chunk) - len(samples)
            if samples:
                foreign = is_foreign(defense.package, bound.package)
                who = defense.name, defense.fingerprint, bound.name, bound.fingerprint
                jobs.append(BoundJob(timeout, foreign, *who, column.kind, column.norm, seed, samples))
    return jobs, settled


def _known(store: Store, column: Column, data_hash: str, seed: int) -> dict[int, float]:
    series = bound_rows.Series(column.defense, column.bound, column.kind, data_hash, column.norm, seed)
    return bound_rows.read(store, series)


def _chunks(samples: int, size: int) -> Iterator[range]:
    """The first so many samples, in ranges of `size`."""
    return (range(first, min(first + size, samples)) for first in range(0, samples, size))
