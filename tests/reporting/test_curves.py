"""What holds of every reader of distances: unstable samples are never robust, a ball of epsilon is within epsilon."""

import math

import numpy as np

from arena.reporting.curves import accuracy_curve
from arena.reporting.html.charts import read_charts


def test_an_unstable_sample_is_robust_nowhere_on_the_curve() -> None:
    at, accuracy = accuracy_curve([1.0, math.nan, math.inf, math.nan])
    assert at.tolist() == [0, 1]
    assert accuracy.tolist() == [0.5, 0.25]
    assert accuracy_curve([math.nan])[1].tolist() == [0]


def test_the_report_reads_its_curve_at_the_threshold_as_the_leaderboard_does() -> None:
    (chart,) = read_charts({("cnn", "linf"): np.array([float(np.float32(0.3)), 0.4])}, {}, {"linf": 0.3})
    assert chart.curves[0].accuracies[chart.points_per_epsilon] == 0.5


def test_the_report_has_the_interval_of_every_point() -> None:
    (chart,) = read_charts({("cnn", "linf"): np.array([0.1, 0.2, 0.4, math.inf])}, {}, {"linf": 0.3})
    curve, at = chart.curves[0], chart.points_per_epsilon
    assert (curve.accuracies[at], curve.low[at], curve.high[at]) == (0.5, 0.0676, 0.9324)
    assert (curve.low[0], curve.high[0]) == (0.3976, 1.0)
    path = chart.band(curve, 100, 100)
    assert path.startswith("M0 0.0H") and path.endswith("V60.2H0Z")
