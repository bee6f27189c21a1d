"""Identity of a plugin: equal fingerprints promise equal results, so the store may reuse them."""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch


def fingerprint(plugin: Any, *, stop: type) -> str:
    """SHA-256 (hex) of the plugin's name, package version, source files, settings, modules and tensors.

    The source is that of the files that define the plugin's class and its bases (up to `stop`), and of the files of
    the same package that those import. Other packages, arena's core among them, are covered by no more than `version`.
    """
    digest = hashlib.sha256()
    kind: type = type(plugin)
    package, version = distribution_of(kind)
    identity = [plugin.name, kind.__qualname__, package, version, plugin.settings.model_dump(mode="json")]
    digest.update(json.dumps(identity, sort_keys=True).encode())
    bases = [base for base in kind.__mro__ if issubclass(base, stop) and base.__module__ != stop.__module__]
    for module in sorted(_imported_from_package({base.__module__ for base in bases})):
        digest.update(_source(module))
    for name, value in sorted(vars(plugin).items()):
        if isinstance(value, torch.nn.Module):
            tensors = value.state_dict()
        elif isinstance(value, torch.Tensor):
            tensors = {name: value}
        else:
            continue
        for key, tensor in tensors.items():
            digest.update(f"{name}.{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy())
    return digest.hexdigest()


def distribution_of(kind: type) -> tuple[str, str]:
    """Name and version of the installed package that holds a class; ("local", "0") for one in a script."""
    top = kind.__module__.partition(".")[0]
    names = _packages().get(top)
    return (names[0], metadata.version(names[0])) if names else ("local", "0")


@cache
def _packages() -> dict[str, list[str]]:
    return dict(metadata.packages_distributions())


def _imported_from_package(modules: set[str]) -> set[str]:
    """The modules, and those that they import, in turn, from packages of plugins (arena's own, or a third party's)."""
    found, waiting = set(modules), list(modules)
    while waiting:
        for value in list(getattr(sys.modules.get(waiting.pop()), "__dict__", {}).values()):
            owner = value.__name__ if inspect.ismodule(value) else getattr(value, "__module__", None)
            if isinstance(owner, str) and owner not in found and any(_same_package(owner, name) for name in modules):
                found.add(owner)
                waiting.append(owner)
    return found


def _same_package(module: str, other: str) -> bool:
    top = module.partition(".")[0]
    return top == other.partition(".")[0] and (top != "arena" or module.startswith(("arena.plugins.", "arena.models.")))


@cache
def _source(module_name: str) -> bytes:
    try:
        return Path(inspect.getfile(sys.modules[module_name])).read_bytes()
    except (TypeError, OSError, KeyError):  # defined in a notebook or at a prompt: it has no file
        return module_name.encode()
