"""The conformance kit passes what keeps the contract and says what is wrong with what does not."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from hostile import hostile_attacks, hostile_defenses
from torch import Tensor

import arena
from arena.cli import cli
from arena.data import DEFAULT
from arena.errors import UserError
from arena.interface.registry import registry
from arena.testing import BinaryLinearDefense, LinearDefense, check_attack, check_defense, check_plugin
from arena.testing.report import Report

# Attacks that end their process, or cannot be interrupted, are left to the tournament's workers.
BREACHES = {
    "returns_nan": "box",
    "out_of_box": "box",
    "wrong_shape": "candidates",
    "wrong_dtype": "candidates",
    "no_tensor": "candidates",
    "clean_image": "optimum",
    "claims_success": "optimum",
    "mutates_images": "inputs",
    "mutates_labels": "inputs",
    "raises": "runs",
    "raises_exit": "runs",
    "hangs": "runs",
    "ignores_budget": "runs",
    "asks_gradient": "access",
    "remembers": "reproducible",
    "couples_rows": "rows",
}


class Minimal(arena.Attack):
    """The shortest way to the nearest boundary of a linear defense, ignoring the box on the way."""

    name, norm, access = "minimal", "l2", "gradient"

    def run(self, target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        for other in range(target.classes):

            def gap_to(scores: Tensor, y: Tensor, other: int = other) -> Tensor:
                return scores[:, other] - scores.gather(1, y[:, None])[:, 0]

            gap = -gap_to(target.scores(x), y)
            slope = target.gradient(x, gap_to)
            step = gap / slope.flatten(1).square().sum(1).clamp_min(1e-9)
            for stretch in torch.linspace(1, 2, 50):
                target.labels((x + (stretch * 1.001 * step).view(-1, 1, 1, 1) * slope).clamp(0, 1))
        return target.best


class Noisy(arena.Attack):
    """Random, and as independent as noise can be."""

    name, norm, access = "noisy", "l2", "decision"

    def run(self, target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator | None) -> Tensor:
        for step in range(1, 101):
            target.labels((x + 0.03 * step * torch.randn(x.shape, generator=rng)).clamp(0, 1))
        return target.best


def failed(report: Report) -> list[str]:
    return list(dict.fromkeys(finding.check for finding in report.findings if not finding.passed))


def test_a_sound_attack_passes() -> None:
    report = check_attack(Noisy)
    assert report.ok, str(report)
    assert str(report).startswith("attack noisy: 11 of 11 checks passed\n")


@pytest.mark.parametrize(("factor", "ok"), [(1.3, True), (1.001, False)])
def test_the_stated_factor_is_held_against_the_optimum(factor: float, ok: bool) -> None:
    report = check_attack(Minimal(), factor=factor)
    assert failed(report) == ([] if ok else ["optimum"]), str(report)
    assert f"stated: at most {factor:g} x" in str(report)


def test_a_poor_attack_passes_unless_it_states_a_factor() -> None:
    assert check_attack(Noisy()).ok
    assert failed(check_attack(Noisy(), factor=2)) == ["optimum"]


@pytest.mark.parametrize("run", BREACHES)
def test_breaches_are_found(run: str) -> None:
    report = check_attack(getattr(hostile_attacks, run), timeout=1)
    assert BREACHES[run] in failed(report), str(report)
    assert all("\n" not in str(finding) for finding in report.findings)


class Stepwise(Minimal):
    """Walks along the gradient, and asks no more about samples that have fallen."""

    name = "stepwise"

    def run(self, target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        slope = target.gradient(x, torch.nn.CrossEntropyLoss(reduction="none"))
        slope = slope / slope.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        index = torch.arange(len(x))
        for length in torch.linspace(0.05, 4, 80):
            index = self.left(target, (x + length * slope).clamp(0, 1)[index], y[index], index)
            if not len(index):
                break
        return self.returned(target, x)

    def left(self, target: arena.Target, images: Tensor, y: Tensor, index: Tensor) -> Tensor:
        return index[target.labels(images, index) == y]

    def returned(self, target: arena.Target, x: Tensor) -> Tensor:
        return target.best


class Paid(Stepwise):
    """Sample 0 pays for all."""

    def run(self, target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        again = torch.zeros(len(x), dtype=torch.int64)
        best = x.clone()
        for length in torch.linspace(4, 0.05, 80):
            images = (x + length * torch.randn(x.shape, generator=rng) / 28).clamp(0, 1)
            wrong = target.labels(images, again) != y
            best[wrong] = images[wrong]
        return best


class BehindItsBack(Stepwise):
    """Asks the defense itself, for nothing."""

    def run(self, target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        best = x.clone()
        for level in torch.linspace(1, 0, 20):
            images = x.lerp(1 - x, level)
            wrong = target._defense.scores(images).argmax(1) != y
            best[wrong] = images[wrong]
        return best


class Reversed(Stepwise):
    def returned(self, target: arena.Target, x: Tensor) -> Tensor:
        return target.best.flip(0)


class Forgetful(Stepwise):
    """Goes on with the samples that have not fallen, and forgets the others."""

    def run(self, target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        slope = target.gradient(x, torch.nn.CrossEntropyLoss(reduction="none")).sign()
        images = (x + 0.1 * slope).clamp(0, 1)
        left = target.labels(images) == y
        return images[left] if left.any() else images


class Restless(arena.Attack):
    """The second run takes longer than the first."""

    name, norm, access = "restless", "l2", "decision"
    runs = 0

    def run(self, target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        Restless.runs += 1
        time.sleep(60 if Restless.runs == 2 else 0)
        target.labels(1 - x)
        return 1 - x


def test_an_attack_that_drops_finished_samples_passes() -> None:
    report = check_attack(Stepwise)
    assert report.ok, str(report)


@pytest.mark.parametrize(
    ("attack", "check", "says"),
    [
        (Paid, "billing", "bill each row to its own sample with index="),
        (BehindItsBack, "billing", "found with 0 queries"),
        (Reversed, "rows", "returned in another order: samples 0 to 5 are in rows 5, 4, 3, 2, 1, 0"),
        (Forgetful, "rows", "where some samples are hard to break, a batch: run returned torch.float32 [3, 1, 28, 28]"),
        (Restless, "runs", "the second time, time-out: still running after 1 s"),
    ],
)
def test_nonsense_is_refused(attack: type[arena.Attack], check: str, says: str) -> None:
    report = check_attack(attack, timeout=1 if attack is Restless else 60)
    assert failed(report) == [check] and says in str(report), str(report)


def test_samples_paid_for_by_another_are_found_without_randomness_too() -> None:
    class First(Stepwise):
        def left(self, target: arena.Target, images: Tensor, y: Tensor, index: Tensor) -> Tensor:
            return super().left(target, images, y, 0 * index)

    assert "billing" in failed(check_attack(First))


def test_an_attack_may_draw_from_the_generators_that_the_referee_seeds() -> None:
    class Global(Noisy):
        def run(self, target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator | None) -> Tensor:
            return super().run(target, x, y, None)

    report = check_attack(Global)
    assert report.ok and "elsewhere call torch.manual_seed" in str(report)


def test_an_attack_that_is_weak_is_called_so() -> None:
    class Sometimes(Stepwise):
        def returned(self, target: arena.Target, x: Tensor) -> Tensor:
            return target.best

        def left(self, target: arena.Target, images: Tensor, y: Tensor, index: Tensor) -> Tensor:
            return super().left(target, images[index < 2], y[index < 2], index[index < 2])

    optimum, _ = [finding for finding in check_attack(Sometimes).findings if finding.check == "optimum"]
    assert optimum.passed and "weak: adversarial for 2 of 6 samples" in optimum.message
    assert "weak" not in str(check_attack(Minimal))


@pytest.mark.parametrize(("epsilon", "found"), [(0.01, "0 of the 0"), (0.08, "2 of the 2")])
def test_an_attack_at_one_epsilon_is_judged_within_it(epsilon: float, found: str) -> None:
    class Ball(arena.FixedEpsilonAttack):
        name, norm, access = "ball", "linf", "gradient"

        def strike(self, model: torch.nn.Module, x: Tensor, y: Tensor, epsilon: float) -> Tensor:
            loss = torch.nn.functional.cross_entropy(model(x.requires_grad_()), y)
            return (x + epsilon * torch.autograd.grad(loss, x)[0].sign()).clamp(0, 1)

    report = check_attack(Ball(epsilon=epsilon))
    assert report.ok and f"adversarial for {found} samples" in str(report), str(report)


def test_an_attack_that_swallows_the_end_of_its_budget_is_found() -> None:
    class Swallows(Noisy):
        def run(self, target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator | None) -> Tensor:
            try:
                return super().run(target, x, y, rng)
            except Exception:
                raise RuntimeError("no idea what happened") from None

    report = check_attack(Swallows)
    assert failed(report) == ["budget"], str(report)
    assert "let BudgetExhausted through" in str(report)


@pytest.mark.parametrize(("key", "value"), [("norm", "l3"), ("access", "everything")])
def test_a_declaration_that_makes_no_sense_is_found(key: str, value: str) -> None:
    report = check_attack(type("Odd", (Noisy,), {key: value}))
    assert failed(report) == ["declaration"]
    assert value in str(report)


def test_an_opponent_that_the_attack_does_not_apply_to_is_found() -> None:
    explains = type("Explains", (Noisy,), {"access": "reconstruction"})
    report = check_attack(explains, defense=LinearDefense(classes=10))
    assert failed(report) == ["declaration"] and "does not apply" in str(report)
    assert check_attack(explains).ok  # left the choice, the kit finds one that fits


def test_what_is_no_plugin_is_found() -> None:
    no_attack: Any = LinearDefense
    assert failed(check_attack(no_attack)) == ["declaration"]
    no_defense: Any = Noisy
    assert failed(check_defense(no_defense)) == ["declaration"]


@pytest.mark.parametrize(
    "defense", [LinearDefense(), LinearDefense(classes=10), BinaryLinearDefense(), hostile_defenses.Bright()], ids=repr
)
def test_sound_defenses_pass(defense: LinearDefense) -> None:
    report = check_defense(defense)
    assert report.ok, str(report)


@pytest.mark.parametrize(
    ("defense", "check"),
    [
        ("NanScores", "scores"),
        ("WrongShapeScores", "scores"),
        ("RaisesAtLoad", "declaration"),
        ("RandomScores", "deterministic"),
        ("BatchCoupled", "rows"),
        ("MutatesImages", "inputs"),
        ("WrongGradient", "gradient"),
        ("NotBinary", "binary"),
        ("HiddenWeights", "fingerprint"),
    ],
)
def test_breaches_of_defenses_are_found(defense: str, check: str) -> None:
    report = check_defense(getattr(hostile_defenses, defense))
    assert check in failed(report), str(report)


class Colour(arena.Defense):
    """Forgets to say that it is made for colour images; its mean broadcasts."""

    name, gradient = "colour", "autograd"

    def scores(self, x: Tensor) -> Tensor:
        weights = torch.linspace(-1, 1, 30).view(3, 10)
        return (x - torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1)).mean((2, 3)) @ weights


def test_a_colour_model_is_checked_on_colour_images() -> None:
    assert failed(check_defense(Colour)) == ["shape"]
    assert check_defense(Colour, x=LinearDefense(shape=(3, 8, 8)).sample_images(17)[0]).ok
    assert check_defense(type("Declared", (Colour,), {"shape": (3, 9, 7)})).ok


def test_the_kit_follows_the_data() -> None:
    assert check_plugin("fgsm", dataset="digits").ok
    with pytest.raises(UserError, match=r"cnn is made for images \[1, 28, 28\] of 10 classes: digits has"):
        check_plugin("cnn", dataset="digits")


def test_a_defense_without_the_gradient_that_it_declares_is_found() -> None:
    class Detached(LinearDefense):
        def scores(self, x: Tensor) -> Tensor:
            return super().scores(x.detach())

    assert failed(check_defense(Detached())) == ["gradient"]


def test_a_defense_that_cannot_take_a_single_image_is_found() -> None:
    class Squeezes(LinearDefense):
        def scores(self, x: Tensor) -> Tensor:
            return super().scores(x).squeeze(0)

    assert "rows" in failed(check_defense(Squeezes()))


# binary-abs is abs behind a threshold.
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name == "binary-abs" else [])
        for name in registry().names("defense")
    ],
)
def test_built_in_defenses_pass(name: str) -> None:
    report = check_plugin(name)
    assert report.ok, str(report)


@pytest.mark.slow  # with light settings all of them meet the kit in plugins/attacks/test_attacks.py
@pytest.mark.parametrize("name", registry().names("attack"))
def test_built_in_attacks_pass(name: str) -> None:
    report = check_plugin(name, dataset=DEFAULT.name if name.startswith("standard-") else None)  # for its threshold
    assert report.ok, str(report)


class Spendthrift(arena.Attack):
    """Walks back along the gradient, after it asked about the later rows more often."""

    name, norm, access = "spendthrift", "l2", "gradient"

    def run(self, target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        again = torch.arange(len(x)).repeat_interleave(11 * torch.arange(len(x)))
        target.labels(x[again], index=again)
        slope = target.gradient(x, torch.nn.CrossEntropyLoss(reduction="none"))
        slope = slope / slope.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        for length in torch.linspace(4, 0, 200):
            target.labels((x + length * slope).clamp(0, 1))
        return target.best


@pytest.mark.parametrize("budget", [None, 210])
def test_samples_whose_budgets_end_at_different_times_are_not_coupled(budget: int | None) -> None:
    report = check_attack(Spendthrift(), budget=budget)
    assert report.ok, str(report)
    (rows,) = [finding for finding in report.findings if finding.check == "rows"]
    assert "deterministic: alone as in a batch" in rows.message


def test_unknown_plugins_are_named_with_the_close_ones() -> None:
    with pytest.raises(UserError, match="unknown plugin 'nearest-nieghbor'; did you mean nearest-neighbor"):
        check_plugin("nearest-nieghbor")


@pytest.mark.parametrize("option", ["factor", "timeout", "budget"])
def test_what_limits_an_attack_makes_no_sense_for_a_defense(option: str) -> None:
    limit: dict[str, Any] = {option: 2}
    with pytest.raises(UserError, match=f"--{option}: cnn is a defense"):
        check_plugin("cnn", **limit)


def test_the_command_takes_limits() -> None:
    checked = CliRunner().invoke(cli, ["plugins", "check", "gaussian-noise", "--budget", "40", "--timeout", "60"])
    assert "adversarial for 4 of 6 samples" in checked.output
