"""The smallest perturbation that crosses several half-spaces at once, inside the box [0, 1]: small convex programs.

Minimise ||d||_p subject to normals d >= offsets and x + d in the box, one problem at a time, in numpy float64: x [P],
normals [K, P], offsets [K], K a dozen at most. Linf is a linear program, L2 a quadratic one; where pixels are either
changed or not (L0, and every norm of a model that binarises) the linear relaxation is rounded, so that the result
crosses but need not be the smallest. `arena.geometry.halfspaces` has the closed forms for a single half-space.
"""

from __future__ import annotations

from bisect import bisect_left

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog, minimize

from arena.toolbox import Norm

Array = NDArray[np.float64]

TOLERANCE = 1e-6  # by which a offset may stay open, relative to the largest
NEWTON_STEPS = 30  # finite in exact arithmetic, a handful in practice


def smallest_move(norm: Norm, x: Array, normals: Array, offsets: Array, channels: int = 1) -> Array | None:
    """The move d [P]; None if the box holds none. In L0 the `channels` of a pixel each move as far as the box allows,
    or none does."""
    _supported(norm)
    if norm == "l0":
        move = _fewest_pixels(x, normals, offsets, channels)
    else:
        move = (_shortest if norm == "l2" else _flattest)(x, normals, offsets)
    return _checked(move, normals, offsets)


def cheapest_flips(
    norm: Norm, x: Array, normals: Array, offsets: Array, threshold: float, channels: int = 1
) -> Array | None:
    """The same for a model that sees x >= threshold alone; normals, offsets and the move, flips of -1, 0 or 1, are
    those of what it sees. Flips cost one pixel, in any of its channels (L0), or |x_i - threshold| each."""
    _supported(norm)
    side = np.where(x >= threshold, -1.0, 1.0)
    gains, cost = normals * side, np.abs(x - threshold)
    if norm == "linf":
        flips = _least_level(cost, gains, offsets)
    elif norm == "l0" and channels > 1:
        flips = _whole_pixels(np.zeros_like(x), gains, offsets, channels)
    else:
        flips = _cover(np.ones_like(cost) if norm == "l0" else np.square(cost), gains, offsets)
    return _checked(None if flips is None else side * flips, normals, offsets)


def _supported(norm: Norm) -> None:
    if norm not in ("l0", "l2", "linf"):
        raise ValueError(f"cutting planes have no smallest move in {norm!r}: choose one of l0, l2, linf")


def _checked(move: Array | None, normals: Array, offsets: Array) -> Array | None:
    """The move if it crosses all half-spaces."""
    if move is None or (normals @ move < offsets - TOLERANCE * np.abs(offsets).max(initial=1.0)).any():
        return None
    return move


