"""Public helpers for authors of attacks, stable as what `arena` exports is. The built-in plugins use no others.

* Search: `smallest_epsilon`, `bisect`, `epsilon_grid`, `bisect_between`, `walk_back`, `candidates`; pixels that go back
  to their clean values: `Reset`, `reset_best`.
* Starts of decision-based attacks: `uniform_noise`, `nearest_other`, `on_the_boundary`.
* Gradients and steps: `scores_and_gradient`, `boundaries`, `runners_up`, `unit`, `steepest`, `slope`; those of another
  network: `substitute_target`.
* Losses (`Loss`): `margin`, `normalized` (logits from 0 to `SPREAD`), `normalized_margin`, `cross_entropy`, `log_odds`,
  `dlr`, `targeted_dlr`.
* Norms: `Norm`, `NORMS`, `spec_of` (all that is true of one), `distance`, `project`, `project_in_box`,
  `project_on_halfspace`, `across_the_box`; `movable` (what the box would not stop).
* Tensors: `per_row`; `by_pixel`, `by_value` (L0 counts the channels of a pixel as one); `balanced`, `times_power`
  (squares that do not underflow); `slices` (long lists in little memory); `binarize` (as the referee does).
* Settings that name a function: `resolve`.

What wraps a library, `PerSampleAttack` and `FixedEpsilonAttack`, is exported by `arena` too; `Clipped` is for
libraries that ask about images outside the box.
"""

from arena.geometry.distances import distance, per_row, project, project_in_box
from arena.geometry.halfspaces import by_pixel, by_value
from arena.geometry.halfspaces import project as project_on_halfspace
from arena.geometry.norms import NORMS, Norm, spec_of
from arena.geometry.scale import balanced, times_power
from arena.interface.references import resolve
from arena.target.query_log import binarize
from arena.target.slices import slices
from arena.toolbox.box import across_the_box, movable
from arena.toolbox.directions import Loss, boundaries, runners_up, scores_and_gradient, slope, steepest, unit
from arena.toolbox.library import Clipped, FixedEpsilonAttack, PerSampleAttack
from arena.toolbox.losses import (
    SPREAD,
    cross_entropy,
    dlr,
    log_odds,
    margin,
    normalized,
    normalized_margin,
    targeted_dlr,
)
from arena.toolbox.reset import Reset, reset_best
from arena.toolbox.search import bisect, bisect_between, candidates, epsilon_grid, smallest_epsilon, walk_back
from arena.toolbox.starts import nearest_other, on_the_boundary, uniform_noise
from arena.toolbox.substitute import substitute_target

__all__ = [
    "NORMS",
    "SPREAD",
    "Clipped",
    "FixedEpsilonAttack",
    "Loss",
    "Norm",
    "PerSampleAttack",
    "Reset",
    "across_the_box",
    "balanced",
    "binarize",
    "bisect",
    "bisect_between",
    "boundaries",
    "by_pixel",
    "by_value",
    "candidates",
    "cross_entropy",
    "distance",
    "dlr",
    "epsilon_grid",
    "log_odds",
    "margin",
    "movable",
    "nearest_other",
    "normalized",
    "normalized_margin",
    "on_the_boundary",
    "per_row",
    "project",
    "project_in_box",
    "project_on_halfspace",
    "reset_best",
    "resolve",
    "runners_up",
    "scores_and_gradient",
    "slices",
    "slope",
    "smallest_epsilon",
    "spec_of",
    "steepest",
    "substitute_target",
    "targeted_dlr",
    "times_power",
    "uniform_noise",
    "unit",
    "walk_back",
]
