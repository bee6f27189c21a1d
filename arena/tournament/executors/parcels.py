"""Weights on their way to machines that do not have them: by content, so that each is sent and kept once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from arena.errors import UserError
from arena.files import write_atomically
from arena.tournament.config import Config


@dataclass(frozen=True)
class Parcel:
    """A weights file with the model card beside it, or a folder; `files`: content by path relative to its folder."""

    name: str
    files: Mapping[str, bytes]

    @property
    def key(self) -> str:
        """The SHA-256 of names and content."""
        digest = hashlib.sha256()
        for name, content in sorted(self.files.items()):
            digest.update(f"{name}\0{len(content)}\0".encode() + content)
        return digest.hexdigest()


def packed(config: Config) -> dict[str, Parcel]:
    """The weights that the settings name and this machine has, by path; raises UserError for what cannot be read."""
    paths = {section.weights for section in config.defense.values() if section.weights}
    try:
        return {path: parcel for path in sorted(paths) if (parcel := _read(Path(path))) is not None}
    except OSError as error:
        raise UserError(f"weights {error.filename} cannot be read: {error.strerror}") from None


def unpacked(parcels: Mapping[str, Parcel]) -> dict[str, str]:
    """Where this machine has the weights of each path: there, if the content is the same, else in the user's cache."""
    places = {}
    for path, parcel in parcels.items():
        if _read(Path(path)) == parcel:
            continue
        folder = Path(platformdirs.user_cache_dir("arena"), "weights", parcel.key)
        for name, content in parcel.files.items():
            if not (folder / name).exists():
                write_atomically(folder / name, content)
        places[path] = str(folder / parcel.name)
    return places


def _read(path: Path) -> Parcel | None:
    if path.is_dir():
        files = [file for file in sorted(path.rglob("*")) if file.is_file()]
    else:
        files = [file for file in (path, path.with_suffix(".json")) if file.is_file()]
    if path not in files and not path.is_dir():
        return None
    return Parcel(path.name, {file.relative_to(path.parent).as_posix(): file.read_bytes() for file in files})
