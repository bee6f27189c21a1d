"""What this installation can do, and what is wrong with it."""

from __future__ import annotations

import hashlib
import json
import platform
import sqlite3
from collections import Counter
from collections.abc import Iterator
from importlib import metadata
from typing import NamedTuple, get_args

import torch

from arena.data import DEFAULT
from arena.errors import UserError
from arena.interface.registry import Kind, registry
from arena.models.weights import ZOO
from arena.store.engine import LEAST_SQLITE


class Diagnosis(NamedTuple):
    """One line of the diagnosis; `sound` is False for what must be mended."""

    about: str
    says: str
    sound: bool = True


def examine() -> list[Diagnosis]:
    """Versions, kernels, GPU, data set, shipped weights and plugins of this installation. Changes nothing."""
    return [
        Diagnosis("versions", _versions()),
        _sqlite(),
        _kernels(),
        Diagnosis("gpu", _gpu()),
        _data(),
        *_weights(),
        *_plugins(),
    ]


def _versions() -> str:
    packages = ("arena-robustness", "torch", "numpy", "foolbox", "sqlalchemy")
    return ", ".join(
        [f"Python {platform.python_version()}", *(f"{name} {metadata.version(name)}" for name in packages)]
    )


def _sqlite() -> Diagnosis:
    least = ".".join(map(str, LEAST_SQLITE))
    sound = sqlite3.sqlite_version_info >= LEAST_SQLITE
    return Diagnosis("sqlite", f"{sqlite3.sqlite_version}, {least} or later is needed", sound)


def _kernels() -> Diagnosis:
    try:
        from arena import _native
        from arena.kernels import cuda
    except ImportError as failure:
        return Diagnosis("kernels", f"arena._native cannot be loaded ({failure}): install arena again with g++", False)
    code = "with" if cuda.built else "without"
    return Diagnosis("kernels", f"{_native.instruction_set()}, {torch.get_num_threads()} threads, {code} CUDA code")


def _gpu() -> str:
    if not torch.cuda.is_available():
        return "none that torch sees"
    devices = [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    names = ", ".join(torch.cuda.get_device_name(device) for device in devices)
    try:
        from arena.kernels import cuda
    except ImportError:  # which the line about kernels tells
        return names
    problems = sorted({cuda.problem(device) for device in devices} - {""})
    return "; ".join([names, *(f"without arena's kernels: {problem}" for problem in problems)])


def _data() -> Diagnosis:
    try:
        return Diagnosis(DEFAULT.name, f"{DEFAULT.verify()}, all hashes agree")
    except UserError as failure:
        return Diagnosis(DEFAULT.name, str(failure), False)


def _weights() -> Iterator[Diagnosis]:
    damaged: list[str] = []
    sound: Counter[str] = Counter()  # by the data set that they are of
    for card in sorted(ZOO.rglob("*.json")):
        folder = card.relative_to(ZOO).parent.name or DEFAULT.name
        file = card.with_suffix(".safetensors")
        found = hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else None
        if found != json.loads(card.read_bytes())["sha256"]:
            damaged.append(card.relative_to(ZOO).with_suffix("").as_posix())
        else:
            sound[folder] += 1
    others = "".join(f", {count} for {data}" for data, count in sound.items() if data != DEFAULT.name)
    yield Diagnosis("weights", f"those of {sound[DEFAULT.name]} models are as shipped{others}")
    if damaged:
        yield Diagnosis("weights", f"{', '.join(damaged)}: not those of the model card: install arena again", False)


def _plugins() -> Iterator[Diagnosis]:
    found = registry()
    counts = [f"{len(found.names(kind))} {kind}s" for kind in get_args(Kind) if kind != "dataset"]
    yield Diagnosis("plugins", ", ".join(counts))
    for problem in found.problems:
        yield Diagnosis("plugins", f"{problem.package}: {problem.reason}", False)
