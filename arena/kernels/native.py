"""torch.library operators over arena._native, which takes tensors by DLPack, and what torch must know of each operator.

Inputs are as `ops` has checked them. `packed` is `Decoder.packed`; everything is contiguous float32 on the CPU. `cuda`
adds the same operators on CUDA tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from arena import _native
from arena.kernels.layers import PIXELS


def pack(folded: Tensor) -> Tensor:
    """[C, 23617] -> [C, _native.packed_size()], float32."""
    folded = folded.detach().to("cpu", torch.float32).contiguous()
    packed = folded.new_empty(len(folded), _native.packed_size())
    _native.pack(folded, packed)
    return packed


@torch.library.custom_op("arena::decode", mutates_args=(), device_types="cpu")
def decode(packed: Tensor, z: Tensor) -> Tensor:
    image = z.new_empty(*z.shape[:2], PIXELS)
    _call(_native.decode, packed, z, image)
    return image


@torch.library.custom_op("arena::decode_backward", mutates_args=(), device_types="cpu")
def decode_backward(packed: Tensor, z: Tensor, gradient: Tensor) -> Tensor:
    dz = torch.empty_like(z)
    _call(_native.decode_backward, packed, z, gradient, dz)
    return dz


@torch.library.custom_op("arena::latent_bank", mutates_args=(), device_types="cpu")
def latent_bank(packed: Tensor, latents: Tensor) -> Tensor:
    bank = latents.new_empty(len(packed), len(latents), PIXELS)
    _call(_native.latent_bank, packed, latents, bank)
    return bank


@torch.library.custom_op("arena::latent_sweep", mutates_args=(), device_types="cpu")
def latent_sweep(packed: Tensor, latents: Tensor, x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    score, index = empty_best(packed, latents, x, k)
    _call(_native.latent_sweep, packed, latents, x, score, index)
    return score, index


@torch.library.custom_op("arena::bank_sweep", mutates_args=(), device_types="cpu")
def bank_sweep(bank: Tensor, latents: Tensor, x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    score, index = empty_best(bank, latents, x, k)
    _call(_native.bank_sweep, bank, latents, x, score, index)
    return score, index


@torch.library.custom_op("arena::screen_bank", mutates_args=(), device_types="cpu")
def screen_bank(bank: Tensor) -> tuple[Tensor, Tensor]:
    codes, error = empty_screen(bank)
    _call(_native.screen_bank, bank, codes, error)
    return codes, error


@torch.library.custom_op("arena::screened_sweep", mutates_args=(), device_types="cpu")
def screened_sweep(
    bank: Tensor, codes: Tensor, error: Tensor, latents: Tensor, x: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    score, index = empty_best(bank, latents, x, k)
    _call(_native.screened_sweep, bank, codes, error, latents, x, score, index)
    return score, index


@torch.library.custom_op("arena::latent_descent", mutates_args=(), device_types="cpu")
def latent_descent(
    packed: Tensor, z0: Tensor, x: Tensor, steps: int, lr: float, radius: float, reconstruct: bool
) -> tuple[Tensor, Tensor, Tensor]:
    score, z, image = empty_descent(packed, z0, x, steps, lr, radius, reconstruct)
    settings = _native.Descent(steps, lr, radius)
    _call(_native.latent_descent, packed, z0, x, settings, score, z, image if reconstruct else None)
    return score, z, image


def _call(operator: Callable[..., None], *arguments: object) -> None:
    operator(*detached(arguments), torch.get_num_threads())


def detached(arguments: tuple[object, ...]) -> list[object]:
    """As DLPack asks for them: a tensor that requires a gradient is not given away."""
    return [argument.detach() if isinstance(argument, Tensor) else argument for argument in arguments]


def empty_best(source: Tensor, latents: Tensor, x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    shape = (x.shape[0], source.shape[0], k)
    return x.new_empty(shape), x.new_empty(shape, dtype=torch.int64)


def empty_screen(bank: Tensor) -> tuple[Tensor, Tensor]:
    classes, points = bank.shape[:2]
    return bank.new_empty(classes, points, _native.CODES, dtype=torch.uint8), bank.new_empty(classes)


def empty_descent(
    packed: Tensor, z0: Tensor, x: Tensor, steps: int, lr: float, radius: float, reconstruct: bool
) -> tuple[Tensor, Tensor, Tensor]:
    images, classes = z0.shape[:2]
    pixels = (images, classes, PIXELS) if reconstruct else (0,)
    return z0.new_empty(images, classes), torch.empty_like(z0), z0.new_empty(pixels)


def _decode_gradient(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
    return None, torch.ops.arena.decode_backward(*ctx.saved_tensors, gradient.contiguous())


# Shapes alone, for torch.compile and torch.library.opcheck.
decode.register_fake(lambda packed, z: z.new_empty(*z.shape[:2], PIXELS))
decode_backward.register_fake(lambda packed, z, gradient: torch.empty_like(z))
latent_bank.register_fake(lambda packed, latents: latents.new_empty(packed.shape[0], latents.shape[0], PIXELS))
latent_sweep.register_fake(empty_best)
bank_sweep.register_fake(empty_best)
screen_bank.register_fake(empty_screen)
screened_sweep.register_fake(lambda bank, codes, error, latents, x, k: empty_best(bank, latents, x, k))
latent_descent.register_fake(empty_descent)
decode.register_autograd(_decode_gradient, setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs))
