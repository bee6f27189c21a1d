"""What the report says beside the numbers: who played, under which conditions, and what went wrong."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, func, select

from arena.geometry.norms import Norm
from arena.interface.results import Status
from arena.store import schema
from arena.store.views import current_match


@dataclass(frozen=True, slots=True)
class Contestant:
    """A defense or an attack as it played; `norm` and `access` are an attack's."""

    name: str
    package: str
    version: str
    fingerprint: str
    settings: dict[str, Any]
    norm: Norm | None = None
    access: str | None = None


@dataclass(frozen=True, slots=True)
class Trouble:
    """A match with rows that are no evidence, or no adversarial in spite of what the attack claimed.

    `reason` is the last line of the traceback where the match failed, else what most of the rows say.
    """

    defense: str
    attack: str
    norm: Norm
    budget: int | None
    failed: bool
    errors: int
    rejected: int
    reason: str


@dataclass(frozen=True, slots=True)
class Facts:
    """The tournaments that are counted together, for they share their data, and who played.

    `conditions` are those of each tournament beside the data, `environments` the versions that any was played with;
    `matches` counts them by their status, `rows` results by theirs.
    """

    data: dict[str, str]  # dataset, split, data_hash
    conditions: list[dict[str, Any]]
    environments: list[dict[str, str]]
    defenses: list[Contestant]
    attacks: list[Contestant]
    matches: Counter[str]
    rows: Counter[str]
    troubles: list[Trouble]


def read_facts(connection: Connection) -> Facts | None:
    """The facts of the matches that leaderboards count; None where there is no match yet."""
    of_match = select(schema.match).where(schema.match.c.id.in_(select(current_match.c.id)))
    matches = connection.execute(of_match.order_by(schema.match.c.id)).all()
    if not matches:
        return None
    tournaments = _by_id(connection, schema.tournament, {match.tournament_id for match in matches})
    defenses = _by_id(connection, schema.defense, {match.defense_id for match in matches})
    attacks = _by_id(connection, schema.attack, {match.attack_id for match in matches})
    some = next(iter(tournaments.values()))
    data = {name: getattr(some, name) for name in ("dataset", "split", "data_hash")}
    played_in = (environment for row in tournaments.values() for environment in json.loads(row.environments))
    return Facts(
        data=data,
        conditions=[_without(json.loads(row.conditions), data) for row in tournaments.values()],
        environments=list({json.dumps(environment): environment for environment in played_in}.values()),
        defenses=[_contestant(row) for row in defenses.values()],
        attacks=[_contestant(row, norm=row.norm, access=row.access) for row in attacks.values()],
        matches=Counter(match.status for match in matches),
        rows=_row_counts(connection),
        troubles=_troubles(connection, matches, defenses, attacks),
    )


def _by_id(connection: Connection, table: Table, wanted: set[int]) -> dict[int, Any]:
    """The wanted rows of a table, by name where they have one."""
    order = table.c["name" if "name" in table.c else "id"]
    return {row.id: row for row in connection.execute(select(table).order_by(order)) if row.id in wanted}


def _without(conditions: dict[str, Any], data: dict[str, str]) -> dict[str, Any]:
    return {name: value for name, value in conditions.items() if name not in data}


def _contestant(row: Any, **fields: Any) -> Contestant:
    return Contestant(row.name, row.package, row.version, row.fingerprint, json.loads(row.settings), **fields)


def _row_counts(connection: Connection) -> Counter[str]:
    result = schema.result.c
    counts = (
        select(result.status, func.count().label("count"))
        .where(result.match_id.in_(select(current_match.c.id)))
        .group_by(result.status)
    )
    return Counter({row["status"]: row["count"] for row in connection.execute(counts).mappings()})


def _troubles(
    connection: Connection, matches: Sequence[Any], defenses: dict[int, Any], attacks: dict[int, Any]
) -> list[Trouble]:
    result = schema.result.c
    query = (
        select(result.match_id, result.status, result.reason, func.count())
        .where(result.match_id.in_(select(current_match.c.id)), result.status.in_([Status.ERROR, Status.REJECTED]))
        .group_by(result.match_id, result.status, result.reason)
    )
    rows: dict[int, Counter[str]] = defaultdict(Counter)
    reasons: dict[int, Counter[str]] = defaultdict(Counter)
    for match_id, status, reason, count in connection.execute(query):
        rows[match_id][status] += count
        reasons[match_id][reason or ""] += count
    return [
        Trouble(
            defense=defenses[match.defense_id].name,
            attack=attacks[match.attack_id].name,
            norm=match.norm,
            budget=match.budget,
            failed=match.status == "failed",
            errors=rows[match.id][Status.ERROR],
            rejected=rows[match.id][Status.REJECTED],
            reason=_last_line(match.error) or max(reasons[match.id], key=reasons[match.id].__getitem__, default=""),
        )
        for match in matches
        if match.status == "failed" or rows[match.id]
    ]


def _last_line(traceback: str | None) -> str:
    return (traceback or "").strip().rpartition("\n")[2]
