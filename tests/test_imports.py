"""Imports follow the flow of data (docs/design.md) and never point back, lazy ones included."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import arena

ROOT = Path(arena.__file__).parent

PLUGINS, COMMAND_LINE = {"plugins"}, {"cli"}
PLAYING = {
    "access",
    "contracts",
    "distal",
    "foolbox_model",
    "gradients",
    "ledger",
    "match",
    "registry",
    "testing",
    "worker",
}
BOUNDING = {"bounds", "halfspaces", "prototypes"}
RUNNING = {"config", "executors", "tournament"}
STORING = {"blobs", "bound_rows", "database", "distal_rows", "migrations", "schema", "store", "views"}
SHOWING = {"curves", "figures", "formats", "leaderboard", "published", "ranking", "rendering", "report", "table1"}

FORBIDDEN = {
    "the core knows no plugin and no command": (
        PLAYING | BOUNDING | RUNNING | STORING | SHOWING,
        PLUGINS | COMMAND_LINE,
    ),
    "who plays knows neither the plan nor the store": (PLAYING - {"worker"} | BOUNDING, RUNNING | STORING | SHOWING),
    "the store knows neither who plays nor the plan": (STORING | SHOWING, PLAYING | RUNNING),
    "plugins see contracts, not the referee or the store": (
        PLUGINS,
        {"match", "worker"} | RUNNING | STORING | SHOWING | COMMAND_LINE,
    ),
}


def imports_of(file):
    """The arena modules (first name below `arena`) that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("arena.")}
    return found


def graph():
    edges = {}
    for file in ROOT.rglob("*.py"):
        module = file.relative_to(ROOT).with_suffix("").parts[0]
        if module != "__init__":
            edges.setdefault(module, set()).update(imports_of(file) - {module})
    return edges


def checked_only_for_types():
    """contracts names Target in annotations only, and so on: TYPE_CHECKING imports are no dependencies."""
    found = set()
    for file in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                module = file.relative_to(ROOT).with_suffix("").parts[0]
                for child in ast.walk(node):
                    if isinstance(child, ast.ImportFrom) and (child.module or "").startswith("arena."):
                        found.add((module, child.module.split(".")[1]))
    return found


def test_there_is_no_cycle():
    types_only = checked_only_for_types()
    edges = {name: {other for other in used if (name, other) not in types_only} for name, used in graph().items()}
    TopologicalSorter(edges).prepare()  # raises CycleError, which names the cycle


@pytest.mark.parametrize("rule", FORBIDDEN)
def test_no_import_points_back(rule):
    sources, targets = FORBIDDEN[rule]
    edges, types_only = graph(), checked_only_for_types()
    assert sources <= edges.keys() and targets <= edges.keys()
    offences = {(a, b) for a in sources for b in edges[a] & targets} - types_only
    assert offences == set()
