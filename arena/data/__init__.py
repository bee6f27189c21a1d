"""Data sets: those that ship, those of plugins, and those that a settings file describes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from arena.data.builtin import DATASETS, DEFAULT
from arena.data.described import DescribedDataset
from arena.errors import UserError
from arena.interface.dataset import Dataset, DatasetSettings
from arena.interface.results import DatasetIdentity
from arena.interface.settings import did_you_mean, parse_settings

__all__ = [
    "DATASETS",
    "DEFAULT",
    "data_hash",
    "find_dataset",
    "identify",
    "known_datasets",
    "load_data",
    "load_played",
    "load_split",
    "open_dataset",
]


def find_dataset(name: str, described: Mapping[str, DatasetSettings] | None = None) -> Dataset:
    """The data set of that name: of the settings' `[dataset.NAME]` sections, one that ships, or a plugin's.

    Raises UserError if there is none, or if its files are not what they should be.
    """
    if described and name in described:
        return DescribedDataset(name, described[name])
    if name in DATASETS:
        return DATASETS[name]
    from arena.interface.registry import registry  # loads every plugin: only where none of ours has the name

    found = registry()
    if ("dataset", name) not in found.plugins:
        known = {*(described or ()), *DATASETS, *found.names("dataset")}
        raise UserError(f"no data set {name!r}; {did_you_mean(name, sorted(known))}")
    dataset: Dataset = found.find("dataset", name).cls
    return dataset


def known_datasets() -> list[tuple[Dataset, str]]:
    """The data sets that ship and those of plugins, each with the package that it came with."""
    from arena.interface.registry import registry

    found = registry()
    ours = [(dataset, "arena-robustness") for dataset in DATASETS.values()]
    plugins = [found.plugins["dataset", name] for name in found.names("dataset") if name not in DATASETS]
    return ours + [(plugin.cls, plugin.package) for plugin in plugins]


def open_dataset(description: Mapping[str, Any]) -> Dataset:
    """The data set that once gave this `description`, which a store keeps; raises UserError if it is gone."""
    name, settings = description["name"], description.get("settings")
    if settings is None:
        return find_dataset(name)
    return DescribedDataset(name, parse_settings(DatasetSettings, dict(settings), f"dataset {name}"))


def load_split(dataset: Dataset, split: str, samples: int | None = None) -> tuple[Tensor, Tensor]:
    """The first `samples` images of a split (default: all), float32 [N, C, H, W] in [0, 1], and labels, int64 [N].

    Raises UserError for an unknown split, for fewer samples than asked for, and for data that is not what the data set
    says of itself.
    """
    if split not in dataset.splits:
        raise UserError(f"no split {split!r} in {dataset.name}; known: {', '.join(dataset.splits)}")
    x, y = dataset.load(split, samples)
    if x.shape[1:] != dataset.shape or y.shape != x.shape[:1]:
        got = f"{tuple(x.shape)} with labels {tuple(y.shape)}"
        raise UserError(f"dataset {dataset.name}: gave images {got}, not [N, {', '.join(map(str, dataset.shape))}]")
    if samples is not None and len(x) < samples:
        raise UserError(f"samples = {samples}: the {split} split of {dataset.name} has {len(x)}")
    x = x.float().div_(255) if x.dtype == torch.uint8 else x
    return x, y


def load_data(name: str = DEFAULT.name, split: str = "test", samples: int | None = None) -> tuple[Tensor, Tensor]:
    """Images and labels of a data set that ships or is a plugin's, as `load_split` gives them; what is missing on this
    machine is fetched."""
    return load_split(find_dataset(name), split, samples)


def data_hash(name: str = DEFAULT.name, split: str = "test") -> str:
    """What identifies the images and labels of a split; see `Dataset.identity`."""
    dataset = find_dataset(name)
    if split not in dataset.splits:
        raise UserError(f"no split {split!r} in {name}; known: {', '.join(dataset.splits)}")
    return dataset.identity(split)


def identify(dataset: Dataset, split: str) -> DatasetIdentity:
    """What a store keeps of a split."""
    return DatasetIdentity(
        data_hash=dataset.identity(split),
        description=dataset.description,
        shape=tuple(dataset.shape),
        classes=dataset.classes,
        class_names=tuple(dataset.class_names),
        thresholds=dict(dataset.thresholds),
    )


def load_played(description: Mapping[str, Any], split: str, expected: str) -> tuple[Tensor, Tensor]:
    """What the data set that a store describes gives, if it is what has the hash `expected`.

    Raises:
        UserError: it is not, or as `load_split`.
    """
    dataset = open_dataset(description)
    if dataset.identity(split) != expected:
        raise UserError(f"the data set {dataset.name}, {split}, of this installation is not the one that was played")
    return load_split(dataset, split)
