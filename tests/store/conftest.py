"""The tests of the store run over SQLite and, where ARENA_TEST_POSTGRESQL names a server's URL, over PostgreSQL."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from stores import place_on_server

from arena.store.store import Store, open_store


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'arena.db'}"
    else:
        with place_on_server() as url:
            yield url


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    store = open_store(store_url)
    yield store
    store.close()
