"""Which plugins are installed: entry points of the group `arena`, each loaded under guard."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, field
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args

import pluggy

from arena.errors import UserError, visible
from arena.geometry.norms import NORMS
from arena.interface import hookspecs
from arena.interface.contracts import ACCESS_LEVELS, Attack, Bound, Defense, ExactGradient, Gradient
from arena.interface.dataset import Dataset
from arena.interface.results import BOUND_KINDS
from arena.interface.settings import RESERVED, did_you_mean

Kind = Literal["defense", "attack", "bound", "dataset"]

_BASES: dict[Kind, Any] = {"defense": Defense, "attack": Attack, "bound": Bound}

_DECLARED: dict[Kind, dict[str, tuple[str, ...]]] = {
    "defense": {"gradient": get_args(Gradient)},
    "attack": {"norm": NORMS, "access": ACCESS_LEVELS},
    "bound": {"kind": BOUND_KINDS},
}

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*")


@dataclass(frozen=True)
class Plugin:
    """A registered class and the package that it came with."""

    kind: Kind
    name: str
    cls: Any
    package: str
    version: str

    @property
    def module(self) -> ModuleType:
        """Where its class was written; for one that a function made of another, where that was."""
        written = next((cls for cls in self.cls.__mro__ if "<locals>" not in cls.__qualname__), self.cls)
        return sys.modules[(self.cls if written in _BASES.values() else written).__module__]


@dataclass(frozen=True)
class Problem:
    """Why a package, or one name of it, cannot be used."""

    package: str
    reason: str


@dataclass
class Registry:
    """All plugins by kind and name, the names that two packages claim, and what went wrong."""

    plugins: dict[tuple[Kind, str], Plugin] = field(default_factory=dict)
    ambiguous: dict[tuple[Kind, str], Problem] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def add(self, plugin: Plugin) -> None:
        """Take a plugin in; of two with one name neither can be asked for."""
        key = plugin.kind, plugin.name
        if key in self.plugins:
            both = f"{self.plugins[key].package} and {plugin.package}"
            reason = f"{plugin.kind} {plugin.name!r} is registered by both {both}; uninstall one or rename it"
            self.ambiguous[key] = Problem(plugin.package, reason)
            self.problems.append(self.ambiguous[key])
        else:
            self.plugins[key] = plugin

    def names(self, kind: Kind) -> list[str]:
        """The usable names, built-ins and third parties alike."""
        return sorted(name for key, name in self.plugins if key == kind and (key, name) not in self.ambiguous)

    def find(self, kind: Kind, name: str) -> Plugin:
        """The plugin of that name; raises UserError if it is unknown, claimed twice or its package is broken."""
        if (kind, name) in self.ambiguous:
            raise UserError(self.ambiguous[kind, name].reason)
        if (kind, name) not in self.plugins:
            broken = ", ".join(sorted({problem.package for problem in self.problems}))
            hint = f"; broken packages: {broken} (see `arena plugins`)" if broken else ""
            raise UserError(f"unknown {kind} {name!r}; {did_you_mean(name, self.names(kind))}{hint}")
        return self.plugins[kind, name]


@cache
def registry() -> Registry:
    """Everything that is installed, loaded once a process."""
    found = Registry()
    for package, version, entry in _entries():
        try:
            with _printing_to_stderr():
                classes = _registered(entry.load(), package)
            for kind, cls in classes:
                found.add(Plugin(kind, cls.name, cls, package, version))
        except (Exception, SystemExit) as failure:
            found.problems.append(Problem(package, f"{entry.value}: {_one_line(failure)}"))
    return found


def load_defense(name: str, weights: str | Path | None = None, device: str = "cpu", **settings: Any) -> Defense:
    """A ready defense by name; raises UserError for an unknown name, setting, weights file or device."""
    return registry().find("defense", name).cls(weights=weights, device=device, **settings)


def load_attack(name: str, **settings: Any) -> Attack:
    """A ready attack by name; raises UserError for an unknown name or setting."""
    return registry().find("attack", name).cls(**settings)


def load_bound(name: str, **settings: Any) -> Bound:
    """A ready lower bound by name; raises UserError for an unknown name or setting."""
    return registry().find("bound", name).cls(**settings)


def find_any(name: str) -> list[Plugin]:
    """The plugins of that name, of whatever kind; raises UserError if there is none, or two packages claim it."""
    found = registry()
    kinds = [kind for kind in _BASES if (kind, name) in found.plugins]
    if kinds:
        return [found.find(kind, name) for kind in kinds]
    hint = did_you_mean(name, sorted(name for kind in _BASES for name in found.names(kind)))
    raise UserError(f"unknown plugin {name!r}; {hint} (`arena plugins` lists all, and the packages it could not load)")


def _one_line(failure: BaseException) -> str:
    """What was raised, as one line of a terminal that no escape sequence can change."""
    text = " ".join(str(failure).split())[:500] or "no message"
    return f"{type(failure).__name__}: " + visible(text)


def _registered(module: Any, package: str) -> list[tuple[Kind, Any]]:
    """The classes that a plugin module registers; a manager of its own keeps one plugin's failure from the others."""
    manager = pluggy.PluginManager("arena")
    manager.add_hookspecs(hookspecs)
    manager.register(module, name=package)
    try:
        manager.check_pending()
    except pluggy.PluginValidationError:
        pending = [name for name in dir(module) if getattr(getattr(module, name), "arena_impl", None)]
        known = [f"register_{kind}s" for kind in get_args(Kind)]
        misspelt = next(name for name in pending if name not in known)
        raise ValueError(f"unknown hook {misspelt!r}; {did_you_mean(misspelt, known)}") from None
    if not manager.get_hookcallers(manager.get_plugin(package)):
        raise ValueError(
            "it implements no hook; decorate register_attacks (or _defenses, _bounds, _datasets) with @arena.hookimpl"
        )
    classes: list[tuple[Kind, Any]] = []
    for kind in get_args(Kind):
        getattr(manager.hook, f"register_{kind}s")(register=partial(_accept, classes, kind))
    return classes


