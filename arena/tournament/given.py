"""Models and data sets named on the command line by where they are, as sections of the settings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from arena.errors import UserError
from arena.interface.dataset import DatasetSettings
from arena.interface.references import is_module

MODELS = (".onnx", ".pt2")
ARRAYS = (".npz", ".safetensors")

Sections = dict[str, Any]


def defenses_given(given: Sequence[str]) -> tuple[list[str], Sections]:
    """Names of defenses, and a [defense.NAME] section for each that is a model: "mine.py:build" is the defense "mine",
    "package.module:name" is "module". Paths are relative to the current folder. Raises UserError for two of one name.
    """
    names: list[str] = []
    sections: Sections = {}
    for one in given:
        name = one
        if ":" in one or Path(one).suffix in (*MODELS, ".py"):
            if Path(one).suffix == ".py":
                raise UserError(f"{one}: which function of it? write {one}:build")
            place = one.rpartition(":")[0] or one
            name = _name(place.rpartition(".")[2] if is_module(one) else Path(place).stem)
            if name in sections:
                raise UserError(f"two models called {name}: name them in a settings file, [defense.NAME] model = ...")
            sections[name] = {"model": one if is_module(one) else str(Path(one).resolve())}
        names.append(name)
    return names, sections


def dataset_given(given: str | None) -> tuple[str | None, Sections]:
    """The name of a data set, and a [dataset.NAME] section if it is a file, a folder or a function that loads it."""
    if given is None or not (":" in given or Path(given).suffix in ARRAYS or Path(given).exists()):
        return given, {}
    name = _name(given.rpartition(":")[2] if ":" in given else Path(given).stem)
    return name, {name: {"file": DatasetSettings(file=given).at(Path.cwd()).file}}


def _name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-.") or "mine"
