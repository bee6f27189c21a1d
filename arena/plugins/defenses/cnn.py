"""The plain convolutional network: accurate, and not meant to be robust."""

from __future__ import annotations

from arena.models import cnn
from arena.plugins.defenses.network import Network


class CNN(Network):
    """The vanilla CNN of the paper (appendix A.5)."""

    name = "cnn"

    def build(self) -> cnn.ConvolutionalNetwork:
        return cnn.ConvolutionalNetwork(binary_threshold=self.binary_threshold)
