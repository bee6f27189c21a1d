"""Tournaments on a Ray cluster, each with something that breaks: `make chaos ROUNDS=50 SEED=0`.

A round plays a small tournament on three nodes of this machine, into SQLite or PostgreSQL in turns, breaks one thing at
a random moment, heals the cluster, and gives the same command again. Then the rows must be those of an undisturbed run
on one machine, none lost and none twice, and no process of arena may be left. A line a round; exit code 1 if one fails.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from paths import ROOT
from plugin_packages import arena, install, package_of
from postgresql import Server
from processes import children, descendants
from ray_nodes import ThreeNodes, is_agent, rows_of, seen_by_nodes, wait_until
from stores import place_on_server

from arena.errors import UserError

SETTINGS = """
[tournament]
samples = 16
chunk = 4
timeout = 120
defenses = ["cnn"]
attacks = ["fgsm", "salt-and-pepper", "invert", "chaotic"]
[attack.salt-and-pepper]
restarts = 2
[attack.chaotic]
timeout = 20
[run]
memory = 4
[run.ray]
grace = 10
"""
ROWS = 4 * 16
STATUS = 6  # where `rows_of` has it
LATEST = 3 * ROWS // 4  # rows that are there when something breaks, at most
FREEZE = 60.0  # seconds: longer than the time-out of `chaotic` and the grace, and than Ray waits for a node
START, END = 120.0, 300.0  # seconds that the agents, and a disturbed command, may take
AT_WORK = 3 * 3  # an agent, its server of workers, a worker on each node


@dataclass
class Round:
    """What a disturbance can reach; `command` is the coordinator."""

    nodes: ThreeNodes
    server: Server | None
    folder: Path
    command: subprocess.Popen[str]
    chance: random.Random

    def workers(self) -> list[int]:
        """Process ids of what the agents' servers have forked."""
        servers = [pid for agent in self.nodes.agents() for pid in children(agent)]
        return [pid for server in servers for pid in children(server)]

    def one(self, pids: list[int]) -> int:
        """A victim; 0 if there is none."""
        return self.chance.choice(sorted(pids)) if pids else 0

    def raylet(self) -> int:
        """That of a node that is not the head."""
        return self.one(self.nodes.raylets()[1:])


def kill_worker(of: Round) -> None:
    _send(signal.SIGKILL, of.one(of.workers()))


def kill_server_of_workers(of: Round) -> None:
    _send(signal.SIGKILL, of.one([pid for agent in of.nodes.agents() for pid in children(agent)]))


def kill_agent(of: Round) -> None:
    _send(signal.SIGKILL, of.one(of.nodes.agents()))


def kill_raylet(of: Round) -> None:
    _send(signal.SIGKILL, of.raylet())


def kill_head(of: Round) -> None:
    _send(signal.SIGKILL, *of.nodes.head())


def kill_coordinator(of: Round) -> None:
    _send(signal.SIGKILL, of.command.pid)


def restart_postgresql(of: Round) -> None:
    assert of.server is not None
    of.server.restart()


def freeze_agent(of: Round) -> None:
    with _frozen(of.one(of.nodes.agents())):
        _wait(of, FREEZE)


def freeze_node(of: Round) -> None:
    raylet = of.raylet()
    with _frozen(raylet, *descendants(raylet)):
        _wait(of, FREEZE)


def deliver_late(of: Round) -> None:
    """An agent's node freezes until the agent is given up, and its jobs are out again; then it answers after all."""
    raylet = of.raylet()
    with _frozen(raylet, *(pid for pid in children(raylet) if is_agent(pid))):
        wait_until(lambda: of.command.poll() is not None or "is lost" in said(of), FREEZE)


def hang_unit(of: Round) -> None:
    (of.folder / "hang").touch()


def exhaust_memory(of: Round) -> None:
    (of.folder / "hoard").touch()


KINDS: list[Callable[[Round], None]] = [
    *(kill_worker, kill_server_of_workers, kill_agent, kill_raylet, kill_head, kill_coordinator, restart_postgresql),
    *(freeze_agent, freeze_node, deliver_late, hang_unit, exhaust_memory),
]


def _send(number: int, *pids: int) -> None:
    for pid in filter(None, pids):
        with suppress(ProcessLookupError):
            os.kill(pid, number)


@contextmanager
def _frozen(*pids: int) -> Iterator[None]:
    _send(signal.SIGSTOP, *pids)
    try:
        yield
    finally:
        _send(signal.SIGCONT, *pids)


def _wait(of: Round, seconds: float) -> None:
    with suppress(subprocess.TimeoutExpired):
        of.command.wait(seconds)


def said(of: Round) -> str:
    """What the coordinator has said so far."""
    return (of.folder / "said").read_text(errors="replace")


