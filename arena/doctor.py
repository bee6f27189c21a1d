"""What this installation can do, and what is wrong with it."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterator
from importlib import metadata
from typing import NamedTuple

import torch

from arena import data
from arena.errors import UserError
from arena.models.weights import ZOO
from arena.registry import registry


class Finding(NamedTuple):
    """One line of the diagnosis; `sound` is False for what must be mended."""

    about: str
    says: str
    sound: bool = True


def examine() -> list[Finding]:
    """Versions, kernels, GPU, data set, shipped weights and plugins of this installation. Changes nothing."""
    return [Finding("versions", _versions()), _kernels(), Finding("gpu", _gpu()), _data(), *_weights(), *_plugins()]


def _versions() -> str:
    packages = ("arena-robustness", "torch", "numpy", "foolbox", "sqlalchemy")
    return ", ".join(
        [f"Python {platform.python_version()}", *(f"{name} {metadata.version(name)}" for name in packages)]
    )


def _kernels() -> Finding:
    try:
        from arena import _native
        from arena.kernels import cuda
    except ImportError as failure:
        return Finding("kernels", f"arena._native cannot be loaded ({failure}): install arena again with g++", False)
    code = "with" if cuda.built else "without"
    return Finding("kernels", f"{_native.instruction_set()}, {torch.get_num_threads()} threads, {code} CUDA code")


def _gpu() -> str:
    if not torch.cuda.is_available():
        return "none that torch sees"
    return ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))


def _data() -> Finding:
    try:
        return Finding("mnist", f"{data.verify('mnist')}, all hashes agree")
    except UserError as failure:
        return Finding("mnist", str(failure), False)


def _weights() -> Iterator[Finding]:
    cards = [json.loads(card.read_bytes()) for card in sorted(ZOO.glob("*.json"))]
    damaged = []
    for card in cards:
        file = ZOO / f"{card['name']}.safetensors"
        found = hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else None
        damaged += [card["name"]] if found != card["sha256"] else []
    yield Finding("weights", f"those of {len(cards) - len(damaged)} models are as shipped")
    if damaged:
        yield Finding("weights", f"{', '.join(damaged)}: not those of the model card: install arena again", False)


def _plugins() -> Iterator[Finding]:
    found = registry()
    yield Finding("plugins", f"{len(found.names('defense'))} defenses, {len(found.names('attack'))} attacks")
    for problem in found.problems:
        yield Finding("plugins", f"{problem.package}: {problem.reason}", False)
