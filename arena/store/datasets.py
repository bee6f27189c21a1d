"""The tables `dataset` and `threshold`: what is true of the data that was played, kept with the tournament."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, ScalarSelect, delete, insert, select

from arena.geometry.norms import Norm
from arena.interface.results import DatasetIdentity
from arena.store.engine import lock
from arena.store.schema import dataset, threshold, tournament


def register(connection: Connection, identity: DatasetIdentity) -> None:
    """Keep what is true of a data set; what was kept before of the same images gives way."""
    if read(connection, identity.data_hash) == identity:
        return
    lock(connection, f"data set {identity.data_hash}")  # another coordinator may keep it at the same moment
    if read(connection, identity.data_hash) == identity:
        return
    for table in (dataset, threshold):
        connection.execute(delete(table).where(table.c.data_hash == identity.data_hash))
    row = {
        "data_hash": identity.data_hash,
        "description": json.dumps(identity.description, sort_keys=True),
        "shape": json.dumps(identity.shape),
        "classes": identity.classes,
        "class_names": json.dumps(identity.class_names),
    }
    connection.execute(insert(dataset), row)
    if identity.thresholds:
        of_norm = [
            {"data_hash": identity.data_hash, "norm": norm, "epsilon": epsilon}
            for norm, epsilon in identity.thresholds.items()
        ]
        connection.execute(insert(threshold), of_norm)


def read(connection: Connection, data_hash: str) -> DatasetIdentity | None:
    """What is kept of the data with this hash; None for what an older arena played."""
    row = connection.execute(select(dataset).where(dataset.c.data_hash == data_hash)).first()
    if row is None:
        return None
    return DatasetIdentity(
        data_hash=data_hash,
        description=json.loads(row.description),
        shape=tuple(json.loads(row.shape)),
        classes=row.classes,
        class_names=tuple(json.loads(row.class_names)),
        thresholds=thresholds(connection, data_hash),
    )


def thresholds(connection: Connection, data_hash: str | ScalarSelect[Any]) -> dict[Norm, float]:
    """Epsilon by norm, for the data with this hash."""
    query = select(threshold.c.norm, threshold.c.epsilon).where(threshold.c.data_hash == data_hash)
    return {row.norm: row.epsilon for row in connection.execute(query)}


def description(connection: Connection, name: str, data_hash: str) -> dict[str, Any]:
    """What opens the data set again; its name alone where an older arena played it."""
    kept = connection.scalar(select(dataset.c.description).where(dataset.c.data_hash == data_hash))
    return {"name": name} if kept is None else json.loads(kept)


def latest_hash() -> ScalarSelect[Any]:
    """Of the data that was last used."""
    return select(tournament.c.data_hash).order_by(tournament.c.last_used.desc()).limit(1).scalar_subquery()
