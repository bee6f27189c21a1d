"""The built-in lower bounds: one file each, registered like anyone's."""

from __future__ import annotations

from collections.abc import Callable

import arena
from arena.plugins.bounds.exact import Exact
from arena.plugins.bounds.joint import Joint
from arena.plugins.bounds.linear_relaxation import LinearRelaxation
from arena.plugins.bounds.lipschitz import Lipschitz
from arena.plugins.bounds.separate import Separate
from arena.plugins.bounds.smoothing import Smoothing


@arena.hookimpl
def register_bounds(register: Callable[[type[arena.Bound]], None]) -> None:
    for bound in (Exact, Joint, Lipschitz, LinearRelaxation, Separate, Smoothing):
        register(bound)
