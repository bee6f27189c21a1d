"""Weights on disk: safetensors, with a model card beside them that says where they come from."""

from __future__ import annotations

import hashlib
import json
import warnings
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from arena.data import DEFAULT
from arena.errors import UserError
from arena.files import write_atomically
from arena.interface.calibration import Calibration

ZOO = Path(__file__).parent / "zoo"  # the weights that the package ships


def shipped(name: str, trained_on: str | None = None) -> Path:
    """Where the package has, or would have, the weights of a model for a data set; None: for the default one."""
    return ZOO / ("" if trained_on in (None, DEFAULT.name) else trained_on) / f"{name}.safetensors"


@dataclass(frozen=True)
class ModelCard:
    """How a model came about, and how good it is."""

    name: str
    recipe: dict[str, Any]
    seed: int | None
    data: dict[str, str]  # data set and split -> SHA-256
    accuracy: dict[str, float]  # split -> share of images that the model classifies correctly
    torch: str  # version
    sha256: str | None = None  # of the weights file; None if there is none
    confidence: dict[str, float] | None = None  # alpha and eta of equation 4
    device: str | None = None  # on which it was trained
    seconds: int | None = None  # that the training took

    def save(self, path: Path) -> None:
        """Write the card as JSON. Raises UserError if that fails."""
        write_atomically(path, (json.dumps(asdict(self), indent=2) + "\n").encode())


def load_calibration(weights: Path) -> Calibration | None:
    """The calibration on the model card PATH.json beside `weights`, PATH.safetensors.

    None if there is no card, it has no calibration, or it is of other weights. A model without weights (there is no
    such file) has a card without SHA-256.

    Raises:
        UserError: the card is damaged.
    """
    card = weights.with_suffix(".json")
    if not card.exists():
        return None
    try:
        content = json.loads(card.read_bytes())
        sha256 = hashlib.sha256(weights.read_bytes()).hexdigest() if weights.is_file() else None
        if content.get("sha256") != sha256 or content.get("confidence") is None:
            return None
        return Calibration(**content["confidence"])
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"model card {card} is damaged; restore it, or delete it to go without confidence") from error


def save_weights(module: nn.Module, path: Path) -> str:
    """Write the tensors of `module` as safetensors; gives the file's SHA-256. Raises UserError if that fails."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    content = safetensors.torch.save(tensors)
    write_atomically(path, content)
    return hashlib.sha256(content).hexdigest()


def load_weights(module: nn.Module, path: str | Path) -> None:
    """Load the file `path` into `module`. Raises UserError as `read_tensors` and `fill` do."""
    fill(module, read_tensors(path), path)


def fill(module: nn.Module, tensors: dict[str, Tensor], path: str | Path) -> None:
    """Put `tensors`, which came from `path`, into `module`. Raises UserError if they are of another
    architecture, or no finite numbers."""
    expected = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    floating = {name: tensor.is_floating_point() for name, tensor in module.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    for name, shape in expected.items():
        # Checkpoints of before torch 0.4.1 lack this counter, and evaluation does not use it.
        if name not in found and not name.endswith("num_batches_tracked"):
            raise UserError(f"weights {path} are of another architecture: they lack {name}; {_REMEDY}")
        if found.get(name, shape) != shape:
            difference = f"{name} is {found[name]}, not {shape}"
            raise UserError(f"weights {path} are of another architecture: {difference}; {_REMEDY}")
    if extra := found.keys() - expected.keys():
        raise UserError(f"weights {path} are of another architecture: {min(extra)} is unknown; {_REMEDY}")
    for name, tensor in tensors.items():
        if tensor.is_floating_point() != floating[name] or tensor.is_complex():
            raise UserError(f"weights {path} are of another kind: {name} is {tensor.dtype}; {_REMEDY}")
        if not bool(tensor.isfinite().all()):
            raise UserError(f"weights {path}: {name} has values that are not finite; {_REMEDY}")
    module.load_state_dict(tensors)


_REMEDY = "give a state dict of this defense, as `arena train` or torch.save writes it"


def _refuse_inflated(path: Path) -> None:
    """torch stores tensors as they are: an archive that grows when it is unpacked is none of its."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > 2 * path.stat().st_size:
                raise ValueError("compressed")


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a file: safetensors, or a state dict that torch saved (without running any code of it).

    Raises:
        UserError: the file is missing, damaged or no weights at all.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise UserError(f"cannot read weights {path}: it is no file; {_REMEDY}")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        _refuse_inflated(path)
        with warnings.catch_warnings(action="ignore"):  # torch's guesses about what a foreign file might be
            tensors = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"cannot read weights {path}: {error.strerror or error}; {_REMEDY}") from error
    except Exception as error:  # an unpickler meets every kind of error in bytes that are no pickle
        raise UserError(f"weights {path} are damaged or no weights at all; {_REMEDY}") from error
    if not isinstance(tensors, dict) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise UserError(f"weights {path} hold no state dict; {_REMEDY}")
    return tensors
