"""Models by reference: "mine.py:build", "package.module:name", "model.onnx", "model.pt2"."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from arena.errors import UserError
from arena.interface.contracts import Defense
from arena.interface.references import find, is_module
from arena.interface.source import distribution_of, source_decides
from arena.models.adopted import adopt, unwrapped
from arena.models.onnx import OnnxModel
from arena.models.weights import load_weights


def load_model(name: str, model: str, weights: str | None = None, device: str = "cpu", **settings: Any) -> Defense:
    """The defense `name` from a reference to a model; weights: a file for it.

    Raises UserError for a model that cannot be had, and whatever its code raises.
    """
    where: dict[str, Any] = {"reference": model, "weights": weights, "device": device}
    if (kind := Path(model).suffix) in (".onnx", ".pt2"):
        path = Path(model)
        if not path.is_file():
            raise UserError(f"defense {name}: {path}: no such file")
        if weights is not None:
            raise UserError(f"defense {name}: {path} has its weights in it: remove {weights}")
        where["module"] = "local"
        return _onnx(name, path, where, settings) if kind == ".onnx" else _exported(name, path, where, settings)
    found, module = find(model)
    made, loaded = _made(found, weights)
    if weights is not None and not loaded:
        if not isinstance(made, nn.Module):
            raise UserError(f"defense {name}: {model} has no argument called weights: remove {weights}, or add one")
        load_weights(made, weights)
    return adopt(name, made, module=module.__name__, state=(found, made, _values(module)), **where, **settings)


def package_of(model: str) -> str:
    """The installed package that a reference leads into; "local" for a file."""
    return distribution_of(model.partition(":")[0])[0] if is_module(model) else "local"


def _onnx(name: str, path: Path, where: dict[str, Any], settings: dict[str, Any]) -> Defense:
    session = OnnxModel(path)
    beside = sorted(path.parent.glob(f"{path.name}[._]data"))  # where exporters put large weights
    guessed = {"layout": session.layout, "flat": session.flat}
    settings = guessed | {key: value for key, value in settings.items() if value is not None}

    def answer(x: Tensor) -> Tensor:
        return torch.from_numpy(session(x.cpu().numpy()))

    return adopt(name, answer, state=(OnnxModel, path, beside), **where, **settings)


def _exported(name: str, path: Path, where: dict[str, Any], settings: dict[str, Any]) -> Defense:
    try:
        program = torch.export.load(path)
    except Exception as failure:  # of whatever is in the archive
        raise UserError(f"{path}: no archive of torch.export: {' '.join(str(failure).split())[:300]}") from None
    given = next(iter(program.graph_signature.user_inputs))
    (placeholder,) = [node for node in program.graph.nodes if node.name == given]
    batch = placeholder.meta["val"].shape[0]
    model = _Exported(program.module(), batch if isinstance(batch, int) else None)
    return adopt(name, model, state=path, **where, **settings)


class _Exported(nn.Module):
    """A module of `torch.export`; where its batch size is fixed, batches are cut and the last one is filled up."""

    def __init__(self, model: nn.Module, batch: int | None) -> None:
        super().__init__()
        self._model, self._batch = model, batch
        for part in self.modules():
            part.training = False

    def train(self, mode: bool = True) -> _Exported:
        """Its mode was settled when it was exported."""
        return self

    def forward(self, x: Tensor) -> Any:
        if self._batch is None:
            return self._model(x)
        filled = torch.cat([x, x[-1:].expand(-len(x) % self._batch, *x.shape[1:])])
        parts = [unwrapped(self._model(part)) for part in filled.split(self._batch)]
        return torch.cat(parts)[: len(x)]


def _made(found: Any, weights: str | None) -> tuple[Any, bool]:
    """The model that a reference leads to, made if it is a function or class that makes one, and whether it was given
    the weights. A function that needs another argument is the classifier itself."""
    if not isinstance(found, type | FunctionType):
        return found, False
    parameters = list(inspect.signature(found).parameters.values())
    required = [one.name for one in parameters if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD]
    takes = "weights" in [one.name for one in parameters]
    if required in ([], ["weights"]):
        if takes and (weights is not None or required):
            return found(weights=weights), True
        return found(), False
    return found, False


def _values(module: ModuleType) -> dict[str, Any]:
    """What the code of a file may read besides code: the values of its module, such as arrays loaded there."""
    if not source_decides(module.__name__):
        return {}
    skipped: tuple[Any, ...] = (ModuleType, type, Callable)
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("__") and (isinstance(value, nn.Module) or not isinstance(value, skipped))
    }
