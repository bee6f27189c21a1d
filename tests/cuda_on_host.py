"""The CUDA kernels' bodies, compiled as plain C++ and run by one thread: their indexing and arithmetic without a GPU.

csrc/cuda/host.cpp stands in for the grid and the blocks. Each block starts with memory full of NaN; items of a phase
run forwards or backwards. What this cannot show: the launch itself, races that both orders survive, and speed.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from arena.kernels.decoder import LATENT, PIXELS, Decoder

SOURCE = Path(__file__).parents[1] / "csrc" / "cuda" / "host.cpp"


@cache
def library() -> ctypes.CDLL:
    compiler = shutil.which("c++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler: the CUDA kernels' bodies are not run on the CPU")
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    file = Path(folder.name, "cuda_on_host.so")
    options = ["-std=c++17", "-O3", "-march=native", "-shared", "-fPIC"]
    plain = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}  # make sanitize sets it
    subprocess.run([compiler, *options, SOURCE, "-o", file], check=True, env=plain)
    return ctypes.CDLL(str(file))


def call(name: str, *arguments: Tensor | float, result: type | None = None) -> int | float | None:
    """Tensors go as addresses, integers as int64, but for those that are ctypes already."""
    function = getattr(library(), name)
    function.restype = result
    plain = []
    for value in arguments:
        if isinstance(value, Tensor):
            plain.append(ctypes.c_void_p(value.data_ptr()))
        elif isinstance(value, int):
            plain.append(ctypes.c_int64(value))
        else:
            plain.append(ctypes.c_float(value) if isinstance(value, float) else value)
    return function(*plain)


class CudaOnHost:
    """The functions of `ops`, for checked arguments.

    tile: points that a block decodes together, 1 or 2. order: 1 or -1, in which the items of a phase go.
    """

    def __init__(self, tile: int = 2, order: int = 1) -> None:
        self.how = (ctypes.c_int(order), ctypes.c_int(tile))

    def decode(self, decoder: Decoder, z: Tensor) -> Tensor:
        return _Decode.apply(self, _packed(decoder), z)

    def latent_bank(self, decoder: Decoder, latents: Tensor) -> Tensor:
        points = len(latents)
        bank = torch.empty(decoder.classes, points, PIXELS)
        self.draw(_packed(decoder), latents, bank, decoder.classes, points, (0, LATENT), (points * PIXELS, PIXELS))
        return bank

    def draw(self, packed, z, image, classes, points, z_stride, image_stride) -> None:
        call("decode", *self.how, packed, z, image, classes, points, *z_stride, *image_stride)

    def draw_back(self, packed: Tensor, z: Tensor, gradient: Tensor) -> Tensor:
        dz = torch.empty_like(z)
        call("decode_back", *self.how, packed, z, gradient, dz, *z.shape[:2])
        return dz

    def latent_sweep(self, decoder: Decoder, latents: Tensor, x: Tensor, k: int | None = None):
        return self._best("sweep", _packed(decoder), latents, x, k)

    def bank_sweep(self, bank: Tensor, latents: Tensor, x: Tensor, k: int | None = None):
        return self._best("score_bank", bank, latents, x, k)

    def latent_descent(self, decoder, z0, x, steps=50, lr=0.05, radius=5.0, reconstruct=False):
        images, classes = z0.shape[:2]
        score, z = torch.empty(images, classes), torch.empty_like(z0)
        image = torch.empty(images, classes, PIXELS) if reconstruct else torch.empty(0)
        call(
            "descend", *self.how, _packed(decoder), z0, x, score, z, image, images, classes, ctypes.c_int(steps),
            float(lr), float(radius),
        )  # fmt: skip
        return score, z, image if reconstruct else None

    def _best(self, name: str, source: Tensor, latents: Tensor, x: Tensor, k: int | None) -> tuple[Tensor, Tensor]:
        images, classes, points = len(x), len(source), len(latents)
        shape = (images, classes, k or 1)
        lists = call("sweep_lists", classes, points, result=ctypes.c_int64)
        keys, score = torch.empty(lists, *shape, dtype=torch.int64), torch.empty(shape)
        index = torch.empty(shape, dtype=torch.int64)
        arguments = (source, latents, x.T.contiguous(), keys, score, index, images, classes, points)
        call(name, *self.how, *arguments, ctypes.c_int(k or 1))
        return (score[..., 0], index[..., 0]) if k is None else (score, index)


class _Decode(torch.autograd.Function):
    @staticmethod
    def forward(ctx, host: CudaOnHost, packed: Tensor, z: Tensor) -> Tensor:
        ctx.host = host
        ctx.save_for_backward(packed, z)
        images, classes = z.shape[:2]
        image = torch.empty(images, classes, PIXELS)
        host.draw(packed, z, image, classes, images, (LATENT, classes * LATENT), (PIXELS, classes * PIXELS))
        return image

    @staticmethod
    def backward(ctx, gradient: Tensor):
        return None, None, ctx.host.draw_back(*ctx.saved_tensors, gradient.contiguous())


def _packed(decoder: Decoder) -> Tensor:
    packed = torch.empty(decoder.classes, call("packed_size", result=ctypes.c_int64))
    call("pack_weights", decoder.folded.contiguous(), packed, decoder.classes)
    return packed
