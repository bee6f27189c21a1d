"""Who played under which conditions. Finding, registering and making current are three things.

Finding never writes. What is registered counts for nothing until it is made current, an explicit act after the first
commit under it: asking what is left to play must not empty a leaderboard.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from typing import Any, NamedTuple

from sqlalchemy import Connection, Table, and_, func, select, update

from arena.errors import UserError
from arena.geometry.norms import Norm
from arena.interface.results import DatasetIdentity, Identity
from arena.store import datasets, schema
from arena.store.engine import insert_new, lock

_LARGEST_BUDGET = 2**63 - 1  # what a database's integers hold

Key = dict[str, Any]


class MatchIds(NamedTuple):
    """Under which ids a match is registered."""

    tournament: int
    defense: int
    match: int


def find(connection: Connection, table: Table, key: Key) -> int | None:
    """Id of the row with this key."""
    return connection.scalar(select(table.c.id).where(and_(*(table.c[name] == value for name, value in key.items()))))


def register_tournament(
    connection: Connection, conditions: Mapping[str, Any], dataset: DatasetIdentity | None = None
) -> int:
    """The tournament of these conditions, found or new; this environment and what is true of its data are kept too."""
    if dataset is not None:
        datasets.register(connection, dataset)
    data = {name: conditions[name] for name in ("dataset", "split", "data_hash")}
    values = {**data, "conditions": as_json(conditions), "environments": "[]", "last_used": 0}
    identifier = _register(connection, schema.tournament, tournament_key(conditions), values)
    this = schema.tournament.c.id == identifier
    recorded = select(schema.tournament.c.environments).where(this).with_for_update()
    environments = json.loads(connection.execute(recorded).scalar_one())
    if (environment := current_environment()) not in environments:
        both = as_json([*environments, environment])
        connection.execute(update(schema.tournament).where(this).values(environments=both))
    return identifier


def register_defense(connection: Connection, identity: Identity) -> int:
    """The defense of this fingerprint, found or new."""
    return _register(connection, schema.defense, plugin_key(identity), _plugin_values(identity) | {"last_used": 0})


def register_attack(connection: Connection, identity: Identity) -> int:
    """The attack of this fingerprint, found or new."""
    values = _plugin_values(identity) | {"norm": identity.norm, "access": identity.access}
    return _register(connection, schema.attack, plugin_key(identity), values)


def register_bound(connection: Connection, identity: Identity) -> int:
    """The lower bound of this fingerprint, found or new."""
    return _register(connection, schema.bound, plugin_key(identity), _plugin_values(identity) | {"last_used": 0})


def register_match(
    connection: Connection, tournament_id: int, defense_id: int, attack_id: int, norm: Norm, budget: int | None
) -> int:
    """The match of this key, found or new; raises UserError for a budget beyond 64 bits."""
    if budget is not None and budget > _LARGEST_BUDGET:
        raise UserError(f"budget = {budget}: at most {_LARGEST_BUDGET}; leave it out for no limit")
    key = match_key(tournament_id, defense_id, attack_id, budget)
    return _register(connection, schema.match, key, {"norm": norm, "status": "playing"})


def make_current(
    connection: Connection, defense_id: int | None, tournament_id: int | None = None, bound_id: int | None = None
) -> None:
    """Leaderboards count this defense of its name from now on, the data of this tournament, and this bound of its
    name."""
    lock(connection, "last_used")  # two that read the same maximum would both be the last
    chosen = (schema.defense, defense_id), (schema.tournament, tournament_id), (schema.bound, bound_id)
    for table, identifier in chosen:
        latest = select(func.max(table.c.last_used) + 1).scalar_subquery()
        connection.execute(update(table).where(table.c.id == identifier).values(last_used=latest))


def tournament_key(conditions: Mapping[str, Any]) -> Key:
    return {"fingerprint": hashlib.sha256(as_json(conditions).encode()).hexdigest()}


def plugin_key(identity: Identity) -> Key:
    return {"fingerprint": identity.fingerprint}


def match_key(tournament_id: int, defense_id: int, attack_id: int, budget: int | None) -> Key:
    return {"tournament_id": tournament_id, "defense_id": defense_id, "attack_id": attack_id, "budget": budget}


def as_json(value: Any) -> str:
    """The same text for equal values."""
    return json.dumps(value, sort_keys=True)


def _register(connection: Connection, table: Table, key: Key, values: Key) -> int:
    identifier = find(connection, table, key)
    if identifier is None:
        insert_new(connection, table, [key | values])  # another coordinator may register it at the same moment
        identifier = find(connection, table, key)
    assert identifier is not None
    return identifier


def _plugin_values(identity: Identity) -> Key:
    return {
        "name": identity.name,
        "package": identity.package,
        "version": identity.version,
        "settings": as_json(identity.settings),
    }


@cache  # it reads files, and a commit waits for it
def current_environment() -> dict[str, str]:
    """What rows may depend on beside the conditions of their tournament: versions, machine, and `isa`, the instruction
    set of the kernels."""
    packages = {name: metadata.version(name) for name in ("arena-robustness", "torch", "numpy", "foolbox")}
    machine = {"machine": platform.machine(), "isa": _instruction_set()}
    return {"python": platform.python_version(), **machine, **packages}


def _instruction_set() -> str:
    try:
        from arena import _native
    except ImportError:  # plain torch stands for the kernels
        return "none"
    return _native.instruction_set()
