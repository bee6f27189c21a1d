"""Models that are no plugins, as defenses: a torch module, a function, an estimator with `predict`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from arena.errors import PluginError, UserError
from arena.interface.contracts import Defense
from arena.interface.dataset import Layout
from arena.interface.results import Identity
from arena.interface.settings import Settings

Values = float | tuple[float, ...]

_TINY = float(np.finfo(np.float32).tiny)  # in place of the probability 0, whose logarithm is none


class AdoptedSettings(Settings):
    """What a model without a package is given, and how it answers."""

    bounds: tuple[float, float] = Field((0, 1), description="values of black and white that it expects")
    mean: Values = Field(0.0, description="subtracted from what has these bounds: a number, or one a channel")
    std: Values = Field(1.0, description="what that is divided by: a number, or one a channel")
    layout: Layout | None = Field(None, description="order of the dimensions; default: NCHW, or what an ONNX file says")
    flat: bool | None = Field(None, description="one row of numbers an image; default: what estimators and ONNX take")
    gradient: Literal["none", "autograd"] | None = Field(
        None, description="default: autograd for torch modules, none for all else"
    )
    access: Literal["decision", "score"] | None = Field(
        None, description="decision: it answers labels; default: decision for estimators without probabilities"
    )
    classes: int | None = Field(None, ge=2, description="how many it knows; default: those of the data set")


class Adopted(Defense):
    """A model without a package: evaluation mode, float32, asked about copies of the images.

    Of what it returns, the logits are the attribute or the key `logits`, else the first member of a tuple or a dict. An
    estimator's probabilities become their logarithms, labels one-hot logits. A function is given tensors, or numpy
    arrays if its argument says so (`x: np.ndarray`).
    """

    Settings = AdoptedSettings

    def __init__(
        self,
        model: Any,
        reference: str | None = None,
        state: Any = None,
        weights: str | Path | None = None,
        device: str = "cpu",
        **settings: Any,
    ) -> None:
        """model: anything that `adopt` takes; reference: where it comes from, so that it can be loaded again; state:
        what decides its results, if that is not the model itself."""
        super().__init__(weights, device, **settings)
        self._reference, self._state = reference, model if state is None else state
        self._answer = _caller(model, self.settings, self.device)

    def fingerprint_state(self) -> Any:
        return self._state

    @property
    def identity(self) -> Identity:
        """As any defense's; the settings name the model, so that `arena verify` can load it again."""
        common = super().identity
        model = {} if self._reference is None else {"model": self._reference}
        return replace(common, settings=common.settings | model)

    def scores(self, x: Tensor) -> Tensor:
        given = self._given(x)
        if self.gradient == "none":
            with torch.no_grad():
                answer = self._answer(given.detach())
        else:
            answer = self._answer(given)
        return self._logits(unwrapped(answer), len(x))

    def _given(self, x: Tensor) -> Tensor:
        """The images as the model takes them: a copy, which it may write into."""
        settings = self.settings
        low, high = settings.bounds
        given = x
        if (low, high) != (0, 1):
            x = x * (high - low) + low
        if (settings.mean, settings.std) != (0, 1):
            x = (x - self._per_channel(settings.mean, x)) / self._per_channel(settings.std, x)
        if x is given:
            x = x.clone()
        if settings.layout == "NHWC":
            x = x.movedim(1, -1)
        elif settings.layout == "NHW":
            x = x[:, 0]
        return x.flatten(1) if settings.flat else x.contiguous()

    def _per_channel(self, values: Values, x: Tensor) -> Tensor:
        found = torch.as_tensor(values, dtype=x.dtype, device=x.device)
        if found.ndim and len(found) != x.shape[1]:
            raise UserError(f"defense {self.name}: {len(found)} values of mean or std for {x.shape[1]} channels")
        return found.view(-1, 1, 1)

    def _logits(self, answer: Any, images: int) -> Tensor:
        if isinstance(answer, np.ndarray):
            answer = torch.from_numpy(np.ascontiguousarray(answer))
        if not isinstance(answer, Tensor):
            raise PluginError(f"defense {self.name} returned {type(answer).__name__}, neither logits nor labels")
        answer = answer.to(self.device)
        if self.access == "decision":
            return self._one_hot(answer, images)
        if answer.ndim == 1 and len(answer) == images and images > 1 and not answer.is_floating_point():
            raise PluginError(f"defense {self.name} returned labels, not logits: set access = 'decision'")
        return answer

    def _one_hot(self, answer: Tensor, images: int) -> Tensor:
        labels = answer.argmax(1) if answer.ndim == 2 and answer.shape[1] > 1 else answer.reshape(-1).long()
        classes = self.settings.classes or (answer.shape[1] if answer.ndim == 2 else 0)
        if len(labels) != images:
            raise PluginError(f"defense {self.name} returned {len(labels)} labels for {images} images")
        if not classes:
            raise UserError(f"defense {self.name} answers labels: set classes, how many there are")
        if bool(((labels < 0) | (labels >= classes)).any()):
            raise PluginError(f"defense {self.name} returned the label {int(labels.max())} of {classes} classes")
        return nn.functional.one_hot(labels, classes).float()


