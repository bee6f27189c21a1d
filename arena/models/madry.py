"""The network of Madry et al., robust in Linf by adversarial training."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn


class MadryNetwork(nn.Sequential):
    """Two convolutions with pooling, two fully connected layers (paper, appendix A.5; the MNIST challenge's network).

    Maps x, float32 [B, 1, 28, 28] in [0, 1], to logits [B, 10].
    """

    def __init__(self) -> None:
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for i, (channels_in, channels_out) in enumerate([(1, 32), (32, 64)]):
            layers[f"conv_{i}"] = nn.Conv2d(channels_in, channels_out, 5, padding=2)
            layers[f"relu_{i}"] = nn.ReLU()
            layers[f"pool_{i}"] = nn.MaxPool2d(2)
        layers["flatten"] = nn.Flatten()
        layers["fc_0"] = nn.Linear(64 * 7 * 7, 1024)
        layers["relu_2"] = nn.ReLU()
        layers["fc_1"] = nn.Linear(1024, 10)
        super().__init__(layers)
