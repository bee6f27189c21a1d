"""substitute: as released for its images, for others a small network that any data set can train."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import nn

from arena.interface.dataset import Dataset
from arena.models.recipes.classifier import Classifier
from arena.models.substitute import CLASSES, MAPS, SHAPE, GeneralNetwork

SHIFT = 1 / 14  # of the shorter side: the 2 pixels of the other classifiers


@dataclass(frozen=True)
class GeneralClassifier(Classifier):
    """The other classifiers' recipe; of a small data set more passes, so that there are steps enough."""

    channels: int = 0
    classes: int = 0
    least_steps: int = 1000

    def on(self, data: Dataset) -> Classifier:
        if (tuple(data.shape), data.classes) == (SHAPE, CLASSES):
            return Classifier(maps=MAPS)
        steps = -(-len(data.load("train")[1]) // self.batch_size)
        return replace(
            self,
            channels=data.shape[0],
            classes=data.classes,
            shift=SHIFT * min(data.shape[1:]),
            epochs=max(self.epochs, -(-self.least_steps // steps)),
        )

    def build(self) -> nn.Module:
        return GeneralNetwork(self.channels, self.classes)
