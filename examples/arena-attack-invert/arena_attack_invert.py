import arena


class Invert(arena.Attack):
    """The negative of the image."""

    name, norm, access = "invert", "l2", "decision"

    def run(self, target, x, y, rng):
        return 1 - x


@arena.hookimpl
def register_attacks(register):
    register(Invert)
