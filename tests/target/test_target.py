"""What an attack may see, what it pays, and what is remembered of it."""

import math
from collections.abc import Callable
from typing import Any

import foolbox
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cross_entropy
from typed import Batch

from arena.errors import AccessDenied, BudgetExhausted, PluginError
from arena.geometry.distances import distance
from arena.geometry.norms import Norm
from arena.interface.contracts import ACCESS_LEVELS, AccessLevel
from arena.target.logits import evaluate
from arena.target.query_log import QueryLog, binarize
from arena.target.target import Target
from arena.testing import LinearDefense


@pytest.fixture
def defense() -> LinearDefense:
    return LinearDefense(classes=5, seed=1)


@pytest.fixture
def batch(defense: LinearDefense) -> Batch:
    return defense.sample_images(4, seed=2)


def target_of(
    defense: LinearDefense, batch: Batch, access: AccessLevel = "gradient", **query_log: Any
) -> tuple[Target, QueryLog]:
    books = QueryLog(*batch, norm=query_log.pop("norm", "l2"), **query_log)
    return Target(defense, books, access), books


def loss(scores: Tensor, y: Tensor) -> Tensor:
    return cross_entropy(scores, y, reduction="none")


QUERIES: dict[AccessLevel, Callable[[Target, Tensor], object]] = {
    "decision": lambda target, x: target.labels(x),
    "score": lambda target, x: target.scores(x),
    "gradient": lambda target, x: target.gradient(x, loss),
    "reconstruction": lambda target, x: target.reconstructions(x),
    "white-box": lambda target, x: target.defense,
}