def _accept(classes: list[tuple[Kind, Any]], kind: Kind, cls: Any) -> None:
    if faults := declaration_faults(kind, cls):
        raise TypeError(f"{getattr(cls, '__qualname__', cls)}: {'; '.join(faults)}")
    classes.append((kind, cls))


def declaration_faults(kind: Kind, cls: Any) -> list[str]:
    """What a class declares that makes no plugin of this kind, one line a fault with the remedy."""
    if kind == "dataset":
        return _dataset_faults(cls)
    base = _BASES[kind]
    if not (isinstance(cls, type) and issubclass(cls, base)):
        return [f"{getattr(cls, '__name__', cls)} is not a subclass of arena.{base.__name__}"]
    faults = []
    name = getattr(cls, "name", None)
    if not (isinstance(name, str) and NAME.fullmatch(name) and name != "all"):
        faults.append(f"name = {name!r}: use letters, digits, dots and dashes, as in my-{kind}, and not all")
    for attribute, known in _DECLARED[kind].items():
        if getattr(cls, attribute, None) not in known:
            faults.append(f"{attribute} = {getattr(cls, attribute, None)!r} must be one of {', '.join(known)}")
    norms = getattr(cls, "norms", None)
    if kind == "bound" and not (isinstance(norms, tuple) and norms and all(norm in NORMS for norm in norms)):
        faults.append(f"norms = {norms!r} must be a tuple of some of {', '.join(NORMS)}")
    if kind == "defense" and getattr(cls, "gradient", None) == "exact" and not issubclass(cls, ExactGradient):
        faults.append("gradient = 'exact' needs a method score_gradient(x); see arena.interface.contracts")
    taken = [key for key in RESERVED[kind] if key in getattr(cls.Settings, "model_fields", {})]
    faults += [f"setting {key!r} would never reach it, arena reads [{kind}.{name}] {key}: rename" for key in taken]
    return faults


def _dataset_faults(dataset: Any) -> list[str]:
    if not isinstance(dataset, Dataset):
        return ["is not an instance of arena.Dataset"]
    faults = []
    name, shape = getattr(dataset, "name", None), getattr(dataset, "shape", ())
    if not (isinstance(name, str) and NAME.fullmatch(name) and name != "all"):
        faults.append(f"name = {name!r}: use letters, digits, dots and dashes, as in my-data, and not all")
    if len(shape) != 3 or not all(isinstance(side, int) and side > 0 for side in shape):
        faults.append(f"shape = {shape!r} must be three sizes: channels, height, width")
    if not (isinstance(getattr(dataset, "classes", None), int) and dataset.classes >= 2):
        faults.append("classes must be 2 or more")
    if not getattr(dataset, "splits", ()):
        faults.append("splits are missing: name one at least")
    faults += [f"thresholds: unknown norm {norm!r}" for norm in dataset.thresholds if norm not in NORMS]
    return faults


@contextmanager
def _printing_to_stderr() -> Iterator[None]:
    """What a package prints while it is imported is not what a command prints: it goes to standard error."""
    with ExitStack() as undo:
        with suppress(OSError):  # one of them is closed
            output = os.dup(1)
            undo.callback(os.close, output)
            _flush()
            os.dup2(2, 1)
            undo.callback(os.dup2, output, 1)
            undo.callback(_flush)
        with redirect_stdout(sys.stderr):
            yield


def _flush() -> None:
    for stream in (sys.stdout, sys.__stdout__):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()  # type: ignore[union-attr]


def _entries() -> list[tuple[str, str, metadata.EntryPoint]]:
    """Package, version and entry point of everything installed for arena, its own first.

    Of several folders that name one package (pip leaves some behind that begin with ~) the one that Python finds
    counts.
    """
    entries = []
    for name in {entry.dist.name for entry in metadata.entry_points(group="arena") if entry.dist and entry.dist.name}:
        with suppress(metadata.PackageNotFoundError):
            found = metadata.distribution(name)
            entries += [(name, found.version, entry) for entry in found.entry_points if entry.group == "arena"]
    return sorted(entries, key=lambda row: (row[0] != "arena-robustness", row[0], row[1], row[2].name))
