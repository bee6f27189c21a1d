"""Which plugins are installed: entry points of the group `arena`, each loaded under guard."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, get_args

import pluggy

from arena.errors import UserError
from arena.geometry.norms import NORMS
from arena.interface import hookspecs
from arena.interface.contracts import ACCESS_LEVELS, Attack, Defense, Gradient
from arena.interface.settings import did_you_mean

Kind = Literal["defense", "attack"]


@dataclass(frozen=True)
class Plugin:
    """A registered class and the package that it came with."""

    kind: Kind
    name: str
    cls: Any
    package: str
    version: str


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
    entries = metadata.entry_points(group="arena")
    for entry in sorted(entries, key=lambda entry: (_package(entry)[0] != "arena-robustness", _package(entry))):
        package, version = _package(entry)
        try:
            for kind, cls in _registered(entry.load(), package):
                found.add(Plugin(kind, cls.name, cls, package, version))
        except (Exception, SystemExit) as failure:
            reason = " ".join(str(failure).split()) or "no message"
            found.problems.append(Problem(package, f"{entry.value}: {type(failure).__name__}: {reason}"))
    return found


def load_defense(name: str, weights: str | Path | None = None, device: str = "cpu", **settings: Any) -> Defense:
    """A ready defense by name; raises UserError for an unknown name, setting, weights file or device."""
    return registry().find("defense", name).cls(weights=weights, device=device, **settings)


def load_attack(name: str, **settings: Any) -> Attack:
    """A ready attack by name; raises UserError for an unknown name or setting."""
    return registry().find("attack", name).cls(**settings)


def _registered(module: Any, package: str) -> list[tuple[Kind, Any]]:
    """The classes that a plugin module registers; a manager of its own keeps one plugin's failure from the others."""
    manager = pluggy.PluginManager("arena")
    manager.add_hookspecs(hookspecs)
    manager.register(module, name=package)
    try:
        manager.check_pending()
    except pluggy.PluginValidationError:
        pending = [name for name in dir(module) if getattr(getattr(module, name), "arena_impl", None)]
        known = ["register_defenses", "register_attacks"]
        misspelt = next(name for name in pending if name not in known)
        raise ValueError(f"unknown hook {misspelt!r}; {did_you_mean(misspelt, known)}") from None
    if not manager.get_hookcallers(manager.get_plugin(package)):
        raise ValueError("it implements no hook; decorate register_attacks or register_defenses with @arena.hookimpl")
    classes: list[tuple[Kind, Any]] = []
    manager.hook.register_defenses(register=partial(_accept, classes, "defense"))
    manager.hook.register_attacks(register=partial(_accept, classes, "attack"))
    return classes


def _accept(classes: list[tuple[Kind, Any]], kind: Kind, cls: Any) -> None:
    base: Any = Attack if kind == "attack" else Defense
    declared: dict[str, Callable[[Any], bool]] = {"name": lambda value: isinstance(value, str) and value != ""}
    if kind == "attack":
        declared |= {
            "norm": lambda value: value in NORMS,
            "access": lambda value: value in ACCESS_LEVELS,
        }
    else:
        declared |= {"gradient": lambda value: value in get_args(Gradient)}
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise TypeError(f"{cls!r} is not a subclass of arena.{base.__name__}")
    for attribute, valid in declared.items():
        if not valid(getattr(cls, attribute, None)):
            raise TypeError(f"{cls.__qualname__}.{attribute} = {getattr(cls, attribute, None)!r} is not valid")
    classes.append((kind, cls))


def _package(entry: metadata.EntryPoint) -> tuple[str, str]:
    return (entry.dist.name, entry.dist.version) if entry.dist else ("unknown", "0")
