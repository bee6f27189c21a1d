"""The CUDA kernels' bodies, compiled as plain C++ and run by one thread: their indexing and arithmetic without a GPU.

cuda_on_host.cpp stands in for the grid and the blocks. Each block starts with memory full of NaN; items of a phase
run forwards or backwards. Races that both orders survive are for cuda_races.cpp. What neither can show: the launch
itself, and speed.
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
from typing import Any, TypeAlias

import pytest
import torch
from torch import Tensor

from arena.kernels.decoder import Decoder
from arena.kernels.layers import PIXELS

Plain: TypeAlias = "ctypes.Structure | ctypes._SimpleCData[Any]"

HERE = Path(__file__).parent
KERNELS = HERE.parent / "csrc"


@cache
def library() -> ctypes.CDLL:
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    file = Path(folder.name, "cuda_on_host.so")
    build("cuda_on_host.cpp", file, "-std=c++17", "-O3", "-march=native", "-shared", "-fPIC")
    return ctypes.CDLL(str(file))


def build(source: str, output: Path, *options: str) -> None:
    """Compile a stand-in for the GPU, or skip the test where there is no compiler."""
    compiler = shutil.which("c++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler: the CUDA kernels' bodies are not run on the CPU")
    command = [compiler, *options, f"-I{KERNELS}", str(HERE / source), "-o", str(output)]
    plain = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}  # make sanitize sets it
    subprocess.run(command, check=True, env=plain)


def call(name: str, *arguments: Tensor | Plain | float, result: type | None = None) -> Any:
    """Tensors go as views, integers as int64, but for what is of ctypes already."""
    function = getattr(library(), name)
    function.restype = result
    plain: list[Plain] = []
    for value in arguments:
        if isinstance(value, Tensor):
            plain.append(view(value))
        elif isinstance(value, int):
            plain.append(ctypes.c_int64(value))
        else:
            plain.append(ctypes.c_float(value) if isinstance(value, float) else value)
    return function(*plain)


@cache
def view_type(rank: int) -> type[ctypes.Structure]:
    """View of csrc/view.h."""
    fields = [("data", ctypes.c_void_p), ("shape", ctypes.c_int64 * rank), ("device", ctypes.c_int)]
    return type(f"View{rank}", (ctypes.Structure,), {"_fields_": fields})


def view(tensor: Tensor) -> ctypes.Structure:
    rank = tensor.ndim
    return view_type(rank)(tensor.data_ptr(), (ctypes.c_int64 * rank)(*tensor.shape), -1)


class Descent(ctypes.Structure):
    """Descent of csrc/geometry.h."""

    _fields_ = (("steps", ctypes.c_int), ("step_size", ctypes.c_float), ("radius", ctypes.c_float))


class CudaOnHost:
    """The functions of `ops`, for checked arguments.

    tile: points that a block decodes together, 1 or 2. order: 1 or -1, in which the items of a phase go.
    """

    def __init__(self, tile: int = 2, order: int = 1) -> None:
        self.how = (ctypes.c_int(order), ctypes.c_int(tile))

    def decode(self, decoder: Decoder, z: Tensor) -> Tensor:
        return _Decode.apply(self, _packed(decoder), z)  # type: ignore[no-untyped-call]

    def latent_bank(self, decoder: Decoder, latents: Tensor) -> Tensor:
        bank = torch.empty(decoder.classes, len(latents), PIXELS)
        call("latent_bank", *self.how, _packed(decoder), latents, bank)
        return bank

    def latent_sweep(self, decoder: Decoder, latents: Tensor, x: Tensor, k: int | None = None) -> tuple[Tensor, Tensor]:
        return self._best("latent_sweep", _packed(decoder), latents, x, k)

    def bank_sweep(self, bank: Tensor, latents: Tensor, x: Tensor, k: int | None = None) -> tuple[Tensor, Tensor]:
        return self._best("bank_sweep", bank, latents, x, k)

    def latent_descent(
        self,
        decoder: Decoder,
        z0: Tensor,
        x: Tensor,
        steps: int = 50,
        lr: float = 0.05,
        radius: float = 5.0,
        reconstruct: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        images, classes = z0.shape[:2]
        score, z = torch.empty(images, classes), torch.empty_like(z0)
        image = torch.empty((images, classes, PIXELS) if reconstruct else (0, 0, 0))  # empty: at address 0
        call("latent_descent", *self.how, _packed(decoder), z0, x, Descent(steps, lr, radius), score, z, image)
        return score, z, image if reconstruct else None

    def _best(self, name: str, source: Tensor, latents: Tensor, x: Tensor, k: int | None) -> tuple[Tensor, Tensor]:
        shape = (len(x), len(source), k or 1)
        lists = call("sweep_lists", len(source), len(latents), result=ctypes.c_int64)
        keys, score = torch.empty(lists, *shape, dtype=torch.int64), torch.empty(shape)
        index = torch.empty(shape, dtype=torch.int64)
        call(name, *self.how, source, latents, x.T.contiguous(), keys, score, index)
        return (score[..., 0], index[..., 0]) if k is None else (score, index)


class _Decode(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, host: CudaOnHost, packed: Tensor, z: Tensor) -> Tensor:
        ctx.host = host
        ctx.save_for_backward(packed, z)
        image = torch.empty(*z.shape[:2], PIXELS)
        call("decode", *host.how, packed, z, image)
        return image

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, Tensor]:
        packed, z = ctx.saved_tensors
        dz = torch.empty_like(z)
        call("decode_backward", *ctx.host.how, packed, z, gradient.contiguous(), dz)
        return None, None, dz


def _packed(decoder: Decoder) -> Tensor:
    packed = torch.empty(decoder.classes, call("packed_size", result=ctypes.c_int64))
    call("pack_weights", decoder.folded.contiguous(), packed)
    return packed
