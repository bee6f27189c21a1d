"""Analysis by synthesis: inference, its exact gradient, its weights, and the authors' checkpoints."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from paths import REFERENCE
from typed import Batch

import arena
from arena.errors import UserError
from arena.kernels import reference
from arena.models.analysis_by_synthesis import AnalysisBySynthesis, InferenceSettings, draw_latents
from arena.models.released import SCALES
from arena.models.scaling import line_search
from arena.models.weights import save_weights
from arena.plugins.defenses.abs import ABS
from arena.target.logits import evaluate

NAMES = ["abs", "binary-abs"]

released = pytest.mark.skipif(
    not REFERENCE.exists(), reason="the authors' weights (../shared/reference-weights) are not here"
)


def loaded(name: str, **settings: Any) -> ABS:
    defense = arena.load_defense(name, **settings)
    assert isinstance(defense, ABS)
    return defense


@pytest.fixture(scope="module", params=NAMES)
def defense(request: pytest.FixtureRequest) -> ABS:
    return loaded(request.param)


def test_no_image_depends_on_its_batch(defense: ABS, mnist: Batch) -> None:
    x = mnist[0][:33]
    scores = defense.scores(x)
    for size in (1, 2, 32):
        assert torch.equal(evaluate(defense, x, rows=size), scores)
    assert defense.scores(x[:0]).shape == (0, 10)


def test_an_image_is_explained_by_its_reconstructions(defense: ABS, mnist: Batch) -> None:
    """Half the squared length of z, what is left of the score, lies between 0 and 12.5: z keeps within radius 5."""
    x = mnist[0][:20]
    input = x if defense.binary_threshold is None else (x >= 0.5).float()
    images = defense.reconstructions(x)
    assert images.shape == (20, 10, 1, 28, 28)
    assert images.min() >= 0 and images.max() <= 1
    distance = (images - input[:, None]).square().sum((2, 3, 4))
    rest = -784 * defense.scores(x) / defense.network.scales - distance
    assert rest.min() > -1e-2 and rest.max() < 12.5 + 1e-2


def test_longer_inference_explains_better(defense: ABS, mnist: Batch) -> None:
    """But for the few images that Adam carries past one minimum into another."""
    longer = arena.load_defense(defense.name, steps=300)
    gain = longer.scores(mnist[0][:20]) - defense.scores(mnist[0][:20])
    assert (gain > -1e-5).double().mean() > 0.95
    assert gain.max() > 1e-4  # fifty steps are too few for classes that explain badly


def test_plain_torch_explains_alike(defense: ABS, mnist: Batch) -> None:
    defense = loaded(defense.name, points=1000)
    x = mnist[0][:3].flatten(1)
    x = x if defense.binary_threshold is None else (x >= 0.5).float()
    decoder, points = defense.network.decoder, draw_latents(defense.settings)
    _, index = reference.latent_sweep(decoder, points, x)
    score, _, _ = reference.latent_descent(decoder, points[index], x)
    torch.testing.assert_close(defense.network.logits(score), defense.scores(mnist[0][:3]), rtol=1e-3, atol=0)


@given(points=st.integers(1, 300), dismissed=st.floats(0, 0.95), seed=st.integers(0, 2**32))
def test_the_outermost_points_are_dismissed(points: int, dismissed: float, seed: int) -> None:
    kept = draw_latents(InferenceSettings(points=points, dismissed=dismissed, seed=seed))
    drawn = draw_latents(InferenceSettings(points=math.ceil(points / (1 - dismissed)), dismissed=0, seed=seed))
    assert kept.shape == (points, 8)
    lengths = drawn.norm(dim=1).sort().values
    torch.testing.assert_close(kept.norm(dim=1).sort().values, lengths[:points])


def test_the_seed_draws_other_points() -> None:
    settings = InferenceSettings(points=10)
    assert torch.equal(draw_latents(settings), draw_latents(settings))
    assert not torch.equal(draw_latents(settings), draw_latents(InferenceSettings(points=10, seed=1)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"points": 0}, "points = 0"),
        ({"steps": 0}, "steps = 0"),
        ({"dismissed": 1.0}, "dismissed = 1.0"),
        ({"radius": math.nan}, "radius = nan"),
        ({"pionts": 10}, "did you mean points"),
    ],
)
def test_settings_that_cannot_be_are_one_line(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        arena.load_defense("abs", **settings)


def test_weights_that_cannot_be_loaded_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read weights .*ABS_0\.net"):
        arena.load_defense("abs", weights=tmp_path)
    save_weights(AnalysisBySynthesis(classes=9), tmp_path / "nine.safetensors")
    with pytest.raises(UserError, match=r"another architecture.*scales is \(9,\), not \(10,\)|lack vaes\.9"):
        arena.load_defense("abs", weights=tmp_path / "nine.safetensors")


@given(seed=st.integers(0, 2**32), classes=st.integers(2, 5))
def test_scaling_never_costs_accuracy(seed: int, classes: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    score, y = torch.rand(50, classes, generator=rng) + 0.5, torch.randint(classes, (50,), generator=rng)
    scales = line_search(score, y)
    assert ((scales * score).argmin(1) == y).sum() >= (score.argmin(1) == y).sum()
    assert scales[0] == 1 and (scales - 1).abs().max() <= 0.1 + 1e-6


def test_scaling_finds_what_was_lost() -> None:
    rng = torch.Generator().manual_seed(0)
    y = torch.randint(3, (500,), generator=rng)
    score = 10 + torch.rand(500, 3, generator=rng)
    score.scatter_(1, y[:, None], 9.9)
    assert torch.equal(line_search(score, y), torch.ones(3))
    distorted = score * torch.tensor([1, 1.05, 0.95])
    assert ((distorted.argmin(1) == y).double().mean()) < 0.9
    assert ((line_search(distorted, y) * distorted).argmin(1) == y).all()


@released
@pytest.mark.parametrize("name", NAMES)
def test_the_authors_weights(name: str, mnist: Batch) -> None:
    x, y = mnist
    theirs = loaded(name, weights=REFERENCE)
    assert (theirs.scores(x[:100]).argmax(1) == y[:100]).float().mean() >= 0.97
    expected = torch.tensor(SCALES) if name == "binary-abs" else torch.ones(10)
    assert torch.equal(theirs.network.scales, expected)


@released
@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_authors_accuracy(name: str, mnist: Batch) -> None:
    """99.0 % in the paper, for both."""
    x, y = mnist
    theirs = arena.load_defense(name, weights=REFERENCE)
    accuracy = (evaluate(theirs, x).argmax(1) == y).float().mean()
    assert abs(accuracy - 0.990) <= 0.002


@released
@pytest.mark.slow
def test_the_authors_scores(mnist: Batch) -> None:
    """The true class's score, against plain torch in float64 from other points: both find the same minimum."""
    x, y = mnist[0][:100], mnist[1][:100]
    theirs = loaded("abs", weights=REFERENCE)
    decoder, points = theirs.network.decoder.to(torch.float64), draw_latents(InferenceSettings(seed=1)).double()
    flat = x.flatten(1).double()
    _, index = reference.latent_sweep(decoder, points, flat)
    score, _, _ = reference.latent_descent(decoder, points[index], flat)
    ours = -784 * theirs.scores(x)
    ratio = (ours.double() / score).gather(1, y[:, None])
    assert ((ratio - 1).abs() <= 0.01).double().mean() >= 0.98
