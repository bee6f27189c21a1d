"""Where jobs run is opened, or refused in one line, for every command that plays."""

import sys
import time

import pytest
from click.testing import CliRunner
from ray_nodes import MISSING

from arena.cli import cli
from arena.errors import UserError
from arena.store.store import open_store
from arena.tournament.config import Config
from arena.tournament.executors.opening import open_executor


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("127.0.0.1:1", "no Ray cluster answers at 127.0.0.1:1"),
        ("nonsense", "no Ray cluster answers at nonsense"),
        ("ray://127.0.0.1:1", "write HOST:PORT"),
    ],
)
def test_a_wrong_address_is_told_within_seconds(address: str, said: str) -> None:
    pytest.importorskip("ray", reason=MISSING)
    started = time.monotonic()
    with pytest.raises(UserError, match=said):
        open_executor(Config.model_validate({"run": {"executor": "ray", "ray": {"address": address}}}))
    assert time.monotonic() - started < 10


def test_without_ray_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "arena.tournament.executors.ray", raising=False)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'arena-robustness\[ray\]'"):
        open_executor(Config.model_validate({"run": {"executor": "ray"}}))


@pytest.mark.parametrize("command", ["run", "bounds", "distal", "verify"])
def test_every_command_that_plays_asks_the_cluster(
    command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    pytest.importorskip("ray", reason=MISSING)
    monkeypatch.setenv("ARENA_DB", f"sqlite:///{tmp_path}/arena.db")
    open_store(f"sqlite:///{tmp_path}/arena.db").close()
    asked = CliRunner().invoke(cli, [command, "--executor", "ray", "--address", "127.0.0.1:1"])
    assert isinstance(asked.exception, UserError), asked.output
    assert str(asked.exception).startswith("no Ray cluster answers at 127.0.0.1:1")
