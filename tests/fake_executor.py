"""A plan of three jobs and an executor without a process: it answers with rows of its own, or says that all died."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any, Self

from stores import attack, dataset, defense, record

from arena.store.store import Store
from arena.tournament import answers
from arena.tournament.answers import Identified, Roster
from arena.tournament.config import Config
from arena.tournament.executors import Answer, Failure
from arena.tournament.jobs import Job, MatchJob
from arena.tournament.plan import Plan, plan_matches
from arena.tournament.roster import Contestants

CONFIG = Config.model_validate({"tournament": {"samples": 6, "chunk": 2}})
LABELS = (1,) * 6


class Honest:
    """Finds an adversarial at distance 1 for every sample."""

    workers = 1

    def __init__(self, **changes: Any) -> None:
        self.changes = changes

    def submit(self, job: Job) -> Future[Answer | Failure]:
        assert isinstance(job, MatchJob)
        rows = [answers.plain(record(sample)) | self.changes for sample in job.samples]
        future: Future[Answer | Failure] = Future()
        future.set_result(self.answer({"rows": rows, "seconds": 0.5}))
        return future

    def answer(self, value: Any) -> Answer | Failure:
        return Answer(value)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...


class Dead(Honest):
    def answer(self, value: Any) -> Answer | Failure:
        return Failure("the worker process died (exit code 7)")


def contestants(weights: str = "a") -> Contestants:
    identity = defense(weights=weights)
    roster = Roster(
        defenses={"cnn": identity.package},
        attacks={"boundary": attack().package},
        bounds={},
        unfit=(),
        dataset=dataset(),
        labels=LABELS,
        problems=(),
    )
    return Contestants(roster, {"cnn": Identified(identity, attacks=("boundary",))}, {"boundary": Identified(attack())})


def planned(store: Store, weights: str = "a") -> Plan:
    return plan_matches(CONFIG, store, contestants(weights))
