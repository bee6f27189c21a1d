"""Galleries: adversarials by class (Figure 3 of the paper), by error quantile (5, 6, 7), and from noise (4)."""

from __future__ import annotations

from itertools import groupby
from statistics import median

import numpy as np
from matplotlib.figure import Figure

from arena.geometry.norms import Norm
from arena.interface.results import Status
from arena.reporting.figures.data import Closest, FigureData
from arena.reporting.figures.mosaic import SIDE, Mosaic
from arena.reporting.figures.style import NORM_LABELS, plain

GAP, HEADING = 4, 10  # between images, and above each
CELL, ROW = SIDE + GAP, SIDE + HEADING + GAP
QUANTILES, PER_QUANTILE = 4, 4  # captions of Figures 5 to 7


def figure3(evidence: FigureData, seed: int = 0) -> Figure:
    """For a sample of each class, drawn by `seed`, the closest L2 adversarial found on each defense.

    A class is represented by one of the samples that the most defenses were asked about.
    """
    closest = evidence.of_norm("l2")
    chosen = _one_of_each_class(closest, np.random.default_rng(seed))
    mosaic = Mosaic(max(CELL * len(chosen), 8 * CELL), ROW * (1 + len(evidence.defenses)))
    mosaic.words(
        0,
        -HEADING,
        f"closest $L_2$ adversarials (class, distance) of samples drawn by seed {seed}",
        ha="left",
        fontsize=8,
    )
    if not chosen:
        mosaic.words(4 * CELL, ROW, "no $L_2$ results stored: run `arena run`", color="0.35", fontsize=8)
        return mosaic.figure
    mosaic.words(-GAP, HEADING + SIDE / 2, "clean", ha="right", fontsize=8)
    for column, (label, sample) in enumerate(chosen.items()):
        _clean(mosaic, evidence, CELL * column, HEADING, sample, str(label))
    for row, name in enumerate(evidence.defenses, 1):
        y = ROW * row + HEADING
        mosaic.words(-GAP, y + SIDE / 2, plain(name), ha="right", fontsize=8)
        for column, sample in enumerate(chosen.values()):
            _adversarial(mosaic, evidence, CELL * column, y, closest.get(name), sample)
    return mosaic.figure


def figure_quantiles(evidence: FigureData, norm: Norm, seed: int = 0) -> Figure:
    """Clean images above the closest adversarials, four drawn by `seed` from each quarter of a defense's distances.

    Only samples with an adversarial count: 100 % is the largest distance that was found.
    """
    closest = evidence.of_norm(norm)
    block = PER_QUANTILE * CELL + 2 * GAP
    height = 2 * SIDE + 2 * HEADING
    mosaic = Mosaic(QUANTILES * block - 3 * GAP, (height + GAP) * max(len(evidence.defenses), 1))
    title = (
        f"{NORM_LABELS[norm]} error quantiles: closest adversarials (class, distance) of samples drawn by seed {seed}"
    )
    mosaic.words(0, -2.2 * HEADING, title, ha="left", fontsize=8)
    for quantile in range(QUANTILES):
        span = f"{100 * quantile // QUANTILES} \N{EN DASH} {100 * (quantile + 1) // QUANTILES} %"
        mosaic.words(quantile * block + PER_QUANTILE * CELL / 2, -HEADING / 2, span, fontsize=8)
    for row, name in enumerate(evidence.defenses):
        y = row * (height + GAP) + HEADING
        mosaic.words(-GAP, y + height / 2 - HEADING / 2, plain(name), ha="right", fontsize=8)
        quarters = _quarters(closest.get(name), np.random.default_rng(seed))
        if not any(quarters):
            mosaic.words(0, y + SIDE, f"no {NORM_LABELS[norm]} adversarial stored", ha="left", color="0.35", fontsize=8)
        for quantile, samples in enumerate(quarters):
            for place, sample in enumerate(samples):
                x = quantile * block + place * CELL
                _clean(mosaic, evidence, x, y, sample, "")
                _adversarial(mosaic, evidence, x, y + SIDE + HEADING, closest[name], sample)
    return mosaic.figure


