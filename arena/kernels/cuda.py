"""The operators of `native` on CUDA tensors, where the build has CUDA code: `register` adds them.

Everything is queued on torch's current stream of the tensors' device. Inputs are as `ops` has checked them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from arena import _native
from arena.kernels import native
from arena.kernels.layers import PIXELS

built = hasattr(_native, "cuda")


@cache
def problem(device: torch.device) -> str:
    """Why the kernels do not run on this GPU, and the remedy; empty where they do. The first such answer loads them."""
    if not built:
        return "arena._native was built without CUDA; with nvcc: ARENA_CUDA=1 pip install ."
    if error := _native.cuda.error():
        return f"{error}: update the NVIDIA driver, or build with an older CUDA: CUDACXX=.../bin/nvcc pip install ."
    if not _native.cuda.supports(_index(device)):
        return "the kernels need compute capability 8.0 and 160 KB of shared memory a block (A100, H100 or later)"
    _native.cuda.load(_index(device))
    return ""


def pack(folded: Tensor) -> Tensor:
    """[C, 23617] -> [C, _native.cuda.packed_size()], float32, on the device of `folded`."""
    host = folded.detach().to("cpu", torch.float32).contiguous()
    packed = host.new_empty(len(host), _native.cuda.packed_size())
    _native.cuda.pack(host, packed)
    return packed.to(folded.device)


def register() -> None:
    native.decode.register_kernel("cuda", _decode)
    native.decode_backward.register_kernel("cuda", _decode_backward)
    native.latent_bank.register_kernel("cuda", _latent_bank)
    native.latent_sweep.register_kernel("cuda", _latent_sweep)
    native.bank_sweep.register_kernel("cuda", _bank_sweep)
    native.latent_descent.register_kernel("cuda", _latent_descent)


def _decode(packed: Tensor, z: Tensor) -> Tensor:
    image = z.new_empty(*z.shape[:2], PIXELS)
    _queue(_native.cuda.decode, packed, z, image)
    return image


def _decode_backward(packed: Tensor, z: Tensor, gradient: Tensor) -> Tensor:
    dz = torch.empty_like(z)
    _queue(_native.cuda.decode_backward, packed, z, gradient, dz)
    return dz


def _latent_bank(packed: Tensor, latents: Tensor) -> Tensor:
    bank = latents.new_empty(len(packed), len(latents), PIXELS)
    _queue(_native.cuda.latent_bank, packed, latents, bank)
    return bank


def _latent_sweep(packed: Tensor, latents: Tensor, x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    return _best_points(_native.cuda.latent_sweep, packed, latents, x, k)


def _bank_sweep(bank: Tensor, latents: Tensor, x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    aligned = bank if bank.data_ptr() % 16 == 0 else bank.clone()  # read by 16 bytes
    return _best_points(_native.cuda.bank_sweep, aligned, latents, x, k)


def _latent_descent(
    packed: Tensor, z0: Tensor, x: Tensor, steps: int, lr: float, radius: float, reconstruct: bool
) -> tuple[Tensor, Tensor, Tensor]:
    score, z, image = native.empty_descent(packed, z0, x, steps, lr, radius, reconstruct)
    settings = _native.Descent(steps, lr, radius)
    _queue(_native.cuda.latent_descent, packed, z0, x, settings, score, z, image if reconstruct else None)
    return score, z, image


def _best_points(
    operator: Callable[..., None], source: Tensor, latents: Tensor, x: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    score, index = native.empty_best(source, latents, x, k)
    lists = _native.cuda.sweep_lists(_index(x.device), len(source), len(latents))
    keys = index.new_empty(lists, *index.shape)
    columns = x.T.contiguous()  # neighbouring threads take neighbouring images
    _queue(operator, source, latents, columns, keys, score, index)
    return score, index


def _queue(operator: Callable[..., None], first: Tensor, *others: object) -> None:
    """Call with torch's current stream on the device of `first` in front."""
    operator(torch.cuda.current_stream(first.device).cuda_stream, *native.detached((first, *others)))


def _index(device: torch.device) -> int:
    return torch.cuda.current_device() if device.index is None else device.index
