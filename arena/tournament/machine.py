"""What decides rows on a machine: equal descriptions, equal rows."""

from __future__ import annotations

import hashlib
import platform
from importlib import metadata
from pathlib import Path

import torch

import arena
from arena.interface.devices import resolve_device


def describe(device: str) -> dict[str, str]:
    """What must be equal on machines that play one tournament; device: as configured. Raises UserError for the device.

    Weights, data and the code and libraries of plugins are not named here: each job compares their fingerprints.
    """
    where = resolve_device(device)
    plugins = {entry.dist.name for entry in metadata.entry_points(group="arena") if entry.dist}
    return {
        "Python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        # Sums of other widths round differently: 45 of 48 rows differed by up to 5e-7 between AVX2 and AVX-512.
        "instruction set": torch.backends.cpu.get_cpu_capability(),
        "device": torch.cuda.get_device_name(where) if where.type == "cuda" else str(where),
        "source of arena": _source(),
        **{name: metadata.version(name) for name in sorted(plugins | {"torch", "numpy"})},
    }


def _source() -> str:
    """A digest of arena's Python files."""
    folder, digest = Path(arena.__file__).parent, hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        digest.update(f"{file.relative_to(folder).as_posix()}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()[:12]
