"""Files of others as arrays of images and labels: npz, safetensors, IDX, a folder of pictures, a function."""

from __future__ import annotations

import gzip
import io
import math
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.lib import format as npy
from safetensors import SafetensorError, safe_open

from arena.data import idx
from arena.errors import UserError
from arena.interface.references import resolve

Arrays = tuple[np.ndarray, np.ndarray]  # images, labels
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp")


def read(file: str, samples: int | None, keys: Mapping[str, str], split: str) -> Arrays:
    """The first `samples` images and labels (default: all) behind `file`, as they are written there.

    file: a path (.npz, .safetensors, a folder with a subfolder for each class, or "IMAGES,LABELS" in IDX, gzipped or
    not), or "package.module:function", called with the name of the split.
    keys: the names of `x` and `y` in an archive. Raises UserError, naming the file, for what cannot be read.
    """
    images, _, labels = file.partition(",")
    if labels:
        return _idx(Path(images.strip()), samples), _idx(Path(labels.strip()), samples)
    path = Path(file)
    if ":" in file and not path.exists():
        return _function(file, samples, split)
    try:
        if path.is_dir():
            return _folder(path, samples)
        reader = {".npz": _npz, ".safetensors": _safetensors}.get(path.suffix.lower())
        if reader is not None:
            return reader(path, keys["x"], samples), reader(path, keys["y"], samples)
    except OSError as failure:
        raise UserError(f"{path}: cannot be read: {failure.strerror or failure}") from None
    raise UserError(
        f"{path}: unknown kind of data: give a .npz or .safetensors file, a folder of pictures, "
        '"IMAGES,LABELS" in IDX, or "package.module:function"'
    )


def class_folders(file: str) -> list[str]:
    """The names of the classes of a folder of pictures, in order; none for anything else."""
    path = Path(file)
    return sorted(folder.name for folder in path.iterdir() if folder.is_dir()) if path.is_dir() else []


def _npz(path: Path, key: str, samples: int | None) -> np.ndarray:
    """One array of an archive; pickles are refused, and no more is decompressed than is asked for."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            if key not in names:
                raise UserError(f"{path}: has no array {key!r}; it has {', '.join(names)}: say which with keys")
            with archive.open(f"{key}.npy") as member:
                return _npy(member, samples, f"{path}: {key}")
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError) as failure:
        raise UserError(f"{path}: damaged, or no npz archive: {failure}") from None


def _npy(member: IO[bytes], samples: int | None, where: str) -> np.ndarray:
    version = npy.read_magic(member)
    header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = header(member)
    if dtype.hasobject:
        raise UserError(f"{where}: holds Python objects, which are not unpickled: save plain numbers")
    if not shape:
        raise UserError(f"{where}: is a single number, not an array")
    first = shape[0] if samples is None or fortran else min(samples, shape[0])
    count = first * math.prod(shape[1:])
    content = member.read(count * dtype.itemsize)
    if len(content) < count * dtype.itemsize:
        raise UserError(f"{where}: damaged: it ends before its last image")
    array = np.frombuffer(content, dtype)
    return (array.reshape(shape, order="F") if fortran else array.reshape(first, *shape[1:]))[:samples]


def _safetensors(path: Path, key: str, samples: int | None) -> np.ndarray:
    try:
        with safe_open(path, framework="pt") as archive:
            if key not in archive.keys():  # noqa: SIM118 (not a mapping)
                raise UserError(f"{path}: has no tensor {key!r}; it has {', '.join(archive.keys())}")
            tensor = archive.get_slice(key)
            return tensor[: min(samples or tensor.get_shape()[0], tensor.get_shape()[0])].numpy()
    except SafetensorError as failure:
        raise UserError(f"{path}: damaged, or no safetensors file: {failure}") from None


def _idx(path: Path, samples: int | None) -> np.ndarray:
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
                content = file.read(1 << 31)
    except (OSError, EOFError, zlib.error) as failure:
        raise UserError(f"{path}: cannot be read: {failure}") from None
    if len(content) < 8 or content[:3] != b"\0\0\x08" or not 1 <= content[3] <= 4:
        raise UserError(f"{path}: no IDX file of bytes")
    if len(content) != 4 + 4 * content[3] + math.prod(idx.sizes(content)):
        raise UserError(f"{path}: damaged: its length is not what its header says")
    return idx.decode(content)[:samples]


def _folder(path: Path, samples: int | None) -> Arrays:
    """Pictures of the subfolders in turn, one of each class, so that the first few are of many classes."""
    from PIL import Image, UnidentifiedImageError

    classes = class_folders(str(path))
    if not classes:
        raise UserError(f"{path}: has no subfolders: put the pictures of each class into a folder of its name")
    files = [sorted(f for f in (path / name).iterdir() if f.suffix.lower() in PICTURES) for name in classes]
    turns = ((i, label) for i in range(max(map(len, files))) for label in range(len(files)) if i < len(files[label]))
    images: list[np.ndarray] = []
    labels: list[int] = []
    for i, label in turns:
        if samples is not None and len(images) == samples:
            break
        try:
            with Image.open(files[label][i]) as picture:
                images.append(np.asarray(picture.convert("L" if picture.mode in ("1", "L") else "RGB")))
        except (UnidentifiedImageError, Image.DecompressionBombError) as failure:
            raise UserError(f"{files[label][i]}: no picture that can be read: {failure}") from None
        labels.append(label)
        if images[-1].shape != images[0].shape:
            sizes = f"{images[-1].shape}, the first picture {images[0].shape}"
            raise UserError(f"{files[label][i]}: is {sizes}: resize them")
    if not images:
        raise UserError(f"{path}: holds no pictures ({', '.join(PICTURES)})")
    return np.stack(images), np.array(labels)


def _function(reference: str, samples: int | None, split: str) -> Arrays:
    """What a function gives: (x, y), or a sequence of (image, label) as torchvision and Hugging Face have them."""
    given = resolve(reference)(split)
    if isinstance(given, tuple) and len(given) == 2:
        x, y = (np.asarray(part[:samples]) for part in given)
        return x, y
    if not isinstance(given, Sequence) and not hasattr(given, "__getitem__"):
        raise UserError(f"{reference}: returned {type(given).__name__}: return (x, y), or a sequence of (image, label)")
    pairs = [_pair(given[i], reference) for i in range(min(samples or len(given), len(given)))]
    if not pairs:
        raise UserError(f"{reference}: gave no samples of {split}")
    return np.stack([image for image, _ in pairs]), np.array([label for _, label in pairs])


def _pair(row: Any, reference: str) -> tuple[np.ndarray, int]:
    if isinstance(row, Mapping):
        row = [row.get("image", row.get("img")), row.get("label")]
    if len(row) != 2 or row[0] is None or row[1] is None:
        raise UserError(f"{reference}: a row is no (image, label), nor a mapping with both")
    return np.asarray(row[0].numpy() if isinstance(row[0], torch.Tensor) else row[0]), int(row[1])
