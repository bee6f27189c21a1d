"""Curves: accuracy against distance (Figure 2 of the paper) and distance against queries."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from arena.geometry.norms import Norm
from arena.reporting.curves import accuracy_curve, chart_width
from arena.reporting.figures.data import FigureData
from arena.reporting.figures.style import DASHES, NORM_LABELS, look, plain, remark, say
from arena.store.intervals import of_shares

THRESHOLD = "_threshold"  # matplotlib keeps such labels out of legends


def figure2(evidence: FigureData) -> Figure:
    """Accuracy against the size of perturbations, all defenses in each norm; lower bounds as dashed curves.

    Around each curve its 95 % intervals, at each size for itself.
    """
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    for ax, norm in zip(figure.subplots(1, len(evidence.norms), sharey=True), evidence.norms, strict=True):
        _accuracy_panel(ax, evidence, norm)
    figure.axes[0].set_ylabel("accuracy")
    named = {str(line.get_label()): line for ax in figure.axes for line in ax.get_lines()}
    handles = [line for name, line in sorted(named.items()) if name != THRESHOLD]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 7) or 1)
    return figure


def _accuracy_panel(ax: Axes, evidence: FigureData, norm: Norm) -> None:
    epsilon, closest = evidence.epsilons.get(norm), evidence.of_norm(norm)
    ax.set(xlabel=f"{NORM_LABELS[norm]} distance", ylim=(0, 1.02))
    if not closest:
        return say(ax, f"no {NORM_LABELS[norm]} results stored:\nrun `arena run`")
    width = chart_width(np.concatenate([found.distances for found in closest.values()]), epsilon)
    ax.set_xlim(0, width)
    bounded = False
    for index, name in enumerate(evidence.defenses):
        style = look(index) | {"markevery": (0.02 + 0.02 * index, 0.15)}
        if name in closest:
            _steps(ax, closest[name].distances, width, band=True, label=plain(name), **style)
        if bounds := evidence.bounds.get((name, norm)):
            bounded = True
            values = np.array([bound.value for bound in bounds.values()])
            _steps(ax, values, width, label=plain(f"{name}, lower bound"), linestyle="--", fillstyle="none", **style)
    if epsilon is not None:
        _threshold(ax, epsilon)
    if not bounded:
        remark(ax, "no bounds stored: run `arena bounds`")


def _threshold(ax: Axes, epsilon: float) -> None:
    ax.axvline(epsilon, color="0.4", linewidth=0.8, linestyle=":", label=THRESHOLD)
    ax.annotate(
        f"{epsilon:g}",
        (epsilon, 1.02),
        xycoords=("data", "data"),
        xytext=(0, 2),
        textcoords="offset points",
        ha="center",
        color="0.4",
        fontsize=7,
    )


def _steps(ax: Axes, distances: np.ndarray, width: float, band: bool = False, **style: Any) -> None:
    epsilon, accuracy = accuracy_curve(distances)
    epsilon, accuracy = np.append(epsilon, max(width, epsilon[-1])), np.append(accuracy, accuracy[-1])
    ax.plot(epsilon, accuracy, drawstyle="steps-post", **style)
    if band:
        ends = of_shares(accuracy * len(distances), len(distances))
        ax.fill_between(epsilon, *ends, step="post", color=style["color"], alpha=0.1, linewidth=0)


def figure_queries(evidence: FigureData, defense: str) -> Figure:
    """The median over samples of the least distance found against the queries spent, every attack on one defense."""
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    figure.suptitle(f"{plain(defense)}: median distance of the closest adversarial so far")
    panels = dict(zip(evidence.norms, figure.subplots(1, len(evidence.norms), sharex=True), strict=True))
    for norm, ax in panels.items():
        ax.set(xlabel="queries per sample", xscale="log", xlim=(1, 10), ylabel=f"{NORM_LABELS[norm]} distance")
    missing: dict[Norm, list[str]] = {norm: [] for norm in panels}
    for match in evidence.progress(defense):
        if match.medians is None:
            missing[match.norm].append(plain(match.attack))
            continue
        ax = panels[match.norm]
        ax.set_xlim(right=max(match.queries[-1], ax.get_xlim()[1]))
        index = len(ax.get_lines())
        reached = np.isfinite(match.medians)
        ax.plot(
            match.queries[reached],
            match.medians[reached],
            drawstyle="steps-post",
            label=plain(match.attack),
            linestyle=DASHES[index % len(DASHES)],
            markevery=(0.02, 0.2),
            **look(index),
        )
    for norm, ax in panels.items():
        if ax.get_lines():
            highest = max(np.max(line.get_ydata(), initial=0) for line in ax.get_lines())
            ax.set_ylim(0, 1.05 * highest or 1)
            ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2, fontsize=6)
        else:
            say(ax, "no progress stored:\nan older arena played this" if missing[norm] else "no results stored")
        if ax.get_lines() and missing[norm]:
            remark(ax, f"no progress stored of {', '.join(missing[norm])}")
    return figure
