"""What is stored of matches and samples, as it is, for `arena verify`: damage is described, never an error."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import Connection, Row, func, select, type_coerce
from sqlalchemy.types import NullType

from arena.geometry.norms import NORMS
from arena.interface.results import Evidence, Identity, Record, Status, StoredMatch
from arena.store import datasets
from arena.store.blobs import PRUNED
from arena.store.images import Images
from arena.store.schema import attack, defense, match, result, tournament

_NUMBER, _COUNT, _TEXT = (int, float), (int,), (str,)
_NONE = (type(None),)

# What a column of a row may hold; SQLite takes anything.
_KINDS: dict[str, tuple[type, ...]] = {
    "label": _COUNT,
    "status": _TEXT,
    **dict.fromkeys(("clean_label", "adversarial_label", "best_query", "masked"), _COUNT + _NONE),
    **dict.fromkeys(("distance", *NORMS, "margin"), _NUMBER + _NONE),
    **dict.fromkeys(("queries", "gradient_queries"), _COUNT),
    "seconds": _NUMBER,
    "adversarial": (bytes, type(None)),
    "fragile": (bool, int, type(None)),
    **dict.fromkeys(("reason", "progress"), _TEXT + _NONE),
}


def matches(connection: Connection) -> list[StoredMatch]:
    """Every match, those of superseded defenses included, in order of their ids.

    One that refers to what is not there or cannot be read is left out: `integrity.faults` names it.
    """
    query = (
        select(
            match,
            *(tournament.c.conditions, tournament.c.environments),
            *(column.label(f"{table.name}_{column.name}") for table in (defense, attack) for column in table.columns),
        )
        .join_from(match, tournament)
        .join(defense)
        .join(attack, match.c.attack_id == attack.c.id)
        .order_by(match.c.id)
    )
    return [stored for row in connection.execute(query).all() if (stored := _match(connection, row)) is not None]


def counts(connection: Connection, statuses: Sequence[Status] = ()) -> dict[int, int]:
    """How many rows each match has, by its id; statuses: those with one of these only."""
    query = select(result.c.match_id, func.count()).group_by(result.c.match_id).order_by(result.c.match_id)
    if statuses:
        query = query.where(result.c.status.in_(statuses))
    return {row[0]: row[1] for row in connection.execute(query)}


def samples(connection: Connection, match_id: int, statuses: Sequence[Status] = ()) -> list[int]:
    """The samples of which a match has a row, in order; statuses: as above. `integrity.faults` names what is none."""
    query = select(result.c.sample).where(result.c.match_id == match_id).order_by(result.c.sample)
    found = connection.scalars(query.where(result.c.status.in_(statuses)) if statuses else query)
    return [sample for sample in found if isinstance(sample, int)]


def rows(connection: Connection, match_id: int, of: Sequence[int]) -> list[Evidence]:
    """The rows of some samples of a match, in order."""
    # Without their types: those convert, and fail where a value is of another kind.
    columns = [type_coerce(result.c[field.name], NullType()).label(field.name) for field in fields(Record)]
    query = select(*columns).where(result.c.match_id == match_id, result.c.sample.in_(of)).order_by(result.c.sample)
    images = Images(connection)
    return [_evidence(dict(row), match_id, images) for row in connection.execute(query).mappings()]


def _match(connection: Connection, row: Row[Any]) -> StoredMatch | None:
    try:
        conditions, environments = json.loads(row.conditions), json.loads(row.environments)
        description = datasets.description(connection, conditions["dataset"], conditions["data_hash"])
        conditions["split"]  # is there
        defense, attack = (_identity(row, kind) for kind in ("defense", "attack"))
    except (ValueError, TypeError, KeyError):
        return None
    if row.norm not in NORMS:
        return None
    return StoredMatch(row.id, conditions, description, environments, defense, attack, row.norm, row.budget)


def _identity(row: Row[Any], kind: str) -> Identity:
    name, fingerprint, package, version, settings = (
        row._mapping[f"{kind}_{column}"] for column in ("name", "fingerprint", "package", "version", "settings")
    )
    return Identity(name, fingerprint, package, version, dict(json.loads(settings)))


def _evidence(values: dict[str, Any], match_id: int, images: Images) -> Evidence:
    damage = [
        f"its {name} is {values[name]!r:.60}" for name, kinds in _KINDS.items() if not isinstance(values[name], kinds)
    ]
    if isinstance(values["status"], str) and values["status"] not in list(Status):
        damage.append(f"its status is {values['status']!r:.60}, which means nothing")
    if pruned := values["adversarial"] == PRUNED:
        values["adversarial"] = None
    if isinstance(values["adversarial"], bytes):
        try:
            values["adversarial"] = images.decode(match_id, values["sample"], values["adversarial"])
        except ValueError as failure:
            damage.append(f"its adversarial is damaged ({failure})")
    try:
        values["progress"] = [
            [int(query), float(distance)] for query, distance in json.loads(values["progress"] or "[]")
        ]
    except (ValueError, TypeError):
        damage.append(f"its progress is {values['progress']!r:.60}")
    if damage:
        return Evidence(values["sample"], None, tuple(damage))
    fragile = None if values["fragile"] is None else bool(values["fragile"])
    masked = values["masked"] or 0  # NULL: of an arena that did not count them
    settled = {"status": Status(values["status"]), "fragile": fragile, "masked": masked}
    return Evidence(values["sample"], Record(**values | settled), pruned=pruned)
