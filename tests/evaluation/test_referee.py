"""The referee: it believes nothing that it has not measured."""

import math
import random
from collections.abc import Callable
from typing import Any

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from typed import Batch, present

import arena
from arena.errors import AccessDenied, PluginError, UserError
from arena.evaluation.referee import isolated_random_state
from arena.geometry.norms import Norm
from arena.interface.contracts import AccessLevel
from arena.interface.results import Record, Status
from arena.models.cnn import ConvolutionalNetwork
from arena.plugins.defenses.cnn import CNN
from arena.target.logits import margin
from arena.testing import BinaryLinearDefense, LinearDefense

DEFENSE = LinearDefense(classes=4, seed=3)
X, Y = DEFENSE.sample_images(6, seed=4)


Run = Callable[[Any, arena.Target, Tensor, Tensor, torch.Generator], Any]  # the attack itself is its first argument


def attack(run: Run, access: AccessLevel = "white-box", norm: Norm = "l2") -> arena.Attack:
    """An attack whose `run` is the given function."""
    namespace = {"name": "scripted", "norm": norm, "access": access, "run": run}
    scripted: arena.Attack = type("Scripted", (arena.Attack,), namespace)()
    return scripted


def play(
    run: Run,
    x: Tensor = X,
    y: Tensor = Y,
    defense: arena.Defense = DEFENSE,
    seed: int = 0,
    budget: int | None = None,
    **declared: Any,
) -> list[Record]:
    return arena.play(defense, attack(run, **declared), x, y, seed=seed, budget=budget)


