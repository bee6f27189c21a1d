"""The decoders of all classes as one value: batch norm folded into the weights once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from arena.kernels.layers import FOLDED_SIZE, LAYERS

BATCH_NORM_EPSILON = 1e-5


@dataclass(frozen=True, eq=False)
class Decoder:
    """G_c for each class c: latent points to images.

    folded: [C, 23617], float32 or float64: of each layer the weights [in, out, ky, kx], then the biases [out].
    """

    folded: Tensor

    def __post_init__(self) -> None:
        if self.folded.ndim != 2 or self.folded.shape[1] != FOLDED_SIZE:
            raise ValueError(f"folded has shape {tuple(self.folded.shape)}; a Decoder takes [classes, {FOLDED_SIZE}]")
        if self.folded.dtype not in (torch.float32, torch.float64):
            raise TypeError(f"folded is {self.folded.dtype}; a Decoder takes float32 or float64")

    @classmethod
    def from_state_dicts(cls, states: Sequence[Mapping[str, Tensor]], prefix: str = "Decoder.") -> Decoder:
        """One state dict a class, with `conv_0..3` and `bn_0..2` after `prefix`; a KeyError names what is missing."""
        return cls(torch.stack([torch.cat(_fold(state, prefix)) for state in states]).float())

    @classmethod
    def from_modules(cls, modules: Sequence[torch.nn.Module], prefix: str = "") -> Decoder:
        """One module a class, its layers named as in `from_state_dicts`."""
        return cls.from_state_dicts([module.state_dict() for module in modules], prefix)

    @property
    def classes(self) -> int:
        return self.folded.shape[0]

    def to(self, target: torch.device | torch.dtype | str) -> Decoder:
        """A copy elsewhere or in another precision, as Tensor.to."""
        return Decoder(self.folded.to(target))

    @cached_property
    def packed(self) -> Tensor:
        """The weights in the layout of its device's native kernels, made once for each decoder."""
        from arena.kernels import cuda, native

        return (cuda if self.folded.is_cuda else native).pack(self.folded)

    def layers(self, label: int) -> list[tuple[Tensor, Tensor, int]]:
        """(weight [in, out, k, k], bias [out], stride) of each layer of one class."""
        layers, rest = [], self.folded[label]
        for layer in LAYERS:
            shape = (layer.channels_in, layer.channels_out, layer.kernel, layer.kernel)
            weight, bias, rest = rest.tensor_split((torch.Size(shape).numel(), torch.Size(shape).numel() + shape[1]))
            layers.append((weight.view(shape), bias, layer.stride))
        return layers


def _fold(state: Mapping[str, Tensor], prefix: str) -> list[Tensor]:
    """Weights and biases, flattened, in float64; batch norm in evaluation is a scale and a shift of each channel."""
    folded = []
    for i, layer in enumerate(LAYERS):
        weight, bias = (state[f"{prefix}conv_{i}.{name}"].detach().double() for name in ("weight", "bias"))
        if tuple(weight.shape) != (expected := (layer.channels_in, layer.channels_out, layer.kernel, layer.kernel)):
            raise ValueError(f"{prefix}conv_{i}.weight has shape {tuple(weight.shape)}; the kernels know {expected}")
        if i < len(LAYERS) - 1:
            norm = {name: state[f"{prefix}bn_{i}.{name}"].double() for name in ("weight", "bias")}
            mean, variance = (state[f"{prefix}bn_{i}.running_{name}"].double() for name in ("mean", "var"))
            scale = norm["weight"] / (variance + BATCH_NORM_EPSILON).sqrt()
            weight, bias = weight * scale[:, None, None], (bias - mean) * scale + norm["bias"]
        folded += [weight.flatten(), bias]
    return folded
