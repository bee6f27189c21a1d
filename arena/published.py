"""Table 1 of the paper, to print beside what was measured here.

Schott, Rauber, Bethge and Brendel, "Towards the first adversarially robust neural network model on MNIST", ICLR 2019.
"""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path
from typing import NamedTuple


class Cell(NamedTuple):
    """Median distance (maybe infinite) and accuracy, a share, at the threshold of the norm; None for a blank cell."""

    median_distance: float | None
    accuracy: float | None


BLANK = Cell(None, None)


@cache
def table1() -> dict[tuple[str, str, str], Cell]:
    """The cells by (norm, attack, defense), "all" among the attacks; blank ones are missing."""
    with (Path(__file__).parent / "published" / "table1.csv").open(encoding="ascii", newline="") as file:
        return {
            (row["norm"], row["attack"], row["defense"]): Cell(
                float(row["median_distance"]), float(row["accuracy_percent"]) / 100
            )
            for row in csv.DictReader(file)
            if row["norm"] != "clean"  # accuracies without an attack
        }
