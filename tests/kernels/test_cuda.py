"""CUDA beside the one body of tests in test_kernels: bodies on the host, the build, and what only a GPU can show."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from cuda_on_host import CudaOnHost, build, call
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import decoder, images, latents, needs_cuda
from paths import ROOT
from typed import present

from arena import _native
from arena.kernels import cuda, ops, policy, reference

WAYS = [(tile, order) for tile in (1, 2) for order in (1, -1)]


def results(way: tuple[int, int]) -> list[torch.Tensor]:
    """Everything that the kernels compute, for awkward sizes: an odd batch, more points than a tile, three classes."""
    host, model = CudaOnHost(*way), decoder("random", 3)
    z, x = latents(15).view(5, 3, 8).requires_grad_(), images(5)
    decoded = host.decode(model, z)
    (decoded * (x[:, None] - 0.5)).sum().backward()
    bank = host.latent_bank(model, latents(31))
    descent = host.latent_descent(model, z.detach(), x, steps=3, reconstruct=True)
    best = [*host.latent_sweep(model, latents(31), x, 8), *host.bank_sweep(bank, latents(31), x, 8)]
    return [decoded.detach(), present(z.grad), bank, *map(present, descent), *best]


def test_neither_the_tile_nor_the_order_within_a_phase_changes_a_bit() -> None:
    expected = results(WAYS[0])
    for way in WAYS[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results(way), expected, strict=True)), way


@pytest.mark.slow
def test_real_threads_do_not_race_and_a_barrier_left_out_is_caught(tmp_path: Path) -> None:
    """One thread of the CPU for each of a block's 384, under ThreadSanitizer: half a minute."""
    program = tmp_path / "races"
    build("cuda_races.cpp", program, "-std=c++20", "-O1", "-g", "-fsanitize=thread", "-pthread")
    plain = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    sound = subprocess.run([program], env=plain, capture_output=True, text=True)
    assert sound.returncode == 0, sound.stdout + sound.stderr
    plain["TSAN_OPTIONS"] = "halt_on_error=1"
    sabotaged = subprocess.run([program, "sabotaged"], env=plain, capture_output=True, text=True)
    assert sabotaged.returncode != 0 and "data race" in sabotaged.stderr


def better(a: tuple[float, int], b: tuple[float, int]) -> bool:
    """`better` of csrc/kernels.h."""
    if a[0] != a[0] or b[0] != b[0]:
        return a[0] != a[0] and (b[0] == b[0] or a[1] < b[1])
    return a < b


scores = st.floats(min_value=0, width=32) | st.just(float("nan")) | st.floats(max_value=-1, width=32)
points = st.tuples(scores, st.integers(0, 2**32 - 2))


@settings(deadline=None)
@given(points, points)
def test_keys_order_as_better_does_and_give_back_what_they_hold(a: tuple[float, int], b: tuple[float, int]) -> None:
    keys = []
    for score, index in (a, b):
        key = call("key_of", score, ctypes.c_uint32(index), result=ctypes.c_uint64)
        back = call("key_score", ctypes.c_uint64(key), result=ctypes.c_float)
        assert back == score or (back != back and score != score)
        assert call("key_index", ctypes.c_uint64(key), result=ctypes.c_int64) == index
        assert key < 2**64 - 1
        keys.append(key)
    if a[0] == b[0] == 0:  # -0 is no sum of squares
        return
    assert (keys[0] < keys[1]) == better(a, b)


def test_nvcc_compiled_the_kernels_for_all_targets() -> None:
    if os.environ.get("ARENA_CUDA") == "0":
        pytest.skip("ARENA_CUDA=0")
    if not hasattr(_native, "cuda") and shutil.which("nvcc") is None:
        pytest.skip("no nvcc here: the CUDA kernels were not compiled")
    assert hasattr(_native, "cuda"), "nvcc is here, but arena._native was built without it: install again"
    assert _native.cuda.architectures() == "80-real,90"


@pytest.mark.skipif(not hasattr(_native, "cuda"), reason="this build has no CUDA code")
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_build_with_cuda_is_of_use_without_a_gpu() -> None:
    assert _native.cuda.devices() == 0
    assert not _native.cuda.supports(0)
    assert "no driver" in _native.cuda.error() or "no CUDA-capable device" in _native.cuda.error()
    with pytest.raises(RuntimeError, match="CUDA: .*(driver|device)"):
        _native.cuda.sweep_lists(0, 10, 8000)
    with pytest.raises(RuntimeError, match="CUDA: .*(driver|device)"):
        _native.cuda.load(0)


