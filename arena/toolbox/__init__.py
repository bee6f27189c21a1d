"""Public helpers for authors of attacks, stable like the rest of what `arena` exports.

Search: `smallest_epsilon`, `bisect`, `epsilon_grid`, `bisect_between`, `walk_back`, `candidates`. Starts of
decision-based attacks: `uniform_noise`, `nearest_other`, `on_the_boundary`. Gradients and steps:
`scores_and_gradient`, `unit`, `steepest`. Losses: `margin`, `normalized_margin`,
`cross_entropy`, `log_odds`, `dlr`. Distances: `distance`, `project`,
`per_row`. What wraps a library, `PerSampleAttack` and `FixedEpsilonAttack`, is exported by `arena` too.
"""

from arena.geometry.distances import distance, per_row, project
from arena.toolbox.directions import scores_and_gradient, steepest, unit
from arena.toolbox.library import FixedEpsilonAttack, PerSampleAttack
from arena.toolbox.losses import cross_entropy, dlr, log_odds, margin, normalized_margin
from arena.toolbox.search import bisect, bisect_between, candidates, epsilon_grid, smallest_epsilon, walk_back
from arena.toolbox.starts import nearest_other, on_the_boundary, uniform_noise

__all__ = [
    "FixedEpsilonAttack",
    "PerSampleAttack",
    "bisect",
    "bisect_between",
    "candidates",
    "cross_entropy",
    "distance",
    "dlr",
    "epsilon_grid",
    "log_odds",
    "margin",
    "nearest_other",
    "normalized_margin",
    "on_the_boundary",
    "per_row",
    "project",
    "scores_and_gradient",
    "smallest_epsilon",
    "steepest",
    "uniform_noise",
    "unit",
    "walk_back",
]
