"""The local executor with real processes: what a job does to its own is told in one line, and costs that job only."""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from executor_role import Call
from processes import descendants, is_gone
from typed import present

from arena import environment
from arena.tournament.config import Config, RunSettings
from arena.tournament.executors import Answer, Executor, Failure, child, process
from arena.tournament.executors.local import LocalExecutor

CONFIG = Config(run=RunSettings(memory=1, db="postgresql://user:secret@host/db"))


def local(workers: int = 1) -> LocalExecutor:
    return LocalExecutor(CONFIG, workers, "executor_role")


@pytest.fixture(scope="module")
def forked() -> Iterator[LocalExecutor]:
    with local() as executor:
        yield executor


@pytest.fixture(scope="module")
def spawned() -> Iterator[LocalExecutor]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(process, "FORKS", False)
        executor = local()
    with executor:
        yield executor


@pytest.fixture(params=["forked", "spawned"])
def executor(request: pytest.FixtureRequest) -> LocalExecutor:
    found: LocalExecutor = request.getfixturevalue(request.param)
    return found


def run(
    executor: Executor, function: str, *args: object, timeout: float = 30, foreign: bool = False
) -> Answer | Failure:
    return executor.submit(Call(timeout, foreign, function, args)).result(timeout=60)


def answered(executor: Executor, function: str, *args: object, **how: Any) -> Any:
    outcome = run(executor, function, *args, **how)
    assert isinstance(outcome, Answer), outcome
    return outcome.value


def failed(executor: Executor, function: str, *args: object, **how: Any) -> Failure:
    outcome = run(executor, function, *args, **how)
    assert isinstance(outcome, Failure), outcome
    return outcome


def test_plain_data_comes_back(executor: Executor) -> None:
    value = {"a": [1, 2.5, None, True, float("inf")], "b": b"\x00\xff", "c": "\N{GREEK SMALL LETTER EPSILON}"}
    assert run(executor, "echo", value) == Answer(value)
    assert run(executor, "echo", (1, 2)) == Answer([1, 2])


def test_jobs_share_a_process_and_a_foreign_one_has_its_own(executor: Executor) -> None:
    first, second = answered(executor, "state"), answered(executor, "state")
    assert second["pid"] == first["pid"] and second["jobs"] == first["jobs"] + 1
    foreign = [answered(executor, "state", foreign=True) for _ in range(2)]
    assert [one["jobs"] for one in foreign] == [1, 1]
    assert len({first["pid"], *(one["pid"] for one in foreign)}) == 3
    assert all(is_gone(one["pid"]) for one in foreign)
    assert answered(executor, "state")["pid"] == first["pid"]


def test_no_more_jobs_at_once_than_workers() -> None:
    with local(2) as executor:
        futures = [executor.submit(Call(30, foreign, "span", (0.2,))) for foreign in (True, False, True, False, False)]
        answers = [future.result(timeout=60) for future in futures]
    spans = [answer.value for answer in answers if isinstance(answer, Answer)]
    assert len(spans) == 5
    assert max(sum(start <= moment < end for start, end in spans) for moment, _ in spans) == 2


FAILURES = [
    ("exits", (7,), "the worker process died (exit code 7)"),
    ("exits", (0,), "the worker process died (exit code 0)"),
    ("segfaults", (), "the worker process died (signal 11)"),
    ("sleep", (100,), "timed out after 0.3 s"),
    ("hold_the_lock", (), "timed out after 0.3 s"),
    ("hoards", (False,), "ran out of memory"),
    ("hoards", (True,), "ran out of memory"),
    ("raises", ("one\ntwo",), "RuntimeError: one two"),
    ("raises_own", (), "executor_role.OwnError: of its own class"),
    ("unplain", (), "the answer is not plain data: TypeError: can not serialize 'object' object"),
]


@pytest.mark.parametrize(("function", "args", "reason"), FAILURES)
def test_a_failure_is_one_line_and_the_next_job_is_played(
    executor: Executor, function: str, args: tuple[Any, ...], reason: str
) -> None:
    outcome = run(executor, function, *args, timeout=0.3 if reason.startswith("timed") else 30)
    assert isinstance(outcome, Failure) and outcome.reason == reason and not outcome.usage
    assert run(executor, "echo", 1) == Answer(1)


