"""The executor on a Ray cluster of three nodes: the promises of one machine, whatever is lost meanwhile."""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from executor_role import Call
from processes import is_gone
from ray_nodes import ThreeNodes, wait_until

from arena.tournament.config import Config
from arena.tournament.executors import Answer, Failure

pytestmark = pytest.mark.cluster


def on(cluster: ThreeNodes, grace: float = 60, **run: Any) -> Any:
    """The executor of the tests' own role."""
    from arena.tournament.executors.ray import RayExecutor

    settings = {"memory": 1, "executor": "ray", "ray": {"address": cluster.address, "grace": grace}} | run
    return RayExecutor(Config.model_validate({"run": settings}), "executor_role")


@pytest.fixture(scope="module")
def executor(cluster: ThreeNodes) -> Iterator[Any]:
    with on(cluster, grace=2) as executor:
        yield executor


def run(executor: Any, function: str, *args: Any, timeout: float = 30, foreign: bool = False) -> Any:
    return executor.submit(Call(timeout, foreign, function, args)).result(timeout=60)


def test_a_worker_for_each_processor_of_three_nodes(executor: Any, tmp_path: Path) -> None:
    assert executor.workers == 3
    met = [executor.submit(Call(60, False, "meets", (str(tmp_path), 3))) for _ in range(3)]
    assert [one.result(timeout=100) for one in met] == 3 * [Answer(3)]


def test_the_promises_of_one_machine_hold(executor: Any) -> None:
    assert run(executor, "echo", {"a": [1, None, b"\xff"]}) == Answer({"a": [1, None, b"\xff"]})
    assert run(executor, "exits", 7) == Failure("the worker process died (exit code 7)")
    assert run(executor, "segfaults") == Failure("the worker process died (signal 11)")
    assert run(executor, "sleep", 100, timeout=0.3) == Failure("timed out after 0.3 s")
    assert run(executor, "hoards", False).reason == "ran out of memory"
    assert run(executor, "raises_usage", "no such thing") == Failure("no such thing", None, usage=True)
    assert [run(executor, "state", foreign=True).value["jobs"] for _ in range(2)] == [1, 1]
    assert run(executor, "state").value["db"] == ""


def test_a_job_that_is_lost_with_its_agent_is_played_again(executor: Any, tmp_path: Path) -> None:
    assert run(executor, "kills_agent", 1, str(tmp_path / "once")) == Answer(1)


def test_a_job_that_is_lost_again_and_again_is_an_error_of_its_own(executor: Any, tmp_path: Path) -> None:
    assert run(executor, "kills_agent", 99, str(tmp_path / "often")).reason.startswith("lost 4 times with the node")
    assert (tmp_path / "often").read_text() == "xxxx"
    assert run(executor, "echo", 1) == Answer(1)


def test_an_agent_that_answers_nothing_is_given_up(executor: Any, tmp_path: Path) -> None:
    """The job is out again meanwhile; what the first one would have said counts for nothing."""
    assert run(executor, "freezes_agent_once", str(tmp_path / "agent"), timeout=1) == Answer("answered")
    assert is_gone(int((tmp_path / "agent").read_text()), 30)


def test_a_late_answer_counts_for_nothing(executor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent is given up, its job played again, then it goes on: nobody could end it, as on a node that hangs."""
    late: list[bool] = []

    def take(number: int, future: Any, take: Any = executor._take) -> None:
        late.append(number not in executor._calls)
        take(number, future)

    monkeypatch.setattr("ray.kill", lambda actor: None)
    monkeypatch.setattr(executor, "_take", take)
    assert run(executor, "freezes_agent_once", str(tmp_path / "agent"), timeout=1) == Answer("answered")
    agent = int((tmp_path / "agent").read_text())
    try:
        assert not any(late)
        os.kill(agent, signal.SIGCONT)
        assert wait_until(lambda: any(late), 10)
        assert run(executor, "echo", 1) == Answer(1)
    finally:
        os.kill(agent, signal.SIGKILL)


def test_a_node_that_differs_is_refused_by_name(
    cluster: ThreeNodes, executor: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    executor.__exit__()  # one coordinator a process
    monkeypatch.setenv("ARENA_TEST_TORCH", "1.9")
    with on(cluster) as other:
        outcome = run(other, "echo", 1)
    assert outcome.usage and "torch 2.0 instead of 1.9" in outcome.reason and socket.gethostname() in outcome.reason
    assert capfd.readouterr().err.count("is refused: torch 2.0 instead of 1.9") == 3


def test_signals_stay_ours(cluster: ThreeNodes) -> None:
    def handler(number: int, frame: object) -> None:
        raise AssertionError

    kept = signal.signal(signal.SIGTERM, handler)
    try:
        with on(cluster, workers=1):
            assert signal.getsignal(signal.SIGTERM) is handler
        assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, kept)
