"""The whole extension surface: a plugin module implements one or more hooks (entry-point group `arena`)."""

from __future__ import annotations

from collections.abc import Callable

import pluggy

from arena.interface.contracts import Attack, Bound, Defense
from arena.interface.dataset import Dataset

hookspec = pluggy.HookspecMarker("arena")


@hookspec
def register_defenses(register: Callable[[type[Defense]], None]) -> None:
    """Call `register(cls)` for each defense class."""


@hookspec
def register_attacks(register: Callable[[type[Attack]], None]) -> None:
    """Call `register(cls)` for each attack class."""


@hookspec
def register_bounds(register: Callable[[type[Bound]], None]) -> None:
    """Call `register(cls)` for each class of lower bounds."""


@hookspec
def register_datasets(register: Callable[[Dataset], None]) -> None:
    """Call `register(dataset)` for each data set, an instance: it reads nothing before it is asked."""
