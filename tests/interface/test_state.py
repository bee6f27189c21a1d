"""State that decides results is part of a fingerprint: tensors, weights, attributes, and code that has no file."""

import functools
import os
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from paths import ROOT
from torch import Tensor
from typed import Batch

import arena
from arena.errors import UserError
from arena.interface.prototypes import HasPrototypes
from arena.interface.state import Digester
from arena.testing import LinearDefense


def test_a_defense_is_its_tensors() -> None:
    base = LinearDefense(classes=3, seed=1)
    assert base.fingerprint == LinearDefense(classes=3, seed=1).fingerprint
    assert base.fingerprint != LinearDefense(classes=3, seed=2).fingerprint
    changed = LinearDefense(classes=3, seed=1)
    changed.matrix.view(-1)[0] += 1e-6
    assert changed.fingerprint != base.fingerprint


def test_weights_count_by_their_bytes_wherever_they_are(tmp_path: Path) -> None:
    class Reads(LinearDefense):
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            super().__init__(*arguments, **settings)
            self.path = str(self.weights)  # opened when asked, as some libraries do

    places = [tmp_path / name for name in ("a.bin", "b.bin", "c.bin")]
    for place, content in zip(places, (b"one", b"one", b"two"), strict=True):
        place.write_bytes(content)
    first, moved, other = (Reads(weights=str(place)) for place in places)
    assert first.fingerprint == moved.fingerprint == Reads(weights=places[0]).fingerprint != other.fingerprint
    assert first.identity.settings["weights"] == str(places[0])  # where `arena verify` finds them


def test_a_folder_of_weights_counts_by_its_files(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "abc"]
    for folder, content in zip(folders, (b"one", b"one", b"two"), strict=True):
        (folder / "deep").mkdir(parents=True)
        (folder / "deep" / "w.bin").write_bytes(content)
    first, moved, other = (LinearDefense(weights=folder).fingerprint for folder in folders)
    assert first == moved != other


def test_what_is_computed_later_does_not_change_it(mnist: Batch) -> None:
    fresh, used = (arena.load_defense("abs", points=50, steps=2) for _ in range(2))
    assert isinstance(used, HasPrototypes)
    used.scores(mnist[0][:1])
    assert used.prototypes.nearest(mnist[0][:1].flatten(1)).image.shape[-1] == 784
    assert fresh.fingerprint == used.fingerprint

    class Lazy(LinearDefense):
        @functools.cached_property
        def table(self) -> Tensor:
            return torch.rand(3)

    lazy = Lazy()
    assert lazy.table.shape == (3,) and lazy.fingerprint == Lazy().fingerprint


class Color(Enum):
    RED = 1
    BLUE = 2


class Tree:
    __slots__ = ("left", "value")

    def __init__(self, value: int, left: "Tree | None" = None) -> None:
        self.value, self.left = value, left


class Forest:
    """As an estimator of scikit-learn: plain objects around arrays."""

    def __init__(self, seed: int) -> None:
        rng = numpy.random.default_rng(seed)
        self.trees = [{"threshold": rng.random(5), "nodes": numpy.zeros(2, "i4,f8")} for _ in range(3)]
        self.parent = self  # a circle

    def predict(self, x: Tensor) -> Tensor:
        return x


def scaled(by: int) -> Callable[[Tensor], Tensor]:
    def scale(x: Tensor) -> Tensor:
        return x * by

    return scale


def module(*layers: tuple[str, torch.nn.Module], training: bool = False, **changed: int) -> torch.nn.Module:
    net = torch.nn.Sequential(OrderedDict(layers)).train(training)
    for name, value in changed.items():
        setattr(net, name, value)
    return net


def layers(seed: int) -> tuple[tuple[str, torch.nn.Module], ...]:
    torch.manual_seed(seed)
    return ("one", torch.nn.Conv2d(1, 2, 3)), ("two", torch.nn.ReLU())


class Holds(LinearDefense):
    held: Any


