"""The paper's figures from a store alone; what the store does not have is said in them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from arena.errors import UserError
from arena.reporting.figures.curves import figure2, figure_queries
from arena.reporting.figures.data import FigureData
from arena.reporting.figures.distributions import figure8
from arena.reporting.figures.galleries import figure3, figure4, figure_quantiles
from arena.reporting.figures.style import RC, save
from arena.store.store import Store

__all__ = ["FigureData", "figures_of", "write_figures"]


def write_figures(store: Store, out: Path, formats: Sequence[str] = ("png", "svg"), seed: int = 0) -> list[Path]:
    """Draw every figure into the folder `out`; returns the files. seed: which samples the galleries show.

    The same store and seed give the same bytes, by one version of matplotlib.

    Raises UserError where nothing was played, for a stored image that cannot be read, or if `out` cannot be written.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: that is a file: name a folder")
    files = []
    with store.reading() as connection:
        evidence = FigureData(connection)
        for name, draw in figures_of(evidence, seed).items():
            with matplotlib.rc_context(RC):
                figure = draw()
                for form in formats:
                    files.append(out / f"{name}.{form}")
                    save(figure, files[-1], form)
    return files


def figures_of(evidence: FigureData, seed: int) -> dict[str, Callable[[], Figure]]:
    """What draws each figure, by the name of its file."""
    drawn: dict[str, Callable[[], Figure]] = {
        "figure2-accuracy": partial(figure2, evidence),
        "figure3-gallery": partial(figure3, evidence, seed),
        "figure4-distal": partial(figure4, evidence),
        "figure5-quantiles-l0": partial(figure_quantiles, evidence, "l0", seed),
        "figure6-quantiles-l2": partial(figure_quantiles, evidence, "l2", seed),
        "figure7-quantiles-linf": partial(figure_quantiles, evidence, "linf", seed),
        "figure8-distributions": partial(figure8, evidence),
    }
    for defense in evidence.defenses:
        drawn[f"queries-{re.sub(r'[^A-Za-z0-9._-]', '_', defense)}"] = partial(figure_queries, evidence, defense)
    return drawn
