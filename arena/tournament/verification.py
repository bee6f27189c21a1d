"""What the store has, as jobs that check it: rows again from their bytes, and chunks played again."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from random import Random

from sqlalchemy import Connection

from arena.interface.results import Evidence, Status, StoredMatch
from arena.store import bounds as bound_rows
from arena.store import evidence
from arena.store.identities import current_environment
from arena.store.store import Store
from arena.tournament.jobs import ReplayJob, VerifyJob, match_group
from arena.tournament.plan import Plan, job_seed
from arena.tournament.roster import is_foreign
from arena.tournament.sinks import VerifySink

VERIFY_CHUNK = 200  # rows checked at once: a few MB

_NOT_ATTACKED = (Status.MISCLASSIFIED, Status.ERROR)

UNPROVED = (Status.NOT_FOUND, Status.REJECTED)  # no image bears such a row out, only playing it again


def plan_verification(
    store: Store, sink: VerifySink, timeout: float, *, rate: float = 1.0, replays: int = 0, seed: int = 0
) -> Plan:
    """The check of a share of every match's rows, read as they are needed: memory does not grow with the store.

    rate: the share, in (0, 1]; replays: how many chunks with rows that are not found are played again, of different
    matches as far as there are so many; seed: of both choices.
    """
    with store.reading_damaged() as connection:
        matches = {match.id: match for match in evidence.matches(connection)}
        counts = {of: _share(n, rate) for of, n in evidence.counts(connection).items() if of in matches}
        again = _replay_jobs(connection, matches, timeout, replays, seed)
    sizes = Counter({match_group(match_id): count for match_id, count in counts.items()})
    for job in again:
        sizes[job.group] += job.size
    total = len(again) + sum(-(-count // VERIFY_CHUNK) for count in counts.values())
    return Plan(chain(again, _verify_jobs(store, timeout, rate, seed)), sink, total, sizes)


def _share(count: int, rate: float) -> int:
    return math.ceil(count * rate)


def _verify_jobs(store: Store, timeout: float, rate: float, seed: int) -> Iterator[VerifyJob]:
    with store.reading_damaged() as connection:
        for match in evidence.matches(connection):
            samples = evidence.samples(connection, match.id)
            if rate < 1:
                samples = sorted(Random(f"{seed}/{match.id}").sample(samples, _share(len(samples), rate)))
            bounds = bound_rows.by_name(connection, match.defense.fingerprint, match.conditions["data_hash"])
            for first in range(0, len(samples), VERIFY_CHUNK):
                chosen = samples[first : first + VERIFY_CHUNK]
                rows = tuple(evidence.rows(connection, match.id, chosen))
                of_rows = {key: value for key, value in bounds.items() if key[0] in set(chosen)}
                yield VerifyJob(timeout, is_foreign(match.defense.package), match, rows, of_rows)


def _replay_jobs(
    connection: Connection, matches: Mapping[int, StoredMatch], timeout: float, replays: int, seed: int
) -> list[ReplayJob]:
    """Chunks to play again: one of each match in random order, then another of each, until there are enough."""
    if not replays:
        return []
    ids = [match_id for match_id in evidence.counts(connection, UNPROVED) if match_id in matches]
    Random(seed).shuffle(ids)
    queues = deque(_replays_of(connection, matches[match_id], timeout, seed) for match_id in ids)
    jobs: list[ReplayJob] = []
    while queues and len(jobs) < replays:
        if (job := next(queues[0], None)) is None:
            queues.popleft()
        else:
            jobs.append(job)
            queues.rotate(-1)
    return jobs


def _replays_of(connection: Connection, match: StoredMatch, timeout: float, seed: int) -> Iterator[ReplayJob]:
    """The chunks of a match with rows that nothing bears out, in random order; none if it was no tournament's."""
    size, root = match.conditions.get("chunk"), match.conditions.get("seed")
    if not (isinstance(size, int) and size > 0 and isinstance(root, int)):
        return
    samples = evidence.samples(connection, match.id, UNPROVED)
    Random(f"{seed}/{match.id}").shuffle(samples)
    foreign = is_foreign(match.defense.package, match.attack.package)
    same = match.environments == [current_environment()]
    for number in dict.fromkeys(sample // size for sample in samples):
        chosen = next(sample for sample in samples if sample // size == number)
        chunk = evidence.rows(connection, match.id, range(number * size, (number + 1) * size))
        if played := _played_together(chunk, chosen):
            first, rows = played
            of_chunk = job_seed(root, match.defense.name, match.attack.name, first)
            yield ReplayJob(timeout, foreign, match, rows, {}, of_chunk, same)


def _played_together(chunk: Sequence[Evidence], chosen: int) -> tuple[int, tuple[Evidence, ...]] | None:
    """The first sample of the job that the chosen row of a chunk comes from, and the rows that it attacked.

    A chunk that was played in parts (samples were added, or failed) shows it: what a job attacked has its seconds in
    common. None where a misclassified sample, which has none, may have begun either part, and with it the seed.
    """
    attacked = {
        row.sample: row.record.seconds for row in chunk if row.record and row.record.status not in _NOT_ATTACKED
    }
    if chosen not in attacked:
        return None
    mine = [row for row in chunk if row.sample in attacked and attacked[row.sample] == attacked[chosen]]
    first = mine[0].sample
    if first == min(attacked):
        return chunk[0].sample, tuple(mine)
    began_here = first - 1 in attacked or all(row.sample != first - 1 for row in chunk)
    return (first, tuple(mine)) if began_here else None
