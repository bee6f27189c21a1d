"""Python objects by name: "package.module:name" or "file.py:name"."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from arena.errors import UserError


def resolve(reference: str) -> Callable[..., Any]:
    """The object behind "package.module:name" or "file.py:name"; raises UserError, naming the remedy."""
    module_name, _, name = reference.rpartition(":")
    try:
        if module_name.endswith(".py"):
            module = _module_of_file(Path(module_name))
        else:
            module = importlib.import_module(module_name)
    except ImportError as failure:
        raise UserError(f"{reference}: cannot be imported: {failure}") from None
    if not callable(found := getattr(module, name, None)):
        raise UserError(f"{reference}: {module_name} has no function {name!r}")
    return found


def _module_of_file(path: Path) -> Any:
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path}: no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)
    spec.loader.exec_module(module)
    return module
