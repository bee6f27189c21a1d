"""Every operator in plain torch, in the precision and on the device of its inputs: what the native kernels are held
against, and what runs where there are none. Shapes and meaning as in `ops`."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import conv_transpose2d, elu

from arena.kernels.decoder import Decoder
from arena.kernels.layers import PIXELS

IMAGES_AT_ONCE = 160  # decoded together, all classes counted: 6 MB of activations, most of which stay in the cache
POINTS_AT_ONCE = 500  # of the sweep: 16 MB of images for ten classes
PAIRS_AT_ONCE = 10_000  # of an image and a decoded point, subtracted: 31 MB

# Unless told so, cuDNN rounds the inputs of a float32 convolution to TF32's ten bits.
exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)


class GroupedLayer(NamedTuple):
    """A transposed convolution of all classes at once, a group of channels for each class."""

    weight: Tensor  # [C in, out, k, k]
    bias: Tensor  # [C out]
    stride: int


@exact
def decode(decoder: Decoder, z: Tensor) -> Tensor:
    return _decode(_layers(decoder), z)


@exact
def latent_bank(decoder: Decoder, latents: Tensor) -> Tensor:
    layers, classes, points = _layers(decoder), decoder.classes, len(latents)
    bank = latents.new_empty(classes, points, PIXELS)
    run = _run(classes)
    for part, z in zip(bank.split(run, 1), latents.split(run), strict=True):
        part.copy_(_decode(layers, z[:, None].expand(-1, classes, -1)).transpose(0, 1))
    return bank


def latent_sweep(decoder: Decoder, latents: Tensor, x: Tensor, k: int | None = None) -> tuple[Tensor, Tensor]:
    runs = latents.split(POINTS_AT_ONCE)
    scores = torch.cat([_low_scores(latent_bank(decoder, run), run, x, k) for run in runs], -1)
    return _smallest(scores, k)


def bank_sweep(bank: Tensor, latents: Tensor, x: Tensor, k: int | None = None) -> tuple[Tensor, Tensor]:
    return _smallest(_low_scores(bank, latents, x, k), k)


def latent_descent(
    decoder: Decoder, z0: Tensor, x: Tensor, steps: int = 50, lr: float = 0.05, radius: float = 5.0,
    reconstruct: bool = False,
) -> tuple[Tensor, Tensor, Tensor | None]:  # fmt: skip
    layers, run = _layers(decoder), _run(decoder.classes)
    parts = [_descend(layers, *part, steps, lr, radius) for part in zip(z0.split(run), x.split(run), strict=True)]
    score, z, image = (torch.cat(part) for part in zip(*parts, strict=True))
    return score, z, image if reconstruct else None


@exact
@torch.enable_grad()
def _descend(
    layers: list[GroupedLayer], z0: Tensor, x: Tensor, steps: int, lr: float, radius: float
) -> tuple[Tensor, Tensor, Tensor]:
    z = z0.detach().clone().requires_grad_()
    adam = torch.optim.Adam([z], lr=lr)
    for step in range(steps):
        image = _decode(layers, z)
        score = (image - x[:, None]).square().sum(-1) + 0.5 * z.square().sum(-1)
        if step < steps - 1:
            z.grad = torch.autograd.grad(score.sum(), z)[0]
            adam.step()
            with torch.no_grad():
                z *= radius / z.norm(dim=-1, keepdim=True).clamp_min(radius)
    return score.detach(), z.detach(), image.detach()


def _run(classes: int) -> int:
    """How many points or images to decode together."""
    return max(1, IMAGES_AT_ONCE // max(1, classes))


def _layers(decoder: Decoder) -> list[GroupedLayer]:
    """Channels last: a third faster than the usual order in oneDNN's transposed convolutions."""
    layers = []
    for parts in zip(*(decoder.layers(label) for label in range(decoder.classes)), strict=True):
        weights, biases, strides = zip(*parts, strict=True)
        weight = torch.cat(weights).contiguous(memory_format=torch.channels_last)
        layers.append(GroupedLayer(weight, torch.cat(biases), strides[0]))
    return layers


def _decode(layers: list[GroupedLayer], z: Tensor) -> Tensor:
    """z [B, C, 8], a point for each class -> images [B, C, PIXELS]."""
    if not layers:  # no classes: empty, and yet with a gradient
        return z[..., :1].expand(-1, -1, PIXELS)
    hidden = z.flatten(1)[..., None, None]
    for weight, bias, stride in layers[:-1]:
        hidden = elu(conv_transpose2d(hidden, weight, bias, stride, groups=z.shape[1]))
    weight, bias, stride = layers[-1]
    return conv_transpose2d(hidden, weight, bias, stride, groups=z.shape[1]).sigmoid().flatten(2)


def _low_scores(bank: Tensor, latents: Tensor, x: Tensor, k: int | None) -> Tensor:
    """F_c(x, z) = ||x - G_c(z)||^2 + ||z||^2 / 2, [B, C, P], where it is among the k lowest of image and class;
    infinity elsewhere.

    The rough scores only rule points out. Where NaN or infinity comes in, the slack is not finite either and no point
    is ruled out.
    """
    rough, slack = rough_scores(bank, latents, x)
    kth = rough.topk(min(k or 1, len(latents)), largest=False).values[..., -1]
    close = ~(rough > (kth + slack)[..., None])

    half_norms = 0.5 * latents.square().sum(-1)
    scores = rough.fill_(torch.inf)
    for image, label, point in zip(
        *(index.split(PAIRS_AT_ONCE) for index in close.nonzero(as_tuple=True)), strict=True
    ):
        differences = x[image] - bank[label, point]
        scores[image, label, point] = differences.square().sum(-1) + half_norms[point]
    return scores


def rough_scores(bank: Tensor, latents: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """F_c(x, z) - ||x||^2, [B, C, P], and the slack [B, C]: points farther apart than that are in their true order.

    The expanded square is a matrix product, but loses digits. A sum of n terms errs by at most n epsilon / 2 of their
    magnitudes (Higham 2002, section 3.1); two points are compared, each by both forms, and 8 covers the steps around
    the sums.
    """
    half_norms = 0.5 * latents.square().sum(-1)
    norms = torch.linalg.vector_norm(bank, dim=-1)
    product = (x @ bank.flatten(0, 1).T).view(len(x), *norms.shape)
    magnitude = (torch.linalg.vector_norm(x, dim=-1)[:, None] + norms.amax(-1)).square() + half_norms.amax()
    slack = 2 * (PIXELS + 8) * torch.finfo(x.dtype).eps * magnitude
    return norms.square() + half_norms - 2 * product, slack


def _smallest(scores: Tensor, k: int | None) -> tuple[Tensor, Tensor]:
    """Along the last axis; equal scores by index, NaN before all numbers."""
    if k is None:
        index = scores.argmin(-1, keepdim=True)
        return scores.gather(-1, index)[..., 0], index[..., 0]
    index = scores.nan_to_num(nan=-torch.inf, posinf=torch.inf).sort(dim=-1, stable=True).indices[..., :k]
    return scores.gather(-1, index), index
