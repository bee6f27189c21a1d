"""The operators: arguments checked, then native kernels, or plain torch where there are none.

For class c and image x a latent point z has the score F_c(x, z) = ||x - G_c(z)||^2 + ||z||^2 / 2, lower is better
(Schott et al. 2019, equation 3, in the normalisation of the released implementation). B images, C classes, P points;
PIXELS is `layers.PIXELS`, those of the image that the decoder draws.

Tensors are contiguous, on the decoder's device and of its dtype: float32, or float64 for plain torch. TypeError and
ValueError name the argument that is not. NaN and infinity in the input come out as NaN or infinity. Results do not
depend on the other images of a batch or on the number of threads (torch.get_num_threads()). Only `decode` has a
gradient; that of a minimum over z follows from its reconstruction (envelope theorem).
"""

from __future__ import annotations

import warnings
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from arena.kernels import reference
from arena.kernels.decoder import Decoder
from arena.kernels.layers import LATENT, PIXELS

try:
    from arena.kernels import cuda, native
except ImportError as error:
    _missing: ImportError | None = error
else:
    _missing = None
    if cuda.built:
        cuda.register()

MAX_K = 8


class Screen(NamedTuple):
    """A bank in 8 bits, a quarter of the bytes, by which `bank_sweep` rules out nearly all points."""

    codes: Tensor  # uint8 [C, P, *]: the pixels times 255, rounded, then zeros
    error: Tensor  # float32 [C]: the largest L2 distance of an image from its codes / 255; NaN where one is not finite


def decode(decoder: Decoder, z: Tensor) -> Tensor:
    """Images of latent points, with a gradient with respect to z.

    z: [B, C, 8], a point for each class. Returns [B, C, PIXELS] in [0, 1].
    """
    _check("z", z, (None, decoder.classes, LATENT), decoder.folded)
    return native.decode(decoder.packed, z) if _is_native(decoder.folded) else reference.decode(decoder, z)


@torch.no_grad()
def latent_bank(decoder: Decoder, latents: Tensor) -> Tensor:
    """Every class's images of the same points, for `bank_sweep`.

    latents: [P, 8]. Returns [C, P, PIXELS] in [0, 1]: 251 MB for 8000 points and ten classes.
    """
    _check("latents", latents, (None, LATENT), decoder.folded)
    if _is_native(decoder.folded):
        return native.latent_bank(decoder.packed, latents)
    return reference.latent_bank(decoder, latents)


@torch.no_grad()
def latent_sweep(decoder: Decoder, latents: Tensor, x: Tensor, k: int | None = None) -> tuple[Tensor, Tensor]:
    """The best of the points for each image and class, decoded and scored in one pass that stores no decoded image.

    latents: [P, 8]; x: [B, PIXELS]; k: how many, 1 to 8 and at most P, best first; None: one, without an axis for it.
    Returns score and index (int64), [B, C] or [B, C, k]. Equal scores: the lower index; NaN counts as lowest.
    """
    _check("latents", latents, (None, LATENT), decoder.folded)
    _check("x", x, (None, PIXELS), decoder.folded)
    _check_k(k, len(latents))
    if not _is_native(decoder.folded):
        return reference.latent_sweep(decoder, latents, x, k)
    return _squeeze(native.latent_sweep(decoder.packed, latents, x, k or 1), k)


@torch.no_grad()
def screen_bank(bank: Tensor) -> Screen | None:
    """What makes `bank_sweep` faster: the bank [C, P, PIXELS] once more, in 8 bits. None where no kernel uses it."""
    _check("bank", bank, (None, None, PIXELS), bank)
    return Screen(*native.screen_bank(bank)) if _is_native(bank) and not bank.is_cuda else None


