"""The tests of the store run over SQLite and, where ARENA_TEST_POSTGRESQL names a server's URL, over PostgreSQL."""

import os
from contextlib import contextmanager
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, make_url

from arena.store.store import open_store


@contextmanager
def place_on_server():
    """The URL of an empty schema on the server, dropped at the end; skips without a server."""
    if not (server := os.environ.get("ARENA_TEST_POSTGRESQL")):
        pytest.skip("ARENA_TEST_POSTGRESQL names no PostgreSQL server")
    name, engine = f"arena_test_{uuid4().hex}", create_engine(server, isolation_level="AUTOCOMMIT")
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
def store_url(request, tmp_path):
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'arena.db'}"
    else:
        with place_on_server() as url:
            yield url


@pytest.fixture
def store(store_url):
    store = open_store(store_url)
    yield store
    store.close()
