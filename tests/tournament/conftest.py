"""For the tests of a Ray cluster: one cluster for all of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from paths import ROOT
from plugin_packages import install
from ray_nodes import ThreeNodes, seen_by_nodes
from stores import store_url  # noqa: F401 (fixture)


@pytest.fixture(scope="session")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder for PYTHONPATH with the attack `invert` of another package."""
    return install(tmp_path_factory.mktemp("foreign") / "site", ROOT / "examples" / "arena-attack-invert")


@pytest.fixture(scope="session")
def cluster(foreign: Path) -> Iterator[ThreeNodes]:
    """The cluster; its nodes see what this process sees, and `invert`."""
    with seen_by_nodes(foreign), ThreeNodes() as cluster:
        yield cluster
