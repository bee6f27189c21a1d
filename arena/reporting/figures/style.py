"""How all figures look: readable in grey and by the colour-blind, the same bytes from the same store."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from arena.errors import visible
from arena.files import write_atomically
from arena.geometry.norms import NORMS, Norm, spec_of

RC: Any = {
    "svg.hashsalt": "arena",  # else identifiers are random
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.3,
    "lines.markersize": 4,
    "legend.frameon": False,
}
DPI = 200

# Okabe and Ito 2008, "Color universal design", without its yellow, which white paper swallows.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "X", "P", "*")
DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))

PAPER_NORMS: tuple[Norm, ...] = ("l2", "linf", "l0")  # in its order
NORM_LABELS: dict[Norm, str] = {norm: spec_of(norm).latex for norm in NORMS}


def look(index: int) -> dict[str, Any]:
    """Colour and marker of the curve with this number: no two of the first 56 share both."""
    return {"color": COLORS[index % len(COLORS)], "marker": MARKERS[index % len(MARKERS)]}


def plain(name: str) -> str:
    """A name of a plugin, safe from what matplotlib makes of dollars and of a leading underscore."""
    return (" " if name.startswith("_") else "") + visible(name).replace("$", r"\$")


def say(ax: Axes, text: str) -> None:
    """Write across an empty panel why it is empty."""
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", color="0.35", wrap=True)


def remark(ax: Axes, text: str) -> None:
    """Write below the axis what is missing in a panel."""
    ax.set_xlabel(f"{ax.get_xlabel()}\n({text})")


def save(figure: Figure, path: Path, form: str) -> None:
    """Write the figure as `form`, png or svg; raises UserError if that fails."""
    content = io.BytesIO()
    undated = {"Software": None} if form == "png" else {"Date": None}
    figure.savefig(content, format=form, dpi=DPI, bbox_inches="tight", metadata=undated)
    write_atomically(path, content.getvalue())
