"""Images make up nearly all of a database: those of adversarials that are not the closest can go, their rows stay."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, text

from arena.store.blobs import PRUNED
from arena.store.engine import compact, size
from arena.store.store import Store

# The images, the closest of each sample first, as `best_result` has it for what is current; here of every defense and
# data set. Lengths are read without the images.
_RANKED = """
    SELECT r.match_id, r.sample, LENGTH(r.adversarial) AS bytes,
        ROW_NUMBER() OVER (
            PARTITION BY m.defense_id, m.norm, t.dataset, t.split, t.data_hash, r.sample
            ORDER BY r.distance, r.match_id
        ) AS place
    FROM result r
    JOIN match m ON m.id = r.match_id
    JOIN tournament t ON t.id = m.tournament_id
    WHERE LENGTH(r.adversarial) > :mark"""


@dataclass(frozen=True)
class Pruning:
    """How many images went or would go, how many stay, and the bytes freed; of a dry run those of the images alone."""

    pruned: int
    kept: int
    bytes: int


def keep_best(store: Store, dry_run: bool = False) -> Pruning:
    """Of each sample leave the closest adversarial's image, for every norm and defense; others become `PRUNED`.

    Their rows stay, with distances and all else. One transaction; then the space goes back to the file system. Raises
    UserError for a database that cannot be written.
    """
    if dry_run:
        with store.reading() as connection:
            return _counted(connection)
    before = size(store.engine)
    with store.writing() as connection:
        counted = _counted(connection)
        beaten = f"SELECT match_id, sample FROM ({_RANKED}) AS ranked WHERE place > 1"
        statement = f"UPDATE result SET adversarial = :pruned WHERE (match_id, sample) IN ({beaten})"
        connection.execute(text(statement), {"pruned": PRUNED, "mark": len(PRUNED)})
    compact(store.engine)
    return Pruning(counted.pruned, counted.kept, before - size(store.engine))


def _counted(connection: Connection) -> Pruning:
    counts = "COUNT(CASE WHEN place > 1 THEN 1 END), COUNT(CASE WHEN place = 1 THEN 1 END)"
    lengths = "COALESCE(SUM(CASE WHEN place > 1 THEN bytes END), 0)"
    query = f"SELECT {counts}, {lengths} FROM ({_RANKED}) AS ranked"
    pruned, kept, length = connection.execute(text(query), {"mark": len(PRUNED)}).one()
    return Pruning(pruned, kept, int(length))