def invert(self: arena.Attack, target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
    return 1 - x


def toward(x: Tensor, fraction: Tensor | float) -> Tensor:
    """Images on the way from x to their inversion."""
    return x + fraction * (1 - 2 * x)


def bisect(target: arena.Target, x: Tensor, y: Tensor) -> Tensor:
    """Images [B, ...] just beyond the boundary on the way from x to their inversion."""
    low, high = torch.zeros(len(x), 1, 1, 1), torch.ones(len(x), 1, 1, 1)
    for _ in range(25):
        middle = (low + high) / 2
        fooled = (target.labels(toward(x, middle)) != y).view_as(low)
        low, high = torch.where(fooled, low, middle), torch.where(fooled, middle, high)
    return toward(x, high)


def test_a_found_adversarial_is_measured_in_all_norms_in_float64() -> None:
    for record, clean, label in zip(play(invert), X, Y, strict=True):
        assert record.status == Status.FOUND
        difference = present(record.adversarial).astype(numpy.float64) - clean.numpy().astype(numpy.float64)
        assert record.l2 == record.distance == pytest.approx(numpy.linalg.norm(difference), rel=1e-12)
        assert record.linf == pytest.approx(abs(difference).max(), rel=1e-12)
        assert record.l0 == (difference != 0).sum()
        scores = DEFENSE.scores(torch.from_numpy(record.adversarial)[None])[0]
        assert record.adversarial_label == scores.argmax() != label == record.label == record.clean_label
        assert record.margin == pytest.approx(float(scores.max() - scores[label]), rel=1e-4)


def test_misclassified_samples_are_distance_zero_and_never_shown_to_the_attack() -> None:
    wrong = (Y + torch.tensor([1, 0, 0, 1, 0, 0])) % 4
    shown = []

    def run(self: arena.Attack, target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        shown.append((x, y))
        return 1 - x

    records = play(run, y=wrong)
    assert [record.status for record in records] == ["misclassified" if row in (0, 3) else "found" for row in range(6)]
    assert records[0].distance == records[0].linf == 0 and records[0].queries == 0
    for row, scores in ((0, DEFENSE.scores(X)[0]), (3, DEFENSE.scores(X)[3])):
        assert records[row].margin == pytest.approx(float(scores.max() - scores[wrong[row]]), rel=1e-4)
    assert torch.equal(shown[0][0], X[[1, 2, 4, 5]]) and torch.equal(shown[0][1], Y[[1, 2, 4, 5]])


def test_the_clean_image_claims_nothing_and_a_last_iterate_that_fails_is_not_found() -> None:
    records = play(lambda self, target, x, y, rng: torch.cat([x[:3], toward(x[3:], 1e-4)]))
    assert {record.status for record in records} == {"not_found"}
    assert all(math.isinf(present(record.distance)) and math.isinf(present(record.l0)) for record in records)
    assert all(record.reason is None for record in records[:3])
    assert all("correctly" in present(record.reason) for record in records[3:])
    assert all(record.adversarial is None for record in records)


def test_candidates_that_are_no_images_cost_only_their_row() -> None:
    def run(self: arena.Attack, target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        candidates = 1 - x
        candidates[0, 0, 0, 0] = torch.nan
        candidates[1, 0, 0, 0] = 1 + 1e-6
        candidates[2, 0, 5, 5] = torch.inf
        return candidates

    records = play(run)
    assert [record.status for record in records] == ["rejected"] * 3 + ["found"] * 3
    assert (
        "not finite" in present(records[0].reason)
        and "box" in present(records[1].reason)
        and "not finite" in present(records[2].reason)
    )


def test_the_best_that_the_target_saw_beats_a_worse_candidate() -> None:
    def run(self: arena.Attack, target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        for fraction in torch.linspace(1, 0, 41):
            target.labels(toward(x, fraction))
        return 1 - x

    for record, worst in zip(play(run), play(invert), strict=True):
        assert record.status == Status.FOUND and present(record.distance) < present(worst.distance)
        assert record.queries == 41 and 1 <= present(record.best_query) <= 41
    assert play(invert)[0].best_query is None


@pytest.mark.parametrize("kind", [LinearDefense, BinaryLinearDefense])
def test_progress_leads_to_the_distance_that_counts(kind: type[LinearDefense]) -> None:
    def run(self: arena.Attack, target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        for fraction in torch.linspace(1, 0, 41):
            target.labels(toward(x, fraction))
        return target.best

    defense = kind(classes=4, seed=3)
    x, y = defense.sample_images(6, seed=4)
    for record in play(run, x=x, y=y, defense=defense):
        queries, distances = zip(*record.progress, strict=True)
        assert len(queries) > (kind is LinearDefense) and list(queries) == sorted(set(queries))
        assert list(distances) == sorted(set(distances), reverse=True)
        assert record.progress[-1] == [record.best_query, pytest.approx(record.distance, rel=1e-5)]
    returned = play(invert)[0]  # not asked about: it was there when all queries were spent, none
    assert returned.progress == [[0, pytest.approx(returned.distance, rel=1e-5)]]


def test_a_better_candidate_beats_what_the_target_saw() -> None:
    def run(self: arena.Attack, target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        target.labels(1 - x)
        return toward(x, 0.9)

    for record, worst in zip(play(run), play(invert), strict=True):
        assert present(record.distance) < present(worst.distance) and record.best_query is None


def test_a_spent_budget_is_no_failure() -> None:
    def run(self: arena.Attack, target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> None:
        while True:
            target.labels(1 - x)

    assert all(record.status == Status.FOUND and record.queries == 7 for record in play(run, budget=7))


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda self, target, x, y, rng: (x.add_(0.1), x)[1].clamp(0, 1), "modified its input"),
        (lambda self, target, x, y, rng: (y.zero_(), 1 - x)[1], "modified its input"),
        (lambda self, target, x, y, rng: (1 - x)[:2], "returned torch.float32 (2, 1, 28, 28)"),
        (lambda self, target, x, y, rng: x > 0.5, "returned torch.bool"),
        (lambda self, target, x, y, rng: None, "returned <class 'NoneType'>"),
    ],
)
def test_a_broken_contract_is_named(run: Run, message: str) -> None:
    with pytest.raises(PluginError) as failure:
        play(run)
    assert message in str(failure.value)


def test_undeclared_access_is_denied() -> None:
    with pytest.raises(AccessDenied, match="score"):
        play(lambda self, target, x, y, rng: target.scores(x), access="decision")


class Coupled(LinearDefense):
    """Errs on a batch of the attack's size, unless it is the clean one."""

    def scores(self, x: Tensor) -> Tensor:
        scores = super().scores(x)
        return scores.roll(1, 1) if len(x) == len(X) and not torch.equal(x, X) else scores


def test_a_defense_that_no_longer_errs_at_another_batch_size_is_unstable() -> None:
    def run(self: arena.Attack, target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        target.labels(x * 0.999)
        assert target.best_distance.isfinite().all()  # at this batch size it does err
        return x * 0.999

    for record in play(run, defense=Coupled(classes=4, seed=3)):
        assert record.status == Status.UNSTABLE and "asked again" in present(record.reason)
        assert record.distance is record.l0 is record.l2 is record.linf is record.margin is None
        assert record.adversarial is None
        assert record.queries == 1 and record.progress == []


@pytest.mark.parametrize("batch_size", [1, 2, 3])
@pytest.mark.parametrize("name", ["boundary", "deepfool-l2"])
def test_no_query_is_larger_than_the_defense_wants(name: str, batch_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = set()
    defense = LinearDefense(classes=4, seed=3)
    monkeypatch.setattr(LinearDefense, "batch_size", batch_size)

    def scores(x: Tensor) -> Tensor:
        asked.add(len(x))
        return LinearDefense.scores(defense, x)

    monkeypatch.setattr(defense, "scores", scores)
    records = arena.play(defense, arena.load_attack(name, steps=3), X, Y)
    assert {record.status for record in records} == {Status.FOUND}
    assert max(asked) == batch_size


def forgotten_eval(network: ConvolutionalNetwork) -> torch.nn.Sequential:
    """The network with dropout before its last layer, in training mode (its batch norm is not)."""
    *layers, last, flatten = network.children()
    return torch.nn.Sequential(*layers, torch.nn.Dropout(0.5).train(), last, flatten)


def noisy(network: ConvolutionalNetwork) -> Callable[[Tensor], Tensor]:
    return lambda x: network(x + 0.05 * torch.randn_like(x))


@pytest.mark.parametrize("break_network", [forgotten_eval, noisy])
def test_a_random_defense_is_unstable_not_robust(mnist: Batch, break_network: Callable[[Any], Any]) -> None:
    defense, ddn = CNN(), arena.load_attack("ddn", steps=100)  # 50 by either loss
    x, y = (part[:8] for part in mnist)
    honest = arena.play(defense, ddn, x, y)
    assert {record.status for record in honest} == {"found"}
    defense.network = break_network(defense.network)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        records = arena.play(defense, ddn, x, y)
    assert {record.status for record in records} == {"unstable"}
    assert all(record.distance is None and "two answers" in present(record.reason) for record in records)


class Rounding(LinearDefense):
    """For batches of the attack's size the label's logit comes out lower by `share` of the logits' size."""

    share = 0.0

    def scores(self, x: Tensor) -> Tensor:
        scores = super().scores(x)
        if len(x) != len(X) or torch.equal(x, X):
            return scores
        lowered = self.share * scores.abs().amax(1, keepdim=True)
        return scores.scatter_add(1, Y[:, None], -lowered)


@pytest.mark.parametrize("share", [1e-6, 9e-4], ids=["a hair beyond", "a solid one"])
def test_what_rounding_undoes_is_replaced_by_a_safer_adversarial(share: float) -> None:
    """`return target.best` after a bisection, honest and straightforward, must not lose what it found."""

    def run(self: arena.Attack, target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        bisect(target, x, y)
        return target.best

    defense = type("Rounded", (Rounding,), {"share": share})(classes=4, seed=3)
    for record, exact in zip(play(run, defense=defense), play(run), strict=True):
        assert record.status == Status.FOUND and present(record.margin) > 0 and record.best_query
        assert (
            present(exact.distance) * 0.99
            < present(record.distance)
            < present(exact.distance) * (1.01 if share == 1e-6 else 1.5)
        )


def test_what_was_never_more_than_rounding_accuses_nobody() -> None:
    edge = play(lambda self, target, x, y, rng: bisect(target, x, y))
    images = torch.stack([torch.from_numpy(record.adversarial) for record in edge])
    close = torch.lerp(X, images, 0.9)

    def run(self: arena.Attack, target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        target.labels(torch.lerp(x, images, 1 - 2e-3))  # a hair beyond it is still correct
        assert target.best_distance.isfinite().all()
        return target.best

    records = play(run, x=close, defense=type("Rounded", (Rounding,), {"share": 9e-4})(classes=4, seed=3))
    assert {record.status for record in records} == {"not_found"}


@pytest.mark.parametrize("batch", [1, 2, 3, 6])
def test_a_record_does_not_depend_on_the_batch(batch: int) -> None:
    whole = play(invert)
    parts = [
        record for part in range(0, 6, batch) for record in play(invert, X[part : part + batch], Y[part : part + batch])
    ]
    assert [(r.status, r.distance, r.adversarial_label) for r in parts] == [
        (r.status, r.distance, r.adversarial_label) for r in whole
    ]


def test_binarising_defenses_get_the_papers_post_processing() -> None:
    defense = BinaryLinearDefense(classes=4, seed=3)
    x, y = defense.sample_images(6, seed=4)
    for record, clean in zip(play(invert, x=x, y=y, defense=defense), x, strict=True):
        pixels = torch.from_numpy(record.adversarial)
        below = torch.nextafter(torch.tensor(0.5), torch.tensor(0.0))
        assert ((pixels == clean) | (pixels == 0.5) | (pixels == below)).all()
        assert present(record.distance) < float((1 - 2 * clean).norm())


def test_a_wrongly_declared_threshold_does_not_protect() -> None:
    class Liar(LinearDefense):
        binary_threshold = 0.5

    records = play(invert, defense=Liar(classes=4, seed=3))
    assert [record.status for record in records] == ["found"] * 6


def test_the_same_seed_gives_the_same_record_and_global_random_state_is_isolated() -> None:
    def run(self: arena.Attack, target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        noise = torch.rand(x.shape, generator=rng) + torch.rand(x.shape) + float(numpy.random.rand()) + random.random()
        return (x + noise).clamp(0, 1)

    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first, again, other = (play(run, seed=seed)[0].distance for seed in (5, 5, 6))
    assert first == again != other
    assert torch.equal(torch.rand(3), expected)


@given(seed=st.integers(0, 2**63 - 1))
def test_every_unit_seed_can_seed_every_generator(seed: int) -> None:
    with isolated_random_state(seed) as rng:
        assert rng.initial_seed() == seed


def test_empty_batches_and_wrong_input() -> None:
    assert play(invert, X[:0], Y[:0]) == []
    wrong: list[tuple[Any, Tensor]] = [(X.double(), Y), (X, Y[:2]), (X, Y.float()), (X + 1, Y), (X.numpy(), Y)]
    for x, y in wrong:
        with pytest.raises(UserError):
            play(invert, x, y)


def test_an_attack_that_does_not_apply_is_refused() -> None:
    class Opaque(LinearDefense):
        gradient = "none"

    with pytest.raises(UserError, match="needs gradient"):
        play(invert, defense=Opaque(classes=4, seed=3), access="gradient")


class Near(torch.Tensor):
    """Says of itself that it is the clean image, a hair away."""

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None) -> Any:
        answer = super().__torch_function__(function, types, args, kwargs or {})  # type: ignore[no-untyped-call]
        names = ("sub", "__sub__", "__rsub__", "rsub", "square", "double", "abs")
        return answer * 1e-3 if getattr(function, "__name__", "") in names else answer


@pytest.mark.parametrize("asks", [False, True])
def test_a_tensor_that_lies_about_its_distance_is_measured_as_it_is(asks: bool) -> None:
    def run(self: arena.Attack, target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Near:
        image = (1 - x).as_subclass(Near)
        if asks:
            target.labels(image)
        return image

    for record, honest in zip(play(run), play(invert), strict=True):
        assert present(record.distance) == present(honest.distance) > 1 and present(record.adversarial).flags.writeable


def test_what_an_attack_does_to_its_images_afterwards_does_not_matter() -> None:
    kept = []

    def run(self: arena.Attack, target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        kept.append(1 - x)
        return kept[0]

    records = play(run)
    kept[0].zero_()
    assert all(present(record.adversarial).any() for record in records)


def test_a_label_that_the_defense_has_no_class_for_is_misclassified() -> None:
    y = Y.clone()
    y[1], y[4] = 7, -1
    records = play(invert, y=y)
    assert [row for row, record in enumerate(records) if record.status == "misclassified"] == [1, 4]
    assert records[1].distance == records[4].linf == 0 and records[1].label == 7
    assert records[1].margin is None and records[1].clean_label == Y[1]


def test_a_loop_over_samples_goes_on_when_one_has_spent_its_budget() -> None:
    def run(self: arena.Attack, target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        for row in range(len(x)):
            index = torch.tensor([row])
            try:
                for fraction in torch.linspace(1, 0, 50):
                    target.labels(toward(x[index], fraction), index)
            except arena.BudgetExhausted:
                continue
        return target.best

    records = play(run, budget=5)
    assert [record.queries for record in records] == [5] * len(X)
    assert {record.status for record in records} == {"found"}


def test_images_that_require_a_gradient_are_images() -> None:
    wanting = X.clone().requires_grad_()
    assert [record.distance for record in play(invert, x=wanting)] == [record.distance for record in play(invert)]


class Masked(LinearDefense):
    """Its last class cannot be."""

    def scores(self, x: Tensor) -> Tensor:
        return super().scores(x).index_fill(1, torch.tensor([3]), -torch.inf)


@pytest.mark.parametrize("name", ["apgd-ce-l2", "ddn", "fgsm", "boundary"])
def test_a_masked_class_is_no_fault(name: str) -> None:
    defense = Masked(classes=4, seed=3)
    y = defense.scores(X).argmax(1)
    records = arena.play(defense, arena.load_attack(name), X, y, budget=1000)
    assert all(record.status == "found" and math.isfinite(present(record.margin)) for record in records)


def test_gradients_that_are_nothing_are_counted() -> None:
    class Steps(LinearDefense):
        def scores(self, x: Tensor) -> Tensor:
            return super().scores(x.round())

    records = play(lambda self, target, x, y, rng: target.gradient(x, margin) + x, defense=Steps(classes=4, seed=3))
    played = [record for record in records if record.status != "misclassified"]
    assert played and all(record.masked == record.gradient_queries == 1 for record in played)
    honest = play(lambda self, target, x, y, rng: 0 * target.gradient(x, margin) + x)
    assert all(record.masked == 0 and record.gradient_queries == 1 for record in honest)
