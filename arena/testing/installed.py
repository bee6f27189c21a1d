"""Conformance of what is installed: the plugin is looked up as the tournament does."""

from __future__ import annotations

from typing import Any

from arena.data import find_dataset, load_split
from arena.errors import UserError
from arena.interface.dataset import Dataset
from arena.interface.registry import Plugin, find_any
from arena.testing.attacks import check_attack, opponent
from arena.testing.bounds import check_bound, opponents
from arena.testing.defenses import IMAGES, check_defense
from arena.testing.report import Report


def check_plugin(name: str, factor: float | None = None, dataset: str | None = None, **limits: Any) -> Report:
    """Check the installed attack, defense or lower bound of that name, with its default settings.

    dataset: a data set by name. A defense is asked about its images; attacks and bounds meet linear defenses of its
    shape and classes. factor, and the limits timeout and budget: as for `check_attack`; None stands for its default.
    Raises UserError if there is none of that name, if two packages claim it, if its weights cannot be loaded, or if it
    is not made for the data.
    """
    given = {key: value for key, value in {"factor": factor, **limits}.items() if value is not None}
    plugin = find_any(name)[0]
    if given and plugin.kind != "attack":
        raise UserError(f"--{next(iter(given))}: {name} is a {plugin.kind}; the option is for attacks, leave it out")
    if dataset is not None:
        return _on_data(plugin, find_dataset(dataset), given)
    if plugin.kind == "attack":
        return check_attack(plugin.cls(), **given)
    return check_bound(plugin.cls()) if plugin.kind == "bound" else check_defense(plugin.cls())


def _on_data(plugin: Plugin, data: Dataset, limits: dict[str, Any]) -> Report:
    like: dict[str, Any] = {"shape": data.shape, "classes": data.classes}
    if plugin.kind == "bound":
        return check_bound(plugin.cls(), defenses=opponents(**like))
    ready = plugin.cls(**plugin.cls.settings_for(data, {}))
    if plugin.kind == "attack":
        return check_attack(ready, defense=opponent(ready, **like), **limits)
    split = "test" if "test" in data.splits else data.splits[0]
    return check_defense(ready, x=load_split(data, split, IMAGES)[0])
