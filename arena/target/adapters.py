"""The one adapter through which foolbox attacks play: a foolbox model over a Target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import eagerpy
import torch
from foolbox import Model
from foolbox.types import Bounds

if TYPE_CHECKING:
    from arena.target.target import Target


class FoolboxModel(Model):
    """Answers foolbox's queries through the target, which counts and remembers them.

    Rows align with the batch: foolbox attacks that drop finished samples cannot be played. Where the attack may see
    decisions only, the logits are one-hot.
    """

    data_format = "channels_first"

    def __init__(self, target: Target, *, decision_only: bool) -> None:
        self._target, self._decision_only = target, decision_only

    @property
    def bounds(self) -> Bounds:
        return Bounds(0, 1)

    def __call__(self, inputs: Any) -> Any:
        x, restore_type = eagerpy.astensor_(inputs)
        if self._decision_only:
            logits = torch.nn.functional.one_hot(self._target.labels(x.raw)).float()
        else:
            logits = self._target.scores(x.raw)
        return restore_type(eagerpy.astensor(logits))
