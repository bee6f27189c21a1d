"""The torch modules by themselves, and their weights on disk."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from paths import ROOT
from torch import Tensor
from typed import present

from arena.errors import UserError
from arena.models.cnn import Binarize, ConvolutionalNetwork
from arena.models.nearest_neighbor import NearestNeighborModel
from arena.models.pgd import linf_pgd
from arena.models.weights import ZOO, ModelCard, load_weights, save_weights


def network(seed: int = 0, **arguments: Any) -> ConvolutionalNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return ConvolutionalNetwork(**arguments).eval()


def test_the_cnn_is_that_of_the_paper() -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in network().named_parameters() if "conv" in name}
    assert [shapes[f"conv_{i}.weight"] for i in range(4)] == [
        (20, 1, 5, 5),
        (70, 20, 4, 4),
        (256, 70, 3, 3),
        (10, 256, 5, 5),
    ]
    assert network()(torch.rand(3, 1, 28, 28)).shape == (3, 10)
    assert network(maps=(32, 32, 64, 10))(torch.rand(3, 1, 28, 28)).shape == (3, 10)


def test_binarize_is_a_step_forward_and_the_identity_backward() -> None:
    x = torch.tensor([0.0, 0.4999, 0.5, 0.5001, 1.0], requires_grad=True)
    weights = torch.tensor([1.0, -2.0, 3.0, 4.0, 5.0])
    binary = Binarize(0.5)(x)
    assert binary.tolist() == [0, 0, 1, 1, 1]
    (binary * weights).sum().backward()
    assert torch.equal(present(x.grad), weights)


def test_weights_survive_the_disk(tmp_path: Path) -> None:
    first, second = network(0), network(1)
    x = torch.rand(4, 1, 28, 28)
    assert not torch.allclose(first(x), second(x))
    sha256 = save_weights(first, tmp_path / "w.safetensors")
    assert sha256 == hashlib.sha256((tmp_path / "w.safetensors").read_bytes()).hexdigest()
    load_weights(second, tmp_path / "w.safetensors")
    assert torch.equal(first(x), second(x))
    torch.save(first.state_dict(), tmp_path / "w.net")
    third = network(2)
    load_weights(third, tmp_path / "w.net")
    assert torch.equal(first(x), third(x))


def test_weights_that_cannot_be_written_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write"):
        save_weights(network(), tmp_path / "file" / "w.safetensors")


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.mkdir, (Path("bomb"),)


def bad_file(kind: str, folder: Path) -> Path:
    path = folder / ("w.safetensors" if "safetensors" in kind else "w.net")
    save_weights(network(), folder / "good.safetensors")
    torch.save(network().state_dict(), folder / "good.net")
    match kind:
        case "missing" | "missing safetensors":
            pass
        case "folder":
            path.mkdir()
        case "empty" | "empty safetensors":
            path.touch()
        case "truncated":
            path.write_bytes((folder / "good.net").read_bytes()[:-1000])
        case "truncated safetensors":
            path.write_bytes((folder / "good.safetensors").read_bytes()[:-1000])
        case "foreign" | "foreign safetensors":
            path.write_bytes(b"GIF89a and something else that is no network" * 100)
        case "pickle with code":
            path.write_bytes(pickle.dumps(Bomb()))
        case "checkpoint with code":
            torch.save({"conv_0.weight": Bomb()}, path)
        case "no state dict":
            torch.save([1, 2, 3], path)
    return path


@pytest.mark.parametrize(
    "kind",
    [
        "missing",
        "missing safetensors",
        "folder",
        "empty",
        "empty safetensors",
        "truncated",
        "truncated safetensors",
        "foreign",
        "foreign safetensors",
        "pickle with code",
        "checkpoint with code",
        "no state dict",
    ],
)
def test_bad_weights_are_one_line(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = bad_file(kind, tmp_path)
    with pytest.raises(UserError) as failure:
        load_weights(network(), path)
    assert str(path) in str(failure.value)
    assert "\n" not in str(failure.value)
    assert not Path("bomb").exists()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda w: w | {"conv_0.weight": torch.zeros(32, 1, 5, 5)}, r"conv_0.weight is \(32, 1, 5, 5\)"),
        (lambda w: {name: tensor for name, tensor in w.items() if name != "bn_1.bias"}, "lack bn_1.bias"),
        (lambda w: w | {"conv_4.weight": torch.zeros(1)}, "conv_4.weight is unknown"),
    ],
)
def test_weights_of_another_architecture_are_named(
    change: Callable[[dict[str, Tensor]], dict[str, Tensor]], named: str, tmp_path: Path
) -> None:
    torch.save(change(network().state_dict()), tmp_path / "w.net")
    with pytest.raises(UserError, match=named):
        load_weights(network(), tmp_path / "w.net")


@pytest.mark.parametrize("name", ["cnn", "binary-cnn", "substitute", "madry", "abs", "binary-abs"])
def test_the_card_belongs_to_the_shipped_weights(name: str) -> None:
    card = ModelCard(**json.loads((ZOO / f"{name}.json").read_text()))
    assert card.name == name
    assert card.sha256 == hashlib.sha256((ZOO / f"{name}.safetensors").read_bytes()).hexdigest()


@pytest.mark.parametrize("card", sorted(ZOO.glob("*.json")), ids=lambda path: path.stem)
def test_the_documentation_tells_what_the_card_tells(card: Path) -> None:
    text = (ROOT / "docs" / "models.md").read_text()
    (row,) = (line for line in text.splitlines() if line.startswith(f"| {card.stem} |"))
    for share in json.loads(card.read_text())["accuracy"].values():
        assert f"{100 * share:.2f}" in row


PROTOTYPES = torch.rand(400, 1, 28, 28, generator=torch.Generator().manual_seed(1)).round(decimals=2)
LABELS = torch.arange(400) % 7


def brute_force(x: Tensor, prototypes: Tensor = PROTOTYPES) -> Tensor:
    pair = x.double().flatten(1), prototypes.double().flatten(1)
    distances = torch.cdist(*pair, compute_mode="donot_use_mm_for_euclid_dist")
    return -torch.stack([distances[:, c == LABELS].amin(1) for c in range(7)], dim=1)


@given(
    seed=st.integers(0, 1000),
    rows=st.sampled_from([1, 2, 30, 255, 300, 520]),
    radius=st.sampled_from([0.0, 1e-3, 0.01, 0.3, 0.499, 0.6, 3.0]),
    at_prototype=st.booleans(),
)
def test_nearest_neighbor_is_exact_for_close_and_distant_rows(
    seed: int, rows: int, radius: float, at_prototype: bool
) -> None:
    rng = torch.Generator().manual_seed(seed)
    center = PROTOTYPES[seed % 400] if at_prototype else torch.rand(1, 28, 28, generator=rng)
    steps = torch.randn(rows, 1, 28, 28, generator=rng)
    x = (center + radius * steps / steps.flatten(1).norm(dim=1).view(-1, 1, 1, 1)).clamp(0, 1)
    logits = NearestNeighborModel(PROTOTYPES, LABELS)(x)
    assert logits.shape == (rows, 7)
    assert (logits - brute_force(x)).abs().max() < 1e-5


@pytest.mark.parametrize("step", [0.01, 0.6])
def test_rows_that_differ_in_a_pixel_find_their_nearest(step: float) -> None:
    center = torch.rand(784, generator=torch.Generator().manual_seed(1))
    x = (center + step * torch.cat([torch.eye(784), -torch.eye(784)])[::7]).clamp(0, 1).view(-1, 1, 28, 28)
    assert (NearestNeighborModel(PROTOTYPES, LABELS)(x) - brute_force(x)).abs().max() < 1e-5


@pytest.mark.parametrize("capability", ["DEFAULT", "AVX2"])
@pytest.mark.parametrize("levels", [255, 100])
def test_eight_bits_decide_as_float32_does(capability: str, levels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: capability)
    rng = torch.Generator().manual_seed(2)
    prototypes = (PROTOTYPES * levels).round() / levels
    near = prototypes[:50] + 0.02 * torch.rand(50, 1, 28, 28, generator=rng)
    x = torch.cat([near, torch.full((3, 1, 28, 28), 0.5), torch.rand(20, 1, 28, 28, generator=rng)]).clamp(0, 1)
    assert (NearestNeighborModel(prototypes, LABELS)(x) - brute_force(x, prototypes)).abs().max() < 1e-5


def test_where_eight_bits_tell_little_apart_float32_decides() -> None:
    """Prototypes around a grey image that rounding moves farther than they differ in distance."""
    rng = torch.Generator().manual_seed(4)
    direction = torch.randn(400, 784, generator=rng)
    lengths = torch.linspace(3.0, 3.01, 400)[torch.randperm(400, generator=rng)].unsqueeze(1)
    prototypes = (0.5 + lengths * direction / direction.norm(dim=1, keepdim=True)).view(-1, 1, 28, 28)
    assert prototypes.min() >= 0 and prototypes.max() <= 1
    x = torch.cat([torch.full((2, 1, 28, 28), 0.5), torch.zeros(1, 1, 28, 28)])
    assert (NearestNeighborModel(prototypes, LABELS)(x) - brute_force(x, prototypes)).abs().max() < 1e-5


def test_a_prototype_is_at_distance_zero() -> None:
    logits = NearestNeighborModel(PROTOTYPES, LABELS)(PROTOTYPES)
    assert (logits.amax(1) == 0).all()
    assert torch.equal(logits.argmax(1), LABELS)


def test_rows_of_several_images_and_their_neighbourhoods_do_not_mix() -> None:
    rng = torch.Generator().manual_seed(3)
    centers = torch.rand(3, 1, 1, 28, 28, generator=rng)
    x = (centers + 0.001 * torch.randn(3, 500, 1, 28, 28, generator=rng)).clamp(0, 1).flatten(0, 1)
    model = NearestNeighborModel(PROTOTYPES, LABELS)
    logits = model(x)
    assert (logits[::97] - brute_force(x[::97])).abs().max() < 1e-5
    order = torch.randperm(len(x), generator=rng)
    assert (model(x[order]) - logits[order]).abs().max() < 1e-5


def test_the_triangle_inequality_is_used_up_to_its_limit() -> None:
    """On a line: the second prototype is almost 2 radius farther from the first row, yet nearest to the other."""
    direction = torch.full((1, 28, 28), 1 / 28)  # of length 1
    center, distance, radius = torch.full((1, 28, 28), 0.5), 2.0, 0.4
    prototypes = torch.stack([center - distance * direction, center + (distance + 1.95 * radius) * direction])
    rows = torch.stack([center, center + radius * direction])
    logits = NearestNeighborModel(prototypes, torch.zeros(2, dtype=torch.int64))(rows)
    assert logits[:, 0].tolist() == pytest.approx([-distance, -distance - 0.95 * radius], abs=1e-5)


@given(seed=st.integers(0, 2**32), epsilon=st.floats(0.01, 0.5))
def test_pgd_ends_in_the_worst_corner_of_ball_and_box(seed: int, epsilon: float) -> None:
    rng = torch.Generator().manual_seed(seed)
    x, w = torch.rand(3, 1, 4, 4, generator=rng), torch.randn(16, generator=rng)
    y = torch.tensor([0, 1, 0])

    def linear(images: Tensor) -> Tensor:
        score = images.flatten(1) @ w
        return torch.stack([-score, score], dim=1)

    away = torch.where(y == 0, 1.0, -1.0).view(-1, 1, 1, 1) * w.sign().view(1, 4, 4)
    found = linf_pgd(linear, x, y, epsilon, epsilon / 2, 5, rng)
    assert torch.allclose(found, (x + epsilon * away).clamp(0, 1), atol=1e-6)