@pytest.mark.skipif(not hasattr(_native, "cuda"), reason="this build has no CUDA code")
def test_a_driver_that_is_too_old_is_told_with_the_remedy(tmp_path: Path) -> None:
    build("old_cuda_driver.cpp", tmp_path / "libcuda.so.1", "-std=c++17", "-shared", "-fPIC")
    says = "import torch; from arena.kernels import cuda; print(cuda.problem(torch.device('cuda', 0)))"
    path = {"LD_LIBRARY_PATH": str(tmp_path)}
    told = subprocess.run(
        [sys.executable, "-c", says], env=os.environ | path, check=True, capture_output=True, text=True
    )
    assert "insufficient" in told.stdout and "driver of CUDA 10.2" in told.stdout
    assert "update the NVIDIA driver" in told.stdout and "older CUDA" in told.stdout


def test_the_fallback_on_a_gpu_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    on_gpu: Any = SimpleNamespace(dtype=torch.float32, device=torch.device("cuda", 0), is_cuda=True)
    monkeypatch.setattr(cuda, "problem", lambda device: f"the driver of {device} is too old: update it")
    ops._say_once.cache_clear()
    with pytest.warns(RuntimeWarning, match="plain torch .*the driver of cuda:0 is too old: update it"):
        assert not ops._is_native(on_gpu)


@needs_cuda
def test_work_is_queued_on_the_current_stream() -> None:
    model, z, x = decoder("random", 2).to("cuda"), latents(500).cuda(), images(40).cuda()
    expected = ops.latent_sweep(model, z, x)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)  # what follows must wait for this
        late = torch.zeros_like(x)
        late += x
        score, index = ops.latent_sweep(model, z, late)
        late.zero_()
    stream.synchronize()
    assert torch.equal(score, expected[0]) and torch.equal(index, expected[1])


CAPTURE = """
import sys, torch
sys.path.insert(0, sys.argv[1])
from kernel_cases import decoder, images, latents
from arena.kernels import ops
model, z, x = decoder("random", 2).to("cuda"), latents(500).cuda(), images(40).cuda()
model.packed
ops.latent_bank(model, z)  # one call loads every kernel
graph = torch.cuda.CUDAGraph()
with torch.cuda.graph(graph):
    captured = ops.latent_sweep(model, z, x)
x.copy_(images(80)[40:])
graph.replay()
expected = ops.latent_sweep(model, z, x)
assert all(torch.equal(a, b) for a, b in zip(captured, expected, strict=True))
"""


@needs_cuda
def test_a_graph_captures_a_kernel_that_was_never_launched() -> None:
    subprocess.run([sys.executable, "-c", CAPTURE, str(ROOT / "tests")], check=True)


@needs_cuda
def test_another_device_than_the_current_one() -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("one GPU")
    model, z, x = decoder("random", 2), latents(20), images(3)
    score, _ = ops.latent_sweep(model.to("cuda:1"), z.to("cuda:1"), x.to("cuda:1"))
    assert torch.cuda.current_device() == 0
    assert torch.equal(score.cpu(), ops.latent_sweep(model.to("cuda:0"), z.to("cuda:0"), x.to("cuda:0"))[0].cpu())


@needs_cuda
def test_the_sweep_needs_little_gpu_memory() -> None:
    model, z, x = decoder("random", 10).to("cuda"), latents(8000).cuda(), images(256).cuda()
    ops.latent_sweep(model, z, x)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    ops.latent_sweep(model, z, x)
    assert torch.cuda.max_memory_allocated() - before < 64 * 2**20


@needs_cuda
def test_memory_that_torch_holds_in_reserve_counts_as_free() -> None:
    torch.cuda.synchronize()
    before = policy.free_memory("cuda")
    torch.empty(2**28, device="cuda")  # freed at once, and kept by torch
    assert abs(policy.free_memory("cuda") - before) < 2**28


@needs_cuda
def test_wide_offsets() -> None:
    """A bank of more than 2^31 floats, the best point at its end."""
    points = 2**31 // 784 + 1000
    if torch.cuda.mem_get_info()[0] < 12 * 2**30:
        pytest.skip("less than 12 GB of GPU memory are free")
    bank, z = torch.zeros(1, points, 784, device="cuda"), torch.zeros(points, 8, device="cuda")
    x = torch.ones(2, 784, device="cuda")
    bank[0, -1] = 1
    score, index = ops.bank_sweep(bank, z, x)
    assert score.tolist() == [[0.0], [0.0]] and index.tolist() == [[points - 1]] * 2


@needs_cuda
@pytest.mark.slow
def test_predictions_with_the_released_weights_on_the_gpu() -> None:
    """As test_kernels_contract asks of the CPU, over the first 1000 test images."""
    from arena.data import load_data  # as in test_kernels_contract

    model = decoder("released", 10).to("cuda")
    x = load_data("mnist", "test")[0][:1000].flatten(1).contiguous().cuda()
    draws = latents(8889)
    z = draws[draws.norm(dim=1).argsort()[:8000]].contiguous().cuda()
    labels = []
    for backend in (ops, reference):
        _, index = backend.latent_sweep(model, z, x)
        labels.append(backend.latent_descent(model, z[index], x)[0].argmin(1))
    assert (labels[0] == labels[1]).sum() >= 999
