"""Contestants and records for tests of the store and of what reads it."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from sqlalchemy import NullPool, create_engine, make_url
from typed import present

from arena.geometry.norms import NORMS, Norm
from arena.interface.results import BoundKind, DatasetIdentity, Identity, Record, Status
from arena.store import bounds
from arena.store.store import Store

MNIST: dict[str, Any] = {"dataset": "mnist", "split": "test", "data_hash": "5eed", "chunk": 10}


def defense(name: str = "cnn", weights: str = "a") -> Identity:
    return Identity(name, f"{name} {weights}", "arena-robustness", "0.1.0", {"weights": weights})


def attack(name: str = "boundary", norm: Norm = "l2", steps: int = 1) -> Identity:
    return Identity(name, f"{name} {steps}", "arena-robustness", "0.1.0", {"steps": steps}, norm, "decision")


def bound(name: str = "joint", version: str = "a") -> Identity:
    return Identity(name, f"{name} {version}", "arena-robustness", "0.1.0")


CNN, BOUNDARY, JOINT = defense(), attack(), bound()


def store_bounds(
    store: Store,
    values: Mapping[int, float],
    of: Identity = CNN,
    by: Identity = JOINT,
    kind: BoundKind = "estimate",
    norm: Norm = "l2",
    seed: int = 0,
    data_hash: str = "5eed",
) -> None:
    """Lower bounds, by sample, which count from now on."""
    bounds.commit(store, bounds.Series(of, by, kind, data_hash, norm, seed), values, current=True)


def image(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((1, 28, 28), dtype=np.float32)


def record(sample: int, status: str = "found", distance: float | None = 1.0, **fields: Any) -> Record:
    """A consistent record; `distance` counts if something was found, in all norms unless told."""
    outcome = Status(status)
    if outcome == Status.FOUND:
        found = {"adversarial_label": 3, "adversarial": image(sample), "margin": 0.5, "best_query": 7}
        fields = {**dict.fromkeys(NORMS, distance), **found, **fields}
    else:
        distance = {Status.ERROR: None, Status.UNSTABLE: None, Status.MISCLASSIFIED: 0.0}.get(outcome, math.inf)
    return Record(sample=sample, label=1, clean_label=1, status=outcome, distance=distance, queries=10, **fields)


def dataset(data_hash: str = "5eed") -> DatasetIdentity:
    """MNIST as the store keeps it, with the paper's thresholds."""
    thresholds: dict[Norm, float] = {"l0": 12.0, "l2": 1.5, "linf": 0.3}
    return DatasetIdentity(data_hash, {"name": "mnist"}, (1, 28, 28), 10, (), thresholds)


def open_match(
    store: Store, defense: Identity = CNN, attack: Identity = BOUNDARY, budget: int | None = None, **conditions: Any
) -> int:
    """Id of a match, all that it refers to stored too and current."""
    conditions = MNIST | {"seed": 0} | conditions
    tournament_id = store.register_tournament(conditions, dataset(conditions["data_hash"]))
    defense_id, attack_id = store.register_defense(defense), store.register_attack(attack)
    store.make_current(defense_id, tournament_id)
    return store.register_match(tournament_id, defense_id, attack_id, present(attack.norm), budget)


@contextmanager
def place_on_server() -> Iterator[str]:
    """The URL of an empty schema on the server, dropped at the end; skips without a server."""
    if not (server := os.environ.get("ARENA_TEST_POSTGRESQL")):
        pytest.skip("ARENA_TEST_POSTGRESQL names no PostgreSQL server")
    name, engine = f"arena_test_{uuid4().hex}", create_engine(server, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE SCHEMA {name}")
    try:
        here = make_url(server).update_query_dict({"options": f"-csearch_path={name}"})
        yield here.render_as_string(hide_password=False)
    finally:
        with engine.connect() as connection:
            connection.exec_driver_sql(f"DROP SCHEMA {name} CASCADE")
        engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Of an empty database: SQLite and, where ARENA_TEST_POSTGRESQL names a server, PostgreSQL."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'arena.db'}"
    else:
        with place_on_server() as url:
            yield url
