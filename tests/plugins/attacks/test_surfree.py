"""SurFree: what it draws its directions from."""

from __future__ import annotations

import pytest
import torch

from arena.plugins.attacks.surfree import low_frequencies, orthogonal


@pytest.mark.parametrize(("pixels", "share", "number"), [(28, 0.5, 14), (20, 1.0, 20), (5, 0.5, 3)])
def test_the_waves_are_orthonormal_and_slow_first(pixels: int, share: float, number: int) -> None:
    waves = low_frequencies(pixels, share)
    assert waves.shape == (number, pixels)
    assert torch.allclose(waves @ waves.T, torch.eye(number), atol=1e-6)
    assert torch.allclose(waves[0], torch.full((pixels,), pixels**-0.5))
    turns = [int((wave[1:] * wave[:-1] < 0).sum()) for wave in waves]
    assert turns == list(range(number))


def test_directions_are_orthogonal_to_the_offset_and_to_what_was_tried() -> None:
    rng = torch.Generator().manual_seed(0)
    offset = torch.nn.functional.normalize(torch.randn(3, 40, generator=rng))
    earlier = torch.zeros(3, 10, 40)
    for step in range(10):
        direction = orthogonal(torch.randn(3, 40, generator=rng), offset, earlier)
        assert torch.allclose(direction.norm(dim=1), torch.ones(3))
        assert (direction * offset).sum(1).abs().max() < 1e-6
        assert torch.einsum("bmd,bd->bm", earlier, direction).abs().max() < 1e-5
        earlier[:, step] = direction
