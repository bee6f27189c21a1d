"""What a data set is: images with labels, and what is true of them whatever plays on them."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from arena.geometry.norms import Norm
from arena.interface.settings import Settings

if TYPE_CHECKING:  # the coordinator reads settings without torch
    from torch import Tensor


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


Layout = Literal["NCHW", "NHWC", "NHW"]


class DatasetSettings(Settings):
    """[dataset.NAME]: where a data set of your own lies, and how to read it."""

    file: str | None = Field(
        None, description='split "test": .npz, .safetensors, a folder, "IMAGES,LABELS" in IDX, or "module:function"'
    )
    files: dict[str, str] = Field(default_factory=dict, description="the same for any split, by its name")
    keys: dict[Literal["x", "y"], str] = Field(default_factory=dict, description="names of x and y in an archive")
    bounds: tuple[float, float] | None = Field(
        None, description="values of black and white; default: [0, 255] for bytes, else [0, 1]"
    )
    layout: Layout | None = Field(None, description="order of the dimensions; default: NHW for three, else NCHW")
    classes: int | None = Field(None, ge=2, description="how many there are; default: the largest label plus 1")
    class_names: tuple[str, ...] = Field((), description="what they are called, in order")
    epsilon: dict[Norm, float] = Field(
        default_factory=dict, description="perturbation sizes at which accuracy is read, by norm, in [0, 1]"
    )

    @model_validator(mode="after")
    def _whole(self) -> DatasetSettings:
        if (self.file is None) == (not self.files):
            raise ValueError("give file, or files = { split = file, ... }")
        if self.bounds is not None and not self.bounds[0] < self.bounds[1]:
            raise ValueError(f"bounds = {list(self.bounds)}: the first must be the smaller")
        return self

    def at(self, folder: Path) -> DatasetSettings:
        """The same with paths that are relative to `folder` made absolute."""

        def absolute(file: str) -> str:
            return ",".join(
                part.strip() if ":" in part and not (folder / part.strip()).exists() else str(folder / part.strip())
                for part in file.split(",")
            )

        return self.model_copy(
            update={
                "file": absolute(self.file) if self.file else None,
                "files": {split: absolute(file) for split, file in self.files.items()},
            }
        )
