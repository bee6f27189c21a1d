"""Conformance of what is installed: the plugin is looked up as the tournament does."""

from __future__ import annotations

from arena.errors import UserError
from arena.interface.registry import find_any, load_attack, load_defense
from arena.testing.attacks import check_attack
from arena.testing.defenses import check_defense
from arena.testing.report import Report


def check_plugin(name: str, factor: float | None = None) -> Report:
    """Check the installed attack or defense of that name, with its default settings; factor: as for `check_attack`.

    Raises UserError if there is none, if two packages claim the name, or if its weights cannot be loaded.
    """
    if find_any(name)[0].kind == "attack":
        return check_attack(load_attack(name), factor=factor)
    if factor is not None:
        raise UserError(f"--factor: {name} is a defense; only an attack has a distance from the optimum")
    return check_defense(load_defense(name))
