"""A package that registers what is no attack."""

import arena


class NotAnAttack:
    name, norm, access = "not-an-attack", "l2", "decision"


@arena.hookimpl
def register_attacks(register):
    register(NotAnAttack)
