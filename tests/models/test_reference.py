"""Plain torch against the definitions that it makes faster."""

from __future__ import annotations

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kernel_cases import decoder, images, latents
from torch.nn.functional import conv_transpose2d, elu
from torch.testing import assert_close
from typed import present

from arena.kernels import ops, reference

EXACT = decoder("random", 3).to(torch.float64)


def decoded_by_class(z: torch.Tensor) -> torch.Tensor:
    """z [P, 8] -> images of each class of EXACT [C, P, 784], layer by layer."""
    decoded = []
    for label in range(EXACT.classes):
        hidden = z[..., None, None]
        *layers, last = EXACT.layers(label)
        for weight, bias, stride in layers:
            hidden = elu(conv_transpose2d(hidden, weight, bias, stride))
        decoded.append(conv_transpose2d(hidden, *last).sigmoid().flatten(1))
    return torch.stack(decoded)


@pytest.mark.parametrize("at_once", [7, 160])
def test_all_classes_together_decode_what_each_decodes_alone(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(reference, "IMAGES_AT_ONCE", at_once)
    z = latents(9).double().requires_grad_()
    expected = decoded_by_class(z)
    decoded = reference.decode(EXACT, z[:, None].expand(-1, 3, -1))
    assert_close(decoded.transpose(0, 1), expected, rtol=0, atol=1e-10)
    assert_close(reference.latent_bank(EXACT, z.detach()), expected.detach(), rtol=0, atol=1e-10)
    weight = images(9).double()
    gradients = [torch.autograd.grad((image * weight).sum(), z)[0] for image in (decoded.transpose(0, 1), expected)]
    assert_close(*gradients, rtol=1e-10, atol=1e-10)


def all_scores(bank: torch.Tensor, z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return (x[:, None, None] - bank).square().sum(-1) + 0.5 * z.square().sum(-1)


@settings(max_examples=60, deadline=None)
@given(
    k=st.none() | st.integers(1, 8),
    distance=st.sampled_from([0.0, 1e-8, 1e-6, 1e-3]),
    scale=st.sampled_from([1.0, 1e-20, 1e4, 1e18, 1e30]),
    spoiled=st.sampled_from([None, torch.nan, torch.inf, -torch.inf]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 99),
)
@example(k=None, distance=1e-6, scale=1.0, spoiled=None, dtype=torch.float32, seed=0)
@example(k=3, distance=1e-6, scale=1.0, spoiled=torch.nan, dtype=torch.float32, seed=0)
def test_points_that_a_rough_score_rules_out_are_never_the_best(
    k: int | None, distance: float, scale: float, spoiled: float | None, dtype: torch.dtype, seed: int
) -> None:
    """Points at almost the same code, beside an image of theirs, are told apart as differences tell them apart."""
    draw = torch.Generator().manual_seed(seed)
    places = torch.rand(2, 4, 784, generator=draw, dtype=dtype).repeat_interleave(10, 1)
    bank = places + distance * torch.randn(2, 40, 784, generator=draw, dtype=dtype)
    z = latents(40, seed).to(dtype) * 1e-3
    x = scale * bank[0, :3].clone()
    if spoiled is not None:
        x[0, 5] = spoiled
        bank[1, 7, 100] = torch.nan
    scores = all_scores(bank, z, x)
    score, index = reference.bank_sweep(bank, z, x, k)
    expected = scores.nan_to_num(nan=-torch.inf, posinf=torch.inf).sort(dim=-1, stable=True).indices[..., : k or 1]
    assert torch.equal(index if k else index[..., None], expected)
    assert_close(score if k else score[..., None], scores.gather(-1, expected), rtol=0, atol=0, equal_nan=True)


def test_a_rough_score_alone_would_err() -> None:
    """What the test above guards against does happen in its cases."""
    draw = torch.Generator().manual_seed(0)
    bank = torch.rand(1, 1, 784, generator=draw) + 1e-6 * torch.randn(1, 40, 784, generator=draw)
    z = torch.zeros(40, 8)
    x = bank[0, :20]
    rough = bank[0].square().sum(-1) - 2 * x @ bank[0].T
    assert not torch.equal(rough.argmin(-1), torch.arange(20))
    assert torch.equal(reference.bank_sweep(bank, z, x)[1][:, 0], torch.arange(20))


def test_sweep_and_descent_do_not_depend_on_how_they_are_split(monkeypatch: pytest.MonkeyPatch) -> None:
    z, x, z0 = latents(30).double(), images(5).double(), latents(15).double().view(5, 3, 8)
    swept = reference.latent_sweep(EXACT, z, x, 4)
    refined = reference.latent_descent(EXACT, z0, x, 3, reconstruct=True)
    for name, size in (("IMAGES_AT_ONCE", 6), ("POINTS_AT_ONCE", 3), ("PAIRS_AT_ONCE", 2)):
        monkeypatch.setattr(reference, name, size)
    assert_close(reference.latent_sweep(EXACT, z, x, 4), swept, rtol=1e-10, atol=1e-10)
    assert_close(reference.latent_descent(EXACT, z0, x, 3, reconstruct=True), refined, rtol=1e-10, atol=1e-10)


def test_operators_run_in_float64_where_gradients_are_off() -> None:
    z, x = latents(6).double(), images(2).double()
    with torch.no_grad():
        score, index = ops.latent_sweep(EXACT, z, x)
        better, _, image = ops.latent_descent(EXACT, z[index], x, 4, reconstruct=True)
    assert (better < score).all() and not better.requires_grad and present(image).shape == (2, 3, 784)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_computes_in_full_precision() -> None:
    z, x = latents(20), images(4)
    expected = decoded_by_class(z.double())
    decoded = reference.latent_bank(decoder("random", 3).to("cuda"), z.cuda())
    assert_close(decoded.double().cpu(), expected, rtol=0, atol=2e-5)
    score = reference.bank_sweep(decoded, z.cuda(), x.cuda())[0]
    assert_close(score.double().cpu(), all_scores(expected, z.double(), x.double()).amin(-1), rtol=1e-5, atol=0)
