"""Files that are no weights, or weights of the wrong kind, are one line, in bounded memory, and run nothing."""

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from arena.errors import UserError
from arena.models.weights import load_weights


def small() -> nn.Linear:
    return nn.Linear(3, 2)


def state(**changed: Any) -> dict[str, Any]:
    return {name: tensor.detach().clone() for name, tensor in small().state_dict().items()} | changed


def bomb(path: Path) -> None:
    torch.save(state(), path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/99", bytes(1 << 26))


FILES: dict[str, Callable[[Path], object]] = {
    "text.pt": lambda path: path.write_text("export KEY=1\n"),
    "empty.pt": lambda path: path.write_bytes(b""),
    "number.pt": lambda path: torch.save(3, path),
    "nested.pt": lambda path: torch.save({"weight": [1, 2]}, path),
    "pickle.pt": lambda path: path.write_bytes(pickle.dumps({"weight": os.system}, protocol=2)),
    "bomb.pt": bomb,
    "int8.safetensors": lambda path: safetensors.torch.save_file(
        state(weight=torch.ones(2, 3, dtype=torch.int8)), path
    ),
    "complex.pt": lambda path: torch.save(state(weight=torch.ones(2, 3, dtype=torch.complex64)), path),
    "nan.safetensors": lambda path: safetensors.torch.save_file(state(bias=torch.full((2,), torch.nan)), path),
    "cut.safetensors": lambda path: path.write_bytes(safetensors.torch.save(state())[:-3]),
    "pipe.pt": os.mkfifo,
    "folder.pt": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("name", FILES)
def test_hostile_weights_are_one_line(tmp_path: Path, name: str) -> None:
    FILES[name](tmp_path / name)
    with pytest.raises(UserError) as failure:
        load_weights(small(), tmp_path / name)
    assert "\n" not in str(failure.value) and name in str(failure.value)


@pytest.mark.parametrize("kind", [torch.float16, torch.float64])
def test_floats_of_any_size_are_weights(tmp_path: Path, kind: str) -> None:
    torch.save({name: tensor.to(kind) for name, tensor in state().items()}, tmp_path / "a.pt")
    load_weights(module := small(), tmp_path / "a.pt")
    assert module.weight.dtype == torch.float32
