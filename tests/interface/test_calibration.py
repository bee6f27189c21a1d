"""Equation 4: closed forms, invariants, calibration, and what the shipped defenses say of clean and other images."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from paths import REFERENCE
from torch import Tensor
from torch.nn.functional import cross_entropy
from typed import Batch, present

from arena.errors import UserError
from arena.interface.calibration import Calibration, calibrate, confidence
from arena.interface.contracts import Defense, HasNetwork
from arena.interface.registry import load_defense
from arena.models.cnn import ConvolutionalNetwork
from arena.models.weights import ZOO, ModelCard, load_calibration, save_weights
from arena.target.logits import evaluate
from arena.testing.linear import LinearDefense

NAMES = ["cnn", "binary-cnn", "nearest-neighbor", "madry", "abs", "binary-abs"]
EXPLAINING = ["nearest-neighbor", "abs", "binary-abs"]  # their scores fall with the distance from the data

calibrations = st.builds(Calibration, alpha=st.floats(1e-3, 1e3), eta=st.just(0.0) | st.floats(1e-12, 1e6))
seeds = st.integers(0, 2**31)


def logits(seed: int, size: float = 10.0, classes: int = 10) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return size * torch.randn(20, classes, generator=rng, dtype=torch.float64)


@pytest.fixture(scope="module")
def defenses() -> dict[str, Defense]:
    return {name: load_defense(name) for name in NAMES}


def test_two_classes_by_hand() -> None:
    scores = torch.tensor([[math.log(3), math.log(2)], [math.log(1), math.log(4)]])
    assert confidence(scores, Calibration(1, 0)).flatten().tolist() == pytest.approx([3 / 5, 2 / 5, 1 / 5, 4 / 5])
    assert confidence(scores, Calibration(2, 5)).flatten().tolist() == pytest.approx([14 / 23, 9 / 23, 6 / 27, 21 / 27])


@given(seed=seeds, calibration=calibrations, size=st.floats(1e-3, 1e4), classes=st.integers(2, 12))
def test_rows_sum_to_one_and_keep_the_order(seed: int, calibration: Calibration, size: float, classes: int) -> None:
    scores = logits(seed, size, classes)
    p = confidence(scores, calibration)
    assert (p >= 0).all() and (p <= 1).all()
    torch.testing.assert_close(p.sum(1), torch.ones(len(p), dtype=torch.float64))
    # Rounding may make equal what differs (two classes far below eta), but it may not swap it.
    assert (p.gather(1, scores.argsort(1)).diff(dim=1) >= 0).all()


@given(seed=seeds, calibration=calibrations, shift=st.floats(-5, 5))
def test_a_constant_added_to_the_logits_divides_eta(seed: int, calibration: Calibration, shift: float) -> None:
    shift /= calibration.alpha
    shifted = Calibration(calibration.alpha, calibration.eta * math.exp(calibration.alpha * shift))
    torch.testing.assert_close(confidence(logits(seed) + shift, shifted), confidence(logits(seed), calibration))


@given(seed=seeds, alpha=st.floats(1e-3, 1e3))
def test_without_eta_it_is_the_softmax(seed: int, alpha: float) -> None:
    torch.testing.assert_close(confidence(logits(seed), Calibration(alpha, 0)), (alpha * logits(seed)).softmax(1))


@given(seed=seeds, calibration=st.builds(Calibration, alpha=st.floats(1e-3, 1e3), eta=st.floats(1e-12, 1e6)))
def test_where_the_evidence_is_small_relative_to_eta_it_is_uniform(seed: int, calibration: Calibration) -> None:
    far = logits(seed) - logits(seed).amax(1, keepdim=True) + math.log(0.01 * calibration.eta) / calibration.alpha
    p = confidence(far, calibration)
    assert (p <= 1.01 / 10 + 1e-9).all() and (p >= 1 / 1.01 / 10 - 1e-9).all()


@pytest.mark.parametrize("eta", [0.0, 1e-12, 1e6])
def test_no_logit_is_too_large_or_too_small(eta: float) -> None:
    scores = torch.tensor([[1e30, -1e30, 0], [-1e30, -1e30, -1e30], [800, 799, -800], [-800, -799, -900]])
    p = confidence(scores, Calibration(440, eta))
    assert p.dtype == torch.float32
    assert p.isfinite().all()
    assert p[0].tolist() == [1, 0, 0]
    assert p[1].tolist() == pytest.approx([1 / 3] * 3)


def test_nan_stays_in_its_row() -> None:
    scores = torch.zeros(3, 4).index_put((torch.tensor(1), torch.tensor(2)), torch.tensor(torch.nan))
    assert confidence(scores, Calibration(1, 1)).isnan().all(1).tolist() == [False, True, False]


@pytest.mark.parametrize("eta", [0.0, 1e-12, 1.0, 1e6])
def test_the_gradient_is_that_of_finite_differences(eta: float) -> None:
    scores = logits(0, size=2.0).requires_grad_()
    assert torch.autograd.gradcheck(lambda scores: confidence(scores, Calibration(1.5, eta)), scores)


@pytest.mark.parametrize(
    "numbers", [(0, 1), (-1, 1), (1, -1), (math.nan, 1), (1, math.nan), (math.inf, 1), (1, math.inf)]
)
def test_numbers_that_cannot_be(numbers: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="alpha is positive"):
        Calibration(*numbers)


def answers(seed: int, alpha: float, images: int = 2001, offset: float = 0.0) -> tuple[Tensor, Tensor]:
    """Scores of images, and labels that are drawn from the softmax of `alpha` times these scores."""
    rng = torch.Generator().manual_seed(seed)
    scores = 10 / alpha * torch.randn(images, 10, generator=rng, dtype=torch.float64)
    return scores + offset / alpha, (alpha * scores).softmax(1).multinomial(1, generator=rng)[:, 0]


@pytest.mark.parametrize(("alpha", "offset"), [(1.0, 0.0), (440.0, -10.0), (5.0, -50.0), (1e-3, 200.0)])
def test_calibration_finds_the_scale_of_the_labels_and_the_median(alpha: float, offset: float) -> None:
    scores, y = answers(0, alpha, offset=offset)
    found = calibrate(scores, y)
    assert found.alpha == pytest.approx(alpha, rel=0.1)  # as far as 2001 labels tell
    least = cross_entropy(found.alpha * scores, y)
    assert all(cross_entropy(factor * found.alpha * scores, y) > least for factor in (0.999, 1.001))
    assert confidence(scores, found).amax(1).median().item() == pytest.approx(0.9, abs=1e-9)


@given(seed=seeds, scale=st.floats(1e-3, 1e3), shift=st.floats(-20, 20))
def test_calibration_follows_the_unit_of_the_scores(seed: int, scale: float, shift: float) -> None:
    scores, y = answers(seed, 1.0, images=301)
    p = confidence(scores, calibrate(scores, y))
    changed = scale * (scores + shift)
    torch.testing.assert_close(confidence(changed, calibrate(changed, y)), p, rtol=1e-6, atol=1e-9)


def test_what_cannot_be_calibrated_is_one_line() -> None:
    scores, y = answers(0, 1.0)
    right = scores.argmax(1)
    cases = {
        "no images": (scores[:0], y[:0]),
        "not finite": (scores.where(scores < 10, torch.inf), y),
        "no better than chance": (scores, (-scores).argmax(1)),
        "all classified correctly": (scores, right),
        "its median is 0.": (scores, torch.where(torch.arange(len(y)) % 2 == 0, right, (right + 1) % 10)),
        "centre the scores": (scores - 1000, y),
    }
    for message, case in cases.items():
        with pytest.raises(UserError, match=message) as failure:
            calibrate(*case)
        assert "\n" not in str(failure.value)


def test_constant_scores_are_no_better_than_chance() -> None:
    with pytest.raises(UserError, match="no better than chance"):
        calibrate(torch.zeros(10, 3), torch.arange(10) % 3)


@pytest.mark.parametrize("name", NAMES)
def test_the_median_confidence_on_clean_images(name: str, defenses: dict[str, Defense], mnist: Batch) -> None:
    x = mnist[0][::20]  # the first images of the set are harder than the others
    p = defenses[name].confidence(x)
    assert p.shape == (500, 10)
    assert torch.equal(p[:20].argmax(1), evaluate(defenses[name], x[:20]).argmax(1))
    assert 0.85 < p.amax(1).median().item() < 0.95


def unrecognizable() -> Tensor:
    rng = torch.Generator().manual_seed(0)
    noise = torch.rand(20, 1, 28, 28, generator=rng)
    return torch.cat([noise, (noise < 0.5).float(), torch.ones(1, 1, 28, 28)])


@pytest.mark.parametrize("name", EXPLAINING)
def test_far_from_the_data_a_defense_that_explains_is_undecided(name: str, defenses: dict[str, Defense]) -> None:
    p = defenses[name].confidence(unrecognizable())
    assert (p - 0.1).abs().max() < 1e-3
    scores = present(defenses[name].calibration).alpha * defenses[name].scores(unrecognizable())
    assert scores.softmax(1).amax() > 0.5  # eta does it


@pytest.mark.parametrize("name", ["cnn", "binary-cnn"])
def test_far_from_the_data_a_network_may_be_sure(name: str, defenses: dict[str, Defense]) -> None:
    """Its logits need not fall there: eta helps where they do, as on a blank image, and not on noise (section 3)."""
    noise, blank = unrecognizable()[:20], torch.zeros(1, 1, 28, 28)
    assert defenses[name].confidence(noise).amax(1).median() > 0.99
    assert defenses[name].confidence(blank).amax() < 0.3
    assert (present(defenses[name].calibration).alpha * defenses[name].scores(blank)).softmax(1).amax() > 0.9


def test_the_confidence_of_a_defense_has_a_gradient(mnist: Batch) -> None:
    defense = load_defense("cnn")
    assert isinstance(defense, HasNetwork)
    defense.network.double()
    x = mnist[0][:200].double().requires_grad_()  # more than a batch
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    (gradient,) = torch.autograd.grad(defense.confidence(x)[:, 3].log().sum(), x)
    with torch.no_grad():
        above, below = (defense.confidence(x + t * direction)[:, 3].log().sum() for t in (1e-6, -1e-6))
    assert (gradient * direction).sum().item() == pytest.approx((above - below).item() / 2e-6, rel=1e-4)


def test_no_images_have_no_confidence(defenses: dict[str, Defense]) -> None:
    assert defenses["cnn"].confidence(torch.empty(0, 1, 28, 28)).shape == (0, 10)


def test_a_defense_without_calibration_says_what_to_do() -> None:
    defense = LinearDefense()
    x, y = defense.sample_images(64)
    with pytest.raises(UserError, match="defense linear has no calibration.*set calibration") as failure:
        defense.confidence(x)
    assert "\n" not in str(failure.value)
    y[::32] = 1 - y[::32]  # an image in thirty-two is misclassified
    defense.calibration = calibrate(defense.scores(x), y)
    assert torch.equal(defense.confidence(x).argmax(1), defense.scores(x).argmax(1))


def test_weights_of_the_user_without_a_card_have_no_calibration() -> None:
    file = REFERENCE / "vanilla_cnn.net"
    if not file.exists():
        pytest.skip(f"the authors' checkpoint {file.name} is not here")
    assert load_defense("cnn", weights=file).calibration is None


def test_the_authors_cnn_has_the_etas_that_they_published(mnist: Batch) -> None:
    """Released code: eta 1 439 000 at alpha 1 (the paper prints a tenth); nearest neighbour: 4e-12 at alpha 5."""
    file = REFERENCE / "vanilla_cnn.net"
    if not file.exists():
        pytest.skip(f"the authors' checkpoint {file.name} is not here")
    scores = evaluate(load_defense("cnn", weights=file), mnist[0])
    assert round(calibrate(scores, mnist[1]).alpha) == 1
    assert confidence(scores, Calibration(1, 1439000)).amax(1).median().item() == pytest.approx(0.9, abs=1e-3)


def saved(folder: Path, **changes: Any) -> Path:
    """Weights, and their card with these changes."""
    weights = folder / "mine.safetensors"
    sha256 = save_weights(ConvolutionalNetwork(), weights)
    card = ModelCard("mine", {}, 0, {}, {}, "2", sha256, asdict(Calibration(2.0, 3.0)))
    card.save(folder / "mine.json")
    content = json.loads((folder / "mine.json").read_text()) | changes
    (folder / "mine.json").write_text(json.dumps(content))
    return weights


def test_the_calibration_comes_from_the_card(tmp_path: Path) -> None:
    weights = saved(tmp_path)
    assert load_calibration(weights) == Calibration(2.0, 3.0)
    assert load_defense("cnn", weights=weights).calibration == Calibration(2.0, 3.0)


def test_the_card_of_other_weights_is_no_calibration(tmp_path: Path) -> None:
    assert load_calibration(saved(tmp_path, sha256="0" * 64)) is None
    assert load_calibration(saved(tmp_path, sha256=None)) is None
    assert load_calibration(saved(tmp_path, confidence=None)) is None
    weights = saved(tmp_path)
    save_weights(ConvolutionalNetwork(), weights)  # trained again, the card left behind
    assert load_calibration(weights) is None
    (tmp_path / "mine.json").unlink()
    assert load_calibration(weights) is None


@pytest.mark.parametrize(
    "confidence",
    [{"alpha": 1}, {"alpha": 1, "eta": "x"}, {"alpha": -1, "eta": 1}, [1, 2], {"alpha": 1, "eta": math.nan}],
)
def test_a_damaged_card_is_one_line(confidence: dict[str, Any] | list[int], tmp_path: Path) -> None:
    weights = saved(tmp_path, confidence=confidence)
    with pytest.raises(UserError, match=r"mine.json is damaged; restore it") as failure:
        load_calibration(weights)
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null"])
def test_a_file_that_is_no_card_is_one_line(content: bytes, tmp_path: Path) -> None:
    weights = saved(tmp_path)
    (tmp_path / "mine.json").write_bytes(content)
    with pytest.raises(UserError, match="is damaged"):
        load_defense("cnn", weights=weights)


@pytest.mark.parametrize("name", NAMES)
def test_the_shipped_cards_are_calibrated(name: str, defenses: dict[str, Defense]) -> None:
    card = ModelCard(**json.loads((ZOO / f"{name}.json").read_text()))
    assert card.confidence == asdict(present(defenses[name].calibration))
