"""A package that registers what is no attack."""

from collections.abc import Callable

import arena


class NotAnAttack:
    name, norm, access = "not-an-attack", "l2", "decision"


@arena.hookimpl
def register_attacks(register: Callable[[type[arena.Attack]], None]) -> None:
    register(NotAnAttack)  # type: ignore[arg-type]
