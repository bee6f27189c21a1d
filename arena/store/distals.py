"""The table `distal`: images that ascended from noise, for each defense, class, kind of gradient and seed."""

from __future__ import annotations

from dataclasses import asdict, fields

import numpy as np
from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, or_, select

from arena.errors import UserError
from arena.interface.results import Distal, Status
from arena.store.blobs import pack, unpack
from arena.store.schema import defense, distal
from arena.store.store import Store


def settled(store: Store, defense_id: int, gradient: str, seed: int, steps: int) -> set[int]:
    """The classes that need no ascent: those found, and those that `steps` steps or more did not reach."""
    done = or_(distal.c.status == Status.FOUND, distal.c.steps >= steps)
    with store.reading() as connection:
        return set(connection.scalars(select(distal.c.label).where(_of(defense_id, gradient, seed), done)))


def append(store: Store, defense_id: int, ended: Distal) -> None:
    """Store one ascent, in place of a shorter one for the same class."""
    this = and_(_of(defense_id, ended.gradient, ended.seed), distal.c.label == ended.label)
    row = asdict(ended) | {"defense_id": defense_id, "image": pack(ended.image)}
    with store.writing() as connection:
        connection.execute(delete(distal).where(this))
        connection.execute(insert(distal), row)


def read(connection: Connection) -> dict[str, list[Distal]]:
    """The ascents on each defense as it was last used, by its name; ordered by kind of gradient, class and seed.

    Raises UserError for a stored image that cannot be read.
    """
    latest = select(func.max(defense.c.last_used)).where(defense.c.last_used > 0).group_by(defense.c.name)
    current = defense.c.last_used.in_(latest)
    query = select(defense.c.name, distal).join_from(distal, defense).where(current)
    found: dict[str, list[Distal]] = {}
    for row in connection.execute(query.order_by(defense.c.name, distal.c.gradient, distal.c.label, distal.c.seed)):
        values = {field.name: getattr(row, field.name) for field in fields(Distal)}
        ended = Distal(**values | {"status": Status(row.status), "image": _image(row.id, row.image)})
        found.setdefault(row.name, []).append(ended)
    return found


def _of(defense_id: int, gradient: str, seed: int) -> ColumnElement[bool]:
    return and_(distal.c.defense_id == defense_id, distal.c.gradient == gradient, distal.c.seed == seed)


def _image(identifier: int, blob: bytes) -> np.ndarray:
    try:
        return unpack(blob)
    except ValueError as failure:
        raise UserError(
            f"distal {identifier}: the stored image is damaged ({failure}): delete that row of the table distal and run"
            " `arena distal` again"
        ) from failure