def _shortest(x: Array, normals: Array, offsets: Array) -> Array:
    """L2, by its dual, which has a multiplier for each half-space: d = clip(multipliers . normals, box)."""

    def move(multipliers: Array) -> Array:
        return np.clip(multipliers @ normals, -x, 1 - x)

    def negated_dual(multipliers: Array) -> tuple[float, Array]:
        pull, d = multipliers @ normals, move(multipliers)
        return float(pull @ d - d @ d / 2 - multipliers @ offsets), normals @ d - offsets

    bounds = [(0.0, None)] * len(offsets)
    options = {"maxiter": 500, "ftol": 1e-14, "gtol": TOLERANCE / 10}
    found = minimize(negated_dual, np.zeros(len(offsets)), jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return move(found.x)


def _flattest(x: Array, normals: Array, offsets: Array) -> Array | None:
    """Linf: how deep moves of at most epsilon reach is concave in epsilon; Newton's steps find its root from below."""
    epsilon = 0.0
    for _ in range(NEWTON_STEPS):
        low, high = np.maximum(-x, -epsilon), np.minimum(1 - x, epsilon)
        depth, move, (below, above) = _deepest(normals, offsets, low, high)
        if depth >= -TOLERANCE:
            return move
        rate = above[1 - x > epsilon].sum() + below[x > epsilon].sum()  # of depth, in epsilon
        if rate <= 0:
            return None
        epsilon = min(epsilon - depth / rate, 1.0)
    return None


def _fewest_pixels(x: Array, normals: Array, offsets: Array, channels: int) -> Array | None:
    """L0: every pixel may go up, or down, as far as the box allows."""
    if channels > 1:
        return _whole_pixels(x, normals, offsets, channels)
    ends = np.stack([1 - x, -x])
    chosen = _cover(np.ones(ends.size), (normals[:, None] * ends).reshape(len(offsets), -1), offsets)
    return None if chosen is None else (chosen.reshape(ends.shape) * ends).sum(0)


def _whole_pixels(x: Array, normals: Array, offsets: Array, channels: int) -> Array | None:
    """L0 in colour: each channel of a pixel goes to the end of the box to which the shortest move points, or none."""
    way = _shortest(x, normals, offsets)
    ends = np.where(way > 0, 1 - x, np.where(way < 0, -x, 0))
    gains = (normals * ends).reshape(len(offsets), channels, -1).sum(1)
    chosen = _cover(np.ones(gains.shape[1]), gains, offsets)
    return None if chosen is None else ends * np.tile(chosen, channels)


def _least_level(cost: Array, gains: Array, offsets: Array) -> Array | None:
    """Which items [P] to take so that the dearest is as cheap as possible: all up to a level are free."""

    def taken(level: float) -> Array | None:
        depth, share, _ = _deepest(gains, offsets, np.zeros_like(cost), (cost <= level).astype(cost.dtype))
        rounded = np.round(share)
        return rounded if depth >= 0 and (gains @ rounded >= offsets).all() else None

    levels = np.append(-np.inf, np.unique(cost))  # without any, first
    first = bisect_left(levels, True, key=lambda level: taken(level) is not None)
    return taken(levels[first]) if first < len(levels) else None


def _cover(cost: Array, gains: Array, offsets: Array) -> Array | None:
    """Which items [P] to take, 0 or 1, so that together they gain [K, P] the offsets at little cost.

    The linear relaxation leaves at most K items in part. They are taken whole; what is still missing is added, what
    closes the offsets most first, and what is not needed goes back, the smallest part first.
    """
    if (offsets <= 0).all():
        return np.zeros_like(cost)
    useful = (gains > 0).any(0)
    if (gains.clip(0).sum(1) < offsets).any():
        return None
    solved = linprog(cost[useful], -gains[:, useful], -offsets, bounds=(0, 1), method="highs-ds")
    if solved.status != 0:
        return None
    share = np.zeros_like(cost)
    share[useful] = solved.x
    taken = (share > TOLERANCE).astype(cost.dtype)
    while (missing := (offsets - gains @ taken).clip(0)).any():
        after = (offsets - gains @ taken - gains.T).clip(0).sum(1)
        after[taken > 0] = np.inf
        item = int(after.argmin())
        if after[item] >= missing.sum():
            return None
        taken[item] = 1
    for item in np.argsort(share, kind="stable"):
        if taken[item] and (gains @ taken - gains[:, item] >= offsets).all():
            taken[item] = 0
    return taken


def _deepest(normals: Array, offsets: Array, low: Array, high: Array) -> tuple[float, Array, tuple[Array, Array]]:
    """max over d in [low, high] of the least (normals d - offsets): its value, d, and how it changes as each bound
    widens, the lower [P] and the upper [P]."""
    pixels = len(low)
    columns = np.hstack([-normals, np.ones((len(offsets), 1))])
    bounds = np.column_stack([np.append(low, -np.inf), np.append(high, np.inf)])
    solved = linprog(-np.eye(1, pixels + 1, pixels)[0], columns, -offsets, bounds=bounds, method="highs-ds")
    wider = solved.lower.marginals[:pixels], -solved.upper.marginals[:pixels]
    return -solved.fun, solved.x[:pixels], wider