def test_bad_settings_are_told_from_faults(forked: Executor, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(forked, "raises_usage", "no such thing") == Failure("no such thing", None, usage=True)
    monkeypatch.setenv("ARENA_TEST_BROKEN", "1")
    with local() as executor:
        assert run(executor, "echo", 1) == Failure("this worker has no settings", None, usage=True)


def test_text_of_exceptions_is_data(forked: Executor) -> None:
    outcome = failed(forked, "raises", "[/x] \udc80 \0 \x1b[31m")
    assert outcome.reason == "RuntimeError: [/x] \\udc80 \\x00 \\x1b[31m"
    traceback = present(outcome.traceback)
    (outcome.reason + traceback).encode()
    assert "\0" not in traceback and traceback.startswith("Traceback")


def test_text_of_exceptions_is_cut(forked: Executor) -> None:
    outcome = failed(forked, "raises", 50 * 2**20 * "x")
    assert len(outcome.reason) <= 1000 and len(present(outcome.traceback)) <= 4000
    assert outcome.reason.startswith("RuntimeError: xxx") and "characters cut" in outcome.reason


def test_a_clock_that_is_set_changes_no_time_out(forked: Executor, monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.time
    for shift in (-(10**6), 10**6):
        monkeypatch.setattr(time, "time", lambda shift=shift: real() + shift)
        assert run(forked, "sleep", 0.1, timeout=10) == Answer(0.1)
        started = time.monotonic()
        assert failed(forked, "sleep", 100, timeout=0.3).reason == "timed out after 0.3 s"
        assert 0.3 <= time.monotonic() - started < 3


def test_time_starts_with_the_job(forked: Executor) -> None:
    """Neither waiting for a worker nor its start counts."""
    outcomes = [forked.submit(Call(0.5, True, "sleep", (0.3,))) for _ in range(3)]
    assert [one.result(timeout=30) for one in outcomes] == 3 * [Answer(0.3)]


@pytest.mark.parametrize("detached", [False, True])
def test_processes_that_a_job_started_end_with_it(
    forked: Executor, detached: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    assert is_gone(answered(forked, "leaves_process", detached, foreign=True))
    assert failed(forked, "leaves_process", detached, False, True, timeout=0.5).reason == "timed out after 0.5 s"
    assert is_gone(int(capfd.readouterr().err))


def test_a_daemon_lives_as_long_as_its_worker(forked: Executor) -> None:
    daemon = answered(forked, "daemonizes")
    run(forked, "exits", 1, foreign=True)  # another worker's end
    assert Path(f"/proc/{daemon}/cmdline").read_bytes().startswith(b"sleep")
    run(forked, "exits", 1)
    assert is_gone(daemon)


def test_what_a_dead_worker_started_ends_too(executor: Executor, capfd: pytest.CaptureFixture[str]) -> None:
    assert failed(executor, "leaves_process", False, True).reason == "the worker process died (exit code 9)"
    assert is_gone(int(capfd.readouterr().err))


def test_a_thread_left_behind_keeps_nobody(executor: Executor) -> None:
    started = time.monotonic()
    assert run(executor, "leaves_thread", foreign=True) == Answer("done")
    assert run(executor, "leaves_thread") == Answer("done")
    assert time.monotonic() - started < 5
    run(executor, "exits", 0)


def test_closing_waits_for_nothing() -> None:
    with local(2) as executor:
        run(executor, "echo", 1)
        futures = [executor.submit(Call(1000, foreign, "hold_the_lock")) for foreign in (True, False, False)]
        time.sleep(0.3)
        started = time.monotonic()
    assert time.monotonic() - started < 2
    assert all(future.done() for future in futures) and futures[2].cancelled()


@pytest.mark.parametrize("what", ["pickle", "time", "types", "other", "empty", "long"])
def test_what_a_worker_sends_is_not_trusted(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with local() as executor:
        outcome = failed(executor, "answers_with", what)
        assert outcome.reason.startswith("the worker sent a malformed answer: "), outcome
        assert run(executor, "echo", 1) == Answer(1)
    assert list(tmp_path.iterdir()) == []


def test_what_plugins_print_goes_to_stderr_and_is_cut(executor: Executor, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(executor, "prints", 50, foreign=True) == Answer("printed")
    out, err = capfd.readouterr()
    assert out == "" and err.startswith("a first line\nxxx") and len(err) < 5000
    assert err.endswith("[the rest of what this job prints is dropped]\n")
    run(executor, "prints", 0)
    run(executor, "exits", 0)  # its output is through
    assert capfd.readouterr().err == "a first line\n\\x1b[31m\\xff raw\n"


def test_workers_know_no_address_of_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARENA_DB", "postgresql://user:secret@host/db")
    with local() as executor:
        assert answered(executor, "state")["db"] == ""
        assert answered(executor, "environment") == [None, "1"]


@pytest.mark.parametrize("forks", [True, False])
def test_the_current_folder_shadows_nothing_and_is_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forks: bool
) -> None:
    for name in ("socket", "pickle", "torch", "mine"):
        (tmp_path / f"{name}.py").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    monkeypatch.setattr(process, "FORKS", forks)
    with local() as executor:
        assert [answered(executor, "found", name) for name in ("socket", "pickle")] == [
            sys.modules[name].__file__ for name in ("socket", "pickle")
        ]
        assert answered(executor, "found", "mine") == str(tmp_path / "mine.py")


COORDINATOR = """
import sys, threading
sys.path.append({tests!r})
from executor_role import Call
from processes import descendants, is_gone
from arena.tournament.config import Config
from arena.tournament.executors import process
from arena.tournament.executors.local import LocalExecutor
process.FORKS = {forks}
with LocalExecutor(Config(), 2, "executor_role") as executor:
    state = executor.submit(Call(100, False, "state")).result().value
    print(state["pid"], state["server"], executor.submit(Call(100, True, "leaves_process", ({forks},))).result().value)
    executor.submit(Call(1000, False, {last!r}))
    executor.submit(Call(1000, False, {last!r}))
    while True:
        line = sys.stdin.readline()
        executor.submit(Call(1000, False, "sleep", (1000,))).result()
"""


@pytest.mark.parametrize(
    ("number", "forks", "last"),
    [
        (signal.SIGKILL, True, "hold_the_lock"),
        (signal.SIGKILL, False, "sleep"),
        (signal.SIGTERM, True, "hold_the_lock"),
        (signal.SIGINT, True, "hold_the_lock"),
        (signal.SIGINT, False, "hold_the_lock"),
    ],
)
def test_no_process_outlives_its_coordinator(number: signal.Signals, forks: bool, last: str) -> None:
    code = COORDINATOR.format(tests=str(Path(__file__).parents[1]), forks=forks, last=last)
    coordinator = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    pids = [int(pid) for pid in present(coordinator.stdout).readline().split()]
    assert len(pids) == 3
    time.sleep(0.2)
    family = descendants(coordinator.pid)
    assert len(family) >= 2
    coordinator.send_signal(number)
    present(coordinator.stdin).close()
    coordinator.wait(timeout=10)
    assert all(is_gone(pid) for pid in {*family, *pids} - {coordinator.pid})


def test_a_server_that_is_still_warming_up_ends_with_its_coordinator(tmp_path: Path) -> None:
    (tmp_path / "slow_role.py").write_text("import time; time.sleep(1000)")
    code = (
        f"import sys; sys.path += [{str(tmp_path)!r}, {str(Path(__file__).parents[1])!r}]\n"
        "from executor_role import Call\n"
        "from arena.tournament.config import Config\n"
        "from arena.tournament.executors.local import LocalExecutor\n"
        "executor = LocalExecutor(Config(), 1, 'slow_role')\n"
        "future = executor.submit(Call(1, False, 'echo'))\n"
        "print('submitted', flush=True)\n"
        "future.result()"
    )
    coordinator = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert present(coordinator.stdout).readline() == b"submitted\n"
    deadline = time.monotonic() + 10
    while not (family := descendants(coordinator.pid)) and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.3)
    coordinator.kill()
    coordinator.wait()
    assert family and all(is_gone(pid) for pid in family)


def test_a_dead_server_is_replaced(forked: Executor) -> None:
    server = answered(forked, "state")["server"]
    os.kill(server, signal.SIGKILL)
    is_gone(server)
    outcomes = [run(forked, "state") for _ in range(2)]
    assert isinstance(outcomes[-1], Answer) and outcomes[-1].value["server"] != server


def test_without_a_memory_limit_it_goes_on_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> NoReturn:
        raise ValueError("current limit exceeds maximum limit")

    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert child.limit_memory(8) == [
        "[run] memory has no effect: the system refuses the limit (current limit exceeds maximum limit)"
    ]
    monkeypatch.setitem(sys.modules, "resource", None)
    assert child.limit_memory(8) == ["[run] memory has no effect: this system has no such limit"]


def test_of_two_memory_limits_the_smaller_holds_and_is_said_once(capfd: pytest.CaptureFixture[str]) -> None:
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_DATA, (2**30, 2**30))\n"
        f"sys.path.append({str(Path(__file__).parents[1])!r})\n"
        "from executor_role import Call\n"
        "from arena.tournament.config import Config\n"
        "from arena.tournament.executors.local import LocalExecutor\n"
        "with LocalExecutor(Config(), 1, 'executor_role') as executor:\n"
        "    for _ in range(2):\n"
        "        print(executor.submit(Call(30, True, 'hoards', (False,))).result().reason)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    out, err = capfd.readouterr()
    assert out == "ran out of memory\nran out of memory\n"
    assert err == "arena: [run] memory: the system's own limit is lower, 1 GiB\n"


def test_the_server_is_clean_when_workers_are_forked(hostile_plugins: Path) -> None:
    """Neither threads, nor CUDA, nor a third party's plugin: the fork of such a process would not be sound."""
    code = (
        "import os, sys, torch\n"
        "from arena.tournament import worker\n"
        "worker.warm()\n"
        "print(len(os.listdir('/proc/self/task')), torch.cuda.is_initialized(), 'hostile_attacks' in sys.modules)"
    )
    env = environment.for_workers() | {"PYTHONPATH": os.pathsep.join([str(hostile_plugins), *sys.path])}
    ran = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert ran.stdout == "1 False False\n"
