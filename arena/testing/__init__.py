"""Public conformance kit for plugins, and small defenses with known minimal distances to try attacks on.

def test_my_attack():
    report = check_attack(MyAttack(), factor=1.25)
    assert report.ok, str(report)
"""

from arena.testing.attacks import check_attack
from arena.testing.bounds import check_bound
from arena.testing.defenses import check_defense
from arena.testing.installed import check_plugin
from arena.testing.known import KnownDefense
from arena.testing.linear import BinaryLinearDefense, LinearDefense
from arena.testing.prototypes import ExactLinearDefense, LinearPrototypes, VotingLinear
from arena.testing.relu import ReluDefense
from arena.testing.report import Finding, Report

__all__ = [
    "BinaryLinearDefense",
    "ExactLinearDefense",
    "Finding",
    "KnownDefense",
    "LinearDefense",
    "LinearPrototypes",
    "ReluDefense",
    "Report",
    "VotingLinear",
    "check_attack",
    "check_bound",
    "check_defense",
    "check_plugin",
]
