"""A package whose hook arena does not know."""

from collections.abc import Callable

import arena


@arena.hookimpl
def register_atacks(register: Callable[[type[arena.Attack]], None]) -> None:
    pass
