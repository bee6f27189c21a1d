"""Python objects by name: "package.module:name" or "file.py:name"."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from arena.errors import UserError


def resolve(reference: str) -> Callable[..., Any]:
    """The function or class behind "package.module:name" or "file.py:name"; raises UserError, naming the remedy."""
    found = find(reference)[0]
    if not callable(found):
        module, _, name = reference.rpartition(":")
        raise UserError(f"{reference}: {module} has no function {name!r}")
    return found


def find(reference: str) -> tuple[Any, ModuleType]:
    """The object behind "package.module:name" or "file.py:name", and its module.

    What a file imports is looked for beside it, too, after everything that is installed. Raises UserError, naming the
    remedy, and whatever the module raises.
    """
    module_name, _, name = reference.rpartition(":")
    try:
        if module_name.endswith(".py"):
            module = _module_of_file(Path(module_name))
        else:
            module = importlib.import_module(module_name)
    except (ImportError, ValueError) as failure:
        raise UserError(f"{reference}: cannot be imported: {failure}") from None
    if not hasattr(module, name):
        raise UserError(f"{reference}: {module_name} has no {name!r}")
    return getattr(module, name), module


def is_module(reference: str) -> bool:
    """Whether the reference is "package.module:name", which leads to no file by itself."""
    module, _, name = reference.rpartition(":")
    return bool(module) and not module.endswith(".py") and name.isidentifier()


def _module_of_file(path: Path) -> ModuleType:
    """The module of a file, under its own name: pickles and fingerprints go by that."""
    path = path.resolve()
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    name = path.stem
    loaded = sys.modules.get(name)
    if loaded is not None and getattr(loaded, "__file__", None) == str(path):
        return loaded
    if loaded is not None or _taken(name, path):
        raise UserError(f"{path}: another module is called {name!r}: rename the file")
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path}: no Python file")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _taken(name: str, path: Path) -> bool:
    """Whether `import name` finds something else than this file."""
    if name in sys.stdlib_module_names:
        return True
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return False
    return spec is not None and spec.origin is not None and Path(spec.origin).resolve() != path
