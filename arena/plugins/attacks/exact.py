"""Gradient attacks on defenses that know their gradient exactly, where the paper had to estimate it."""

from __future__ import annotations

import arena


def exact(cls: type[arena.Attack]) -> type[arena.Attack]:
    """The attack `cls` for defenses with `gradient = "exact"`, to which it does not apply in Table 1 (blank cells)."""

    class Exact(cls):  # type: ignore[misc, valid-type]
        __doc__ = f"{cls.__name__} over exact gradients (envelope theorem): a query each, not two a value."
        name = f"{cls.name}-exact"

        @classmethod
        def applies_to(cls, defense: type[arena.Defense]) -> bool:
            return defense.gradient == "exact"

    return Exact
