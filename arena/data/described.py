"""A data set that a settings file describes: `[dataset.mine] file = "test.npz"`."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from arena.data import cache, readers
from arena.errors import UserError
from arena.files import write_atomically
from arena.geometry.norms import Norm
from arena.interface.dataset import Dataset, DatasetSettings


class DescribedDataset(Dataset):
    """Images and labels of others, checked, and scaled to [0, 1].

    Raises UserError, naming the file and the remedy, for images or labels that are not what was described.
    """

    def __init__(self, name: str, settings: DatasetSettings) -> None:
        self.name, self.settings = name, settings
        self._files = {"test": settings.file} if settings.file else dict(settings.files)
        self.splits = tuple(self._files)
        self.thresholds: Mapping[Norm, float] = dict(settings.epsilon)
        self.class_names = settings.class_names or tuple(readers.class_folders(self._files[self.splits[0]]))
        x, y = self.load(self.splits[0], None if self._count is None else 1)
        self.shape = (x.shape[1], x.shape[2], x.shape[3])
        self.classes = self._count or max(int(y.max()) + 1, 2)
        if self.class_names and len(self.class_names) != self.classes:
            raise UserError(f"dataset {name}: {len(self.class_names)} class_names for {self.classes} classes")

    @property
    def description(self) -> dict[str, Any]:
        return {"name": self.name, "settings": self.settings.model_dump(mode="json", exclude_defaults=True)}

    def load(self, split: str, samples: int | None = None) -> tuple[Tensor, Tensor]:
        file, keys = self._files[split], {name: self.settings.keys.get(name, name) for name in ("x", "y")}
        where = f"dataset {self.name}, {file}"
        images, labels = readers.read(file, samples, keys, split)
        return self._images(images, where), self._labels(labels, len(images), where)

    def identity(self, split: str) -> str:
        """Of the decoded content; kept beside size and time of the file, so that it is computed once."""
        file = Path(self._files[split])
        if not file.is_file():
            return super().identity(split)
        status = os.stat(file)
        key = json.dumps([str(file), status.st_size, status.st_mtime_ns, self.description], sort_keys=True)
        kept = cache.data_folder() / "identities" / hashlib.sha256(key.encode()).hexdigest()
        if not kept.exists():
            write_atomically(kept, super().identity(split).encode())
        return kept.read_text()

    @property
    def _count(self) -> int | None:
        return self.settings.classes or len(self.class_names) or None

    def _images(self, images: np.ndarray, where: str) -> Tensor:
        if not len(images):
            raise UserError(f"{where}: has no samples")
        if images.dtype.kind not in "uif" or images.ndim not in (3, 4):
            raise UserError(
                f"{where}: x is {images.dtype} {images.shape}: images are numbers [N, C, H, W] or [N, H, W]"
            )
        layout = self.settings.layout or ("NHW" if images.ndim == 3 else "NCHW")
        if len(layout) != images.ndim:
            raise UserError(f"{where}: x has {images.ndim} dimensions, layout = {layout!r} has {len(layout)}")
        if layout == "NHWC":
            images = np.moveaxis(images, -1, 1)
        elif layout == "NHW":
            images = images[:, None]
        if self.settings.layout is None and images.shape[1] > 4 >= images.shape[-1]:
            raise UserError(f"{where}: x is {tuple(images.shape)} as [N, C, H, W]: set layout = 'NHWC'?")
        low, high = self.settings.bounds or ((0, 255) if images.dtype == np.uint8 else (0, 1))
        if images.dtype == np.uint8 and (low, high) == (0, 255):
            return torch.from_numpy(np.array(images, order="C"))
        if not np.isfinite(images).all():
            raise UserError(f"{where}: x has values that are not finite")
        least, most = float(images.min()), float(images.max())
        if least < low or most > high:
            unset = self.settings.bounds in (None, (0, 1))
            hint = "rescale to [0, 1], or set bounds" if unset else "set bounds as wide"
            raise UserError(f"{where}: x runs from {least:g} to {most:g}, outside [{low:g}, {high:g}]: {hint}")
        if self.settings.bounds is None and most <= 1 and images.dtype.kind in "ui" and images.dtype != np.uint8:
            raise UserError(f"{where}: x holds whole numbers up to {most:g}: set bounds, for example [0, 255]")
        scaled = ((images.astype(np.float64) - low) / (high - low)).astype(np.float32)
        return torch.from_numpy(np.ascontiguousarray(scaled.clip(0, 1)))

    def _labels(self, labels: np.ndarray, images: int, where: str) -> Tensor:
        if labels.ndim == 2 and labels.shape[1] > 1 and ((labels == 0) | (labels == 1)).all():
            raise UserError(f"{where}: y is one-hot {labels.shape}: save y.argmax(1)")
        if labels.shape != (images,):
            raise UserError(f"{where}: y has shape {labels.shape} for {images} images: one label an image")
        if labels.dtype.kind not in "ui" and not (labels.dtype.kind == "f" and (labels == np.floor(labels)).all()):
            raise UserError(f"{where}: y is {labels.dtype}: labels are whole numbers from 0")
        least, most = int(labels.min()), int(labels.max())
        if least < 0:
            raise UserError(f"{where}: y holds the label {least}: labels count from 0; leave such samples out")
        if self._count is not None and most >= self._count:
            hint = "; do they count from 1? subtract 1" if least == 1 and most == self._count else ""
            raise UserError(f"{where}: y holds the label {most}, but there are {self._count} classes{hint}")
        return torch.from_numpy(labels.astype(np.int64))