def adopt(
    name: str,
    model: Any,
    *,
    module: str = "__main__",
    reference: str | None = None,
    state: Any = None,
    weights: str | Path | None = None,
    device: str = "cpu",
    **settings: Any,
) -> Defense:
    """A torch module, a function of images or an estimator as the defense `name`.

    module: of the code, which says what package it is of; reference, state: see `Adopted`; settings: those of
    `AdoptedSettings`. Raises UserError for a model or settings that cannot be used.
    """
    estimator = _is_estimator(model)
    if not (estimator or callable(model)):
        raise UserError(f"defense {name}: {type(model).__name__} is no torch module, function or estimator")
    if settings.get("gradient") == "autograd" and estimator:
        raise UserError(f"defense {name}: an estimator has no gradient: set gradient = 'none'")
    if estimator and settings.get("flat") is None:
        settings["flat"] = True
    # What attacks apply depends on the class.
    declared = {
        "name": name,
        "gradient": settings.get("gradient") or ("autograd" if isinstance(model, nn.Module) else "none"),
        "access": settings.get("access") or ("decision" if estimator and not _has_probabilities(model) else "score"),
        "__module__": module,
    }
    kind: Any = type("Adopted", (Adopted,), declared)
    return kind(model, reference, state, weights, device, **settings)


def _is_estimator(model: Any) -> bool:
    return hasattr(model, "predict") and not isinstance(model, nn.Module)


def _has_probabilities(model: Any) -> bool:
    return hasattr(model, "predict_proba")


def _caller(model: Any, settings: AdoptedSettings, device: torch.device) -> Callable[[Tensor], Any]:
    """How the model is asked about a tensor of images."""
    if isinstance(model, nn.Module):
        return model.eval().requires_grad_(False).float().to(device)
    if _is_estimator(model):
        return lambda x: _estimate(model, x.cpu().numpy(), settings)
    if any("ndarray" in str(hint) for hint in getattr(model, "__annotations__", {}).values()):
        return lambda x: model(x.cpu().numpy())
    return model


def _estimate(model: Any, x: np.ndarray, settings: AdoptedSettings) -> np.ndarray:
    """Logits [B, classes] of an estimator with probabilities, labels [B] of one without."""
    if settings.access == "decision" or not _has_probabilities(model):
        return np.asarray(model.predict(x))
    probabilities = np.asarray(model.predict_proba(x), dtype=np.float32)
    known = np.asarray(model.classes_)
    if known.dtype.kind not in "ui":
        raise PluginError(f"{type(model).__name__} knows the classes {known[:3].tolist()}: fit it to labels from 0")
    full = np.zeros((len(x), max(settings.classes or 0, int(known.max()) + 1)), dtype=np.float32)
    full[:, known] = probabilities
    return np.log(np.maximum(full, _TINY))


def unwrapped(answer: Any) -> Any:
    """The logits of what a model returns."""
    if hasattr(answer, "logits"):
        return answer.logits
    if isinstance(answer, Mapping):
        if not answer:
            raise PluginError("an empty dict has no logits")
        return unwrapped(answer["logits"] if "logits" in answer else next(iter(answer.values())))
    return unwrapped(answer[0]) if isinstance(answer, list | tuple) and answer else answer
