"""The substitute of transfer attacks: the released architecture for its images, a small one for any others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from arena.errors import UserError
from arena.models.cnn import ConvolutionalNetwork
from arena.models.weights import fill, read_tensors

MAPS = (32, 32, 64, 10)  # of the released substitute
SHAPE, CLASSES = (1, 28, 28), 10  # that it is made for
GRID = 4  # what is left of height and width before the last layer


class GeneralNetwork(nn.Sequential):
    """Three convolutions of 3 x 3, each followed by batch norm and ELU, an average over a grid, and a linear layer.

    Maps x, float32 [B, channels, H, W] in [0, 1], any H and W, to logits [B, classes].
    """

    def __init__(self, channels: int, classes: int) -> None:
        maps = (channels, 32, 64, 128)
        blocks = (
            nn.Sequential(nn.Conv2d(before, after, 3, stride, 1), nn.BatchNorm2d(after), nn.ELU())
            for before, after, stride in zip(maps, maps[1:], (1, 2, 2), strict=False)
        )
        super().__init__(*blocks, nn.AdaptiveAvgPool2d(GRID), nn.Flatten(), nn.Linear(maps[-1] * GRID**2, classes))
        self.channels = channels

    @classmethod
    def like(cls, tensors: Mapping[str, Tensor]) -> GeneralNetwork | None:
        """The network that has these weights; None if they are another's."""
        first, last = (tensors.get(name, torch.empty(0)).shape for name in ("0.0.weight", "5.weight"))
        return cls(first[1], last[0]) if len(first) == 4 and len(last) == 2 else None


def load_substitute(path: str | Path) -> nn.Module:
    """The network whose weights `arena train substitute` wrote. Raises UserError for any others."""
    tensors = read_tensors(path)
    network = GeneralNetwork.like(tensors) or ConvolutionalNetwork(MAPS)
    fill(network, tensors, path)
    return network


def check_takes(owner: str, network: nn.Module, shape: tuple[int, ...], remedy: str) -> None:
    """Raise UserError, with the remedy, if a substitute is not made for images [C, H, W]."""
    if isinstance(network, ConvolutionalNetwork) and shape != SHAPE:
        raise UserError(f"{owner}: its substitute takes images of {' x '.join(map(str, SHAPE))} alone; {remedy}")
    if isinstance(network, GeneralNetwork) and shape[0] != network.channels:
        raise UserError(f"{owner}: its substitute takes images of {network.channels} channels; {remedy}")
