"""The data sets that ship, registered like anyone's."""

from __future__ import annotations

from collections.abc import Callable

from arena.data.cifar10 import CIFAR10
from arena.data.digits import Digits
from arena.data.idx_dataset import FASHION_MNIST, MNIST
from arena.interface.contracts import hookimpl
from arena.interface.dataset import Dataset

DEFAULT = MNIST  # where none is named
DATASETS: dict[str, Dataset] = {dataset.name: dataset for dataset in (MNIST, FASHION_MNIST, CIFAR10(), Digits())}


@hookimpl
def register_datasets(register: Callable[[Dataset], None]) -> None:
    for dataset in DATASETS.values():
        register(dataset)
