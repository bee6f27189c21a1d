"""arena: how robust is this classifier, sample by sample?

The names that plugin authors and notebooks use, imported on first access so that `arena --help` stays quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_EXPORTS = {
    "Attack": "interface.contracts",
    "Bound": "interface.contracts",
    "Dataset": "interface.dataset",
    "Defense": "interface.contracts",
    "Settings": "interface.settings",
    "hookimpl": "interface.contracts",
    "Target": "target.target",
    "Record": "interface.results",
    "Status": "interface.results",
    "load_attack": "interface.registry",
    "load_bound": "interface.registry",
    "load_defense": "interface.registry",
    "load_data": "data",
    "evaluate": "notebook",
    "play": "evaluation.referee",
    "open_store": "store.store",
    "PerSampleAttack": "toolbox.library",
    "FixedEpsilonAttack": "toolbox.library",
    "BudgetExhausted": "errors",
    "UserError": "errors",
}

__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'arena' has no attribute {name!r}")
    return getattr(import_module(f"arena.{_EXPORTS[name]}"), name)


def __dir__() -> list[str]:
    return __all__
