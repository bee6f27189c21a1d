"""The convolutional classifiers of the paper, and the binarisation in front of one of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

# Paper, appendix A.5 "Hyperparameters for the CNNs".
KERNELS = (5, 4, 3, 5)
STRIDES = (1, 2, 2, 1)
MAPS = (20, 70, 256, 10)


class ConvolutionalNetwork(nn.Sequential):
    """Four convolutions without padding, 28 -> 24 -> 11 -> 5 -> 1; batch norm and ELU after all but the last.

    Maps x, float32 [B, 1, 28, 28] in [0, 1], to logits [B, maps[-1]].

    Args:
        maps: feature maps of the four layers.
        binary_threshold: binarise the input there; None leaves it as it is.
    """

    def __init__(self, maps: Sequence[int] = MAPS, binary_threshold: float | None = None) -> None:
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        if binary_threshold is not None:
            layers["binarize"] = Binarize(binary_threshold)
        shapes = zip((1, *maps), maps, KERNELS, STRIDES, strict=False)
        for i, (channels_in, channels_out, kernel, stride) in enumerate(shapes):
            layers[f"conv_{i}"] = nn.Conv2d(channels_in, channels_out, kernel, stride)
            if i < len(KERNELS) - 1:
                layers[f"bn_{i}"] = nn.BatchNorm2d(channels_out)
                layers[f"elu_{i}"] = nn.ELU()
        layers["flatten"] = nn.Flatten()
        super().__init__(layers)


class Binarize(nn.Module):
    """1 where x >= threshold, else 0; the gradient goes straight through, as if this were the identity."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, x: Tensor) -> Tensor:
        return _StraightThrough.apply(x, self.threshold)  # type: ignore[no-untyped-call]

    def extra_repr(self) -> str:
        return f"threshold={self.threshold}"


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, threshold: float) -> Tensor:
        return (x >= threshold).to(x.dtype)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None