def figure4(evidence: FigureData) -> Figure:
    """What the ascent from noise made of each class: one row for each defense and kind of gradient.

    Above each image the confidence in its class and the steps that it took; of several seeds the first is shown, and
    all are counted.
    """
    rows = [
        (name, gradient, list(ended))
        for name in evidence.defenses
        for gradient, ended in groupby(evidence.distals.get(name, []), key=lambda one: one.gradient)
    ]
    missing = [name for name in evidence.defenses if name not in evidence.distals]
    classes = sorted({one.label for _, _, ended in rows for one in ended})
    mosaic = Mosaic(CELL * max(len(classes), 8), ROW * max(len(rows), 1))
    title = "distal adversarials, from noise: confidence, steps; in brackets where 0.9 was not reached"
    mosaic.words(0, -2.2 * HEADING, title, ha="left", fontsize=8)
    for row, (name, gradient, ended) in enumerate(rows):
        y = row * ROW + HEADING
        found = [one.steps for one in ended if one.status == Status.FOUND]
        steps = f", median {median(found):g} steps" if found else ""
        words = f"{plain(name)}\n{gradient}: {len(found)} of {len(ended)}{steps}"
        mosaic.words(-GAP, y + SIDE / 2, words, ha="right", fontsize=7)
        for label, (one, *_) in ((label, list(same)) for label, same in groupby(ended, key=lambda one: one.label)):
            heading = f"{one.confidence:.2f}, {one.steps}"
            reached = one.status == Status.FOUND
            mosaic.image(classes.index(label) * CELL, y, one.image, heading if reached else f"({heading})")
    for column, label in enumerate(classes):
        mosaic.words(column * CELL + SIDE / 2, -HEADING / 2, str(label), fontsize=8)
    if missing:
        words = f"no distal adversarials stored of {', '.join(map(plain, missing))}: run `arena distal`"
        mosaic.words(0, ROW * len(rows) + HEADING, words, ha="left", color="0.35", fontsize=7)
    return mosaic.figure


def _one_of_each_class(closest: dict[str, Closest], rng: np.random.Generator) -> dict[int, int]:
    """A sample of each class that was played, by class."""
    if not closest:
        return {}
    together = np.concatenate([np.stack([found.labels, found.samples], axis=1) for found in closest.values()])
    samples, played = np.unique(together, axis=0, return_counts=True)
    chosen = {}
    for label in np.unique(samples[:, 0]):
        of_class = samples[:, 0] == label
        candidates = samples[of_class & (played == played[of_class].max()), 1]
        chosen[int(label)] = int(rng.choice(candidates))
    return chosen


def _quarters(found: Closest | None, rng: np.random.Generator) -> list[list[int]]:
    """Samples drawn from each quarter of the distances that were found, by distance."""
    if found is None:
        return []
    order = np.argsort(found.distances, kind="stable")
    order = order[(found.distances[order] > 0) & np.isfinite(found.distances[order])]
    drawn = (
        rng.choice(quarter, min(PER_QUANTILE, len(quarter)), replace=False)
        for quarter in np.array_split(order, QUANTILES)
    )
    return [found.samples[part[np.argsort(found.distances[part], kind="stable")]].tolist() for part in drawn]


def _clean(mosaic: Mosaic, evidence: FigureData, x: int, y: int, sample: int, heading: str) -> None:
    if isinstance(evidence.clean, str):
        mosaic.gap(x, y, "no data")
    else:
        mosaic.image(x, y, evidence.clean[sample], heading)


def _adversarial(mosaic: Mosaic, evidence: FigureData, x: int, y: int, found: Closest | None, sample: int) -> None:
    """The closest adversarial of a sample, or why there is none."""
    place = np.flatnonzero(found.samples == sample) if found is not None else np.empty(0)
    if found is None or not len(place):
        return mosaic.gap(x, y, "not\nplayed")
    distance, match_id = found.distances[place[0]], found.matches[place[0]]
    if distance == 0:
        return mosaic.gap(x, y, "mis-\nclassified")
    if np.isinf(distance):
        return mosaic.gap(x, y, "none\nfound")
    adversarial = evidence.adversarial(match_id, sample)
    mosaic.image(x, y, adversarial.image, f"{adversarial.label}, {distance:.3g}")
