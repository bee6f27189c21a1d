"""arena: how robust is this classifier, sample by sample?

The names that plugin authors and notebooks use, imported on first access so that `arena --help` stays quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the same for type checkers, which do not see __getattr__
    from arena.data import load_data as load_data
    from arena.errors import BudgetExhausted as BudgetExhausted
    from arena.errors import NotApplicable as NotApplicable
    from arena.errors import UserError as UserError
    from arena.evaluation.referee import play as play
    from arena.interface.contracts import Attack as Attack
    from arena.interface.contracts import Bound as Bound
    from arena.interface.contracts import Defense as Defense
    from arena.interface.contracts import Votes as Votes
    from arena.interface.contracts import hookimpl as hookimpl
    from arena.interface.dataset import Dataset as Dataset
    from arena.interface.prototypes import FiniteSet as FiniteSet
    from arena.interface.registry import load_attack as load_attack
    from arena.interface.registry import load_bound as load_bound
    from arena.interface.registry import load_defense as load_defense
    from arena.interface.results import BoundKind as BoundKind
    from arena.interface.results import Record as Record
    from arena.interface.results import Status as Status
    from arena.interface.settings import Settings as Settings
    from arena.notebook import evaluate as evaluate
    from arena.store.store import open_store as open_store
    from arena.target.target import Target as Target
    from arena.toolbox.library import FixedEpsilonAttack as FixedEpsilonAttack
    from arena.toolbox.library import PerSampleAttack as PerSampleAttack

_EXPORTS = {
    "Attack": "interface.contracts",
    "Bound": "interface.contracts",
    "BoundKind": "interface.results",
    "BudgetExhausted": "errors",
    "Dataset": "interface.dataset",
    "Defense": "interface.contracts",
    "FiniteSet": "interface.prototypes",
    "FixedEpsilonAttack": "toolbox.library",
    "NotApplicable": "errors",
    "PerSampleAttack": "toolbox.library",
    "Record": "interface.results",
    "Settings": "interface.settings",
    "Status": "interface.results",
    "Target": "target.target",
    "UserError": "errors",
    "Votes": "interface.contracts",
    "evaluate": "notebook",
    "hookimpl": "interface.contracts",
    "load_attack": "interface.registry",
    "load_bound": "interface.registry",
    "load_data": "data",
    "load_defense": "interface.registry",
    "open_store": "store.store",
    "play": "evaluation.referee",
}

__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'arena' has no attribute {name!r}")
    return getattr(import_module(f"arena.{_EXPORTS[name]}"), name)


def __dir__() -> list[str]:
    return __all__