DIFFERENT: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
    "retrained forest": (lambda: Forest(0), lambda: Forest(1)),
    "array": (lambda: numpy.arange(3), lambda: numpy.arange(3)[::-1]),
    "dtype": (lambda: numpy.arange(3), lambda: numpy.arange(3.0)),
    "objects in an array": (lambda: numpy.array([{1}], object), lambda: numpy.array([{2}], object)),
    "number and flag": (lambda: 1, lambda: True),
    "text and path": (lambda: "nowhere", lambda: Path("nowhere")),
    "list": (lambda: [1, [2]], lambda: [[1], 2]),
    "tuple and list": (lambda: (1,), lambda: [1]),
    "dict": (lambda: {"a": [1]}, lambda: {"a": [2]}),
    "order": (lambda: OrderedDict(a=1, b=2), lambda: OrderedDict(b=2, a=1)),
    "enum": (lambda: Color.RED, lambda: Color.BLUE),
    "slots": (lambda: Tree(1, Tree(2)), lambda: Tree(1, Tree(3))),
    "class": (lambda: Tree, lambda: Forest),
    "partial": (lambda: functools.partial(scaled, 1), lambda: functools.partial(scaled, 2)),
    "closure": (lambda: scaled(1), lambda: scaled(2)),
    "lambda": (lambda: lambda x: x + 1, lambda: lambda x: x - 1),
    "method of a wrapper": (lambda: Forest(0).predict, lambda: Forest(1).predict),
    "function": (lambda: torch.relu, lambda: torch.sigmoid),
    "ufunc": (lambda: numpy.sin, lambda: numpy.cos),
    "weights": (lambda: module(*layers(0)), lambda: module(*layers(1))),
    "mode": (lambda: module(*layers(0)), lambda: module(*layers(0), training=True)),
    "order of layers": (lambda: module(*layers(0)), lambda: module(*layers(0)[::-1])),
    "attribute of a module": (lambda: module(*layers(0), power=1), lambda: module(*layers(0), power=2)),
    "half": (lambda: torch.ones(2).half(), lambda: torch.ones(2).bfloat16()),
    "shape": (lambda: torch.ones(2, 3), lambda: torch.ones(3, 2)),
    "random numbers": (lambda: numpy.random.default_rng(0), lambda: numpy.random.default_rng(1)),
    "torch's random numbers": (
        lambda: torch.Generator().manual_seed(0),
        lambda: torch.Generator().manual_seed(1),
    ),
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_any_attribute_counts(what: str) -> None:
    one, other = DIFFERENT[what]

    def fingerprint(value: object) -> str:
        defense = Holds()
        defense.held = value
        return defense.fingerprint

    assert fingerprint(one()) == fingerprint(one())
    assert fingerprint(one()) != fingerprint(other())


def everything() -> str:
    """State whose order or addresses differ from process to process."""
    sets = [{"b", "a", "c", ("d", 1)}, dict.fromkeys({"x", "y", "z"}), lambda x: x in {"p", "q", "r"}]
    objects = [Forest(0), module(*layers(0)), scaled(2), Color.RED, object(), torch.device("cpu"), Tree, cell()]
    return Digester().digest([*sets, *objects, functools.cache(scaled)]).hex()


def test_equal_state_is_equal_in_every_process() -> None:
    script = "import sys; sys.path[:0] = sys.argv[1:]; import test_state; print(test_state.everything())"
    command = [sys.executable, "-c", script, str(ROOT / "tests"), str(Path(__file__).parent)]
    env = os.environ | {"PYTHONHASHSEED": "12"}
    answer = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert answer.stdout.split() == [everything()]


def test_scikit_learn_estimators_count() -> None:
    ensemble = pytest.importorskip("sklearn.ensemble")

    def forest(seed: int) -> bytes:
        x = numpy.random.default_rng(0).random((30, 4))
        return Digester().digest(ensemble.RandomForestClassifier(3, random_state=seed).fit(x, x[:, 0] > 0.5))

    assert forest(0) == forest(0) != forest(1)


CELL = """
STRENGTH = {strength}

def helper(x):
    return x * STRENGTH

class Mine(arena.Attack):
    '''{doc}'''
    name, norm, access = "mine", "l2", "decision"
    def run(self, target, x, y, rng):
        return {result}
"""


def cell(result: str = "helper(x)", strength: float = 1.0, doc: str = "") -> str:
    """A class as a notebook has it: in no file."""
    names: dict[str, Any] = {"arena": arena, "__name__": "__main__"}
    exec(compile(CELL.format(result=result, strength=strength, doc=doc), "<cell>", "exec"), names)
    return names["Mine"]().fingerprint


def test_code_without_a_file_counts_with_the_globals_that_it_reads() -> None:
    assert cell() == cell(doc="What it is.")
    assert len({cell(), cell(result="1 - x"), cell(result="2 - x"), cell(strength=2.0)}) == 4


@pytest.mark.parametrize(
    "value",
    [lambda: (x for x in [1]), Path(__file__).open, threading.Lock, lambda: {"deep": [threading.Lock()]}],
    ids=["generator", "file", "lock", "deep"],
)
def test_what_cannot_be_compared_is_refused_by_name(
    value: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    defense = Holds()
    defense.held = value()
    with pytest.raises(UserError, match=r"^linear: held.* cannot be compared .*fingerprint_state") as refused:
        _ = defense.fingerprint
    assert "\n" not in str(refused.value)

    monkeypatch.setattr(Holds, "fingerprint_state", lambda self: self.matrix)
    assert len(defense.fingerprint) == 64


def test_it_takes_a_moment() -> None:
    arena.load_defense("cnn").fingerprint  # noqa: B018 (reads the sources, once a process)
    defense = arena.load_defense("cnn")
    started = time.process_time()
    assert defense.fingerprint
    assert time.process_time() - started < 0.1
