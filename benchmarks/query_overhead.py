"""The arena's own cost of a query: `target.scores` beside the bare `defense.scores` in the same run.

Aim: under 5 % of a CNN's forward pass at batch 100. Shown for queries that find nothing and for the worst case, in
which every row is an adversarial closer than any before.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from arena.data import load_data
from arena.geometry.norms import Norm
from arena.interface.contracts import Defense
from arena.interface.registry import load_defense
from arena.target.query_log import QueryLog
from arena.target.target import Target

BATCH = 100
ROUNDS = 200


def main() -> None:
    torch.set_num_threads(1)
    defense = load_defense("cnn")
    x, _ = load_data("mnist", "test")
    x = x[:BATCH]
    with torch.no_grad():
        y = defense.scores(x).argmax(1)
        bare = lambda: defense.scores(x)  # noqa: E731
        print(f"{'query of 100 images':<32} {'bare ms':>9} {'target ms':>10} {'overhead':>9}")
        cases: list[tuple[str, Tensor, Norm]] = [
            ("nothing found", y, "l2"),
            ("all adversarial, L2", (y + 1) % 10, "l2"),
            ("all adversarial, L0", (y + 1) % 10, "l0"),
        ]
        for title, labels, norm in cases:
            plain, counted = paired(bare, partial(fresh_target, defense, x, labels, norm))
            print(f"{title:<32} {plain * 1e3:>9.2f} {counted * 1e3:>10.2f} {counted / plain - 1:>8.1%}")


def fresh_target(defense: Defense, x: Tensor, labels: Tensor, norm: Norm) -> Callable[[], object]:
    """A query on a target that remembers nothing yet."""
    query_log = QueryLog(x, labels, norm)
    return lambda: Target(defense, query_log, "score").scores(x)


def paired(plain: Callable[[], object], prepare: Callable[[], Callable[[], object]]) -> tuple[float, float]:
    """Median seconds of both, measured in turns so that the machine's drift hits them alike."""
    times: tuple[list[float], list[float]] = ([], [])
    for round_ in range(ROUNDS):
        for which in (0, 1) if round_ % 2 else (1, 0):  # neither is always the one that finds the caches warm
            counted = prepare()  # a query_log is made, and kept, for both: it takes memory and the processor's caches
            call = counted if which else plain
            started = time.perf_counter()
            call()
            times[which].append(time.perf_counter() - started)
    return statistics.median(times[0]), statistics.median(times[1])


if __name__ == "__main__":
    main()
