"""Data sets of one's own: whatever the file, the same images and labels, or one line that says what to do."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from arena.data import find_dataset, idx, load_split, open_dataset
from arena.errors import UserError
from arena.interface.dataset import Dataset, DatasetSettings
from arena.interface.settings import parse_settings

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (6, 3, 4, 5), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2])


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARENA_DATA", str(tmp_path / "cache"))


def described(**settings: Any) -> Dataset:
    return find_dataset("mine", {"mine": parse_settings(DatasetSettings, settings, "dataset mine")})


def npz(folder: Path, x: np.ndarray = COLOUR, y: np.ndarray = LABELS, name: str = "test.npz", **more: Any) -> str:
    np.savez_compressed(folder / name, x=x, y=y, **more)
    return str(folder / name)


def as_safetensors(folder: Path) -> dict[str, str]:
    save_file({"x": COLOUR, "y": LABELS}, folder / "test.safetensors")
    return {"file": str(folder / "test.safetensors")}


def as_function(folder: Path) -> dict[str, str]:
    (folder / "arrays_of_mine.py").write_text(
        "import numpy as np\n"
        "def load(split):\n"
        f"    x = np.frombuffer(bytes.fromhex('{COLOUR.tobytes().hex()}'), np.uint8).reshape{COLOUR.shape}\n"
        f"    return [(image, label) for image, label in zip(x, {LABELS.tolist()})]\n"
    )
    return {"file": f"{folder / 'arrays_of_mine.py'}:load"}


def as_pictures(folder: Path) -> dict[str, str]:
    from PIL import Image

    for i, (image, label) in enumerate(zip(COLOUR, LABELS, strict=True)):
        (folder / "pictures" / f"class{label}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.transpose(1, 2, 0)).save(folder / "pictures" / f"class{label}" / f"{i}.png")
    return {"file": str(folder / "pictures"), "layout": "NHWC"}


SOURCES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "npz": lambda folder: {"file": npz(folder)},
    "npz, channels last": lambda folder: {"file": npz(folder, np.moveaxis(COLOUR, 1, -1)), "layout": "NHWC"},
    "npz, other names": lambda folder: {"file": npz(folder, a=COLOUR, b=LABELS), "keys": {"x": "a", "y": "b"}},
    "npz, floats in 0..255": lambda folder: {"file": npz(folder, COLOUR.astype(np.float32)), "bounds": (0, 255)},
    "npz, column major": lambda folder: {"file": npz(folder, np.asfortranarray(COLOUR))},
    "safetensors": as_safetensors,
    "function": as_function,
    "pictures": as_pictures,
}


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_gives_the_same_images(tmp_path: Path, source: str) -> None:
    dataset = described(**SOURCES[source](tmp_path))
    x, y = load_split(dataset, "test", 4)
    assert torch.equal(x, torch.from_numpy(COLOUR[:4]).float() / 255)
    assert y.tolist() == LABELS[:4].tolist()
    assert (dataset.shape, dataset.classes, dataset.splits) == ((3, 4, 5), 3, ("test",))
    again = open_dataset(dataset.description)
    assert again.identity("test") == dataset.identity("test")
    assert torch.equal(load_split(again, "test")[0][:4], x)


def test_idx_gzipped_or_not(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(gzip.compress(idx.encode(COLOUR[:, 0])))
    (tmp_path / "y").write_bytes(idx.encode(LABELS.astype(np.uint8)))
    x, _ = load_split(described(file=f"{tmp_path / 'x'},{tmp_path / 'y'}"), "test")
    assert torch.equal(x, torch.from_numpy(COLOUR[:, :1]).float() / 255)


def test_identity_follows_the_content_and_not_the_path(tmp_path: Path) -> None:
    one, same = described(file=npz(tmp_path)), described(file=npz(tmp_path, name="other.npz"))
    changed = COLOUR.copy()
    changed[5, 2, 3, 4] ^= 1
    other = described(file=npz(tmp_path, changed, name="changed.npz"))
    assert one.identity("test") == same.identity("test") != other.identity("test")


def test_a_changed_file_is_another_data_set_though_its_identity_was_kept(tmp_path: Path) -> None:
    before = described(file=npz(tmp_path)).identity("test")
    assert described(file=npz(tmp_path, COLOUR[:5], LABELS[:5])).identity("test") != before


def test_any_split_name_and_paths_beside_the_settings_file(tmp_path: Path) -> None:
    npz(tmp_path, name="a.npz")
    settings = DatasetSettings(files={"holdout": "a.npz"}, class_names=("a", "b", "c"), epsilon={"linf": 0.03})
    dataset = find_dataset("mine", {"mine": settings.at(tmp_path)})
    assert len(load_split(dataset, "holdout")[0]) == 6
    assert (dataset.class_names, dataset.thresholds) == (("a", "b", "c"), {"linf": 0.03})
    with pytest.raises(UserError, match="no split 'test' in mine; known: holdout"):
        load_split(dataset, "test")


def test_only_the_first_samples_are_read(tmp_path: Path) -> None:
    many = RNG.integers(0, 256, (200, 3, 32, 32), dtype=np.uint8)
    file = tmp_path / "stored.npz"
    np.savez(file, x=many, y=np.arange(200) % 3)  # not compressed: the last image can be damaged alone
    content = bytearray(file.read_bytes())
    content[content.index(many[199].tobytes())] ^= 255
    file.write_bytes(content)
    dataset = described(file=str(file), classes=3)
    assert len(load_split(dataset, "test", 3)[0]) == 3
    with pytest.raises(UserError, match="damaged"):
        load_split(dataset, "test")


FLOATS = COLOUR.astype(np.float32)
FAULTS: dict[str, tuple[np.ndarray, np.ndarray, dict[str, Any], str]] = {
    "255": (FLOATS, LABELS, {}, r"outside \[0, 1\]: rescale to \[0, 1\], or set bounds"),
    "normalised": ((FLOATS - 127) / 64, LABELS, {}, "rescale to"),
    "whole numbers": (COLOUR.astype(np.int32), LABELS, {}, "set bounds"),
    "nan": (np.full_like(FLOATS, np.nan), LABELS, {}, "not finite"),
    "no samples": (COLOUR[:0], LABELS[:0], {}, "no samples"),
    "channels last": (RNG.random((6, 32, 20, 3), dtype=np.float32), LABELS, {}, "layout = 'NHWC'"),
    "flat": (COLOUR.reshape(6, -1), LABELS, {}, r"\[N, C, H, W\]"),
    "from 1": (COLOUR, LABELS + 1, {"classes": 3}, "subtract 1"),
    "minus 1": (COLOUR, LABELS - 1, {}, "label -1"),
    "255 as nothing": (COLOUR, np.where(LABELS == 2, 255, LABELS), {"classes": 3}, "label 255"),
    "one-hot": (COLOUR, np.eye(3)[LABELS], {}, "one-hot"),
    "fewer labels": (COLOUR, LABELS[:5], {}, "one label an image"),
    "shares": (COLOUR, LABELS + 0.5, {}, "whole numbers"),
    "objects": (COLOUR, np.array([{}] * 6), {}, "not unpickled"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_is_one_line_with_the_remedy(tmp_path: Path, fault: str) -> None:
    x, y, settings, message = FAULTS[fault]
    with pytest.raises(UserError, match=message) as failure:
        load_split(described(file=npz(tmp_path, x, y), **settings), "test")
    assert ("\n" not in str(failure.value) and "mine" in str(failure.value)) or "test.npz" in str(failure.value)


@pytest.mark.parametrize("labels", [LABELS.astype(np.int32), LABELS.astype(np.float32), LABELS.astype(np.uint8)])
def test_labels_of_any_whole_kind_will_do(tmp_path: Path, labels: np.ndarray) -> None:
    assert load_split(described(file=npz(tmp_path, y=labels)), "test")[1].tolist() == LABELS.tolist()


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("nothing.npz", "cannot be read: No such file"),
        ("test.txt", "unknown kind of data"),
        ("text.npz", "damaged, or no npz archive"),
        ("nowhere.module:load", "cannot be imported"),
    ],
)
def test_files_that_are_none(tmp_path: Path, file: str, message: str) -> None:
    (tmp_path / "text.npz").write_text("not an archive")
    settings = DatasetSettings(file=file).at(tmp_path)
    with pytest.raises(UserError, match=message):
        find_dataset("mine", {"mine": settings})


def test_settings_need_one_way_to_the_files() -> None:
    for wrong in ({}, {"file": "a.npz", "files": {"test": "b.npz"}}):
        with pytest.raises(UserError, match="give file, or files"):
            parse_settings(DatasetSettings, wrong, "dataset mine")
