"""Tournaments played as their users play them: by the command line, in processes of their own, killed and resumed."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from plugin_packages import arena

from arena.tournament.plan import job_seed

SETTINGS = """
[tournament]
samples = 12
chunk = 4
defenses = ["cnn", "binary-cnn"]
attacks = ["gaussian-noise", "fgsm", "pointwise-l0"]
[attack.gaussian-noise]
restarts = 2
epsilons = 20
[attack.pointwise-l0]
restarts = 1
samples = 4
"""

ROWS = """
select defense.name, attack.name, sample, label, clean_label, adversarial_label, result.status, distance, l0, l2, linf,
       margin, queries, gradient_queries, best_query, adversarial, reason
from result join match on match.id = match_id join defense on defense.id = defense_id
     join attack on attack.id = attack_id
order by 1, 2, 3
"""
Rows = list[tuple[Any, ...]]
EXPECTED = 2 * (12 + 12 + 4)


def rows_of(folder: Path) -> Rows:
    """Every stored row but for the seconds it took; refuses a damaged file."""
    with sqlite3.connect(folder / "arena.db") as database:
        assert database.execute("pragma integrity_check").fetchone() == ("ok",)
        return database.execute(ROWS).fetchall()


def settings(folder: Path, text: str = SETTINGS) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "arena.toml").write_text(text)
    return folder


def run(folder: Path, *arguments: object, plugins: Path | str = "") -> subprocess.CompletedProcess[str]:
    return arena("run", *arguments, plugins=plugins, cwd=folder)


of_the_uninterrupted = pytest.mark.xdist_group("uninterrupted")  # which is played once


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """The rows of a tournament played in one go by one worker."""
    folder = settings(tmp_path_factory.mktemp("uninterrupted"))
    played = run(folder, "--workers", 1)
    assert played.returncode == 0, played.stderr
    rows = rows_of(folder)
    assert len(rows) == EXPECTED
    return rows


@of_the_uninterrupted
def test_one_and_two_workers_give_the_same_rows(uninterrupted: Rows, tmp_path: Path) -> None:
    played = run(settings(tmp_path), "--workers", 2)
    assert played.returncode == 0, played.stderr
    assert rows_of(tmp_path) == uninterrupted


@of_the_uninterrupted
@pytest.mark.parametrize("seed", [1, 2])
def test_after_kill_9_at_any_moment_the_rows_are_those_of_an_uninterrupted_run(
    uninterrupted: Rows, tmp_path: Path, seed: int
) -> None:
    settings(tmp_path)
    moments = random.Random(seed)
    command = [sys.executable, "-c", "from arena.cli import main; main()", "run", "--workers", "2", "--quiet"]
    for _ in range(3):
        process = subprocess.Popen(command, cwd=tmp_path)
        deadline = time.monotonic() + 60
        while not (tmp_path / "arena.db").exists() and time.monotonic() < deadline:
            time.sleep(0.02)  # before that there is nothing to lose
        time.sleep(moments.uniform(0, 2.5))
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert run(tmp_path, "--workers", 2).returncode == 0
    assert rows_of(tmp_path) == uninterrupted


@of_the_uninterrupted
def test_ctrl_c_stops_at_once_and_keeps_what_was_played(uninterrupted: Rows, tmp_path: Path) -> None:
    settings(tmp_path, SETTINGS.replace("restarts = 1", "restarts = 10_000"))  # it does not end by itself
    command = [sys.executable, "-c", "from arena.cli import main; main()", "run", "--workers", "2"]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )
    while not has_rows(tmp_path) and process.poll() is None:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130 and "the same command goes on from there" in err and "Traceback" not in err
    assert len(rows_of(tmp_path)) > 0 and set(rows_of(tmp_path)) <= set(uninterrupted)


def has_rows(folder: Path) -> bool:
    try:
        with sqlite3.connect(f"file:{folder / 'arena.db'}?mode=ro", uri=True) as database:
            return database.execute("select count(*) from result").fetchone()[0] > 0
    except sqlite3.OperationalError:  # there is no file yet, or no table in it
        return False


@of_the_uninterrupted
def test_only_what_is_missing_is_played(uninterrupted: Rows, tmp_path: Path) -> None:
    folder = settings(tmp_path)
    assert run(folder, "--samples", 4, "--defense", "cnn").returncode == 0
    first = dict(sqlite3.connect(folder / "arena.db").execute("select match_id || '/' || sample, seconds from result"))
    assert len(first) == 3 * 4
    more = run(folder)
    assert more.returncode == 0 and "12 samples already settled" in more.stderr
    assert rows_of(folder) == uninterrupted
    after = dict(sqlite3.connect(folder / "arena.db").execute("select match_id || '/' || sample, seconds from result"))
    assert first.items() <= after.items()  # not played again
    again = run(folder)
    assert again.returncode == 0 and "0 jobs to play" in again.stderr


@of_the_uninterrupted
def test_another_seed_is_another_tournament(uninterrupted: Rows, tmp_path: Path) -> None:
    assert run(settings(tmp_path), "--seed", 1, "--attack", "gaussian-noise", "--defense", "cnn").returncode == 0
    noise = [row for row in uninterrupted if row[:2] == ("cnn", "gaussian-noise")]
    assert [row[7] for row in rows_of(tmp_path)] != [row[7] for row in noise]


def test_seeds_differ_between_all_jobs() -> None:
    seeds = {job_seed(*job) for job in [(0, "a", "b", 0), (1, "a", "b", 0), (0, "b", "a", 0), (0, "a", "b", 10)]}
    assert len(seeds) == 4 and all(0 <= seed < 2**63 for seed in seeds)


HOSTILE_SETTINGS = """
[tournament]
samples = 4
chunk = 4
timeout = 10
budget = 50
defenses = [{defenses}]
attacks = [{attacks}]
[attack.fgsm]
budget = 5000
[run]
memory = 3
"""


def hostile(attacks: Iterable[str], defenses: Iterable[str] = ("cnn",)) -> str:
    """A settings file in which these meet."""
    return HOSTILE_SETTINGS.format(attacks=str(list(attacks))[1:-1], defenses=str(list(defenses))[1:-1])


# attack -> the statuses it may leave and a word of the reason that is reported
HOSTILE = {
    "returns-nan": ("rejected", "not finite"),
    "out-of-box": ("rejected", "box"),
    "wrong-shape": ("error", "returned torch.float32 (4, 1, 27, 28)"),
    "wrong-dtype": ("error", "returned torch.int64"),
    "no-tensor": ("error", "NoneType"),
    "clean-image": ("not_found", None),
    "claims-success": ("not_found", "correctly"),
    "mutates-images": ("error", "modified its input"),
    "mutates-labels": ("error", "modified its input"),
    "raises": ("error", "always fails"),
    "raises-exit": ("error", "SystemExit"),
    "raises-interrupt": ("error", "KeyboardInterrupt"),
    "hangs": ("error", "timed out after 10 s"),
    "hangs-deaf": ("error", "timed out after 10 s"),
    "hangs-in-c": ("error", "timed out after 10 s"),
    "exits": ("error", "exit code 3"),
    "segfaults": ("error", "signal 11"),
    "exhausts-budget": ("not_found", None),
    "ignores-budget": ("error", "timed out after 10 s"),
    "asks-gradient": ("error", "AccessDenied"),
    "hogs-memory": ("error", "memory"),
}


def test_a_hostile_attack_costs_its_own_unit_and_is_reported(hostile_plugins: Path, tmp_path: Path) -> None:
    settings(tmp_path, hostile([*HOSTILE, "fgsm"]))
    played = run(tmp_path, "--workers", 2, plugins=hostile_plugins)
    assert played.returncode == 1 and "Traceback" not in played.stderr
    outcomes: dict[str, list[tuple[Any, ...]]] = {}
    for row in rows_of(tmp_path):
        outcomes.setdefault(row[1], []).append((row[6], row[-1]))
    for name, (status, reason) in HOSTILE.items():
        assert [found for found, _ in outcomes[name]] == [status] * 4, name
        assert reason is None or all(reason in found for _, found in outcomes[name]), (name, outcomes[name])
        assert (f"failed: {name} against cnn" in played.stderr) == (status == "error")
    assert [status for status, _ in outcomes["fgsm"]] == ["found"] * 4


def test_a_hostile_defense_costs_its_own_units(hostile_plugins: Path, tmp_path: Path) -> None:
    settings(tmp_path, hostile(["fgsm"], ["cnn", "nan-scores", "wrong-shape-scores", "raises-at-load", "bright"]))
    played = run(tmp_path, "--workers", 2, plugins=hostile_plugins)
    assert played.returncode == 1 and "Traceback" not in played.stderr
    assert "failed: raises-at-load: cannot be loaded: RuntimeError: this defense never loads" in played.stderr
    assert "failed: nan-scores: defense nan-scores returned scores that are not finite" in played.stderr
    assert "failed: wrong-shape-scores: defense wrong-shape-scores returned scores of shape" in played.stderr
    assert {row[0] for row in rows_of(tmp_path)} == {"cnn", "bright"}


def test_a_pre_flight_warns_before_a_defense_is_played(hostile_plugins: Path, tmp_path: Path) -> None:
    settings(tmp_path, hostile(["clean-image"], ["cnn", "random-scores", "batch-coupled"]))
    played = run(tmp_path, plugins=hostile_plugins)
    assert played.returncode == 0
    assert "warning: defense random-scores gives two answers to one question" in played.stderr
    assert "warning: defense batch-coupled answers differently for an image alone and among others" in played.stderr
    assert "warning: defense cnn" not in played.stderr


def test_what_a_plugin_does_to_its_process_ends_with_its_unit(hostile_plugins: Path, tmp_path: Path) -> None:
    settings(tmp_path, hostile(["seeds-global", "patches-torch", "remembers", "clean-image", "fgsm"]))
    assert run(tmp_path, "--workers", 1, plugins=hostile_plugins).returncode == 0
    labels = {(row[2], row[4]) for row in rows_of(tmp_path) if row[1] != "patches-torch"}
    assert len(labels) == 4  # one decision for each clean sample, whoever came before
    assert {row[6] for row in rows_of(tmp_path) if row[1] == "remembers"} == {"not_found"}
    lied = arena("verify", plugins=hostile_plugins, cwd=tmp_path)
    assert lied.returncode == 1 and all("patches-torch" in line for line in lied.stdout.splitlines()[:-1])


def test_what_failed_is_played_again(hostile_plugins: Path, tmp_path: Path) -> None:
    settings(tmp_path, hostile(["exits", "clean-image"]))
    assert run(tmp_path, plugins=hostile_plugins).returncode == 1
    again = run(tmp_path, plugins=hostile_plugins)
    assert again.returncode == 1 and "1 job to play" in again.stderr
    assert len(rows_of(tmp_path)) == 8
