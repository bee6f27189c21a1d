"""A target as the model that attack libraries expect."""

import pytest
import torch
from torch.nn.functional import cross_entropy
from typed import Batch, present

from arena.errors import AccessDenied, PluginError
from arena.interface.contracts import AccessLevel
from arena.target.query_log import QueryLog
from arena.target.target import Target
from arena.testing import LinearDefense


@pytest.fixture
def defense() -> LinearDefense:
    return LinearDefense(classes=5, seed=1)


@pytest.fixture
def batch(defense: LinearDefense) -> Batch:
    return defense.sample_images(4, seed=2)


def target_of(defense: LinearDefense, batch: Batch, access: AccessLevel = "gradient") -> tuple[Target, QueryLog]:
    query_log = QueryLog(*batch, norm="l2")
    return Target(defense, query_log, access), query_log


def test_a_module_answers_and_backpropagates_as_the_defense_does_and_is_billed(
    defense: LinearDefense, batch: Batch
) -> None:
    target, query_log = target_of(defense, batch)
    model = target.module()
    images = batch[0].clone().requires_grad_()
    logits = model(images)
    assert torch.equal(logits, defense.scores(batch[0]))
    cross_entropy(logits, batch[1], reduction="sum").backward()
    direct = batch[0].clone().requires_grad_()
    cross_entropy(defense.scores(direct), batch[1], reduction="sum").backward()
    torch.testing.assert_close(images.grad, direct.grad)
    assert query_log.queries.tolist() == query_log.gradient_queries.tolist() == [1] * 4


def test_a_module_looks_like_a_frozen_network(defense: LinearDefense, batch: Batch) -> None:
    model = target_of(defense, batch)[0].module()
    (parameter,) = model.parameters()
    assert not parameter.requires_grad and parameter.device == batch[0].device
    assert not model.training and model.train().training and not model.eval().training


def test_rows_align_with_the_batch_or_belong_to_one_sample(defense: LinearDefense, batch: Batch) -> None:
    target, query_log = target_of(defense, batch)
    with pytest.raises(PluginError, match=r"3 rows for 4 samples.*target\.module\(sample\)"):
        target.module()(batch[0][:3])
    target.module(2)(batch[0][2:3].expand(7, -1, -1, -1))
    assert query_log.queries.tolist() == [0, 0, 7, 0]
    with pytest.raises(PluginError, match="no sample 4 in a batch of 4"):
        target.module(4)
    alone, query_log = target_of(defense, (batch[0][:1], batch[1][:1]))
    alone.module()(batch[0][:1].expand(3, -1, -1, -1))
    alone.foolbox()(batch[0][:1].expand(3, -1, -1, -1))
    assert query_log.queries.tolist() == [6]


def test_rounding_is_clipped_and_more_is_named(defense: LinearDefense, batch: Batch) -> None:
    target, query_log = target_of(defense, batch)
    model = target.module()
    assert torch.equal(model(batch[0] - 5e-7), model((batch[0] - 5e-7).clamp(0, 1)))
    asked = query_log.queries.clone()
    for bad in (batch[0] + 1e-3 + (1 - batch[0]), batch[0] - 0.01, batch[0] * torch.nan):
        with pytest.raises(PluginError, match="box"):
            model(bad)
    assert torch.equal(query_log.queries, asked)
    assert torch.equal(model(batch[0].double()), model(batch[0]))  # other floating types are rounded


def test_decisions_are_one_hot_over_all_classes_of_the_defense(defense: LinearDefense, batch: Batch) -> None:
    target, query_log = target_of(defense, batch, "decision")
    first = batch[1] == 0
    batch = (batch[0][first], batch[1][first]) if first.any() else batch
    assert target.classes == 5 and not query_log.queries.any()
    target, _ = target_of(defense, batch, "decision")
    for model in (target.module(), target.foolbox()):
        logits = model(batch[0])
        assert logits.shape == (len(batch[0]), 5) and torch.equal(logits.argmax(1), batch[1])
        assert logits.sum(1).eq(1).all()


def test_score_access_gives_no_gradient_through_a_module(defense: LinearDefense, batch: Batch) -> None:
    model = target_of(defense, batch, "score")[0].module()
    assert model(batch[0]).shape == (4, 5)
    with pytest.raises(AccessDenied, match="gradient"):
        model(batch[0].clone().requires_grad_())


def test_estimated_gradients_reach_a_module_too(defense: LinearDefense, batch: Batch) -> None:
    target, query_log = target_of(defense, batch, "score")
    images = batch[0].clone().requires_grad_()
    target.with_finite_differences(0.01).module()(images)[:, 0].sum().backward()
    torch.testing.assert_close(present(images.grad)[0].flatten(), defense.matrix[0], atol=1e-3, rtol=1e-2)
    assert query_log.queries.min() > 1000
