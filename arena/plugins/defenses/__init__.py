"""The built-in defenses: one file each, registered like anyone's."""

from __future__ import annotations

from collections.abc import Callable

import arena
from arena.plugins.defenses.abs import ABS
from arena.plugins.defenses.binary_abs import BinaryABS
from arena.plugins.defenses.binary_cnn import BinaryCNN
from arena.plugins.defenses.cnn import CNN
from arena.plugins.defenses.madry import Madry
from arena.plugins.defenses.nearest_neighbor import NearestNeighbor
from arena.plugins.defenses.smoothed import SmoothedCNN


@arena.hookimpl
def register_defenses(register: Callable[[type[arena.Defense]], None]) -> None:
    for defense in (CNN, BinaryCNN, NearestNeighbor, Madry, BinaryABS, ABS, SmoothedCNN):
        register(defense)
