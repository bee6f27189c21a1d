"""How fast the logits of an ordinary network can change: the product over its layers of what each can stretch.

A margin of m that changes by at most K for each unit of distance is m / K away from zero (Tsuzuku et al. 2018). K is
the product of the layers' operator norms in L1, L2 or Linf, times the dual norm of the difference of the last layer's
rows, for each pair of classes by itself. One length bounds another: ||d||_p >= D^min(0, 1/p - 1/q) ||d||_q.
"""

from __future__ import annotations

import copy
import math
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn

from arena.errors import UserError
from arena.geometry.norms import NORMS, SPECS, Norm
from arena.interface.contracts import Defense, HasNetwork
from arena.target.logits import ROUNDING, evaluate, size

LENGTHS: tuple[Norm, ...] = tuple(norm for norm in NORMS if not SPECS[norm].counts)
_CHECKED = 8  # random images on which the layers must answer as the defense does
_INWARD = 1e-6  # relative: far more than float64 rounds
_SMALL = 2**21  # numbers of a matrix: its norm takes seconds at most
_AFFINE = (nn.Linear, nn.Conv2d, nn.BatchNorm2d, nn.AvgPool2d, nn.Flatten, nn.Identity, nn.Dropout)
_CURVED = (nn.ReLU, nn.LeakyReLU, nn.ELU, nn.Tanh, nn.Sigmoid)
_KNOWN = (*_AFFINE, *_CURVED, nn.MaxPool2d)


class Stretch(NamedTuple):
    """How far values move at most, for a unit by which those before move, in each length."""

    l1: float
    l2: float
    linf: float

    def then(self, other: Stretch) -> Stretch:
        return Stretch(*(a * b for a, b in zip(self, other, strict=True)))


class Speed:
    """How fast the logits of a defense can change, for images [C, H, W].

    Raises:
        UserError: it is no network whose layers are known; the reason in one line.
    """

    def __init__(self, defense: Defense, shape: tuple[int, ...]) -> None:
        layers = _layers(defense, shape)
        curved = [number for number, layer in enumerate(layers) if not isinstance(layer, _AFFINE)]
        first_of_last = curved[-1] + 1 if curved else 0
        self._hidden, self._last = nn.Sequential(*layers[:first_of_last]), nn.Sequential(*layers[first_of_last:])
        self._zero = torch.zeros(1, *shape, dtype=torch.float64, device=defense.device)

    @torch.no_grad()
    def distances(self, x: Tensor, y: Tensor, norm: Norm) -> Tensor:
        """Lower bounds [B], float64, of the distances of images x [B, C, H, W] with labels y, int64 [B], in one of
        LENGTHS: the least over classes of the margin over the fastest that it can fall."""
        logits, (hidden, matrix) = self._last(self._hidden(x.double())), self._measured
        lead = (logits.gather(1, y[:, None]) - logits).clamp_min(0)
        apart = matrix[y][:, None] - matrix  # [B, classes, values]
        best = torch.zeros_like(lead)
        for length, stretch in zip(LENGTHS, hidden, strict=True):
            speed = stretch * torch.linalg.vector_norm(apart, ord=SPECS[length].dual, dim=-1)
            shorter = x[0].numel() ** min(0.0, 1 / SPECS[norm].order - 1 / SPECS[length].order)
            best = best.maximum(shorter * lead / speed)
        return best.scatter(1, y[:, None], torch.inf).amin(1) * (1 - _INWARD)

    @cached_property
    def _measured(self) -> tuple[Stretch, Tensor]:
        """How far the last hidden values move, and the matrix [classes, values] that makes logits of them."""
        stretch, x = Stretch(1.0, 1.0, 1.0), self._zero
        for layer in self._hidden:
            stretch = stretch.then(_of_layer(layer, x))
            x = layer(x)
        return stretch, torch.func.jacrev(self._last)(x).flatten(2)[0]


def _layers(defense: Defense, shape: tuple[int, ...]) -> list[nn.Module]:
    """The layers of a defense in float64, batch norms in the convolutions before them."""
    if not isinstance(defense, HasNetwork) or not isinstance(defense.network, nn.Sequential):
        raise UserError("it has no attribute `network`, a torch.nn.Sequential of layers that are its scores")
    layers: list[nn.Module] = []
    for layer in copy.deepcopy(defense.network).double().modules():
        if isinstance(layer, nn.Sequential):
            continue
        if (reason := _unknown(layer)) is not None:
            raise UserError(f"of its layer {layer} the stretch is not known{reason}")
        if isinstance(layer, nn.BatchNorm2d) and layers and isinstance(layers[-1], nn.Conv2d):
            layers[-1] = nn.utils.fuse_conv_bn_eval(layers[-1], layer)
        else:
            layers.append(layer)
    x = torch.rand(_CHECKED, *shape, generator=torch.Generator().manual_seed(0)).to(defense.device)
    try:
        own, found = evaluate(defense, x).double(), nn.Sequential(*layers)(x.double())
    except RuntimeError:
        raise UserError(f"it is not made for images {list(shape)}") from None
    if own.shape != found.shape or not bool(((own - found).abs().amax(1) <= ROUNDING * size(own)).all()):
        raise UserError("its scores are not what its `network` says of the image")
    return layers


