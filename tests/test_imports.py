"""Imports follow the flow of data (docs/design.md) and never point back, lazy ones included.

The rule comes from the folders: what a file imports counts for its package. Imports that only annotations need
(`if TYPE_CHECKING`) are never executed and do not count.
"""

import ast
from graphlib import TopologicalSorter

import pytest
from paths import ROOT

PACKAGE = ROOT / "arena"


def modules():
    """Every module of the package by its dotted name below `arena`."""
    found = {}
    for file in PACKAGE.rglob("*.py"):
        parts = file.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name:
            found[name] = file
    return found


MODULES = modules()


def executed(tree):
    """The nodes of a tree without the blocks that only type checkers see."""
    for child in ast.iter_child_nodes(tree):
        if not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield child
            yield from executed(child)


def imports_of(file):
    """The modules of the package that a file imports, anywhere in it."""
    found = set()
    for node in executed(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.startswith("arena."):
                name = name.removeprefix("arena.")
                found.add(name if name in MODULES else name.rpartition(".")[0])
    return found & MODULES.keys()


def package_of(module):
    return module.partition(".")[0]


BY_MODULE = {name: imports_of(file) - {name} for name, file in MODULES.items()}
BY_PACKAGE = {}
for name, used in BY_MODULE.items():
    BY_PACKAGE.setdefault(package_of(name), set()).update({package_of(other) for other in used} - {package_of(name)})


def test_packages_form_no_cycle():
    TopologicalSorter(BY_PACKAGE).prepare()  # raises CycleError, which names the cycle


def test_modules_form_no_cycle():
    # A package's __init__ may gather what its modules define.
    inner = {name: {other for other in used if not name.startswith(f"{other}.")} for name, used in BY_MODULE.items()}
    TopologicalSorter(inner).prepare()


@pytest.mark.parametrize("package", ["cli", "plugins"])
def test_nothing_imports_the_commands_or_a_plugin(package):
    assert {name for name, used in BY_PACKAGE.items() if package in used} <= {"__main__"}


def test_what_is_measured_does_not_depend_on_where_it_is_kept_or_shown():
    before = {"interface", "geometry", "target", "toolbox", "evaluation", "data", "kernels", "models", "plugins"}
    after = {"tournament", "store", "reporting"}
    assert {(name, other) for name in before for other in BY_PACKAGE[name] & after} == set()


def test_what_is_kept_and_shown_does_not_depend_on_how_it_was_played():
    played = {"target", "evaluation", "tournament", "plugins"}
    assert {(name, other) for name in ("store", "reporting") for other in BY_PACKAGE[name] & played} == set()


@pytest.mark.parametrize("command", ["run", "bounds", "distal", "verify"])
def test_only_workers_can_load_plugins(command):
    """The coordinator never imports what loads them; the worker does, in a process of its own."""
    reached, waiting = set(), [f"cli.{command}"]
    while waiting:
        module = waiting.pop()
        if module not in reached and module != "tournament.worker":
            reached.add(module)
            waiting += BY_MODULE[module]
    assert "tournament.plan" in reached
    assert not reached & {"interface.registry", "interface.contracts"}
