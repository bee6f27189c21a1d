"""What surrounds the kernels: checked arguments, torch's view of the operators, folding, fallback, policy, memory."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from kernel_cases import decoder, images, latents, needs_cuda, random_states
from paths import ROOT
from torch import nn
from torch.testing import assert_close

from arena import _native
from arena.kernels import native, ops, policy, reference
from arena.kernels.decoder import Decoder
from arena.kernels.layers import LAYERS


def _columns(rows: int, columns: int) -> torch.Tensor:
    return torch.rand(columns, rows).T


MODEL = decoder("random", 2)
BANK = torch.rand(2, 4, 784)
SCREEN = ops.screen_bank(BANK)
CALLS: dict[str, Callable[..., object]] = {
    "decode": lambda **new: ops.decode(MODEL, **{"z": torch.zeros(3, 2, 8)} | new),
    "bank": lambda **new: ops.latent_bank(MODEL, **{"latents": latents(4)} | new),
    "sweep": lambda **new: ops.latent_sweep(MODEL, **{"latents": latents(4), "x": images(3)} | new),
    "bank_sweep": lambda **new: ops.bank_sweep(**{"bank": BANK, "latents": latents(4), "x": images(3)} | new),
    "descent": lambda **new: ops.latent_descent(MODEL, **{"z0": torch.zeros(3, 2, 8), "x": images(3)} | new),
}


@pytest.mark.parametrize(
    ("call", "argument", "value", "error"),
    [
        ("decode", "z", torch.zeros(3, 3, 8), ValueError),
        ("decode", "z", torch.zeros(3, 2, 8).double(), TypeError),
        ("decode", "z", torch.zeros(2, 3, 8).transpose(0, 1), ValueError),
        ("bank", "latents", torch.zeros(4, 7), ValueError),
        ("bank", "latents", torch.zeros(4, 8).half(), TypeError),
        ("sweep", "latents", _columns(4, 8), ValueError),
        ("sweep", "latents", torch.zeros(0, 8), ValueError),
        ("sweep", "x", torch.rand(3, 1, 28, 28), ValueError),
        ("sweep", "x", torch.zeros(3, 784, dtype=torch.int64), TypeError),
        ("sweep", "x", torch.rand(3, 784, device="meta"), ValueError),
        ("sweep", "x", _columns(3, 784), ValueError),
        ("sweep", "k", 5, ValueError),
        ("sweep", "k", 0, ValueError),
        ("bank_sweep", "bank", torch.rand(2, 5, 784), ValueError),
        ("bank_sweep", "x", torch.rand(3, 783), ValueError),
        ("descent", "z0", torch.zeros(4, 2, 8), ValueError),
        ("descent", "x", _columns(3, 784), ValueError),
        ("descent", "steps", 0, ValueError),
        ("descent", "radius", 0.0, ValueError),
    ],
)
def test_a_bad_argument_is_named(call: str, argument: str, value: Any, error: type[Exception]) -> None:
    CALLS[call]()
    with pytest.raises(error, match=rf"\b{argument} "):
        CALLS[call](**{argument: value})


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_cuda)])
def test_torch_accepts_the_operators(device: str) -> None:
    z, x, points = (tensor.to(device) for tensor in (torch.randn(3, 2, 8), images(3), latents(4)))
    packed = MODEL.to(device).packed
    checks: list[tuple[Any, tuple[Any, ...]]] = [
        (native.decode, (packed, z.clone().requires_grad_())),
        (native.decode_backward, (packed, z, torch.rand(3, 2, 784, device=device))),
        (native.latent_bank, (packed, points)),
        (native.latent_sweep, (packed, points, x, 2)),
        (native.bank_sweep, (BANK.to(device), points, x, 2)),
        (native.latent_descent, (packed, z, x, 2, 0.05, 5.0, True)),
    ]
    if SCREEN is not None and z.is_cpu:
        checks += [(native.screen_bank, (BANK,)), (native.screened_sweep, (BANK, *SCREEN, points, x, 2))]
    for op, arguments in checks:
        torch.library.opcheck(op, arguments)


OPERATORS = ("decode", "latent_bank", "latent_sweep", "bank_sweep", "latent_descent")


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_has_one_name(name: str) -> None:
    homes = [ops, reference, native, torch.ops.arena, _native, *([_native.cuda] if hasattr(_native, "cuda") else [])]
    assert all(callable(getattr(home, name)) for home in homes)


@pytest.mark.parametrize(
    ("argument", "value", "error", "says"),
    [
        ("z", np.zeros((3, 2, 7), np.float32), ValueError, r"z has shape \[3, 2, 7\] instead of \[3, 2, 8\]"),
        ("z", np.zeros((3, 2, 8)), TypeError, "not of float32"),
        ("z", np.zeros((3, 2, 8), np.int32), TypeError, "not of float32"),
        ("z", np.zeros((3, 8), np.float32), ValueError, "2 axes instead of 3"),
        ("z", np.zeros((2, 3, 8), np.float32).transpose(1, 0, 2), ValueError, "not contiguous"),
        ("z", torch.zeros(3, 2, 8, requires_grad=True), BufferError, "gradient"),
        ("z", [[[0.0] * 8] * 2] * 3, TypeError, "incompatible"),
        ("image", np.zeros((4, 2, 784), np.float32), ValueError, "image has shape"),
        ("packed", np.zeros((3, _native.packed_size()), np.float32), ValueError, "z has shape"),
    ],
)
def test_the_binding_takes_any_array_by_dlpack_and_refuses_what_does_not_fit(
    argument: str, value: Any, error: type[Exception], says: str
) -> None:
    packed, image = MODEL.packed.numpy(), np.empty((3, 2, 784), np.float32)
    arguments = {"packed": packed, "z": np.zeros((3, 2, 8), np.float32), "image": image, "threads": 1}
    _native.decode(**arguments)
    assert_close(torch.from_numpy(image), ops.decode(MODEL, torch.zeros(3, 2, 8)), rtol=0, atol=0)
    with pytest.raises(error, match=says):
        _native.decode(**arguments | {argument: value})


def test_folding_batch_norm_changes_nothing() -> None:
    module = nn.Sequential()
    for i, layer in enumerate(LAYERS):
        module.add_module(
            f"conv_{i}", nn.ConvTranspose2d(layer.channels_in, layer.channels_out, layer.kernel, layer.stride)
        )
        if i < len(LAYERS) - 1:
            module.add_module(f"bn_{i}", nn.BatchNorm2d(layer.channels_out))
            module.add_module(f"elu_{i}", nn.ELU())
    module.load_state_dict({k.removeprefix("Decoder."): v for k, v in random_states(1)[0].items()}, strict=False)
    z = latents(5)
    expected = module.eval()(z[..., None, None]).sigmoid().flatten(1)
    assert_close(ops.decode(Decoder.from_modules([module]), z[:, None])[:, 0], expected, rtol=1e-4, atol=1e-5)


def test_a_decoder_of_another_shape_is_refused() -> None:
    state = random_states(1)[0]
    state["Decoder.conv_3.weight"] = torch.zeros(16, 1, 3, 3)
    with pytest.raises(ValueError, match=r"conv_3.*\(16, 1, 3, 3\)"):
        Decoder.from_state_dicts([state])
    with pytest.raises(ValueError, match="folded"):
        Decoder(torch.zeros(2, 5))


def test_without_native_code_plain_torch_answers_and_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops, "_missing", ImportError("no such file"))
    ops._say_once.cache_clear()
    with pytest.warns(RuntimeWarning, match="no such file"):
        score, _ = ops.latent_sweep(MODEL, latents(4), images(3))
    assert torch.equal(score, reference.latent_sweep(MODEL, latents(4), images(3))[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ops.latent_sweep(MODEL, latents(4), images(3))


def test_an_unknown_instruction_set_is_refused() -> None:
    with pytest.raises(ValueError, match="sse17"):
        _native.set_instruction_set("sse17")


def test_a_bank_is_chosen_where_it_pays_and_fits() -> None:
    gigabyte = 2**30
    assert policy.choose(10, 8000, batches=1, free_bytes=100 * gigabyte) == "sweep"
    assert policy.choose(10, 8000, batches=2, free_bytes=gigabyte) == "bank"
    assert policy.choose(10, 8000, batches=2, free_bytes=gigabyte // 3) == "sweep"
    assert policy.free_memory() > 0


MEMORY = """
import resource, sys, torch
sys.path.insert(0, sys.argv[1])
from kernel_cases import decoder, images, latents
from arena.kernels import ops
torch.set_num_threads(2)
model, z, x = decoder("random", 10), latents(2000), images(256)
ops.latent_sweep(model, z[:8], x[:1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
ops.latent_sweep(model, z, x)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in other units elsewhere")
def test_the_sweep_needs_little_memory() -> None:
    command = [sys.executable, "-c", MEMORY, str(ROOT / "tests")]
    megabytes = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert megabytes < 64


@pytest.mark.slow
def test_predictions_with_the_released_weights() -> None:
    """8889 points of which the densest 8000 stay, then 50 steps: at least 999 of 1000 labels as in plain torch."""
    from arena.data import load_data  # its requirements are not those of the kernels: make gpu-check has few packages

    model = decoder("released", 10)
    x = load_data("mnist", "test")[0][:1000].flatten(1).contiguous()
    draws = latents(8889)
    z = draws[draws.norm(dim=1).argsort()[:8000]].contiguous()
    labels = []
    for backend in (ops, reference):
        _, index = backend.latent_sweep(model, z, x)
        labels.append(backend.latent_descent(model, z[index], x)[0].argmin(1))
    assert (labels[0] == labels[1]).sum() >= 999
