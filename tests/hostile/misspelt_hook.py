"""A package whose hook arena does not know."""

import arena


@arena.hookimpl
def register_atacks(register):
    pass
