"""Distributions of minimal distances (Figure 8 of the paper)."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from arena.geometry.norms import Norm, spec_of
from arena.reporting.curves import chart_width
from arena.reporting.figures.data import FigureData
from arena.reporting.figures.style import NORM_LABELS, look, plain, say

BINS = 40


def figure8(evidence: FigureData) -> Figure:
    """A histogram of minimal distances for each defense and norm, with its median; what it cannot show is written."""
    figure = Figure(figsize=(10, 0.8 + 0.6 * len(evidence.defenses)), layout="constrained")
    for ax, norm in zip(figure.subplots(1, len(evidence.norms), sharey=True), evidence.norms, strict=True):
        _panel(ax, evidence, norm)
    figure.axes[0].set_yticks(range(len(evidence.defenses)), [plain(name) for name in reversed(evidence.defenses)])
    return figure


def _panel(ax: Axes, evidence: FigureData, norm: Norm) -> None:
    epsilon, closest = evidence.epsilons.get(norm), evidence.of_norm(norm)
    ax.set(xlabel=f"{NORM_LABELS[norm]} distance", ylim=(-0.1, len(evidence.defenses)))
    ax.tick_params(left=False)
    if not closest:
        return say(ax, f"no {NORM_LABELS[norm]} results stored:\nrun `arena run`")
    width = chart_width(np.concatenate([found.distances for found in closest.values()]), epsilon)
    edges = _edges(norm, width)
    ax.set_xlim(0, edges[-1])
    if epsilon is not None:
        ax.axvline(epsilon, color="0.4", linewidth=0.8, linestyle=":")
    for index, name in enumerate(evidence.defenses):
        base = len(evidence.defenses) - 1 - index
        if name in closest:
            _ridge(ax, closest[name].distances, edges, base, look(index)["color"])
        else:
            ax.text(0.98 * edges[-1], base + 0.1, "no results stored", ha="right", fontsize=6, color="0.35")


def _edges(norm: Norm, width: float) -> np.ndarray:
    """Edges of the bins; those of L0 hold whole numbers of pixels, all as many."""
    if not spec_of(norm).counts:
        return np.linspace(0, width, BINS + 1)
    pixels = max(1, round(width / BINS))
    return np.arange(0.5, width + pixels + 0.5, pixels)


def _ridge(ax: Axes, distances: np.ndarray, edges: np.ndarray, base: float, color: str) -> None:
    counts, _ = np.histogram(distances[distances > 0], edges)
    heights = base + 0.7 * counts / max(counts.max(), 1)
    ax.stairs(heights, edges, baseline=base, fill=True, color=color, alpha=0.35)
    ax.stairs(heights, edges, baseline=base, color=color, linewidth=0.8)
    measured = distances[~np.isnan(distances)]
    median = float(np.median(measured)) if len(measured) else np.nan
    if median <= edges[-1]:
        ax.plot([median, median], [base, base + 0.75], color="black", linewidth=1.6)
    shares = {
        "misclassified": np.mean(distances == 0),
        "off the chart": np.mean((distances > edges[-1]) & np.isfinite(distances)),
        "not found": np.mean(np.isinf(distances)),
        "unstable": np.mean(np.isnan(distances)),
    }
    said = [
        f"{len(distances)} samples, median {median:.3g}",
        *(f"{share:.0%} {what}" for what, share in shares.items() if share),
    ]
    ax.text(edges[-1], base + 0.87, ", ".join(said), ha="right", va="center", fontsize=6)
