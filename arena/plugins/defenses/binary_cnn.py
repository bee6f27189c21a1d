"""The convolutional network that sees black and white only."""

from __future__ import annotations

from arena.plugins.defenses.cnn import CNN


class BinaryCNN(CNN):
    """The CNN trained and played on binarised images (paper, appendix A.5); its gradient goes straight through."""

    name = "binary-cnn"
    gradient = "straight-through"
    binary_threshold = 0.5
