"""Who takes part: gathered by workers, so that the coordinator imports no plugin."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from arena.errors import UserError
from arena.interface.results import Identity
from arena.tournament import answers
from arena.tournament.answers import Identified, Roster, WrongAnswer
from arena.tournament.executors import Answer, Executor, Failure
from arena.tournament.jobs import IdentifyJob, Purpose, RosterJob

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
    """The roster, those of it that load, the failures of those that do not, and warnings, a line each."""

    roster: Roster
    defenses: dict[str, Identified] = field(default_factory=dict)
    attacks: dict[str, Identified] = field(default_factory=dict)
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
    defenses = [name for name in roster.defenses if purpose != "bound" or name in roster.with_prototypes]
    jobs = [
        IdentifyJob(SETUP_TIMEOUT, is_foreign(roster.defenses[name]), "defense", name, purpose, estimated)
        for name in defenses
    ]
    for name, package in roster.attacks.items():
        jobs.append(IdentifyJob(SETUP_TIMEOUT, is_foreign(package), "attack", name, purpose))
    for job, future in [(job, executor.submit(job)) for job in jobs]:
        try:
            identified = answers.identified(job, _value(future.result()))
        except WrongAnswer as failure:
            found.failures.append(Failed(job.name, f"cannot be loaded: {failure}"))
            continue
        found.warnings += identified.warnings
        if identified.unfit is not None:
            found.failures.append(Failed(job.name, identified.unfit))
        else:
            (found.defenses if job.kind == "defense" else found.attacks)[job.name] = identified
    return found


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