@torch.no_grad()
def bank_sweep(
    bank: Tensor, latents: Tensor, x: Tensor, k: int | None = None, screen: Screen | None = None
) -> tuple[Tensor, Tensor]:
    """What `latent_sweep` returns, to the bit, from points that `latent_bank` decoded.

    bank: [C, P, PIXELS]; latents: [P, 8], the same points; x, k and the result as there. screen: that of this bank.
    The bits are the same with and without: it rules a point out only by a proven bound on its score.
    """
    _check("bank", bank, (None, len(latents), PIXELS), bank)
    _check("latents", latents, (None, LATENT), bank)
    _check("x", x, (None, PIXELS), bank)
    _check_k(k, len(latents))
    if not _is_native(bank):
        return reference.bank_sweep(bank, latents, x, k)
    if screen is not None:
        return _squeeze(native.screened_sweep(bank, *screen, latents, x, k or 1), k)
    return _squeeze(native.bank_sweep(bank, latents, x, k or 1), k)


@torch.no_grad()
def latent_descent(
    decoder: Decoder, z0: Tensor, x: Tensor, steps: int = 50, lr: float = 0.05, radius: float = 5.0,
    reconstruct: bool = False,
) -> tuple[Tensor, Tensor, Tensor | None]:  # fmt: skip
    """Adam on F_c(x, z) from z0; after each step z returns to the ball of `radius`. The last step evaluates only.

    (The released implementation's projection loses the signs of z; this one does not.)
    z0: [B, C, 8]; x: [B, PIXELS]; steps: at least 1; lr, radius: positive.
    Returns score [B, C], z [B, C, 8] and, if `reconstruct`, the images of z [B, C, PIXELS].
    """
    _check("z0", z0, (len(x), decoder.classes, LATENT), decoder.folded)
    _check("x", x, (None, PIXELS), decoder.folded)
    if steps < 1 or lr <= 0 or radius <= 0:
        raise ValueError(f"steps {steps}, lr {lr}, radius {radius}: steps is at least 1, lr and radius are positive")
    if not _is_native(decoder.folded):
        return reference.latent_descent(decoder, z0, x, steps, lr, radius, reconstruct)
    score, z, image = native.latent_descent(decoder.packed, z0, x, steps, lr, radius, reconstruct)
    return score, z, image if reconstruct else None


def _check(name: str, tensor: Tensor, shape: tuple[int | None, ...], like: Tensor) -> None:
    """Raise unless `tensor` has this shape (None: any length) and is of the kind of `like`."""
    expected = tuple("*" if length is None else length for length in shape)
    same = tensor.ndim == len(shape) and all(n in (None, m) for n, m in zip(shape, tensor.shape, strict=True))
    if not same:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)} instead of [{', '.join(map(str, expected))}]")
    if tensor.dtype != like.dtype or tensor.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"{name} is {tensor.dtype}; the decoder (or bank) asks for {like.dtype}")
    if tensor.device != like.device:
        raise ValueError(f"{name} is on {tensor.device}; the decoder (or bank) is on {like.device}")
    if not tensor.is_contiguous():
        raise ValueError(f"{name} is not contiguous; pass {name}.contiguous()")


def _check_k(k: int | None, points: int) -> None:
    if points < 1:
        raise ValueError("latents is empty; a minimum needs at least one point")
    if k is not None and not 1 <= k <= min(MAX_K, points):
        raise ValueError(f"k is {k}; it goes from 1 to {min(MAX_K, points)} for {points} points")


def _squeeze(best: tuple[Tensor, Tensor], k: int | None) -> tuple[Tensor, Tensor]:
    score, index = best
    return (score[..., 0], index[..., 0]) if k is None else (score, index)


def _is_native(tensor: Tensor) -> bool:
    """Whether kernels exist for tensors like this one; float64 asks for plain torch and gets it without a word."""
    if tensor.dtype == torch.float64:
        return False
    if tensor.device.type not in ("cpu", "cuda"):
        problem = f"no native kernels on {tensor.device}"
    elif _missing is not None:
        problem = f"arena._native cannot be loaded ({_missing})"
    elif tensor.is_cuda:
        problem = cuda.problem(tensor.device)
    else:
        problem = ""
    if problem:
        _say_once(f"plain torch instead of native kernels, some 7 times slower: {problem}")
    return not problem


@cache
def _say_once(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=4)
