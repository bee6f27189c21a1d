"""Who takes part: gathered by workers, so that the coordinator imports no plugin."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from arena.errors import UserError
from arena.interface.results import Identity
from arena.tournament import answers
from arena.tournament.answers import Applicable, Identified, Roster, WrongAnswer
from arena.tournament.executors import Answer, Executor, Failure
from arena.tournament.jobs import ApplicableJob, IdentifyJob, Purpose, RosterJob

SETUP_TIMEOUT = 900.0  # seconds to load a plugin, the dataset, or to fetch it
OWN_PACKAGE = "arena-robustness"


@dataclass(frozen=True)
class Failed:
    """What could not be done, and why in one line."""

    what: str
    reason: str

    def __str__(self) -> str:
        return f"failed: {self.what}: {self.reason}"


@dataclass
class Contestants:
    """The roster, those of it that load, the failures of those that do not, and warnings, a line each; `applicable`:
    of each defense, what the bounds are worth or why they say nothing of it."""

    roster: Roster
    defenses: dict[str, Identified] = field(default_factory=dict)
    attacks: dict[str, Identified] = field(default_factory=dict)
    bounds: dict[str, Identified] = field(default_factory=dict)
    applicable: dict[str, list[Applicable]] = field(default_factory=dict)
    failures: list[Failed] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def gather(executor: Executor, purpose: Purpose, estimated: bool = False) -> Contestants:
    """Load the dataset and identify everyone who can take part, each in a worker.

    estimated: for distals, by differences of the scores. Raises UserError for names and settings that cannot be had; a
    plugin that fails to load is a failure of its own.
    """
    who_plays = RosterJob(SETUP_TIMEOUT, foreign=False, purpose=purpose)
    try:
        roster = answers.roster(_value(executor.submit(who_plays).result()))
    except WrongAnswer as failure:
        raise UserError(f"{who_plays.label} cannot be gathered: {failure}") from None
    found = Contestants(roster)
    jobs = [
        IdentifyJob(SETUP_TIMEOUT, is_foreign(package), kind, name, purpose, estimated)
        for kind, packages in _players(roster).items()
        for name, package in packages.items()
    ]
    identified: dict[str, dict[str, Identified]] = {
        "defense": found.defenses,
        "attack": found.attacks,
        "bound": found.bounds,
    }
    for job, future in [(job, executor.submit(job)) for job in jobs]:
        try:
            one = answers.identified(job, _value(future.result()))
        except WrongAnswer as failure:
            found.failures.append(Failed(job.name, f"cannot be loaded: {failure}"))
            continue
        found.warnings += one.warnings
        if one.unfit is not None:
            found.failures.append(Failed(job.name, one.unfit))
        else:
            identified[job.kind][job.name] = one
    _ask_bounds(executor, found)
    return found


def _players(roster: Roster) -> dict[Literal["defense", "attack", "bound"], dict[str, str]]:
    return {"defense": roster.defenses, "attack": roster.attacks, "bound": roster.bounds}


def _ask_bounds(executor: Executor, found: Contestants) -> None:
    """Which bounds speak of which defense; those of other packages answer each in a process of its own."""
    own = tuple(name for name in found.bounds if not is_foreign(found.roster.bounds[name]))
    together = [(own, False)] if own else []
    together += [((name,), True) for name in found.bounds if name not in own]
    jobs = [
        ApplicableJob(SETUP_TIMEOUT, foreign or is_foreign(found.roster.defenses[name]), name, bounds)
        for name in found.defenses
        for bounds, foreign in together
    ]
    for job, future in [(job, executor.submit(job)) for job in jobs]:
        try:
            of_defense = found.applicable.setdefault(job.defense, [])
            of_defense += answers.applicable(job, _value(future.result()))
        except (WrongAnswer, UserError) as failure:
            found.failures.append(Failed(job.label, str(failure)))


def is_foreign(*packages: str) -> bool:
    """Whether code of a third party is among these packages."""
    return any(package != OWN_PACKAGE for package in packages)


def identities(identified: dict[str, Identified]) -> dict[str, Identity]:
    """The identities, by name."""
    return {name: one.identity for name, one in identified.items()}


def _value(outcome: Answer | Failure) -> Any:
    """What was answered. Raises UserError for names and settings that cannot be had, WrongAnswer if there is none."""
    if isinstance(outcome, Answer):
        return outcome.value
    raise UserError(outcome.reason) if outcome.usage else WrongAnswer(outcome.reason)
