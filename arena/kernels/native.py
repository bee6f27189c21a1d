"""torch.library operators over arena._native: tensors to addresses, and what torch must know of each operator.

Inputs are as `ops` has checked them. `packed` is `Decoder.packed`; everything is contiguous float32 on the CPU. `cuda`
adds the same operators on CUDA tensors.
"""

from __future__ import annotations

import torch
from torch import Tensor

from arena import _native
from arena.kernels.decoder import LATENT, PIXELS


def pack(folded: Tensor) -> Tensor:
    """[C, 23617] -> [C, _native.packed_size()], float32."""
    folded = folded.detach().to("cpu", torch.float32).contiguous()
    packed = folded.new_empty(len(folded), _native.packed_size())
    _native.pack(folded.data_ptr(), packed.data_ptr(), len(folded))
    return packed


@torch.library.custom_op("arena::decode", mutates_args=(), device_types="cpu")
def decode(packed: Tensor, z: Tensor) -> Tensor:
    images, classes = z.shape[:2]
    image = z.new_empty(images, classes, PIXELS)
    _native.decode(
        packed.data_ptr(), z.data_ptr(), image.data_ptr(), classes, images,
        LATENT, classes * LATENT, PIXELS, classes * PIXELS, torch.get_num_threads(),
    )  # fmt: skip
    return image


@torch.library.custom_op("arena::decode_backward", mutates_args=(), device_types="cpu")
def decode_backward(packed: Tensor, z: Tensor, gradient: Tensor) -> Tensor:
    images, classes = z.shape[:2]
    dz = torch.empty_like(z)
    _native.decode_back(
        packed.data_ptr(), z.data_ptr(), gradient.data_ptr(), dz.data_ptr(), images, classes, torch.get_num_threads()
    )
    return dz


@torch.library.custom_op("arena::latent_bank", mutates_args=(), device_types="cpu")
def latent_bank(packed: Tensor, latents: Tensor) -> Tensor:
    classes, points = len(packed), len(latents)
    bank = latents.new_empty(classes, points, PIXELS)
    _native.decode(
        packed.data_ptr(), latents.data_ptr(), bank.data_ptr(), classes, points,
        0, LATENT, points * PIXELS, PIXELS, torch.get_num_threads(),
    )  # fmt: skip
    return bank


@torch.library.custom_op("arena::latent_sweep", mutates_args=(), device_types="cpu")
def latent_sweep(packed: Tensor, latents: Tensor, x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    return _best_points(_native.sweep, packed, latents, x, k)


@torch.library.custom_op("arena::bank_sweep", mutates_args=(), device_types="cpu")
def bank_sweep(bank: Tensor, latents: Tensor, x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    return _best_points(_native.score_bank, bank, latents, x, k)


@torch.library.custom_op("arena::latent_descent", mutates_args=(), device_types="cpu")
def latent_descent(
    packed: Tensor, z0: Tensor, x: Tensor, steps: int, lr: float, radius: float, reconstruct: bool
) -> tuple[Tensor, Tensor, Tensor]:
    score, z, image = empty_descent(packed, z0, x, steps, lr, radius, reconstruct)
    images, classes = score.shape
    _native.descend(
        packed.data_ptr(), z0.data_ptr(), x.data_ptr(), score.data_ptr(), z.data_ptr(), image.data_ptr(),
        images, classes, steps, lr, radius, torch.get_num_threads(),
    )  # fmt: skip
    return score, z, image


def _best_points(kernel, source: Tensor, latents: Tensor, x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    score, index = empty_best(source, latents, x, k)
    kernel(
        source.data_ptr(), latents.data_ptr(), x.data_ptr(), score.data_ptr(), index.data_ptr(),
        len(x), len(source), len(latents), k, torch.get_num_threads(),
    )  # fmt: skip
    return score, index


def empty_best(source: Tensor, latents: Tensor, x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    shape = (x.shape[0], source.shape[0], k)
    return x.new_empty(shape), x.new_empty(shape, dtype=torch.int64)


def empty_descent(packed, z0, x, steps, lr, radius, reconstruct) -> tuple[Tensor, Tensor, Tensor]:
    images, classes = z0.shape[:2]
    pixels = (images, classes, PIXELS) if reconstruct else (0,)
    return z0.new_empty(images, classes), torch.empty_like(z0), z0.new_empty(pixels)


def _decode_gradient(ctx, gradient: Tensor) -> tuple[None, Tensor]:
    return None, torch.ops.arena.decode_backward(*ctx.saved_tensors, gradient.contiguous())


# Shapes alone, for torch.compile and torch.library.opcheck.
decode.register_fake(lambda packed, z: z.new_empty(*z.shape[:2], PIXELS))
decode_backward.register_fake(lambda packed, z, gradient: torch.empty_like(z))
latent_bank.register_fake(lambda packed, latents: latents.new_empty(packed.shape[0], latents.shape[0], PIXELS))
latent_sweep.register_fake(empty_best)
bank_sweep.register_fake(empty_best)
latent_descent.register_fake(empty_descent)
decode.register_autograd(_decode_gradient, setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs))
