"""Models without a package, as defenses: what they return, where they come from, what decides their identity."""

import sys
import textwrap
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from arena.errors import PluginError, UserError
from arena.evaluation.preflight import preflight
from arena.interface.registry import load_attack
from arena.models.adopted import adopt
from arena.models.loading import load_model
from arena.plugins.attacks.noise import GaussianNoise
from arena.target.logits import checked_scores

SHAPE = (3, 4, 6)
PIXELS = 3 * 4 * 6
X = torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(0))


def linear(classes: int = 3) -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, classes))


def labels_of(scores: Tensor) -> Tensor:
    return scores.argmax(1)


class Wrapped(nn.Module):
    """Returns what `form` makes of the logits of a linear network."""

    def __init__(self, form: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.network, self.form = linear(), form

    def forward(self, x: Tensor) -> Tensor:
        return self.form(self.network(x))


@pytest.mark.parametrize(
    "form",
    [
        lambda s: s,
        lambda s: (s, None),
        lambda s: [s],
        lambda s: {"loss": 0, "logits": s},
        lambda s: {"out": s},
        lambda s: types.SimpleNamespace(logits=s),
        lambda s: s.double(),
        lambda s: s.half(),
    ],
)
def test_logits_are_found_in_whatever_a_module_returns(form: Callable[[Tensor], Any]) -> None:
    defense = adopt("mine", Wrapped(form))
    scores = checked_scores(defense, X)
    assert scores.dtype == torch.float32 and scores.shape == (5, 3)
    assert torch.allclose(scores, linear()(X), atol=1e-2)
    assert defense.gradient == "autograd" and defense.access == "score"


def test_a_module_is_asked_in_evaluation_mode_and_float32() -> None:
    network = nn.Sequential(nn.Dropout(0.9), linear()).double()
    defense = adopt("mine", network)
    assert torch.allclose(defense.scores(X), linear()(X), atol=1e-5)
    assert preflight(defense, X, torch.zeros(5, dtype=torch.int64)) == []


def test_mean_std_and_bounds_are_applied_before_the_model() -> None:
    defense = adopt("mine", lambda x: x.mean((2, 3)), bounds=(0, 255), mean=(1, 2, 3), std=(4, 5, 6))
    expected = (X.mean((2, 3)) * 255 - torch.tensor([1.0, 2, 3])) / torch.tensor([4.0, 5, 6])
    assert torch.allclose(defense.scores(X), expected, atol=1e-4)
    with pytest.raises(UserError, match="2 values of mean or std for 3 channels"):
        adopt("mine", linear(), mean=(1, 2)).scores(X)


@pytest.mark.parametrize(("settings", "shape"), [({"layout": "NHWC"}, (5, 4, 6, 3)), ({"flat": True}, (5, PIXELS))])
def test_a_model_gets_the_order_of_dimensions_that_it_takes(settings: dict[str, Any], shape: tuple[int, ...]) -> None:
    seen = []

    def scores(x: Tensor) -> Tensor:
        seen.append(x)
        return x.flatten(1)[:, :2]

    adopt("mine", scores, **settings).scores(X)
    assert seen[0].shape == shape


def test_a_model_that_normalises_in_place_leaves_the_images_alone() -> None:
    class InPlace(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.sub_(0.5).flatten(1)[:, :3]

    given = X.clone()
    adopt("mine", InPlace()).scores(given)
    assert torch.equal(given, X)


def test_a_function_of_numpy_arrays_says_so() -> None:
    def scores(x: np.ndarray) -> np.ndarray:
        return np.exp(x.reshape(len(x), -1)[:, :3])

    defense = adopt("mine", scores)
    assert torch.allclose(defense.scores(X), X.flatten(1)[:, :3].exp())
    assert defense.gradient == "none" and not load_attack("fgsm").applies_to(type(defense))
    assert load_attack("square-linf").applies_to(type(defense))


def test_only_decision_attacks_apply_to_a_model_that_answers_labels() -> None:
    defense = adopt("mine", lambda x: labels_of(linear()(x)), access="decision", classes=4)
    assert torch.equal(defense.scores(X).argmax(1), labels_of(linear()(X)))
    assert defense.scores(X).shape == (5, 4) and defense.scores(X).sum() == 5
    assert GaussianNoise.applies_to(type(defense)) and load_attack("boundary").applies_to(type(defense))
    for name in ("square-linf", "fgsm", "fgsm-ge", "fgsm-exact", "cutting-plane-l2"):
        assert not load_attack(name).applies_to(type(defense))


def test_labels_without_that_access_are_refused_with_the_remedy() -> None:
    with pytest.raises(PluginError, match="set access = 'decision'"):
        adopt("mine", lambda x: labels_of(linear()(x))).scores(X)


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(UserError, match="int is no torch module, function or estimator"):
        adopt("mine", 3)


# Estimators


class Estimator:
    """As scikit-learn's: it has not seen class 1."""

    classes_ = np.array([0, 2])

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        likes = x[:, :1].clip(0, 1)
        return np.concatenate([likes, 1 - likes], axis=1)

    def predict(self, x: np.ndarray) -> NoReturn:
        raise AssertionError("its probabilities say more")


class Decides:
    def predict(self, x: np.ndarray) -> np.ndarray:
        return np.where(x[:, 0] > 0.5, 0, 2)


def test_an_estimator_gives_log_probabilities_of_the_classes_that_it_knows() -> None:
    defense = adopt("mine", Estimator(), classes=3)
    scores = defense.scores(X)
    assert scores.shape == (5, 3) and scores.isfinite().all()
    assert torch.allclose(scores[:, 0].exp(), X[:, 0, 0, 0]) and (scores[:, 1] < -80).all()
    assert (defense.gradient, defense.access) == ("none", "score")


def test_an_estimator_without_probabilities_decides() -> None:
    defense = adopt("mine", Decides(), classes=3)
    assert defense.access == "decision"
    assert defense.scores(X).argmax(1).tolist() == [0 if value > 0.5 else 2 for value in X[:, 0, 0, 0]]


def test_a_forest_of_scikit_learn_has_an_identity() -> None:
    ensemble = pytest.importorskip("sklearn.ensemble")
    rng = np.random.default_rng(0)
    x, y = rng.random((40, PIXELS)), rng.integers(0, 2, 40)
    forests = [ensemble.RandomForestClassifier(3, random_state=seed).fit(x, y) for seed in (0, 0, 1)]
    prints = [adopt("mine", forest).fingerprint for forest in forests]
    assert prints[0] == prints[1] != prints[2]


# By reference

SOURCE = """
import torch
from torch import nn
from {beside} import WIDTH

SCALE = torch.full((1,), {scale})

def build(weights=None):
    torch.manual_seed(1)
    network = nn.Sequential(nn.Flatten(), nn.Linear({pixels}, WIDTH))
    if weights:
        network.load_state_dict(torch.load(weights))
    return network

def scores(x):
    return x.flatten(1)[:, :3] * SCALE

ready = build()
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Writes mine_NAME.py and what it imports beside it, as a fresh process would find them; returns a reference."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)

    def to(name: str, folder: str = "a", width: int = 3, scale: float = 2.0) -> str:
        for module in set(sys.modules) - before:
            del sys.modules[module]
        place = tmp_path / folder
        place.mkdir(exist_ok=True)
        sys.path[:] = [entry for entry in sys.path if not entry.startswith(str(tmp_path))]
        (place / "widths_beside.py").write_text(f"WIDTH = {width}\n")
        text = SOURCE.format(beside="widths_beside", scale=scale, pixels=PIXELS)
        (place / "mine_adopted.py").write_text(textwrap.dedent(text))
        return f"{place / 'mine_adopted.py'}:{name}"

    yield to
    for module in set(sys.modules) - before:
        del sys.modules[module]


@pytest.mark.parametrize(("name", "gradient"), [("build", "autograd"), ("ready", "autograd"), ("scores", "none")])
def test_a_reference_leads_to_a_module_a_maker_or_a_classifier(
    write: Callable[..., str], name: str, gradient: str
) -> None:
    defense = load_model("mine", write(name))
    assert defense.gradient == gradient and defense.scores(X).shape == (5, 3)
    assert defense.identity.package == "local" and defense.identity.settings["model"].endswith(
        f"mine_adopted.py:{name}"
    )


def test_weights_are_given_to_the_maker_or_filled_in(write: Callable[..., str], tmp_path: Path) -> None:
    weights = {key: torch.zeros_like(value) for key, value in linear().state_dict().items()}
    torch.save(weights, tmp_path / "zeros.pt")
    for name in ("build", "ready"):
        assert not load_model("mine", write(name), weights=str(tmp_path / "zeros.pt")).scores(X).any()
    with pytest.raises(UserError, match="no argument called weights"):
        load_model("mine", write("scores"), weights=str(tmp_path / "zeros.pt"))


def test_the_place_of_a_file_does_not_decide_but_all_that_it_reads_does(
    write: Callable[..., str], tmp_path: Path
) -> None:
    torch.save({key: value + 1 for key, value in linear().state_dict().items()}, tmp_path / "other.pt")
    plain = load_model("mine", write("build")).fingerprint
    assert load_model("mine", write("build", folder="b")).fingerprint == plain
    others = [
        load_model("mine", write("build", width=4)).fingerprint,
        load_model("mine", write("build"), weights=str(tmp_path / "other.pt")).fingerprint,
        load_model("mine", write("build"), std=2).fingerprint,
        load_model("other", write("build")).fingerprint,
    ]
    assert len({plain, *others}) == 5
    assert load_model("mine", write("scores")).fingerprint != load_model("mine", write("scores", scale=3.0)).fingerprint


def test_a_model_can_be_loaded_again_from_what_the_store_keeps(write: Callable[..., str]) -> None:
    defense = load_model("mine", write("build"), std=2.0, classes=3)
    again = load_model("mine", **defense.identity.settings)
    assert again.fingerprint == defense.fingerprint and again.identity == defense.identity


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("nowhere.py:build", "no such file"),
        ("arena.nowhere:build", "cannot be imported"),
        ("arena.models.cnn:nothing", "has no 'nothing'"),
        ("nowhere.onnx", "no such file"),
    ],
)
def test_a_reference_to_nothing_is_one_line(model: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_model("mine", model)


def test_a_file_called_like_another_module_is_refused(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("build = None\n")
    with pytest.raises(UserError, match="another module is called 'json': rename the file"):
        load_model("mine", f"{tmp_path / 'json.py'}:build")


# Files of other libraries


@pytest.mark.parametrize("dynamic", [False, True])
def test_an_archive_of_torch_export_is_differentiable_whatever_its_batch(tmp_path: Path, dynamic: bool) -> None:
    size = torch.export.Dim("size") if dynamic else None
    program = torch.export.export(linear().eval(), (X[:2],), dynamic_shapes=({0: size},))
    torch.export.save(program, tmp_path / "mine.pt2")
    defense = load_model("mine", str(tmp_path / "mine.pt2"))
    assert torch.allclose(defense.scores(X), linear()(X), atol=1e-5)
    assert preflight(defense, X, torch.zeros(5, dtype=torch.int64)) == []
    (tmp_path / "copy.pt2").write_bytes((tmp_path / "mine.pt2").read_bytes())
    assert load_model("mine", str(tmp_path / "copy.pt2")).fingerprint == defense.fingerprint


def onnx_file(path: Path, batch: int | str, channels_last: bool = False) -> str:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    helper, network = onnx.helper, linear()
    order = [0, 3, 1, 2] if channels_last else [0, 1, 2, 3]
    weight, bias = (value.detach().numpy() for value in network[1].parameters())
    nodes = [
        helper.make_node("Transpose", ["x"], ["moved"], perm=order),
        helper.make_node("Flatten", ["moved"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight", "bias"], ["y"], transB=1),
    ]
    shape = [batch, *((4, 6, 3) if channels_last else SHAPE)]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [batch, 3])],
        [onnx.numpy_helper.from_array(weight, "weight"), onnx.numpy_helper.from_array(bias, "bias")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return str(path)


@pytest.mark.parametrize(("batch", "channels_last"), [("N", False), (2, False), ("N", True)])
def test_an_onnx_file_gives_scores(tmp_path: Path, batch: int | str, channels_last: bool) -> None:
    defense = load_model("mine", onnx_file(tmp_path / "mine.onnx", batch, channels_last))
    assert torch.allclose(defense.scores(X), linear()(X), atol=1e-5)
    assert (defense.gradient, defense.access) == ("none", "score")
    again = load_model("mine", onnx_file(tmp_path / "copy.onnx", batch, channels_last))
    assert again.fingerprint == defense.fingerprint


def test_a_forest_in_onnx_gives_its_probabilities(tmp_path: Path) -> None:
    converters = pytest.importorskip("skl2onnx", reason="skl2onnx is not installed")
    ensemble = pytest.importorskip("sklearn.ensemble")
    rng = np.random.default_rng(0)
    forest = ensemble.RandomForestClassifier(3, random_state=0).fit(rng.random((40, PIXELS)), rng.integers(0, 3, 40))
    for zipmap in (True, False):
        model = converters.to_onnx(forest, X.flatten(1).numpy(), options={"zipmap": zipmap})
        (tmp_path / "forest.onnx").write_bytes(model.SerializeToString())
        scores = load_model("mine", str(tmp_path / "forest.onnx")).scores(X)
        assert np.allclose(scores, forest.predict_proba(X.flatten(1).numpy()), atol=1e-5)


def test_a_damaged_onnx_file_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    (tmp_path / "mine.onnx").write_bytes(b"nothing")
    with pytest.raises(UserError, match="onnxruntime cannot load it"):
        load_model("mine", str(tmp_path / "mine.onnx"))


def test_a_model_may_write_into_what_it_is_given() -> None:
    class Writes(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mul_(0.5).flatten(1)[:, :3]

    images = X.clone()
    cases: list[dict[str, Any]] = [{}, {"mean": 0.5}, {"bounds": (0, 2)}]
    for settings in cases:
        adopt("writes", Writes(), **settings).scores(images)
        assert torch.equal(images, X)