def left_behind(folder: Path) -> list[int]:
    """Process ids of arena's agents, workers and commands of this run."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (entry / "cmdline").read_bytes()
            ours = f"ARENA_CHAOS={folder}".encode() in (entry / "environ").read_bytes()
            if ours and (b"ray::Agent" in command or b"arena.tournament" in command or b"-m\0arena" in command):
                found.append(int(entry.name))
    return found


def settled(url: str) -> int:
    """How many rows are there, errors apart."""
    try:
        return sum(row[STATUS] != "error" for row in rows_of(url))
    except UserError:  # the coordinator has not made it yet, or the server starts
        return 0


def play(
    disturb: Callable[[Round], None], url: str, nodes: ThreeNodes, server: Server | None, folder: Path, seed: str
) -> str:
    """Play a round; returns how it went. Raises AssertionError for what must not be."""
    chance, options = random.Random(seed), ["--executor", "ray", "--db", url, "--address"]
    with (folder / "said").open("w") as file:
        run = [sys.executable, "-m", "arena", "run", "--quiet", *options, nodes.address]
        command = subprocess.Popen(run, cwd=folder, stdout=file, stderr=file, text=True)
    of = Round(nodes, server, folder, command, chance)

    def at_work() -> bool:
        return sum(1 + len(descendants(agent)) for agent in nodes.agents()) >= AT_WORK or command.poll() is not None

    try:
        wait_until(at_work, START)
        moment = chance.randrange(LATEST)
        wait_until(lambda: settled(url) >= moment or command.poll() is not None, END)
        rows = settled(url)
        disturb(of)
        _wait(of, END)
        assert command.poll() is not None, f"it does not end: {said(of)[-2000:]}"
    finally:
        command.kill()
        command.wait()
    missed = [asked for asked in (folder / "hang", folder / "hoard") if asked.exists()]
    for unmet in missed:
        unmet.unlink()
    assert "Traceback" not in said(of), said(of)
    nodes.heal()
    again = arena("run", *options, nodes.address, plugins="", cwd=folder, timeout=END)
    assert again.returncode == 0, f"again: {again.returncode} {again.stderr}"
    assert wait_until(lambda: not left_behind(folder), 30), f"processes are left: {left_behind(folder)}"
    last = (said(of).strip().splitlines() or ["nothing said"])[-1]
    met = ", which met no unit" if missed else ""
    return f"at {rows} of {ROWS} rows{met}, exit code {command.returncode}: {last[:100]}"


@contextmanager
def ready(folder: Path) -> Iterator[Server | None]:
    """The settings, the plugins and the environment of all rounds; the server, where there is one."""
    (folder / "arena.toml").write_text(SETTINGS)
    (folder / "packages").mkdir()
    chaotic = package_of("chaotic", folder / "packages")
    plugins = install(folder / "site", ROOT / "examples" / "arena-attack-invert", chaotic)
    with seen_by_nodes(plugins, ROOT), pytest.MonkeyPatch.context() as patch, Server.started() as server:
        patch.setenv("ARENA_CHAOS", str(folder))
        if server is None:
            print("no PostgreSQL server can be started: SQLite alone")
        else:
            patch.setenv("ARENA_TEST_POSTGRESQL", server.url)
        yield server


def play_all(kinds: list[Callable[[Round], None]], rounds: int, seed: int, server: Server | None, folder: Path) -> int:
    """Play so many rounds, of each kind in turn, a line each; returns how many failed."""
    undisturbed = arena("run", "--db", f"sqlite:///{folder}/local.db", plugins="", cwd=folder)
    assert undisturbed.returncode == 0, undisturbed.stderr
    expected = rows_of(f"sqlite:///{folder}/local.db")
    assert len(expected) == ROWS
    failed = 0
    with ThreeNodes() as nodes:
        for number in range(rounds):
            disturb, started = kinds[number % len(kinds)], time.monotonic()
            served = server is not None and (disturb is restart_postgresql or (number + number // len(kinds)) % 2 == 1)
            verdict, where = "ok", "PostgreSQL" if served else "SQLite"
            with place_on_server() if served else nullcontext(f"sqlite:///{folder}/{number}.db") as url:
                try:
                    how = play(disturb, url, nodes, server, folder, f"{seed}/{number}")
                    assert rows_of(url) == expected, "other rows"
                except Exception as failure:  # whatever it is, the next round is played
                    verdict, how, failed = "FAILED", f"{type(failure).__name__}: {failure}", failed + 1
                    nodes.renew()
            seconds = time.monotonic() - started
            print(f"{number} {disturb.__name__}, {where}: {verdict}, {seconds:.0f} s, {how}", flush=True)
    assert wait_until(lambda: not left_behind(folder), 30), f"processes are left: {left_behind(folder)}"
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description="Break something in each of many tournaments on a Ray cluster.")
    parser.add_argument("--rounds", type=int, default=len(KINDS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", action="append", choices=[kind.__name__ for kind in KINDS], help="these alone")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # in order: nodes and server end
    with tempfile.TemporaryDirectory(prefix="chaos-") as name, ready(Path(name)) as server:
        kinds = [kind for kind in KINDS if not asked.kind or kind.__name__ in asked.kind]
        kinds = [kind for kind in kinds if server is not None or kind is not restart_postgresql]
        failed = play_all(kinds, asked.rounds, asked.seed, server, Path(name))
    print(f"{asked.rounds} rounds, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
