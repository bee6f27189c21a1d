"""How each model is trained: one file a kind of model, its numbers as the fields of a frozen dataclass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from arena.interface.dataset import Dataset
from arena.models.recipes.adversarial import AdversarialTraining
from arena.models.recipes.autoencoders import Autoencoders
from arena.models.recipes.classifier import Classifier
from arena.models.recipes.substitute import GeneralClassifier


class Recipe(Protocol):
    """A model and the loss whose descent by Adam trains it, the learning rate following one cycle or several."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def epochs(self) -> int: ...
    @property
    def restarts(self) -> tuple[int, ...]:
        """The epochs with which Adam and the cycle of its learning rate begin anew."""

    @property
    def batch_size(self) -> int: ...
    @property
    def max_learning_rate(self) -> float: ...
    @property
    def bfloat16(self) -> bool:
        """Whether forward and backward pass may be computed in bfloat16."""

    @property
    def judged_on(self) -> tuple[str, ...]:
        """The splits of the data whose accuracy the card tells."""

    def on(self, data: Dataset) -> Recipe:
        """The recipe for that data set; raises UserError if it has none."""

    def build(self) -> nn.Module:
        """The model with its initial weights, drawn from torch's global generator."""

    def loss(self, model: Any, x: Tensor, y: Tensor, epoch: int, rng: torch.Generator) -> Tensor:
        """The loss of a batch x, float32 [B, C, H, W] in [0, 1] on the CPU, with labels y, int64 [B]."""

    def classifier(self, model: Any) -> Callable[[Tensor], Tensor]:
        """The trained model as a defense uses it: images [B, C, H, W] on its device to logits [B, classes]."""

    def further_accuracies(self, model: Any, x: Tensor, y: Tensor) -> dict[str, float]:
        """Accuracies of the trained model on its device that the card is to tell beside the clean ones."""


RECIPES: dict[str, Recipe] = {
    "cnn": Classifier(),
    "binary-cnn": Classifier(binary_threshold=0.5),
    "substitute": GeneralClassifier(),
    "madry": AdversarialTraining(),
    "abs": Autoencoders(),
}
