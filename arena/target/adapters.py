"""A target as the model that attack libraries expect: foolbox's, and a torch module for those that call `model(x)`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import eagerpy
import torch
from foolbox import Model
from foolbox.types import Bounds
from torch import Tensor

from arena.errors import PluginError
from arena.target.images import clip_rounding

if TYPE_CHECKING:
    from arena.target.target import Target


class FoolboxModel(Model):
    """Answers foolbox's queries through the target, which counts and remembers them.

    Rows align with the batch: foolbox attacks that drop finished samples cannot be played on more than one sample.
    Where the attack may see decisions only, the logits are one-hot.
    """

    data_format = "channels_first"

    def __init__(
        self, target: Target, *, decision_only: bool, transform: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        self._target, self._decision_only, self._transform = target, decision_only, transform

    @property
    def bounds(self) -> Bounds:
        return Bounds(0, 1)

    def __call__(self, inputs: Any) -> Any:
        x, restore_type = eagerpy.astensor_(inputs)
        logits = _one_hot(self._target, x.raw) if self._decision_only else self._target.scores(x.raw)
        if self._transform is not None:
            logits = self._transform(logits)
        return restore_type(eagerpy.astensor(logits))


class TargetModule(torch.nn.Module):
    """Answers a library's `model(x)` with logits [N, classes] through the target, which counts and remembers them.

    x: [N, C, H, W] in [0, 1], of any floating point type, rounded to float32; where rounding leaves the box by up to
    1e-5 it is clipped. The rows are the batch, or all belong to one sample, if the module is bound to it or the batch
    has no other. Where the attack may see decisions only, the logits are one-hot. The module is in evaluation mode,
    knows its number of `classes`, and has one frozen parameter, of which libraries ask the device.

    Raises:
        PluginError: x leaves the box by more than that, or has another number of rows than the batch.
    """

    def __init__(self, target: Target, clean: Tensor, sample: int | None, *, decision_only: bool) -> None:
        super().__init__()
        if sample is not None and not 0 <= sample < len(clean):
            raise PluginError(f"there is no sample {sample} in a batch of {len(clean)}: count from 0")
        self.placement = torch.nn.Parameter(torch.zeros(1, device=clean.device), requires_grad=False)
        self._target, self._samples, self._sample = target, len(clean), sample
        self._decision_only = decision_only
        self.eval()

    @property
    def classes(self) -> int:
        """How many classes the defense tells apart."""
        return self._target.classes

    def forward(self, x: Tensor) -> Tensor:
        x = clip_rounding(x.float() if x.is_floating_point() else x)
        index = None
        if self._sample is not None:
            index = torch.full((len(x),), self._sample, device=x.device)
        elif self._samples > 1 and len(x) != self._samples:
            raise PluginError(
                f"{len(x)} rows for {self._samples} samples: bind the model to one sample, target.module(sample)"
            )
        return _one_hot(self._target, x, index) if self._decision_only else self._target.scores(x, index)


def _one_hot(target: Target, x: Tensor, index: Tensor | None = None) -> Tensor:
    """The decisions about the images x [N, ...] as logits [N, classes]."""
    return torch.nn.functional.one_hot(target.labels(x, index), target.classes).float()
