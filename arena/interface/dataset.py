"""What a data set is: images with labels, and what is true of them whatever plays on them."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from arena.geometry.norms import Norm


class Dataset(ABC):
    """Images with labels, in named splits.

    `shape` [C, H, W] is that of each image, `classes` the number of labels, `class_names` what they are called (empty:
    their numbers). `thresholds` are the perturbation sizes at which accuracies are read, by norm, in units of [0, 1];
    norms without one are reported by their median alone.
    """

    name: str
    shape: tuple[int, int, int]
    classes: int
    splits: tuple[str, ...]
    class_names: tuple[str, ...] = ()
    thresholds: Mapping[Norm, float] = {}

    @abstractmethod
    def load(self, split: str, samples: int | None = None) -> tuple[Tensor, Tensor]:
        """The first `samples` images of a split (default: all), x [N, C, H, W], uint8 or float32 in [0, 1], and their
        labels y, int64 [N], in [0, classes).

        Raises UserError for data that can be neither read nor fetched.
        """

    def identity(self, split: str) -> str:
        """SHA-256 (hex) that is equal for equal images and labels of a split, wherever they lie."""
        x, y = self.load(split)
        digest = hashlib.sha256(f"{x.dtype} {tuple(x.shape)} {self.classes}".encode())
        for part in (*x.split(1000), y):
            digest.update(part.contiguous().numpy())
        return digest.hexdigest()

    def fetch(self) -> str:
        """Get what is missing on this machine; says where it is. Most data sets are there or not."""
        return self.verify()

    def verify(self) -> str:
        """Check what is on this machine; says where it is. Raises UserError for what is missing or damaged."""
        for split in self.splits:
            self.load(split, 1)
        return "in place"

    @property
    def description(self) -> dict[str, Any]:
        """What `arena.data.open_dataset` needs to have this data set again, as JSON: the store keeps it."""
        return {"name": self.name}
