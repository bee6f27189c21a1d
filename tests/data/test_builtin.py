"""The data sets that ship beside MNIST."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from arena.data import find_dataset, load_data, load_split
from arena.data.cifar10 import CIFAR10, MEMBERS, RECORD
from arena.errors import UserError


def test_fashion_mnist_is_the_original() -> None:
    try:
        x, y = load_data("fashion-mnist", "test")
    except UserError as failure:
        pytest.skip(f"no source of Fashion-MNIST here: {failure}")
    assert x.shape == (10000, 1, 28, 28) and y.bincount().tolist() == [1000] * 10


def test_digits_are_those_of_scikit_learn() -> None:
    try:
        x, y = load_data("digits", "test")
    except UserError as failure:
        pytest.skip(f"no source of the digits here: {failure}")
    assert x.shape == (360, 1, 8, 8) and (float(x.min()), float(x.max())) == (0, 1)
    whole = torch.cat([load_data("digits", "train")[1], y])
    assert whole.bincount().tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]  # as scikit-learn says


Archive = tuple[CIFAR10, dict[str, np.ndarray]]


@pytest.fixture
def small_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
    """An archive of the same form with three images a batch, in place of the real one; and its records."""
    monkeypatch.setenv("ARENA_DATA", str(tmp_path))
    rng, records, content = np.random.default_rng(0), {}, io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for member in (*MEMBERS["train"], *MEMBERS["test"]):
            records[member] = rng.integers(0, 10, (3, RECORD), dtype=np.uint8)
            info = tarfile.TarInfo(member)
            info.size = records[member].size
            archive.addfile(info, io.BytesIO(records[member].tobytes()))
    data = content.getvalue()
    dataset = CIFAR10(url="", size=len(data), sha256=hashlib.sha256(data).hexdigest())
    dataset.archive.parent.mkdir(parents=True)
    dataset.archive.write_bytes(data)
    return dataset, records


def test_cifar10_reads_its_binary_archive(small_archive: Archive) -> None:
    dataset, records = small_archive
    x, y = load_split(dataset, "train", 5)
    expected = np.concatenate([records[member] for member in MEMBERS["train"]])[:5]
    assert y.tolist() == expected[:, 0].tolist()
    assert torch.equal(x, torch.from_numpy(expected[:, 1:]).reshape(5, 3, 32, 32).float() / 255)
    assert len(load_split(dataset, "train")[0]) == 15 and len(load_split(dataset, "test")[0]) == 3


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data[:50] + b"?" + data[51:]])
def test_a_damaged_archive_is_never_read(small_archive: Archive, damage: Callable[[bytes], bytes]) -> None:
    dataset, _ = small_archive
    dataset.archive.write_bytes(damage(dataset.archive.read_bytes()))
    with pytest.raises(UserError, match="arena data fetch cifar10"):
        dataset.verify()
    elsewhere = dataclasses.replace(dataset, url="http://127.0.0.1:9/nothing")
    with pytest.raises(UserError, match="cannot fetch cifar10"):
        load_split(elsewhere, "test")


def test_the_real_archive_is_asked_for_by_size_and_hash() -> None:
    dataset = find_dataset("cifar10")
    assert isinstance(dataset, CIFAR10)
    assert (dataset.size, dataset.sha256[:8], dataset.shape) == (170_052_171, "c4a38c50", (3, 32, 32))
