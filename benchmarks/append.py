"""How many units a second the coordinator commits; what it waits for here, its workers wait for.

    python benchmarks/append.py [--db URL] [--units 100]

Appends units of 20 found samples, each with an incompressible adversarial, to matches that have few or many rows: one
commit a unit, eight units a commit (a coordinator commits together what is ready), and the way before (it looked at
every row of the match) beside. A file in a temporary folder unless told.
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
from arena.store.store import MatchKey, Store, Unit, _row, open_store

UNIT = 20
Commit = Callable[[Store, MatchKey, list[list[Record]]], None]
IMAGE = np.random.default_rng(0).random((1, 28, 28), dtype=np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the commits of a coordinator.")
    parser.add_argument("--db", help="an SQLAlchemy URL; its database gets some matches of a benchmark")
    parser.add_argument("--units", type=int, default=100)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(open_store(options.db or str(Path(folder, "arena.db")))) as store,
    ):
        for rows in (0, 1000, 10_000):
            for name, commit in (("before", _scan), ("a commit each", _each), ("eight a commit", _eight)):
                key = MatchKey(
                    {"dataset": "random", "split": "test", "data_hash": "0", "at": time.time()},
                    Identity("defense", "defense", "benchmark", "0"),
                    Identity("attack", "attack", "benchmark", "0", norm="l2", access="score"),
                )
                store.commit([Unit(key, [Record(n, 0, Status.NOT_FOUND, distance=math.inf) for n in range(rows)])])
                rate, busy = _rate(store, key, commit, rows, options.units)
                print(f"{rows} rows, {name}: {rate:.0f} units/s, {busy * 1000:.1f} ms of processor time a unit")


def _rate(store: Store, key: MatchKey, commit: Commit, first: int, units: int) -> tuple[float, float]:
    chunks = [range(at, at + UNIT) for at in range(first, first + units * UNIT, UNIT)]
    records = [
        [Record(n, 0, Status.FOUND, adversarial=IMAGE, distance=1.0, l0=1.0, l1=1.0, l2=1.0, linf=1.0) for n in chunk]
        for chunk in chunks
    ]
    start, busy = time.perf_counter(), time.process_time()
    commit(store, key, records)
    return units / (time.perf_counter() - start), (time.process_time() - busy) / units


def _each(store: Store, key: MatchKey, units: list[list[Record]]) -> None:
    for records in units:
        store.commit([Unit(key, records)])


def _eight(store: Store, key: MatchKey, units: list[list[Record]]) -> None:
    for at in range(0, len(units), 8):
        store.commit([Unit(key, records) for records in units[at : at + 8]])


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
