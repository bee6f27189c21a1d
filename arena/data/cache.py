"""The folder of fetched data, whose files are served only with the right hash."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import platformdirs

from arena import environment
from arena.data.sources import SourceError
from arena.errors import UserError
from arena.files import write_atomically

Source = tuple[str, Iterator[tuple[str, bytes]]]  # a name, and pairs (file, content) that it hands out


def data_folder() -> Path:
    """The folder of all data sets: ARENA_DATA, or `arena` in the user's cache folder.

    Raises:
        UserError: the user has no home folder either.
    """
    try:
        return environment.data_folder() or platformdirs.user_cache_path("arena")
    except RuntimeError:
        raise UserError("no home folder to keep data sets in: set HOME, or ARENA_DATA to a folder for them") from None


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def intact(folder: Path, file: str, expected: str) -> bytes | None:
    """The content of a cached file if it has the right hash."""
    path = folder / file
    try:
        content = path.read_bytes() if path.is_file() else b""  # reading a pipe would wait for ever
    except OSError:
        return None
    return content if sha256(content) == expected else None


def served(folder: Path, file: str, expected: str, fetch: Callable[[], object]) -> bytes:
    """The content of a cached file, checked; `fetch` puts it there first if it is missing or damaged."""
    content = intact(folder, file, expected)
    if content is None:
        fetch()
        content = (folder / file).read_bytes()
    return content


def missing(folder: Path, hashes: Mapping[str, str]) -> Sequence[str]:
    """The files that are not there, or damaged."""
    return [file for file, expected in hashes.items() if intact(folder, file, expected) is None]


def check(folder: Path, hashes: Mapping[str, str], name: str) -> None:
    """Raises UserError, naming them, if files [name -> SHA-256] are missing or damaged."""
    if bad := missing(folder, hashes):
        raise UserError(f"{', '.join(bad)} missing or damaged in {folder}; run `arena data fetch {name}`")


def fill(folder: Path, hashes: Mapping[str, str], name: str, candidates: Iterator[Source], remedy: str) -> None:
    """Store the files [name -> SHA-256] from the first source that has all of them with the right hash.

    Raises UserError with what each source said if none could help, or if the folder cannot be written to.
    """
    failures = []
    for source, contents in candidates:
        try:
            for file, content in contents:
                if sha256(content) != hashes[file]:
                    raise SourceError(f"{file} has the wrong SHA-256")
                write_atomically(folder / file, content)
            return
        except SourceError as error:
            failures.append(f"{source}: {' '.join(str(error).split())}")
    raise UserError(f"cannot fetch {name}: {remedy} ({'; '.join(failures)})")
