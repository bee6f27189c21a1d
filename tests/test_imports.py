"""Imports follow the flow of data (docs/design.md) and never point back, lazy ones included.

The rule comes from the folders: what a file imports counts for its package. Imports that only annotations need
(`if TYPE_CHECKING`) are never executed and do not count.
"""

import ast
import importlib
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from paths import ROOT

import arena

PACKAGE = ROOT / "arena"


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name below `arena`."""
    found = {}
    for file in PACKAGE.rglob("*.py"):
        parts = file.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name:
            found[name] = file
    return found


MODULES = modules()


def executed(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a tree without the blocks that only type checkers see."""
    for child in ast.iter_child_nodes(tree):
        if not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield child
            yield from executed(child)


def names_of(file: Path) -> set[str]:
    """The dotted names below `arena` that a file imports or takes from it, anywhere in it."""
    found = set()
    for node in executed(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found.add(f"{node.value.id}.{node.attr}")
    return {name.removeprefix("arena.") for name in found if name.startswith("arena.")}


def module_of(name: str) -> str:
    """The module that a name is, or is in; of what `arena` exports the one that defines it."""
    return name if name in MODULES else arena._EXPORTS.get(name, name.rpartition(".")[0])


def imports_of(file: Path) -> set[str]:
    """The modules of the package that a file imports, anywhere in it."""
    return {module_of(name) for name in names_of(file)} & MODULES.keys()


def package_of(module: str) -> str:
    return module.partition(".")[0]


BY_MODULE = {name: imports_of(file) - {name} for name, file in MODULES.items()}
BY_PACKAGE: dict[str, set[str]] = {}
for name, used in BY_MODULE.items():
    BY_PACKAGE.setdefault(package_of(name), set()).update({package_of(other) for other in used} - {package_of(name)})


def test_packages_form_no_cycle() -> None:
    TopologicalSorter(BY_PACKAGE).prepare()  # raises CycleError, which names the cycle


def test_modules_form_no_cycle() -> None:
    # A package's __init__ may gather what its modules define.
    inner = {name: {other for other in used if not name.startswith(f"{other}.")} for name, used in BY_MODULE.items()}
    TopologicalSorter(inner).prepare()


@pytest.mark.parametrize("package", ["cli", "plugins"])
def test_nothing_imports_the_commands_or_a_plugin(package: str) -> None:
    assert {name for name, used in BY_PACKAGE.items() if package in used} <= {"__main__"}


def test_what_is_measured_does_not_depend_on_where_it_is_kept_or_shown() -> None:
    before = {"interface", "geometry", "target", "toolbox", "evaluation", "data", "kernels", "models", "plugins"}
    after = {"tournament", "store", "reporting"}
    assert {(name, other) for name in before for other in BY_PACKAGE[name] & after} == set()


def test_what_is_kept_and_shown_does_not_depend_on_how_it_was_played() -> None:
    played = {"target", "evaluation", "tournament", "plugins"}
    assert {(name, other) for name in ("store", "reporting") for other in BY_PACKAGE[name] & played} == set()


@pytest.mark.parametrize("command", ["run", "bounds", "distal", "verify"])
def test_only_workers_can_load_plugins(command: str) -> None:
    """The coordinator never imports what loads them; the worker does, in a process of its own."""
    reached, waiting = set(), [f"cli.{command}"]
    while waiting:
        module = waiting.pop()
        if module not in reached and module != "tournament.worker":
            reached.add(module)
            waiting += BY_MODULE[module]
    assert "tournament.plan" in reached
    assert not reached & {"interface.registry", "interface.contracts"}


BEYOND = {  # what plugins of these folders import in arena beside `arena` and `arena.toolbox`, and why
    "plugins.attacks": {"models", "data"},  # the substitute of transfer attacks, and what it was trained on
    "plugins.attacks.cutting_planes": {"interface.prototypes", "evaluation.bounds"},  # they look into a white box
    "plugins.bounds": {"interface.prototypes", "evaluation.bounds"},  # shared with the cutting planes
    "plugins.defenses": {"models", "data"},  # the networks, their weights, and what they were trained on
}


@pytest.mark.parametrize("folder", BEYOND)
def test_built_in_plugins_import_what_those_of_others_do(folder: str) -> None:
    own = ".".join(folder.split(".")[:2])
    files = [file for name, file in MODULES.items() if name == folder or name.rpartition(".")[0] == folder]
    names = {name for file in files for name in names_of(file) if not name.startswith(f"{own}.")}
    deep = {name for name in names if name not in arena._EXPORTS and name.rpartition(".")[0] != "toolbox"}
    assert {name for name in deep if not any(name.startswith(f"{allowed}.") for allowed in BEYOND[folder])} == set()
    toolbox = importlib.import_module("arena.toolbox")
    assert {name for name in names if name.startswith("toolbox.")} <= {f"toolbox.{name}" for name in toolbox.__all__}


def test_each_folder_of_plugins_has_its_rule() -> None:
    folders = {name if file.name == "__init__.py" else name.rpartition(".")[0] for name, file in MODULES.items()}
    assert {folder for folder in folders if folder.startswith("plugins.")} == BEYOND.keys()


def test_type_checkers_see_what_arena_exports() -> None:
    """Each export twice: in the table that is looked up, and in the block that type checkers read."""
    (block,) = (node for node in ast.parse((PACKAGE / "__init__.py").read_text()).body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    assert len(imports) == len(block.body)
    seen = {node.names[0].asname: str(node.module).removeprefix("arena.") for node in imports}
    assert seen == arena._EXPORTS
