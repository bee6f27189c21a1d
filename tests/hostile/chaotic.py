"""An attack that hangs, or takes all memory, when somebody asks for it: the file `hang` or `hoard` in $ARENA_CHAOS."""

import mmap
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from torch import Generator, Tensor

import arena


def hang() -> NoReturn:
    while True:
        time.sleep(1)


def hoard() -> NoReturn:
    keep = []
    while True:
        keep.append(mmap.mmap(-1, 2**28, flags=mmap.MAP_PRIVATE))


class Chaotic(arena.Attack):
    """Inverts, after a while, so that there is a time to break something."""

    name, norm, access = "chaotic", "l2", "decision"

    def run(self, target: arena.Target, x: Tensor, y: Tensor, rng: Generator) -> Tensor:
        time.sleep(1)
        for misbehave in (hang, hoard):
            asked = Path(os.environ.get("ARENA_CHAOS", "."), misbehave.__name__)
            try:
                asked.unlink()  # one unit alone gets it
            except FileNotFoundError:
                continue
            misbehave()
        return 1 - x


@arena.hookimpl
def register_attacks(register: Callable[[type[arena.Attack]], None]) -> None:
    register(Chaotic)
