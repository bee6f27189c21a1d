"""Weights belong to the data that they were trained on: which of the shipped ones a defense takes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

import arena
from arena.data import DEFAULT
from arena.models.weights import shipped


class TrainedSettings(arena.Settings):
    trained_on: str | None = Field(
        None, description="the data set whose shipped weights are taken; default: the one that is played, else mnist"
    )


def weights_of(defense: arena.Defense) -> Path:
    """The file of the weights that a defense was given, or that ship for what it is set to."""
    return Path(defense.weights or shipped(defense.name, defense.settings.trained_on))


def trained_for(name: str, data: arena.Dataset, given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the defense `name` with weights for the data that is played, unless the user chose some.

    Raises:
        NotApplicable: none ship for that data.
    """
    if given.get("weights") is not None or given.get("trained_on") is not None:
        return dict(given)
    if not shipped(name, data.name).exists():
        raise arena.NotApplicable(
            f"defense {name}: no weights for {data.name} ship with arena: set weights, which"
            f" `arena train {name} --dataset {data.name}` writes, or trained_on for those of another data set"
        )
    return dict(given) if data.name == DEFAULT.name else {**given, "trained_on": data.name}
