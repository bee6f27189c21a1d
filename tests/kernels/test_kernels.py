"""One body of tests for plain torch, every instruction set of the native build, and CUDA."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import torch
from cuda_on_host import CudaOnHost
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_cases import NO_CUDA, OnCuda, decoder, exact_scores, images, latents
from torch.testing import assert_close
from typed import present

from arena import _native
from arena.kernels import native, ops, reference
from arena.kernels.decoder import Decoder

INSTRUCTION_SETS = ["avx512", "avx2", "baseline"]
BACKENDS = ["reference", *INSTRUCTION_SETS, "cuda-on-host", "cuda"]
on_the_processor = pytest.mark.parametrize("backend", INSTRUCTION_SETS, indirect=True)
NATIVE_ONLY = "a promise of the native kernels; plain torch picks its products by size"
RELATIVE = 1e-4  # the bound on scores


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[Any]:
    """What has the functions of `ops` and runs them on this backend."""
    if request.param == "reference":
        yield reference
        return
    if request.param == "cuda-on-host":
        yield CudaOnHost()
        return
    if request.param == "cuda":
        if NO_CUDA:
            pytest.skip(NO_CUDA)
        yield OnCuda()
        return
    if request.param not in _native.instruction_sets():
        pytest.skip(f"this CPU has no {request.param}")
    before = _native.instruction_set()
    _native.set_instruction_set(request.param)
    yield ops
    _native.set_instruction_set(before)


@pytest.mark.parametrize("kind", ["random", "trained"])
@pytest.mark.parametrize("points", [1, 7, 8000])
@pytest.mark.parametrize("count", [0, 1, 3, 257])
def test_sweep_finds_the_minimum(backend: Any, kind: str, points: int, count: int) -> None:
    if points == 8000 and isinstance(backend, CudaOnHost) and (kind, count) != ("random", 3):
        pytest.skip("one thread without vectors: seconds each")
    classes = 1 if points == 8000 else 3
    score, index = backend.latent_sweep(decoder(kind, classes), latents(points), images(count))
    exact = exact_scores(kind, 1, 8000, 257)[:count] if classes == 1 else exact_scores(kind, 3, 7, 257)[:count]
    exact = exact[..., :points]
    assert score.shape == index.shape == (count, classes)
    assert index.dtype == torch.int64
    assert_close(score.double(), exact.amin(-1), rtol=RELATIVE, atol=0)
    assert_close(exact.gather(-1, index[..., None])[..., 0], exact.amin(-1), rtol=RELATIVE, atol=0)


@pytest.mark.parametrize("k", [1, 5, 8])
def test_top_k_is_sorted_and_complete(backend: Any, k: int) -> None:
    exact = exact_scores("random", 3, 50, 5)
    score, index = backend.latent_sweep(decoder("random", 3), latents(50), images(5), k)
    assert score.shape == index.shape == (5, 3, k)
    assert_close(score.double(), exact.sort(-1).values[..., :k], rtol=RELATIVE, atol=0)
    assert all(len(set(row)) == k for row in index.flatten(0, 1).tolist())


@pytest.mark.parametrize(("classes", "points", "count"), [(0, 4, 3), (2, 0, 3), (2, 4, 0), (0, 0, 0)])
def test_nothing_in_nothing_out(backend: Any, classes: int, points: int, count: int) -> None:
    model, z, x = Decoder(decoder("random", 2).folded[:classes]), latents(points), images(count)
    bank = backend.latent_bank(model, z)
    assert bank.shape == (classes, points, 784)
    z0 = torch.zeros(count, classes, 8, requires_grad=True)
    image = backend.decode(model, z0)
    image.sum().backward()
    assert image.shape == (count, classes, 784) and present(z0.grad).shape == z0.shape
    score, refined, image = backend.latent_descent(model, z0.detach(), x, 2, reconstruct=True)
    assert score.shape == (count, classes) and refined.shape == z0.shape and image.shape == (count, classes, 784)
    if points:
        for score, index in (backend.latent_sweep(model, z, x), backend.bank_sweep(bank, z, x)):
            assert score.shape == index.shape == (count, classes)


def test_equal_scores_go_to_the_lowest_index(backend: Any) -> None:
    z = latents(300)[:1].repeat(300, 1)
    score, index = backend.latent_sweep(decoder("random", 2), z, images(3), 4)
    assert (index == torch.arange(4)).all()
    assert (score == score[..., :1]).all()


def test_a_bank_gives_the_bits_of_the_sweep(backend: Any) -> None:
    if backend is reference:
        pytest.skip(NATIVE_ONLY)
    z, x = latents(41), images(6)
    bank = backend.latent_bank(decoder("random", 3), z)
    for k in (None, 3):
        banked, swept = backend.bank_sweep(bank, z, x, k), backend.latent_sweep(decoder("random", 3), z, x, k)
        assert all(torch.equal(a, b) for a, b in zip(banked, swept, strict=True))


@cache
def _difficult_banks() -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """(bank, latents): what is decoded, points that 8 bits cannot tell apart, equal ones, and pixels that are not in
    [0, 1] or no numbers."""
    z = latents(301)
    decoded = ops.latent_bank(decoder("random", 2), z)
    alike = decoded[:, :1] + 1e-3 * torch.rand(decoded.shape, generator=torch.Generator().manual_seed(3))
    broken = decoded.clone()
    broken[0, 200, 5], broken[1, 7, 783] = torch.nan, torch.inf
    equal_z = z[:1].repeat(301, 1)
    ramp = torch.linspace(100.4, 100.49, 301)  # of code 100: a white image is off by all but a fiftieth of the error
    return {
        "decoded": (decoded, z),
        "alike": (alike, equal_z),
        "on the bound": ((ramp / 255)[:, None].expand(2, 301, 784).contiguous(), equal_z),
        "equal": (decoded[:, :1].repeat(1, 301, 1), equal_z),
        "outside": (decoded * 4 - 2, z),
        "broken": (broken, z),
        "broken latents": (decoded, torch.where(torch.arange(301)[:, None] == 9, torch.nan, z)),
    }


@on_the_processor
@pytest.mark.parametrize("name", ["decoded", "alike", "on the bound", "equal", "outside", "broken", "broken latents"])
@pytest.mark.parametrize("k", [None, 5])
def test_screening_changes_no_bit(backend: Any, name: str, k: int | None) -> None:
    bank, z = _difficult_banks()[name]
    x = torch.cat(
        [
            images(9),
            torch.ones(1, 784),
            bank[:, ::100].flatten(0, 1).nan_to_num(0.5, 1),
            3 * images(2) - 1,
            images(2),
            images(1),
        ]
    )
    x[-2, 300], x[-1, 0] = torch.nan, -torch.inf
    exact = backend.bank_sweep(bank, z, x, k)
    threads = torch.get_num_threads()
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            screened = backend.bank_sweep(bank, z, x, k, backend.screen_bank(bank))
            assert_close(screened, exact, rtol=0, atol=0, equal_nan=True)
            alone = backend.bank_sweep(bank, z, x[4:5].contiguous(), k, backend.screen_bank(bank))
            assert_close(alone, tuple(best[4:5] for best in exact), rtol=0, atol=0, equal_nan=True)
    finally:
        torch.set_num_threads(threads)


@on_the_processor
def test_a_screen_knows_how_far_it_is_off(backend: Any) -> None:
    bank, _ = _difficult_banks()["decoded"]
    codes, error = backend.screen_bank(torch.cat([bank, bank * 4 - 2, bank * torch.nan]))
    assert (codes[..., 784:] == 0).all()
    distance = (torch.cat([bank, bank * 4 - 2]).double() - codes[:4, :, :784].double() / 255).norm(dim=2).amax(1)
    assert (error[:4] >= distance).all() and error[4:].isnan().all()
    assert_close(error[:4].double(), distance, rtol=1e-3, atol=0)


@on_the_processor
def test_screening_leaves_few_points(backend: Any) -> None:
    z, x = latents(8000), torch.cat([images(3), ops.latent_bank(decoder("trained", 1), latents(3, seed=8))[0]])
    bank = ops.latent_bank(decoder("trained", 1), z)
    score, index = native.empty_best(bank, z, x, 1)
    scored = _native.screened_sweep(bank, *backend.screen_bank(bank), z, x, score, index, 1)
    assert len(x) <= scored < 0.01 * len(x) * len(z)


@pytest.mark.parametrize("kind", ["random", "trained"])
@pytest.mark.parametrize("count", [0, 1, 3, 9])
def test_decode_and_its_gradient(backend: Any, kind: str, count: int) -> None:
    z = latents(count * 2).view(count, 2, 8).requires_grad_()
    exact_z = z.detach().double().requires_grad_()
    weight = images(count * 2, seed=5).view(count, 2, 784) - 0.5
    image = backend.decode(decoder(kind, 2), z)
    exact = reference.decode(decoder(kind, 2).to(torch.float64), exact_z)
    assert_close(image.double(), exact, rtol=0, atol=2e-5)
    (image * weight).sum().backward()
    (exact * weight).sum().backward()
    scale = present(exact_z.grad).abs().amax() if count else 1
    assert_close(present(z.grad) / scale, present(exact_z.grad) / scale, rtol=0, atol=1e-4, check_dtype=False)


def test_gradient_in_float64() -> None:
    exact = decoder("random", 2).to(torch.float64)
    z = latents(4).double().view(2, 2, 8).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: ops.decode(exact, z), z, fast_mode=True)


@pytest.mark.parametrize("kind", ["random", "trained"])
@pytest.mark.parametrize(("count", "steps"), [(0, 50), (1, 50), (5, 50), (257, 2), (3, 1)])
def test_descent_follows_the_reference(backend: Any, kind: str, count: int, steps: int) -> None:
    z0, x = latents(2 * count).view(count, 2, 8), images(count)
    score, z, image = backend.latent_descent(decoder(kind, 2), z0, x, steps, reconstruct=True)
    exact = reference.latent_descent(
        decoder(kind, 2).to(torch.float64), z0.double(), x.double(), steps, reconstruct=True
    )
    assert_close(score.double(), exact[0], rtol=RELATIVE, atol=0)
    assert_close(z.double(), exact[1], rtol=0, atol=2e-3)
    assert_close(image.double(), exact[2], rtol=0, atol=2e-3)


def test_descent_stays_in_the_ball_and_keeps_signs(backend: Any) -> None:
    z0 = torch.tensor([[[-6.0, 5.0, -4.0, 3.0, -6.0, 5.0, -4.0, 3.0]]])
    _, z, image = backend.latent_descent(decoder("random", 1), z0, images(1), steps=2, radius=1.5)
    assert image is None
    assert_close(z.norm(), torch.tensor(1.5))
    assert torch.equal(z.sign(), z0.sign())


def test_rows_do_not_depend_on_their_batch_or_on_threads(backend: Any) -> None:
    if backend is reference:
        pytest.skip(NATIVE_ONLY)
    model, z, x, z0 = decoder("random", 3), latents(230), images(9), latents(27).view(9, 3, 8)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = [backend.latent_sweep(model, z, row[None])[0] for row in x]
        pairs = zip(z0, x, strict=True)
        refined = [backend.latent_descent(model, start[None], row[None], 3)[1] for start, row in pairs]
        decoded = [backend.decode(model, start[None]) for start in z0]
        torch.set_num_threads(3)
        assert torch.equal(backend.latent_sweep(model, z, x)[0], torch.cat(alone))
        assert torch.equal(backend.latent_descent(model, z0, x, 3)[1], torch.cat(refined))
        assert torch.equal(backend.decode(model, z0), torch.cat(decoded))
    finally:
        torch.set_num_threads(threads)


def test_nan_and_inf_propagate(backend: Any) -> None:
    model, z, x = decoder("random", 2), latents(9), images(5)
    clean_score, clean_index = backend.latent_sweep(model, z, x)
    x[1, 300], x[3, 0] = torch.nan, torch.inf
    score, index = backend.latent_sweep(model, z, x)
    assert score[1].isnan().all() and (score[3] == torch.inf).all()
    assert (index[[1, 3]] == 0).all()
    others = [0, 2, 4]
    assert_close(score[others], clean_score[others])
    assert torch.equal(index[others], clean_index[others])
    refined = backend.latent_descent(model, latents(10).view(5, 2, 8), x, 3)[0]
    assert refined[1].isnan().all() and not refined[3].isfinite().any() and refined[others].isfinite().all()
    z[4] = torch.nan
    score, index = backend.latent_sweep(model, z, x)
    assert score[others].isnan().all() and (index[others] == 4).all()
    pair = z[3:5, None].expand(2, 2, 8).contiguous()
    assert backend.decode(model, pair).isnan().any(-1).tolist() == [[False] * 2, [True] * 2]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(count=st.integers(0, 9), points=st.integers(1, 31), classes=st.integers(1, 3), data=st.data())
def test_any_shape(backend: Any, count: int, points: int, classes: int, data: st.DataObject) -> None:
    k, seed = data.draw(st.none() | st.integers(1, min(8, points))), data.draw(st.integers(0, 99))
    model, z, x = decoder("random", classes), latents(points, seed), images(count, seed)
    score, index = backend.latent_sweep(model, z, x, k)
    expected, _ = reference.latent_sweep(model, z, x, k)
    assert index.shape == score.shape == expected.shape
    assert_close(score, expected, rtol=RELATIVE, atol=0)
    assert ((index >= 0) & (index < points)).all()
