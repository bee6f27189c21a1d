"""Distal adversarials: the ascent, what it costs, what is stored of it, and the command."""

import math
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from stores import defense as identity
from torch import Tensor

from arena.cli import cli
from arena.errors import UserError
from arena.evaluation.distal import CONFIDENCE, STEPS, ascend, log_odds
from arena.interface.calibration import Calibration, confidence
from arena.interface.contracts import Defense
from arena.interface.results import Distal, Status
from arena.models.weights import ZOO
from arena.store import distals as distal_rows
from arena.store.store import open_store
from arena.testing.linear import BinaryLinearDefense, LinearDefense
from arena.testing.prototypes import ExactLinearDefense

MILD = Calibration(alpha=1.0, eta=0.5)

SHAPE = (1, 28, 28)


def calibrated(
    cls: type[LinearDefense] = LinearDefense, calibration: Calibration = MILD, **settings: Any
) -> LinearDefense:
    defense = cls(classes=3, **settings)
    defense.calibration = calibration
    return defense


class Far(Defense):
    """Scores fall with the distance from one image a class; noise is so far from all that no confidence differs."""

    name, gradient, calibration = "far", "exact", Calibration(alpha=40.0, eta=1e-9)
    images = torch.rand(3, 784, generator=torch.Generator().manual_seed(5)).round()

    def scores(self, x: Tensor) -> Tensor:
        return -torch.cdist(x.flatten(1), self.images)

    def score_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        offsets = self.images - x.flatten(1)[:, None]
        return self.scores(x), (offsets / offsets.norm(dim=2, keepdim=True)).view(len(x), 3, *x.shape[1:])


@given(
    scores=st.lists(st.floats(-40, 40), min_size=2, max_size=6),
    alpha=st.floats(0.1, 10),
    eta=st.sampled_from([0.0, 1e-12, 1e-3, 1.0, 1e6]),
)
def test_the_log_odds_cross_their_limit_where_the_confidence_does(
    scores: list[float], alpha: float, eta: float
) -> None:
    calibration, logits = Calibration(alpha, eta), torch.tensor([scores], dtype=torch.float64)
    for label in range(len(scores)):
        sure = float(confidence(logits, calibration)[0, label])
        odds = float(log_odds(logits, torch.tensor([label]), calibration))
        if abs(sure - CONFIDENCE) > 1e-9:
            assert (odds >= math.log(CONFIDENCE / (1 - CONFIDENCE))) == (sure >= CONFIDENCE)


@pytest.mark.parametrize("cls", [LinearDefense, ExactLinearDefense, BinaryLinearDefense])
@pytest.mark.parametrize("estimated", [False, True])
def test_every_class_of_a_linear_defense_is_reached(cls: type[LinearDefense], estimated: bool) -> None:
    defense = calibrated(cls)
    ended = {one.label: one for one in ascend(defense, range(3), SHAPE, estimated=estimated)}
    assert ended.keys() == {0, 1, 2}
    for label, one in ended.items():
        image = torch.from_numpy(one.image)
        assert one.image.dtype == np.float32 and one.image.shape == (1, 28, 28)
        assert one.image.min() >= 0 and one.image.max() <= 1
        assert one.status == Status.FOUND and one.confidence >= CONFIDENCE
        assert one.confidence == pytest.approx(float(defense.confidence(image[None])[0, label]), rel=1e-6)
        assert one.gradient == ("estimated" if estimated else cls.gradient)


def test_a_step_gains_what_the_slope_allows_and_no_more() -> None:
    """Two classes, eta = 0: the log odds are (w_y - w_k) . x, which a step of length s raises by s ||w_y - w_k||."""
    defense = LinearDefense(classes=2)
    defense.calibration = Calibration(alpha=0.2, eta=0.0)
    slope = float(0.2 * (defense.matrix[0] - defense.matrix[1]).norm())
    for one in ascend(defense, range(2), SHAPE, step_size=0.05, steps=500):
        noise = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))[one.label]
        start = log_odds(defense.scores(noise[None]), torch.tensor([one.label]), defense.calibration)
        least = max(0, math.ceil((math.log(9) - float(start)) / (0.05 * slope)))
        assert least <= one.steps <= math.ceil(1.1 * least)  # the box takes a little of each step


def test_far_from_the_data_the_confidence_is_flat_and_the_ascent_goes_on() -> None:
    defense = Far()
    noise = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(0), requires_grad=True)
    sure = defense.confidence(noise)
    assert torch.equal(sure, torch.full((3, 3), 1 / 3))
    found = list(ascend(defense, range(3), SHAPE))
    assert [one.status for one in found] == [Status.FOUND] * 3
    for one in found:  # it went to where the class is
        assert np.linalg.norm(one.image.ravel() - Far.images[one.label].numpy()) < 1


def test_classes_end_as_they_would_alone_whatever_the_batch() -> None:
    defense = calibrated()
    together = {one.label: one for one in ascend(defense, range(3), SHAPE, seed=4)}
    (alone,) = ascend(defense, [2], SHAPE, seed=4)
    assert np.allclose(alone.image, together[2].image, atol=1e-5) and alone.steps == together[2].steps
    (other,) = ascend(defense, [2], SHAPE, seed=5)
    assert not np.allclose(alone.image, other.image, atol=0.1)


