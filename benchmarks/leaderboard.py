"""How long `arena leaderboard` takes over a million results; the target is under 2 seconds.

    python benchmarks/leaderboard.py [--samples 10000] [--runs 5]

Fills a database of the real schema in a temporary folder (6 defenses x 17 attacks x samples, each result with an
incompressible kilobyte for its adversarial, about what a stored image takes), then times the whole command, its start
included, in a fresh process on one core; the query alone; and the view in the `sqlite3` program for comparison.
On a busy machine the seconds of computing are the ones to compare.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import create_engine, insert

from arena.geometry.norms import NORMS, Norm
from arena.interface.results import Identity, Status
from arena.store import schema
from arena.store.store import Store, open_store

DEFENSES = 6
ATTACKS: tuple[Norm, ...] = ("l2",) * 8 + ("linf",) * 7 + ("l0",) * 2  # Table 1, "All" and "-exact" left out


def main() -> None:
    parser = argparse.ArgumentParser(description="Time `arena leaderboard` over a million results.")
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # one core, for the processes started here too
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "arena.db")
        seconds, _, count = _timed(lambda: fill(file, options.samples))
        print(f"{count} results, {file.stat().st_size / 1e9:.2f} GB, filled in {seconds:.0f} s")
        command = [Path(sys.executable).with_name("arena"), "leaderboard", "--db", f"sqlite:///{file}"]
        report("arena leaderboard, whole command", lambda: _run(command), options.runs)
        report("arena leaderboard --cross-norm", lambda: _run([*command, "--cross-norm"]), options.runs)
        store = open_store(f"sqlite:///{file}", create=False)
        report("the query alone", store.leaderboard, options.runs)
        if program := shutil.which("sqlite3"):
            report("the view in sqlite3", lambda: _run([program, file, "SELECT * FROM leaderboard"]), 1)


def fill(file: Path, samples: int) -> int:
    """A tournament's rows, drawn at random; returns their number."""
    url = f"sqlite:///{file}"
    store, engine = open_store(url), create_engine(url)
    rng = np.random.default_rng(0)
    conditions = {"dataset": "random", "split": "test", "data_hash": "0", "seed": 0}
    tournament_id = store.register_tournament(conditions)
    for match_id in _matches(store, tournament_id):
        with engine.begin() as connection:
            connection.execute(insert(schema.result), _rows(rng, match_id, samples))
    engine.dispose()
    store.close()
    return DEFENSES * len(ATTACKS) * samples


def _matches(store: Store, tournament_id: int) -> Iterator[int]:
    attacks = [
        (store.register_attack(Identity(f"attack-{i}", f"attack {i}", "benchmark", "0", norm=of, access="score")), of)
        for i, of in enumerate(ATTACKS)
    ]
    for i in range(DEFENSES):
        defense_id = store.register_defense(Identity(f"defense-{i}", f"defense {i}", "benchmark", "0"))
        store.make_current(defense_id, tournament_id)
        for attack_id, norm in attacks:
            yield store.register_match(tournament_id, defense_id, attack_id, norm, None)


def _rows(rng: np.random.Generator, match_id: int, samples: int) -> list[dict[str, Any]]:
    """1 % misclassified, 10 % not found, the rest found."""
    kinds = rng.choice(3, size=samples, p=[0.01, 0.1, 0.89])
    distances = np.choose(kinds, [0, np.inf, rng.gamma(2.0, 1.0, samples)]).tolist()
    statuses = [(Status.MISCLASSIFIED, Status.NOT_FOUND, Status.FOUND)[kind] for kind in kinds]
    shared = {"match_id": match_id, "label": 0, "queries": 100, "gradient_queries": 0, "seconds": 0.1}
    return [
        shared
        | {"sample": sample, "status": status, "distance": distance, "adversarial": rng.bytes(1000)}
        | dict.fromkeys(NORMS, distance)
        for sample, (status, distance) in enumerate(zip(statuses, distances, strict=True))
    ]


def report(name: str, function: Callable[[], object], runs: int) -> None:
    times = [_timed(function)[:2] for _ in range(runs)]
    wall, cpu = (statistics.median(seconds) for seconds in zip(*times, strict=True))
    print(f"{name}: median {wall:.2f} s, {cpu:.2f} s of them computing; {runs} runs")


def _run(command: list[Any]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _timed(function: Callable[[], Any]) -> tuple[float, float, Any]:
    """Seconds on the clock, seconds of the processor (ours and of processes that ended meanwhile), the answer."""
    before, start = os.times(), time.perf_counter()
    value = function()
    wall, after = time.perf_counter() - start, os.times()
    return wall, sum(after[:4]) - sum(before[:4]), value


if __name__ == "__main__":
    main()
