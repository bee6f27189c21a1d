"""CIFAR-10 in its binary archive (Krizhevsky 2009): 60 000 colour images of 32 x 32 in ten classes."""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from arena.data import cache, sources
from arena.errors import UserError
from arena.files import write_atomically
from arena.geometry.norms import Norm
from arena.interface.dataset import Dataset

RECORD = 1 + 3 * 32 * 32  # bytes: the label, then the red, the green and the blue plane, row by row
MEMBERS = {
    "train": tuple(f"cifar-10-batches-bin/data_batch_{batch}.bin" for batch in range(1, 6)),
    "test": ("cifar-10-batches-bin/test_batch.bin",),
}


@dataclass(frozen=True)
class CIFAR10(Dataset):
    """The binary archive from its home page; `size` in bytes and `sha256` of the archive decide, not its origin."""

    url: str = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
    size: int = 170_052_171
    sha256: str = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
    name: str = "cifar10"
    shape: tuple[int, int, int] = (3, 32, 32)
    classes: int = 10
    splits: tuple[str, ...] = ("train", "test")
    class_names: tuple[str, ...] = (
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    )

    @property
    def thresholds(self) -> Mapping[Norm, float]:  # type: ignore[override]
        """Those of RobustBench (Croce et al. 2021): 8/255 in Linf, 0.5 in L2, 12 in L1; L0 has none there."""
        return {"linf": 8 / 255, "l2": 0.5}

    @property
    def archive(self) -> Path:
        return cache.data_folder() / self.name / "cifar-10-binary.tar.gz"

    def load(self, split: str, samples: int | None = None) -> tuple[Tensor, Tensor]:
        if not self._intact():
            self.fetch()
        content = b"".join(self._records(MEMBERS[split], samples))
        records = torch.from_numpy(np.frombuffer(content, np.uint8).reshape(-1, RECORD).copy())
        return records[:, 1:].reshape(-1, *self.shape), records[:, 0].long()

    def identity(self, split: str) -> str:
        """Of the archive's hash, which alone is ever served: touches no file."""
        return cache.sha256(f"{self.sha256} {split}".encode())

    def fetch(self) -> str:
        if not self._intact():
            try:
                content = sources.download(self.url, self.size)
            except sources.SourceError as failure:
                remedy = f"connect to the network, or copy the archive to {self.archive}"
                raise UserError(f"cannot fetch {self.name}: {remedy} ({self.url}: {failure})") from None
            if len(content) != self.size or cache.sha256(content) != self.sha256:
                raise UserError(f"cannot fetch {self.name}: {self.url} has other bytes than the published ones")
            write_atomically(self.archive, content)
        return str(self.archive.parent)

    def verify(self) -> str:
        if not self._intact():
            what = f"{self.archive.name} missing or damaged in {self.archive.parent}"
            raise UserError(f"{what}; run `arena data fetch {self.name}`")
        return str(self.archive.parent)

    def _intact(self) -> bool:
        """The size first: it costs nothing."""
        try:
            if os.stat(self.archive).st_size != self.size:
                return False
            with self.archive.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == self.sha256
        except OSError:
            return False

    def _records(self, members: tuple[str, ...], samples: int | None) -> Iterator[bytes]:
        """The first so many records of the members in their order."""
        with tarfile.open(self.archive) as archive:
            for member in members:
                file = archive.extractfile(member)
                if file is None:
                    raise UserError(f"{self.archive}: {member} is no file: fetch {self.name} again")
                content = file.read(-1 if samples is None else samples * RECORD)
                yield content
                if samples is not None and (samples := samples - len(content) // RECORD) <= 0:
                    return