@pytest.mark.parametrize("estimated", [False, True])
def test_every_query_is_counted(estimated: bool) -> None:
    asked = {"images": 0}

    class Counting(LinearDefense):
        def scores(self, x: Tensor) -> Tensor:
            asked["images"] += len(x)
            return super().scores(x)

    (one,) = ascend(calibrated(Counting), [1], SHAPE, estimated=estimated)
    assert one.steps > 0
    assert one.queries == asked["images"] == one.steps + 2 + (1568 * one.steps if estimated else 0)
    assert one.gradient_queries == (0 if estimated else one.steps)


def test_what_cannot_be_reached_ends_after_the_last_step() -> None:
    """eta so large that no image has evidence beside it."""
    defense = calibrated(calibration=Calibration(alpha=1.0, eta=1e30))
    (one,) = ascend(defense, [0], SHAPE, steps=7)
    assert (one.status, one.steps) == (Status.NOT_FOUND, 7)
    assert one.confidence == pytest.approx(1 / 3)


def test_a_defense_without_confidence_or_gradient_is_refused_by_name() -> None:
    with pytest.raises(UserError, match="linear has no calibrated confidence"):
        next(ascend(LinearDefense(), [0], SHAPE))

    class Opaque(LinearDefense):
        gradient = "none"

    with pytest.raises(UserError, match="no gradient of its own: use --gradient estimated"):
        next(ascend(calibrated(Opaque), [0], SHAPE))
    assert next(ascend(calibrated(Opaque), [0], SHAPE, estimated=True)).status == Status.FOUND


def test_rows_come_back_as_they_were_and_a_longer_ascent_replaces_a_shorter(tmp_path: Path) -> None:
    image = np.random.default_rng(0).random((1, 28, 28), dtype=np.float32)
    short = Distal(3, "exact", 0, Status.NOT_FOUND, 0.25, 50, 52, 50, 1.5, image)
    with closing(open_store(str(tmp_path / "a.db"))) as store:
        old, new = store.register_defense(identity(weights="old")), store.register_defense(identity(weights="new"))
        distal_rows.append(store, old, Distal(1, "exact", 0, Status.FOUND, 0.95, 5, 7, 5, 0.1, image))
        distal_rows.append(store, new, short)
        store.make_current(new)
        assert distal_rows.settled(store, new, "exact", 0, steps=50) == {3}
        assert distal_rows.settled(store, new, "exact", 0, steps=51) == set()
        assert distal_rows.settled(store, new, "estimated", 0, steps=50) == set()
        assert distal_rows.settled(store, old, "exact", 0, steps=1000) == {1}
        long = Distal(3, "exact", 0, Status.FOUND, 0.91, 80, 82, 80, 2.5, 1 - image)
        distal_rows.append(store, new, long)
        with store.reading() as connection:
            rows = distal_rows.read(connection)
    (row,) = rows.pop("cnn")
    assert not rows
    assert np.array_equal(row.image, 1 - image)
    fields = ("label", "status", "confidence", "steps", "queries", "gradient_queries", "seconds")
    assert [getattr(row, name) for name in fields] == [getattr(long, name) for name in fields]


Command = Callable[..., tuple[Result, dict[str, list[Distal]]]]


@pytest.fixture
def arena(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs `arena distal` on a store in an empty folder; gives the result and the rows of that store."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[Result, dict[str, list[Distal]]]:
        outcome = CliRunner().invoke(cli, ["distal", "--db", "a.db", *arguments], standalone_mode=False)
        with closing(open_store("a.db")) as store, store.reading() as connection:
            return outcome, distal_rows.read(connection)

    return call


def test_the_command_plays_what_is_missing_and_shows_how_it_ended(arena: Command) -> None:
    outcome, first = arena("--defense", "cnn", "--steps", "6")
    assert outcome.return_value == 0
    found = [one for one in first["cnn"] if one.status == Status.FOUND]
    assert len(first["cnn"]) == 10 and 0 < len(found) < 10
    assert f"{len(found)}0%" in outcome.stdout
    _, again = arena("--defense", "cnn", "--steps", "6")
    assert [one.seconds for one in again["cnn"]] == [one.seconds for one in first["cnn"]]
    _, longer = arena("--defense", "cnn", "--steps", "9")
    seconds = {one.label: one.seconds for one in longer["cnn"]}
    assert all((one.seconds == seconds[one.label]) == (one.status == Status.FOUND) for one in first["cnn"])


def test_a_defense_that_cannot_be_asked_does_not_keep_the_others_from_it(arena: Command, tmp_path: Path) -> None:
    shutil.copy(ZOO / "madry.safetensors", tmp_path / "bare.safetensors")  # without the card that has the calibration
    (tmp_path / "arena.toml").write_text('[defense.madry]\nweights = "bare.safetensors"\n')
    outcome, rows = arena("--defense", "madry", "--defense", "cnn", "--steps", "1")
    assert outcome.return_value == 1 and rows.keys() == {"cnn"}
    assert outcome.stderr.splitlines()[-1].startswith("failed: madry: defense madry has no calibrated confidence")


def test_the_command_takes_as_many_steps_as_the_function() -> None:
    (steps,) = [option.default for option in cli.commands["distal"].params if option.name == "steps"]
    assert steps == STEPS


def test_an_unknown_defense_is_an_error_before_anything_is_asked(arena: Command) -> None:
    outcome, rows = arena("--defense", "cnn", "--defense", "cnx")
    assert isinstance(outcome.exception, UserError) and "did you mean cnn" in str(outcome.exception)
    assert rows == {}