@pytest.mark.parametrize("access", ACCESS_LEVELS)
@pytest.mark.parametrize("level", ACCESS_LEVELS)
def test_each_level_grants_itself_and_those_before_it(
    defense: LinearDefense, batch: Batch, access: AccessLevel, level: AccessLevel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(defense, "reconstructions", lambda x: x[:, None], raising=False)
    target, _ = target_of(defense, batch, access)
    if ACCESS_LEVELS.index(access) < ACCESS_LEVELS.index(level):
        with pytest.raises(AccessDenied, match=access):
            QUERIES[level](target, batch[0])
    else:
        QUERIES[level](target, batch[0])


def test_score_access_gives_no_gradient_through_the_back_door(defense: LinearDefense, batch: Batch) -> None:
    target, _ = target_of(defense, batch, "score")
    with pytest.raises(AccessDenied, match="gradient"):
        target.scores(batch[0].clone().requires_grad_())
    with pytest.raises(AccessDenied):
        target.gradient(batch[0], loss)


def test_decision_access_gives_foolbox_one_hot_labels(defense: LinearDefense, batch: Batch) -> None:
    target, _ = target_of(defense, batch, "decision")
    logits = target.foolbox()(batch[0])
    assert logits.sum(1).eq(1).all() and set(logits.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(logits.argmax(1), batch[1])


def test_queries_are_billed_to_the_sample_of_each_row(defense: LinearDefense, batch: Batch) -> None:
    target, books = target_of(defense, batch)
    x = batch[0]
    target.labels(x)
    target.scores(x[[2, 2, 3]], index=torch.tensor([2, 2, 3]))
    target.gradient(x[:1], loss, index=torch.tensor([0]))
    assert books.queries.tolist() == [2, 1, 3, 2]
    assert books.gradient_queries.tolist() == [1, 0, 0, 0]


def test_the_budget_is_a_hard_limit_on_all_queries_together(defense: LinearDefense, batch: Batch) -> None:
    target, books = target_of(defense, batch, budget=5)
    target.gradient(batch[0], loss)  # one forward, one gradient
    target.labels(batch[0])
    one = torch.tensor([1])
    target.labels(batch[0][one], index=one)
    target.labels(batch[0][one], index=one)
    target.labels(batch[0])
    assert books.queries.tolist() == [3, 4, 3, 3] and books.gradient_queries.tolist() == [1, 1, 1, 1]
    with pytest.raises(BudgetExhausted, match="5"):
        target.labels(batch[0][one], index=one)


def test_a_spent_sample_hears_of_its_clean_image_while_the_others_go_on(defense: LinearDefense, batch: Batch) -> None:
    x, y = batch
    target, books = target_of(defense, batch, budget=3)
    one = torch.tensor([1])
    for _ in range(3):
        target.labels(x[one], index=one)
    inverted = 1 - x
    others = torch.tensor([0, 2, 3])
    assert torch.equal(target.labels(inverted)[others], defense.scores(inverted[others]).argmax(1))
    assert target.labels(inverted)[1] == y[1] and not target.best_distance.isfinite()[1]
    assert books.queries.tolist() == [2, 3, 2, 2]
    target.labels(inverted)
    with pytest.raises(BudgetExhausted):
        target.labels(inverted)


@pytest.mark.parametrize("source", ["autograd", "estimated"])
def test_a_spent_sample_has_no_gradient_and_spoils_no_other(defense: LinearDefense, batch: Batch, source: str) -> None:
    def gradient(ledger_budget: int | None, spend: int) -> Tensor:
        target, _ = target_of(defense, batch, budget=ledger_budget)
        for _ in range(spend):
            target.labels(batch[0][:1], index=torch.tensor([0]))
        return (target if source == "autograd" else target.with_finite_differences(0.1)).gradient(batch[0], loss)

    alone = gradient(None, 0)
    beside = gradient(2000, 1999)
    assert not beside[0].any() and torch.equal(beside[1:], alone[1:])
    with pytest.raises(BudgetExhausted):
        gradient(1, 1)


def test_rows_that_are_not_the_batch_need_an_index(defense: LinearDefense, batch: Batch) -> None:
    target, _ = target_of(defense, batch)
    with pytest.raises(PluginError, match="index="):
        target.labels(batch[0][:2])
    with pytest.raises(PluginError, match="index"):
        target.labels(batch[0][:2], index=torch.tensor([0]))


@pytest.mark.parametrize(
    "bad",
    [
        lambda x: x.double(),
        lambda x: x[:, :, :27],
        lambda x: x.flatten(1),
        lambda x: x + 1,
        lambda x: x - 1e-3 - x.min(),
        lambda x: x.clone().fill_(float("nan")),
        lambda x: x.numpy(),
    ],
)
def test_queries_must_be_images(defense: LinearDefense, batch: Batch, bad: Callable[[Tensor], Any]) -> None:
    target, books = target_of(defense, batch)
    with pytest.raises(PluginError, match="images must"):
        target.labels(bad(batch[0]))
    assert not books.queries.any()


def test_a_query_of_any_size_reaches_the_defense_in_bounded_batches(
    defense: LinearDefense, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []

    def scores(x: Tensor) -> Tensor:
        sizes.append(len(x))
        return x.flatten(1)[:, :3]

    monkeypatch.setattr(defense, "scores", scores)
    evaluate(defense, torch.rand(2 * defense.batch_size + 1, 1, 28, 28))
    assert sizes == [defense.batch_size, defense.batch_size, 1]
    assert evaluate(defense, torch.rand(0, 1, 28, 28)).shape == (0, 3)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (lambda x: torch.full((len(x), 3), torch.nan), "not finite"),
        (lambda x: torch.eye(3)[:1].expand(len(x), 3) / 0, "not finite"),
        (lambda x: torch.full((len(x), 3), -torch.inf), "not finite"),
        (lambda x: torch.zeros(len(x), 1), "single logit"),
        (lambda x: torch.zeros(len(x), 3, dtype=torch.int64), "torch.int64"),
        (lambda x: torch.zeros(len(x), 3).numpy(), "ndarray"),
        (lambda x: torch.zeros(3), r"shape \(3,\)"),
    ],
)
def test_what_is_no_logits_is_the_defenses_fault(
    defense: LinearDefense,
    batch: Batch,
    scores: Callable[[Tensor], object],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target, _ = target_of(defense, batch)
    monkeypatch.setattr(defense, "scores", scores)
    with pytest.raises(PluginError, match=f"linear.*{message}"):
        target.labels(batch[0])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_logits_of_any_precision_are_float32_at_the_border(
    defense: LinearDefense, batch: Batch, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = defense.scores
    monkeypatch.setattr(defense, "scores", lambda x: plain(x).to(dtype))
    target, _ = target_of(defense, batch)
    assert target.scores(batch[0]).dtype == torch.float32
    assert target.gradient(batch[0], loss).dtype == torch.float32


def test_gradients_that_are_no_numbers_are_zero_and_counted(
    defense: LinearDefense, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = batch
    x = x.clamp_min(0.01)
    x[1, 0, 3, 3] = 0  # where the square root has no slope
    plain = defense.scores
    monkeypatch.setattr(defense, "scores", lambda x: plain(x.sqrt() ** 2))
    target, books = target_of(defense, (x, y), budget=4)
    gradient = target.gradient(x, loss)
    assert not gradient[1].any() and gradient.isfinite().all() and gradient[[0, 2, 3]].flatten(1).any(1).all()
    assert books.masked.tolist() == [0, 1, 0, 0]
    target.gradient(x, lambda scores, y: 0 * loss(scores, y))  # the attack's fault, not the defense's
    assert books.masked.tolist() == [0, 1, 0, 0]
    monkeypatch.setattr(defense, "scores", lambda x: plain(x.round()))
    flat, books = target_of(defense, (x, y))
    assert not flat.gradient(x, loss).any() and books.masked.tolist() == [1] * 4


def test_a_spent_budget_is_no_masked_gradient(defense: LinearDefense, batch: Batch) -> None:
    target, books = target_of(defense, batch, budget=3)
    target.labels(batch[0][:1], torch.tensor([0]))
    target.labels(batch[0][:1], torch.tensor([0]))
    assert not target.gradient(batch[0], loss)[0].any() and not books.masked.any()


def test_of_a_single_sample_every_row_is_about_it(defense: LinearDefense, batch: Batch) -> None:
    x, y = (part[:1] for part in batch)
    target, books = target_of(defense, (x, y))
    target.labels(x.expand(5, -1, -1, -1))
    target.gradient(x.expand(2, -1, -1, -1), loss)
    assert books.queries.tolist() == [7] and books.gradient_queries.tolist() == [2]


def test_asking_about_nobody_costs_nothing_even_when_a_sample_is_spent(defense: LinearDefense, batch: Batch) -> None:
    target, books = target_of(defense, batch, budget=1)
    target.labels(batch[0])
    assert target.labels(batch[0][:0], torch.zeros(0, dtype=torch.int64)).shape == (0,)
    assert books.queries.tolist() == [1] * 4


@given(seed=st.integers(0, 10**6), shares=st.lists(st.sampled_from([0.001, 0.009, 0.011, 0.1]), min_size=1))
def test_the_closest_solid_adversarial_is_kept_beside_the_closest(seed: int, shares: list[float]) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.rand(1, 1, 4, 4, generator=generator), torch.zeros(1, dtype=torch.int64)
    books, distances = QueryLog(x, y, "l2"), {True: [math.inf], False: [math.inf]}
    for share in shares:  # the margin, in sizes of the logits
        image = torch.rand(1, 1, 4, 4, generator=generator)
        books.remember(image, torch.tensor([0]), torch.tensor([[-10.0, -10 + 10 * share, -10.0]]))
        distances[share > 0.01].append(float(distance("l2", image, x)))
    assert float(books.solid.distance) == min(distances[True])
    assert float(books.seen.distance) == min(distances[True] + distances[False])


@given(seed=st.integers(0, 10**6), norm=st.sampled_from(["l0", "l2", "linf"]), rows=st.integers(1, 40))
def test_the_memory_is_the_closest_misclassified_row_of_each_sample(seed: int, norm: Norm, rows: int) -> None:
    defense = LinearDefense(classes=3, seed=1)
    generator = torch.Generator().manual_seed(seed)
    x, y = defense.sample_images(3, seed=2)
    target, books = target_of(defense, (x, y), "decision", norm=norm)
    index = torch.randint(3, (rows,), generator=generator)
    queries = (x[index] + torch.randn(rows, 1, 28, 28, generator=generator) * 0.5).clamp(0, 1)
    for part in torch.arange(rows).split(7):
        target.labels(queries[part], index=index[part])
    wrong = defense.scores(queries).argmax(1) != y[index]
    for sample in range(3):
        mine = wrong & (index == sample)
        expected = distance(norm, queries[mine], x[index[mine]]).min() if mine.any() else torch.tensor(torch.inf)
        assert target.best_distance[sample] == expected
        assert distance(norm, target.best, x)[sample] == (expected if mine.any() else 0)
        assert books.seen.query[sample] <= books.queries[sample]


def notable(distances: list[list[float]]) -> list[list[float]]:
    """Of [query, distance] in order: the first, those at least 1 % closer than the last one here, and the closest."""
    kept: list[list[float]] = []
    closest = [0, math.inf]
    for entry in distances:
        if entry[1] < closest[1]:
            closest = entry
            if not kept or entry[1] <= 0.99 * kept[-1][1]:
                kept.append(entry)
    return kept if kept[-1:] == [closest] or not kept else [*kept, closest]


@given(seed=st.integers(0, 10**6), norm=st.sampled_from(["l0", "l2", "linf"]))
def test_the_progress_is_each_notably_closer_row_and_the_closest(seed: int, norm: Norm) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.rand(3, 1, 4, 4, generator=generator), torch.zeros(3, dtype=torch.int64)
    books = QueryLog(x, y, norm, binary_threshold=0.5)
    seen: list[list[list[float]]] = [[] for _ in x]
    binarized: list[list[list[float]]] = [[] for _ in x]
    for _ in range(20):
        index = torch.randint(3, (4,), generator=generator)
        noise = torch.randn(4, 1, 4, 4, generator=generator) * torch.rand(4, 1, 1, 1, generator=generator)
        rows = (x[index] + 0.3 * noise).clamp(0, 1)
        rows = torch.where(torch.rand(rows.shape, generator=generator) < 0.5, rows, x[index])
        wrong = torch.rand(4, generator=generator) < 0.7
        books.charge(index)
        books.charge(index, gradient=True)
        books.remember(rows, index, torch.stack([~wrong, wrong], 1).float())
        for images, calls in ((rows, seen), (binarize(rows, x[index], 0.5), binarized)):
            distances = distance(norm, images, x[index])
            for sample in range(3):
                if (mine := wrong & (index == sample)).any():
                    spent = int(books.queries[sample] + books.gradient_queries[sample])
                    calls[sample].append([spent, float(distances[mine].min())])
    for closest, calls in ((books.seen, seen), (books.binarized, binarized)):
        progress = closest.progress()
        for sample in range(3):
            expected = notable(calls[sample])
            assert [query for query, _ in progress[sample]] == [query for query, _ in expected]
            assert [d for _, d in progress[sample]] == pytest.approx([d for _, d in expected], rel=1e-5)
            if expected:
                assert progress[sample][-1][0] == closest.query[sample]


def test_an_attack_that_creeps_leaves_a_short_progress() -> None:
    x, y = torch.zeros(1, 1, 1, 1), torch.zeros(1, dtype=torch.int64)
    books = QueryLog(x, y, "linf")
    for step in range(1000):
        index = torch.tensor([0])
        books.charge(index)
        books.remember(torch.full_like(x, 0.9 - 2e-4 * step), index, torch.tensor([[0.0, 1.0]]))
    (progress,) = books.seen.progress()
    assert progress[0] == [1, pytest.approx(0.9)] and progress[-1] == [1000, pytest.approx(0.7002)]
    assert 20 < len(progress) < 30  # 0.99 ** 25 = 0.7002 / 0.9


@given(seed=st.integers(0, 10**6), threshold=st.sampled_from([0.25, 0.5, 0.9]))
def test_binarize_keeps_every_decision_at_the_least_distance(seed: int, threshold: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, clean = torch.rand(2, 5, 1, 4, 4, generator=generator)
    snapped = binarize(x, clean, threshold)
    assert torch.equal(snapped >= threshold, x >= threshold)
    for norm in ("l0", "l2", "linf"):
        assert (distance(norm, snapped, clean) <= distance(norm, x, clean) + 1e-6).all()
    assert torch.equal(binarize(clean, clean, threshold), clean)


def test_differences_agree_with_autograd_and_cost_forward_queries_only(defense: LinearDefense, batch: Batch) -> None:
    exact, _ = target_of(defense, batch)
    target, books = target_of(defense, batch, "score")
    estimated = target.with_finite_differences(1e-2)
    expected = exact.gradient(batch[0], loss)
    assert torch.allclose(estimated.gradient(batch[0], loss), expected, atol=1e-3 * float(expected.abs().max()))
    assert books.queries.tolist() == [1 + 2 * 784] * 4 and not books.gradient_queries.any()
    estimated.gradient(batch[0], lambda scores, y: -loss(scores, y))  # the Jacobian of these images is known
    assert books.queries.tolist() == [2 + 2 * 784] * 4


def test_differences_stay_inside_the_box(defense: LinearDefense, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    original = defense.scores

    def scores(x: Tensor) -> Tensor:
        seen.append((float(x.min()), float(x.max())))
        return original(x)

    monkeypatch.setattr(defense, "scores", scores)
    target, _ = target_of(defense, batch, "score")
    gradient = target.with_finite_differences(0.7).gradient(batch[0], loss)
    assert gradient.isfinite().all() and all(low >= 0 and high <= 1 for low, high in seen)


@pytest.mark.parametrize("source", ["autograd", "estimated"])
def test_any_foolbox_attack_runs_over_any_gradient_source(defense: LinearDefense, batch: Batch, source: str) -> None:
    target, books = target_of(defense, batch, "gradient" if source == "autograd" else "score")
    model = (target if source == "autograd" else target.with_finite_differences(1e-2)).foolbox()
    _, _, success = foolbox.attacks.L2DeepFoolAttack(steps=20)(model, *batch, epsilons=None)
    assert success.all()
    optimum = defense.minimal_distance("l2", batch[0])
    assert (target.best_distance <= 1.1 * optimum).all()
    assert books.queries.min() > 0


def test_a_subset_is_the_target_of_a_smaller_batch(defense: LinearDefense, batch: Batch) -> None:
    x, y = batch
    target, books = target_of(defense, batch)
    chosen = torch.tensor([2, 0])
    assert y[2] != y[0]
    few = target.subset(chosen)
    assert torch.equal(few.scores(x[chosen]), defense.scores(x[chosen]))
    torch.testing.assert_close(few.gradient(x[chosen], loss), target.gradient(x, loss)[chosen])
    few.labels(1 - x[:1], index=torch.tensor([1]))
    few.subset(torch.tensor([0])).labels(x[[2, 2, 2]])
    few.module()(x[chosen])
    few.with_finite_differences(0.01).scores(x[chosen])
    assert books.queries.tolist() == [6, 1, 8, 1] and books.gradient_queries.tolist() == [2, 1, 2, 1]
    assert few.best_distance.tolist() == [math.inf, float(distance("l2", 1 - x[:1], x[:1]))]
    assert torch.equal(few.best, torch.stack([x[2], 1 - x[0]]))
    with pytest.raises(PluginError, match="4 rows for 2 samples"):
        few.labels(x)
