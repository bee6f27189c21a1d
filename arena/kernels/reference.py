"""Every operator in plain torch, in the precision and on the device of its inputs: what the native kernels are held
against, and what runs where there are none. Shapes and meaning as in `ops`."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import conv_transpose2d, elu

from arena.kernels.decoder import LATENT, PIXELS, Decoder

POINTS_AT_ONCE = 500  # of the sweep: 25 MB of activations each


def decode(decoder: Decoder, z: Tensor) -> Tensor:
    images = [_draw(decoder, label, z[..., label, :]) for label in range(decoder.classes)]
    return torch.stack(images, -2)


def latent_bank(decoder: Decoder, latents: Tensor) -> Tensor:
    return torch.stack([_draw(decoder, label, latents) for label in range(decoder.classes)])


def latent_sweep(decoder: Decoder, latents: Tensor, x: Tensor, k: int | None = None) -> tuple[Tensor, Tensor]:
    runs = latents.split(POINTS_AT_ONCE)
    scores = torch.cat([_scores(latent_bank(decoder, run), run, x) for run in runs], -1)
    return _smallest(scores, k)


def bank_sweep(bank: Tensor, latents: Tensor, x: Tensor, k: int | None = None) -> tuple[Tensor, Tensor]:
    return _smallest(_scores(bank, latents, x), k)


def latent_descent(
    decoder: Decoder, z0: Tensor, x: Tensor, steps: int = 50, lr: float = 0.05, radius: float = 5.0,
    reconstruct: bool = False,
) -> tuple[Tensor, Tensor, Tensor | None]:  # fmt: skip
    z = z0.detach().clone().requires_grad_()
    adam = torch.optim.Adam([z], lr=lr)
    for step in range(steps):
        with torch.enable_grad():
            images = decode(decoder, z)
            score = (images - x[:, None]).square().sum(-1) + 0.5 * z.square().sum(-1)
        if step < steps - 1:
            z.grad = torch.autograd.grad(score.sum(), z)[0]
            adam.step()
            with torch.no_grad():
                z *= radius / z.norm(dim=-1, keepdim=True).clamp_min(radius)
    return score.detach(), z.detach(), images.detach() if reconstruct else None


def _draw(decoder: Decoder, label: int, z: Tensor) -> Tensor:
    """z [..., 8] -> images of one class [..., 784]."""
    hidden = z.reshape(-1, LATENT, 1, 1)
    *layers, (weight, bias, stride) = decoder.layers(label)
    for w, b, s in layers:
        hidden = elu(conv_transpose2d(hidden, w, b, s))
    return conv_transpose2d(hidden, weight, bias, stride).sigmoid().reshape(*z.shape[:-1], PIXELS)


def _scores(bank: Tensor, latents: Tensor, x: Tensor) -> Tensor:
    """F_c(x, z) = ||x - G_c(z)||^2 + ||z||^2 / 2, [B, C, P], from differences: the expanded square loses digits."""
    distances = torch.cdist(x[None], bank, compute_mode="donot_use_mm_for_euclid_dist")
    return (distances.square() + 0.5 * latents.square().sum(-1)).transpose(0, 1)


def _smallest(scores: Tensor, k: int | None) -> tuple[Tensor, Tensor]:
    """Along the last axis; equal scores by index, NaN before all numbers."""
    if k is None:
        index = scores.argmin(-1, keepdim=True)
        return scores.gather(-1, index)[..., 0], index[..., 0]
    index = scores.nan_to_num(nan=-torch.inf, posinf=torch.inf).sort(dim=-1, stable=True).indices[..., :k]
    return scores.gather(-1, index), index