def _unknown(layer: nn.Module) -> str | None:
    """Why a layer is not known, as a remark; None if it is."""
    if type(layer) not in _KNOWN:  # a subclass may compute anything
        return ""
    if layer.training:
        return ": it is in training mode"
    if isinstance(layer, nn.Conv2d) and (layer.padding_mode != "zeros" or isinstance(layer.padding, str)):
        return ": its padding is not a number of zeros"
    if isinstance(layer, nn.BatchNorm2d) and layer.running_var is None:
        return ": it normalises by the statistics of the batch"
    steep = {nn.ELU: "alpha", nn.LeakyReLU: "negative_slope"}.get(type(layer))
    return ": its slope is above 1" if steep and not abs(getattr(layer, steep)) <= 1 else None


def _of_layer(layer: nn.Module, x: Tensor) -> Stretch:
    """What a layer can stretch its input by; x: any input [1, ...]."""
    if isinstance(layer, nn.MaxPool2d):  # each value wins in at most so many windows
        sides = zip(*map(_pair, (layer.kernel_size, layer.stride, layer.dilation)), strict=True)
        windows = math.prod(-(-kernel * math.gcd(stride, dilation) // stride) for kernel, stride, dilation in sides)
        return Stretch(windows, math.sqrt(windows), 1.0)
    if isinstance(layer, nn.Sigmoid):
        return Stretch(0.25, 0.25, 0.25)
    if isinstance(layer, _CURVED):
        return Stretch(1.0, 1.0, 1.0)
    zero, shift = torch.zeros_like(x), layer(torch.zeros_like(x))
    if isinstance(layer, nn.Linear) or zero.numel() * shift.numel() <= _SMALL:
        matrix = torch.func.jacrev(layer)(zero).view(shift.numel(), -1)
        return Stretch(*(float(torch.linalg.matrix_norm(matrix, order)) for order in (1, 2, math.inf)))
    if isinstance(layer, nn.BatchNorm2d):
        factor = float((layer(torch.ones_like(x)) - shift).abs().max())
        return Stretch(factor, factor, factor)
    magnitudes = copy.deepcopy(layer)
    for parameter in magnitudes.parameters():
        parameter.data.abs_()
    # Sums of magnitudes of columns and rows; of pooling and of views no coefficient is negative.
    spread = torch.func.vjp(magnitudes, zero)[1](torch.ones_like(shift))[0]
    columns, rows = float(spread.max()), float((magnitudes(torch.ones_like(x)) - magnitudes(zero)).max())
    schur = math.sqrt(columns * rows)  # Schur's test
    return Stretch(columns, min(schur, _on_torus(layer, x)) if isinstance(layer, nn.Conv2d) else schur, rows)


def _on_torus(layer: nn.Conv2d, x: Tensor) -> float:
    """An upper bound of a convolution's spectral norm: that of the same on a torus, of which it is a part.

    With a stride s it is a convolution of the s x s images that every s-th pixel makes, as further channels. On a torus
    large enough that nothing meets itself, the discrete Fourier transform takes it apart into one matrix a frequency
    (Sedghi, Gupta and Long 2019); the zeros around the image and the outputs left out only take rows and columns away.
    """
    kernel, (step_y, step_x) = _dense(layer), layer.stride
    height, width = kernel.shape[2:]
    kernel = nn.functional.pad(kernel, (0, -width % step_x, 0, -height % step_y))
    kernel = torch.cat([kernel[:, :, i::step_y, j::step_x] for i in range(step_y) for j in range(step_x)], 1)
    assert not isinstance(layer.padding, str)  # `_unknown` has seen to it
    sides = zip(x.shape[2:], layer.padding, layer.stride, kernel.shape[2:], strict=True)
    torus = [-(-(side + 2 * pad) // step) + taps for side, pad, step, taps in sides]
    frequencies = torch.fft.rfft2(kernel, s=torus).permute(2, 3, 0, 1)
    if frequencies.shape[-2] > frequencies.shape[-1]:
        frequencies = frequencies.mT
    return math.sqrt(float(torch.linalg.eigvalsh(frequencies @ frequencies.mH)[..., -1].max()))


def _dense(layer: nn.Conv2d) -> Tensor:
    """The kernel [out, in, h, w] without groups and without dilation: zeros in between."""
    weight, (down, right) = layer.weight, layer.dilation
    out, inputs, height, width = weight.shape
    kernel = weight.new_zeros(out, layer.in_channels, down * (height - 1) + 1, right * (width - 1) + 1)
    for group, part in enumerate(weight.split(out // layer.groups)):
        rows, columns = (slice(group * n, (group + 1) * n) for n in (len(part), inputs))
        kernel[rows, columns, ::down, ::right] = part
    return kernel


def _pair(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return (value, value) if isinstance(value, int) else value
