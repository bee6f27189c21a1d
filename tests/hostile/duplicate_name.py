"""A package that claims the name of a built-in attack."""

import arena


class Impostor(arena.Attack):
    name, norm, access = "boundary", "l2", "decision"

    def run(self, target, x, y, rng):
        return 1 - x


@arena.hookimpl
def register_attacks(register):
    register(Impostor)
