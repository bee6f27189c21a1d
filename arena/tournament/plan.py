"""The tournament: who plays whom on which samples, what is still missing, and the playing of it."""

from __future__ import annotations

import hashlib
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from typing import Any

from arena.errors import UserError
from arena.interface.results import Identity, Record, Status
from arena.store.store import Store
from arena.tournament.config import Config
from arena.tournament.executors.local import WorkerFailure, Workers, outcome
from arena.tournament.worker import Field, Unit, gather_field, identify_attack, identify_defense, play_unit

SETUP_TIMEOUT = 900.0  # seconds to load a plugin, the dataset, or to fetch it


@dataclass(frozen=True)
class Failure:
    """What could not be played, and why in one line."""

    what: str
    reason: str


@dataclass
class Lineup:
    """Who plays: the field, the identities of those that loaded, and the failures of those that did not."""

    field: Field
    defenses: dict[str, Identity]
    attacks: dict[str, Identity]
    failures: list[Failure]


@dataclass
class Plan:
    """The units still to play, and how many samples an earlier run has settled."""

    lineup: Lineup
    units: list[Unit] = field(default_factory=list)
    settled: int = 0
    identities: dict[int, tuple[int, int]] = field(default_factory=dict)  # defense and tournament of each match


@dataclass(frozen=True)
class Played:
    """A unit that is over and committed."""

    unit: Unit
    seconds: float
    failure: Failure | None


def gather(workers: Workers) -> Lineup:
    """Load the dataset and identify every contestant, each in a worker.

    Raises UserError for names and settings that cannot be had; a plugin that fails to load is a failure of the lineup.
    """
    gathered: Field = _call(workers, gather_field)
    failures: list[Failure] = []
    defenses = _identities(workers, identify_defense, gathered.defenses, failures)
    attacks = _identities(workers, identify_attack, gathered.attacks, failures)
    return Lineup(gathered, defenses, attacks, failures)


def plan(config: Config, store: Store, lineup: Lineup) -> Plan:
    """Find everything that the configuration asks for and the store does not have."""
    result = Plan(lineup)
    tournament_id = store.register_tournament(_conditions(config, lineup.field))
    for defense in lineup.defenses.values():
        for attack in lineup.attacks.values():
            if (defense.name, attack.name) in lineup.field.pairs:
                _plan_match(config, store, result, tournament_id, defense, attack)
    # The first samples of every match come first: a tournament cut short is a complete one on fewer samples.
    result.units.sort(key=lambda unit: (unit.samples[0] // config.tournament.chunk, unit.foreign))
    return result


def play(plan: Plan, store: Store, workers: Workers) -> Iterator[Played]:
    """Play and commit the plan's units; yields each as it is over, in no particular order."""
    waiting = iter(plan.units)
    units_left = Counter(unit.match_id for unit in plan.units)
    running: dict[Future, Unit] = {}
    while True:
        # Few at a time: a stop then has little to take back.
        while len(running) < 2 * workers.count and (unit := next(waiting, None)) is not None:
            running[workers.submit(play_unit, unit, timeout=unit.timeout, alone=unit.foreign)] = unit
        if not running:
            return
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            unit = running.pop(future)
            records, error = _result(future, unit)
            records = records or _error_records(unit, plan.lineup.field.labels, _last_line(error or ""))
            store.append(unit.match_id, records, error)
            store.make_current(*plan.identities[unit.match_id])
            units_left[unit.match_id] -= 1
            if not units_left[unit.match_id]:
                store.finish(unit.match_id)
            failure = Failure(f"{unit.attack} against {unit.defense}", _last_line(error)) if error else None
            yield Played(unit, sum(record.seconds for record in records), failure)


def unit_seed(seed: int, defense: str, attack: str, first_sample: int) -> int:
    """The seed of one unit, below 2**63: independent for all units, the same in any order of play."""
    text = f"{seed}/{defense}/{attack}/{first_sample}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def _conditions(config: Config, gathered: Field) -> dict[str, Any]:
    chosen = config.tournament.model_dump(include={"dataset", "split", "seed", "chunk"})
    return chosen | {"data_hash": gathered.data_hash}


def _plan_match(
    config: Config, store: Store, result: Plan, tournament_id: int, defense: Identity, attack: Identity
) -> None:
    section, tournament = config.for_match(defense.name, attack.name), config.tournament
    defense_id, attack_id = store.register_defense(defense), store.register_attack(attack)
    assert attack.norm is not None  # it is an attack's identity
    match_id = store.register_match(tournament_id, defense_id, attack_id, attack.norm, section.budget)
    result.identities[match_id] = defense_id, tournament_id
    settled = store.settled(match_id)
    foreign = any(plugin.package != "arena-robustness" for plugin in (defense, attack))
    units = []
    for first in range(0, section.samples or 0, tournament.chunk):
        chunk = range(first, min(first + tournament.chunk, section.samples or 0))
        samples = tuple(sample for sample in chunk if sample not in settled)
        result.settled += len(chunk) - len(samples)
        if samples:
            seed = unit_seed(tournament.seed, defense.name, attack.name, samples[0])
            timeout = section.timeout or tournament.timeout
            units.append(Unit(defense.name, attack.name, match_id, samples, seed, section.budget, timeout, foreign))
    if not units:
        store.finish(match_id)  # a kill can come between the last unit and this
        store.make_current(defense_id, tournament_id)
    result.units += units


def _identities(
    workers: Workers, identify: Callable, names: tuple[str, ...], failures: list[Failure]
) -> dict[str, Identity]:
    identities = {}
    for name in names:
        try:
            identities[name] = _call(workers, identify, name)
        except UserError:
            raise
        except Exception as failure:
            failures.append(Failure(name, f"cannot be loaded: {_one_line(failure)}"))
    return identities


def _call(workers: Workers, function: Callable, *args: Any) -> Any:
    return outcome(workers.submit(function, *args, timeout=SETUP_TIMEOUT), SETUP_TIMEOUT)


def _result(future: Future, unit: Unit) -> tuple[list[Record], str | None]:
    try:
        return outcome(future, unit.timeout)
    except WorkerFailure as failure:
        return [], str(failure)
    except Exception:  # the answer itself could not travel between the processes
        return [], traceback.format_exc()


def _error_records(unit: Unit, labels: tuple[int, ...], reason: str) -> list[Record]:
    return [Record(sample, labels[sample], Status.ERROR, reason=reason) for sample in unit.samples]


def _last_line(error: str) -> str:
    lines = [line for line in error.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no message"


def _one_line(failure: Exception) -> str:
    return f"{type(failure).__name__}: {' '.join(str(failure).split())}"
