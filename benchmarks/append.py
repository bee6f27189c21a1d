"""How many units a second the coordinator commits; what it waits for here, its workers wait for.

    python benchmarks/append.py [--db URL] [--units 100]

Appends units of 20 found samples, each with an adversarial, to matches that have few or many rows: one commit a unit,
eight units a commit (a coordinator commits together what is ready), and the way before (it looked at every row of the
match, and packed images whole) beside. The clean images are kept already, by another match. Adversarials are
incompressible and differ from them in every pixel, or in one of ten. A file in a temporary folder unless told.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
from sqlalchemy import bindparam, delete, exists, insert, select, update

from arena.interface.results import Identity, Record, Status
from arena.store import schema
from arena.store.blobs import pack
from arena.store.store import MatchKey, Store, Unit, _row, open_store

UNIT = 20
Commit = Callable[[Store, MatchKey, list[list[Record]]], None]
_RANDOM = np.random.default_rng(0)
CLEAN, DENSE = _RANDOM.random((2, 1, 28, 28), dtype=np.float32)
SPARSE = np.where(_RANDOM.random(CLEAN.shape) < 0.1, DENSE, CLEAN)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the commits of a coordinator.")
    parser.add_argument("--db", help="an SQLAlchemy URL; its database gets some matches of a benchmark")
    parser.add_argument("--units", type=int, default=100)
    options = parser.parse_args()
    ways: list[tuple[str, Commit, np.ndarray]] = [
        ("before", _scan, DENSE),
        ("a commit each", _each, DENSE),
        ("eight a commit", _eight, DENSE),
        ("eight a commit, one pixel of ten", _eight, SPARSE),
    ]
    print(f"an adversarial takes {len(pack(DENSE, CLEAN))} bytes, one of one pixel in ten {len(pack(SPARSE, CLEAN))}")
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(open_store(options.db or str(Path(folder, "arena.db")))) as store,
    ):
        for rows in (0, 1000, 10_000):
            for name, commit, image in ways:
                units = _units(image, rows, options.units)
                _eight(store, _key("another"), units)  # keeps the clean images
                key = _key("attack")
                store.commit([Unit(key, [Record(n, 0, Status.NOT_FOUND, distance=math.inf) for n in range(rows)])])
                start, busy = time.perf_counter(), time.process_time()
                commit(store, key, units)
                rate = options.units / (time.perf_counter() - start)
                busy = 1000 * (time.process_time() - busy) / options.units
                print(f"{rows} rows, {name}: {rate:.0f} units/s, {busy:.1f} ms of processor time a unit", flush=True)


def _key(attack: str) -> MatchKey:
    """A match of a tournament of its own."""
    return MatchKey(
        {"dataset": "random", "split": "test", "data_hash": "0", "at": time.time()},
        Identity("defense", "defense", "benchmark", "0"),
        Identity(attack, attack, "benchmark", "0", norm="l2", access="score"),
    )


def _units(image: np.ndarray, first: int, units: int) -> list[list[Record]]:
    return [
        [Record(n, 0, Status.FOUND, adversarial=image, distance=1.0, l0=1.0, l1=1.0, l2=1.0, linf=1.0) for n in chunk]
        for chunk in (range(at, at + UNIT) for at in range(first, first + units * UNIT, UNIT))
    ]


def _unit(key: MatchKey, records: list[Record]) -> Unit:
    return Unit(key, records, clean={record.sample: CLEAN for record in records})


def _each(store: Store, key: MatchKey, units: list[list[Record]]) -> None:
    for records in units:
        store.commit([_unit(key, records)])


def _eight(store: Store, key: MatchKey, units: list[list[Record]]) -> None:
    for at in range(0, len(units), 8):
        store.commit([_unit(key, records) for records in units[at : at + 8]])


def _scan(store: Store, key: MatchKey, units: list[list[Record]]) -> None:
    match_id, result = store.find_match(key), schema.result
    assert match_id is not None
    this = result.c.match_id == match_id
    failures = this & (result.c.status == Status.ERROR)
    for records in units:
        rows = [_row(match_id, record, None) for record in records]
        with store.writing() as connection:
            stale = delete(result).where(failures, result.c.sample == bindparam("stale"))
            connection.execute(stale, [{"stale": row["sample"]} for row in rows])
            set(connection.scalars(select(result.c.sample).where(this)))
            connection.execute(insert(result), rows)
            failed = connection.scalar(select(exists().where(failures)))
            status = {"status": "failed" if failed else "playing"}
            connection.execute(update(schema.match).where(schema.match.c.id == match_id).values(status))


if __name__ == "__main__":
    main()
