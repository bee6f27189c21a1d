"""What runs inside a worker process: it alone imports torch and plugins, so a plugin can harm only its own unit."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sys
import threading
import traceback
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import wait

import torch

from arena import data
from arena.errors import UserError
from arena.evaluation import referee as match
from arena.interface.contracts import Attack, Defense
from arena.interface.devices import resolve_device
from arena.interface.registry import load_attack, load_defense, registry
from arena.interface.results import Identity, Record
from arena.tournament.config import Config

_config = Config()


@dataclass(frozen=True)
class Unit:
    """One chunk of one match: what a worker plays, and what commits whole or not at all."""

    defense: str
    attack: str
    match_id: int
    samples: tuple[int, ...]
    seed: int
    budget: int | None
    timeout: float
    foreign: bool  # a plugin of another package takes part


@dataclass(frozen=True)
class Field:
    """The field of a tournament: dataset hash and labels, and who may play."""

    data_hash: str
    labels: tuple[int, ...]
    defenses: tuple[str, ...]
    attacks: tuple[str, ...]
    pairs: frozenset[tuple[str, str]]  # (defense, attack) where the attack applies
    problems: tuple[str, ...]


def initialize(config: Config) -> None:
    """Set a fresh worker up: it ignores Ctrl-C, dies with its coordinator and cannot take all the memory."""
    global _config
    _config = config
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what plugins print must not mix with results
    torch.set_num_threads(1)  # equal sums, hence equal rows, whatever the number of workers
    torch.backends.cudnn.deterministic = True
    if config.run.device == "cpu" or not torch.cuda.is_available():  # CUDA reserves address space beyond any limit
        limit = int(config.run.memory * 2**30)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def gather_field() -> Field:
    """Load dataset and registry and decide who plays whom; raises UserError for names that cannot be had."""
    tournament, found = _config.tournament, registry()
    resolve_device(_config.run.device)
    x, y = _dataset()
    if tournament.samples > len(x):
        split = f"the {tournament.split} split of {tournament.dataset}"
        raise UserError(f"samples = {tournament.samples}: {split} has {len(x)}")
    defenses = tuple(found.names("defense")) if tournament.defenses == "all" else tournament.defenses
    attacks = tuple(found.names("attack")) if tournament.attacks == "all" else tournament.attacks
    for name, section in _config.defense.items():
        found.find("defense", name)
        for attack in section.attacks if section.attacks != "all" else ():
            found.find("attack", attack)
    for name in _config.attack:
        found.find("attack", name)
    pairs = frozenset(
        (defense, attack)
        for defense in defenses
        for attack in attacks
        if _config.for_defense(defense).attacks == "all" or attack in _config.for_defense(defense).attacks
        if found.find("attack", attack).cls.applies_to(found.find("defense", defense).cls)
    )
    problems = tuple(f"{problem.package}: {problem.reason}" for problem in found.problems)
    labels = tuple(y[: tournament.samples].tolist())
    return Field(data.data_hash(tournament.dataset, tournament.split), labels, defenses, attacks, pairs, problems)


def identify_attack(name: str) -> Identity:
    """The attack's identity under the configured settings."""
    return load_attack(name, **_config.for_attack(name).own).identity


def identify_defense(name: str) -> Identity:
    """The defense's identity under the configured weights and settings."""
    return _defense(name).identity


def play_unit(unit: Unit) -> tuple[list[Record], str | None]:
    """Play one unit: its records, or a traceback if a plugin failed in any way that left this process alive."""
    try:
        x, y = _dataset()
        rows = list(unit.samples)
        attack: Attack = load_attack(unit.attack, **_config.for_attack(unit.attack).own)
        records = match.play(
            _defense(unit.defense), attack, x[rows], y[rows], seed=unit.seed, budget=unit.budget, samples=rows
        )
    except BaseException:  # a plugin may raise anything, SystemExit and KeyboardInterrupt too
        return [], traceback.format_exc()
    return records, None


@cache
def _defense(name: str) -> Defense:
    section = _config.for_defense(name)
    return load_defense(name, weights=section.weights, device=_config.run.device, **section.own)


@cache
def _dataset() -> tuple[torch.Tensor, torch.Tensor]:
    return data.load_data(_config.tournament.dataset, _config.tournament.split)


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
