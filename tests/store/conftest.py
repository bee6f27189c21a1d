"""The tests of the store run over SQLite and, where ARENA_TEST_POSTGRESQL names a server's URL, over PostgreSQL."""

from collections.abc import Iterator

import pytest
from stores import store_url  # noqa: F401 (fixture)

from arena.store.store import Store, open_store


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:  # noqa: F811
    store = open_store(store_url)
    yield store
    store.close()
