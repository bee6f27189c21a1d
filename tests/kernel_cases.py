"""Decoders, inputs and float64 answers for the tests of the kernels."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from arena import _native
from arena.kernels import ops, reference
from arena.kernels.decoder import Decoder
from arena.kernels.layers import LATENT, LAYERS, PIXELS

if not hasattr(_native, "cuda"):
    NO_CUDA = "this build has no CUDA kernels (no nvcc when it was built)"
elif not torch.cuda.is_available():
    NO_CUDA = "no GPU here: the CUDA kernels are compiled but not run"
elif not _native.cuda.supports(torch.cuda.current_device()):
    NO_CUDA = "the kernels do not run on this GPU"
else:
    NO_CUDA = ""
needs_cuda = pytest.mark.skipif(bool(NO_CUDA), reason=NO_CUDA)

TRAINED = Path(__file__).parents[1] / "arena" / "models" / "zoo" / "abs.safetensors"
WEIGHTS = Path(__file__).parents[2] / "shared" / "reference-weights"


def random_states(classes: int, seed: int = 0) -> list[dict[str, torch.Tensor]]:
    """State dicts with batch norm that is not the identity and activations of order one."""
    draw = torch.Generator().manual_seed(seed)
    states = []
    for _ in range(classes):
        state = {}
        for i, layer in enumerate(LAYERS):
            shape = (layer.channels_in, layer.channels_out, layer.kernel, layer.kernel)
            inputs = layer.channels_in * (layer.kernel / layer.stride) ** 2 if i else layer.channels_in
            state[f"Decoder.conv_{i}.weight"] = torch.randn(shape, generator=draw) * (2 / inputs) ** 0.5
            state[f"Decoder.conv_{i}.bias"] = torch.randn(layer.channels_out, generator=draw) * 0.1
            if i < len(LAYERS) - 1:
                for name, low in (("weight", 0.5), ("bias", -0.5), ("running_mean", -0.5), ("running_var", 0.5)):
                    state[f"Decoder.bn_{i}.{name}"] = low + torch.rand(layer.channels_out, generator=draw)
        states.append(state)
    return states


@cache
def decoder(kind: str, classes: int) -> Decoder:
    """`random`, our own `trained` weights, or the `released` ones, which the project does not ship."""
    if kind == "random":
        return Decoder.from_state_dicts(random_states(classes))
    if kind == "trained":
        tensors = pytest.importorskip("safetensors.torch").load_file(TRAINED)
        states = [{name.removeprefix(f"vaes.{c}."): tensors[name] for name in tensors} for c in range(classes)]
        return Decoder.from_state_dicts(states)
    if not WEIGHTS.exists():
        pytest.skip("the released weights (../shared/reference-weights) are not here")
    files = [WEIGHTS / f"ABS_{label}.net" for label in range(classes)]
    return Decoder.from_state_dicts([torch.load(f, map_location="cpu", weights_only=True) for f in files])


def latents(points: int, seed: int = 1) -> torch.Tensor:
    """The first of one long draw, so that fewer are a part of more."""
    return torch.randn(9000, LATENT, generator=torch.Generator().manual_seed(seed))[:points].clone()


def images(count: int, seed: int = 2) -> torch.Tensor:
    return torch.rand(600, PIXELS, generator=torch.Generator().manual_seed(seed))[:count].clone()


@cache
def exact_scores(kind: str, classes: int, points: int, count: int) -> torch.Tensor:
    """All scores in float64, [images, classes, points]: tests of fewer points or images take a corner of it."""
    exact, z, x = decoder(kind, classes).to(torch.float64), latents(points).double(), images(count).double()
    bank = torch.cat([reference.latent_bank(exact, run) for run in z.split(500)], 1)
    cross = x @ bank.flatten(0, 1).T
    squares = x.square().sum(1)[:, None] + bank.square().sum(2).flatten() - 2 * cross
    return squares.view(count, classes, points) + 0.5 * z.square().sum(1)


class OnCuda:
    """`ops` on the GPU, for arguments on the CPU and results back there."""

    def __getattr__(self, name: str) -> Any:
        def run(*arguments: Any, **keywords: Any) -> Any:
            moved = [a.to("cuda") if isinstance(a, torch.Tensor | Decoder) else a for a in arguments]
            results = getattr(ops, name)(*moved, **keywords)
            if isinstance(results, torch.Tensor):
                return results.cpu()
            return tuple(result if result is None else result.cpu() for result in results)

        return run
