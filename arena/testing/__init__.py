"""Public conformance kit for plugins, and linear defenses with known minimal distances to try attacks on.

def test_my_attack():
    report = check_attack(MyAttack(), factor=1.25)
    assert report.ok, str(report)
"""

from arena.testing.attacks import check_attack
from arena.testing.bounds import check_bound
from arena.testing.defenses import check_defense
from arena.testing.installed import check_plugin
from arena.testing.linear import BinaryLinearDefense, LinearDefense
from arena.testing.prototypes import ExactLinearDefense, LinearPrototypes, VotingLinear
from arena.testing.report import Finding, Report

__all__ = [
    "BinaryLinearDefense",
    "ExactLinearDefense",
    "Finding",
    "LinearDefense",
    "LinearPrototypes",
    "Report",
    "VotingLinear",
    "check_attack",
    "check_bound",
    "check_defense",
    "check_plugin",
]
