"""Conformance of what is installed: the plugin is looked up as the tournament does."""

from __future__ import annotations

from typing import Any

from arena.errors import UserError
from arena.interface.registry import find_any, load_attack, load_bound, load_defense
from arena.testing.attacks import check_attack
from arena.testing.bounds import check_bound
from arena.testing.defenses import check_defense
from arena.testing.report import Report


def check_plugin(name: str, factor: float | None = None, **limits: Any) -> Report:
    """Check the installed attack, defense or lower bound of that name, with its default settings.

    factor, and the limits timeout and budget: as for `check_attack`; None stands for its default. Raises UserError if
    there is none of that name, if two packages claim it, or if its weights cannot be loaded.
    """
    given = {key: value for key, value in {"factor": factor, **limits}.items() if value is not None}
    kind = find_any(name)[0].kind
    if kind == "attack":
        return check_attack(load_attack(name), **given)
    if given:
        raise UserError(f"--{next(iter(given))}: {name} is a {kind}; the option is for attacks, leave it out")
    return check_bound(load_bound(name)) if kind == "bound" else check_defense(load_defense(name))
