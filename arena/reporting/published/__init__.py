"""Table 1 of the paper, to print beside what was measured here.

Schott, Rauber, Bethge and Brendel, "Towards the first adversarially robust neural network model on MNIST", ICLR 2019.
"""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from arena.geometry.norms import Norm


class Cell(NamedTuple):
    """Median distance (maybe infinite) and accuracy, a share, at the threshold of the norm; None for a blank cell."""

    median_distance: float | None
    accuracy: float | None


BLANK = Cell(None, None)


class Row(NamedTuple):
    """A row: its norm, its attack ("all": the minimum of the norm) and what the paper calls it."""

    norm: Norm
    attack: str
    name: str


DATASET = "mnist"  # what the paper's numbers are of

# The columns in the paper's order.
DEFENSES = {
    "cnn": "CNN",
    "binary-cnn": "Binary CNN",
    "nearest-neighbor": "Nearest Neighbor",
    "madry": "Madry et al.",
    "binary-abs": "Binary ABS",
    "abs": "ABS",
}


@cache
def table1() -> dict[tuple[Norm, str, str], Cell]:
    """The cells by (norm, attack, defense), "all" among the attacks; blank ones are missing."""
    return {
        (line["norm"], line["attack"], line["defense"]): Cell(float(line["median_distance"]), _accuracy(line))
        for line in _lines()
        if line["norm"] != "clean"
    }


@cache
def table1_rows() -> list[Row]:
    """The rows in the paper's order; the one without an attack is not among them."""
    rows = [Row(line["norm"], line["attack"], line["paper_row"]) for line in _lines() if line["norm"] != "clean"]
    return list(dict.fromkeys(rows))


@cache
def clean_accuracies() -> dict[str, float]:
    """Accuracy of each defense without an attack, a share."""
    return {line["defense"]: _accuracy(line) for line in _lines() if line["norm"] == "clean"}


def _accuracy(line: dict[str, Any]) -> float:
    return round(float(line["accuracy_percent"]) / 100, 4)


@cache
def _lines() -> list[dict[str, Any]]:
    with Path(__file__).with_name("table1.csv").open(encoding="ascii", newline="") as file:
        return list(csv.DictReader(file))
