"""Equal fingerprints promise equal results: whatever can change a result changes the fingerprint, and nothing else."""

import functools
import importlib
import os
import shutil
import subprocess
import sys
import textwrap
import threading
import time
from collections import OrderedDict
from enum import Enum
from pathlib import Path

import numpy
import pytest
import torch
from paths import ROOT

import arena
from arena.errors import UserError
from arena.interface import source
from arena.interface.source import source_of
from arena.interface.state import Digester
from arena.testing import LinearDefense

SOURCES = {
    "shared": """
        STRENGTH = 1.0
        """,
    "late": """
        OFFSET = 0.0
        """,
    "attack": """
        import arena
        from pydantic import Field
        from fingerprinted.shared import STRENGTH

        class Mine(arena.Attack):
            name, norm, access = "mine", "l2", "decision"

            class Settings(arena.Settings):
                steps: int = Field(10, description="how many")

            def run(self, target, x, y, rng):
                from . import late
                return x * STRENGTH + late.OFFSET
        """,
    "__init__": "",
    "unrelated": """
        VALUE = 1
        """,
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Writes the package `fingerprinted`, a text in each file replaced, and gives its attack, freshly imported."""
    monkeypatch.syspath_prepend(tmp_path)

    def forget():
        for name in [name for name in sys.modules if name.partition(".")[0] == "fingerprinted"]:
            del sys.modules[name]
        importlib.invalidate_caches()

    def load(**replaced):
        folder = tmp_path / "fingerprinted"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for file, text in SOURCES.items():
            text = textwrap.dedent(text)
            old, new = replaced.get(file, ("", ""))
            assert old in text
            (folder / f"{file}.py").write_text(text.replace(old, new, 1))
        forget()
        return importlib.import_module("fingerprinted.attack").Mine

    yield load
    forget()


def test_an_attack_is_its_settings(package):
    base = package()
    assert base().fingerprint == base().fingerprint == base(steps=10).fingerprint
    assert base(steps=11).fingerprint != base().fingerprint


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("attack", "x * STRENGTH", "x / STRENGTH"),
        ("attack", "int = Field(10", "int = Field(+10"),
        ("attack", "return x", "pass; return 0 + x"),
        ("shared", "1.0", "2.0"),  # the name of a number imported
        ("late", "0.0", "1.0"),  # imported when it runs
    ],
)
def test_code_that_decides_changes_it(package, file, old, new):
    assert package(**{file: (old, new)})().fingerprint != package()().fingerprint


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("attack", "    def run", "    # a comment\n\n    def run"),
        ("attack", "rng):", 'rng):\n        """What it does."""'),
        ("attack", "import arena", '"""A module."""\nimport arena'),
        ("attack", "how many", "how often"),
        ("attack", "x * STRENGTH + late.OFFSET", "(x * STRENGTH) + (late . OFFSET)"),
        ("shared", "1.0", "1.0  # a comment"),
        ("unrelated", "1", "2"),
    ],
)
def test_what_only_explains_does_not(package, file, old, new):
    assert package(**{file: (old, new)})().fingerprint == package()().fingerprint


PORTABLE = """
import os.path as p
from . import q
def f(a, /, *b: int, c=1, **d) -> None:
    "Doc."
    match a:
        case {"k": [1, -2.5, None, *_]}: return f"{a!r:>{c}} it's \\"x\\" {b=}" "\\u00e9" 'z'
        case None | False: raise ValueError(b"\\x00") from None
    return a if not (yield) else [*b, ..., 1j, 'x' 'y', u"z", lambda: {}]
"""


PINNED = "497003a18f3efc86864f0eec37435f0e24038c114a18922601371960b5abf574"  # 3.11, 3.12 and 3.13 agree


def test_every_version_of_python_reads_the_same(tmp_path, monkeypatch):
    (tmp_path / "portable.py").write_text(PORTABLE)
    monkeypatch.syspath_prepend(tmp_path)
    found = source_of("portable")
    assert found.imports == {"os.path", "q"}
    assert found.digest.hex() == PINNED


@pytest.mark.parametrize(
    ("module", "text", "counts"),
    [
        ("geometry.distances", "# a comment", False),
        ("reporting.text", "EXTRA = 1", False),
        ("geometry.distances", "EXTRA = 1", True),
        ("evaluation.referee", "EXTRA = 1", True),
        ("target.query_log", "EXTRA = 1", True),
    ],
)
def test_the_code_that_measures_is_part_of_it(tmp_path, monkeypatch, module, text, counts):
    before = [arena.load_attack("fgsm").fingerprint, arena.load_defense("cnn").fingerprint]
    changed = importlib.import_module(f"arena.{module}")
    copy = tmp_path / "copy.py"
    copy.write_text(Path(changed.__file__).read_text() + f"\n{text}\n")
    monkeypatch.setattr(changed, "__file__", str(copy))
    after = [arena.load_attack("fgsm").fingerprint, arena.load_defense("cnn").fingerprint]
    assert [one != other for one, other in zip(before, after, strict=True)] == [counts] * 2


@pytest.mark.parametrize(("module", "counts"), [("losses", True), ("starts", False)])
def test_of_the_helpers_those_that_it_uses_are_part_of_it(tmp_path, monkeypatch, module, counts):
    """`arena.toolbox` hands on what its modules define; apgd-ce-linf takes a loss from it and no start."""
    before = arena.load_attack("apgd-ce-linf").fingerprint
    changed = importlib.import_module(f"arena.toolbox.{module}")
    copy = tmp_path / "copy.py"
    copy.write_text(Path(changed.__file__).read_text() + "\nEXTRA = 1\n")
    monkeypatch.setattr(changed, "__file__", str(copy))
    assert (arena.load_attack("apgd-ce-linf").fingerprint != before) == counts


def test_a_defense_is_its_tensors():
    base = LinearDefense(classes=3, seed=1)
    assert base.fingerprint == LinearDefense(classes=3, seed=1).fingerprint
    assert base.fingerprint != LinearDefense(classes=3, seed=2).fingerprint
    changed = LinearDefense(classes=3, seed=1)
    changed.matrix.view(-1)[0] += 1e-6
    assert changed.fingerprint != base.fingerprint


def test_weights_count_by_their_bytes_wherever_they_are(tmp_path):
    class Reads(LinearDefense):
        def __init__(self, *arguments, **settings):
            super().__init__(*arguments, **settings)
            self.path = str(self.weights)  # opened when asked, as some libraries do

    places = [tmp_path / name for name in ("a.bin", "b.bin", "c.bin")]
    for place, content in zip(places, (b"one", b"one", b"two"), strict=True):
        place.write_bytes(content)
    first, moved, other = (Reads(weights=str(place)) for place in places)
    assert first.fingerprint == moved.fingerprint == Reads(weights=places[0]).fingerprint != other.fingerprint
    assert first.identity.settings["weights"] == str(places[0])  # where `arena verify` finds them


def test_a_folder_of_weights_counts_by_its_files(tmp_path):
    folders = [tmp_path / name for name in "abc"]
    for folder, content in zip(folders, (b"one", b"one", b"two"), strict=True):
        (folder / "deep").mkdir(parents=True)
        (folder / "deep" / "w.bin").write_bytes(content)
    first, moved, other = (LinearDefense(weights=folder).fingerprint for folder in folders)
    assert first == moved != other


def test_what_is_computed_later_does_not_change_it(mnist):
    fresh, used = (arena.load_defense("abs", points=50, steps=2) for _ in range(2))
    used.scores(mnist[0][:1])
    assert used.prototypes.nearest(mnist[0][:1].flatten(1)).image.shape[-1] == 784
    assert fresh.fingerprint == used.fingerprint

    class Lazy(LinearDefense):
        @functools.cached_property
        def table(self):
            return torch.rand(3)

    lazy = Lazy()
    assert lazy.table.shape == (3,) and lazy.fingerprint == Lazy().fingerprint


class Color(Enum):
    RED = 1
    BLUE = 2


class Tree:
    __slots__ = ("left", "value")

    def __init__(self, value, left=None):
        self.value, self.left = value, left


class Forest:
    """As an estimator of scikit-learn: plain objects around arrays."""

    def __init__(self, seed):
        rng = numpy.random.default_rng(seed)
        self.trees = [{"threshold": rng.random(5), "nodes": numpy.zeros(2, "i4,f8")} for _ in range(3)]
        self.parent = self  # a circle

    def predict(self, x):
        return x


def scaled(by):
    def scale(x):
        return x * by

    return scale


def module(*layers, training=False, **changed):
    net = torch.nn.Sequential(OrderedDict(layers)).train(training)
    for name, value in changed.items():
        setattr(net, name, value)
    return net


def fill(value):
    return torch.nn.init.constant_(torch.nn.Linear(1, 1).weight, value)


def layers(seed):
    torch.manual_seed(seed)
    return ("one", torch.nn.Conv2d(1, 2, 3)), ("two", torch.nn.ReLU())


DIFFERENT = {
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
def test_any_attribute_counts(what):
    one, other = DIFFERENT[what]

    def fingerprint(value):
        defense = LinearDefense()
        defense.held = value
        return defense.fingerprint

    assert fingerprint(one()) == fingerprint(one())
    assert fingerprint(one()) != fingerprint(other())


def everything():
    """State whose order or addresses differ from process to process."""
    sets = [{"b", "a", "c", ("d", 1)}, dict.fromkeys({"x", "y", "z"}), lambda x: x in {"p", "q", "r"}]
    objects = [Forest(0), module(*layers(0)), scaled(2), Color.RED, object(), torch.device("cpu"), Tree, cell()]
    return Digester().digest([*sets, *objects, functools.cache(scaled)]).hex()


def test_equal_state_is_equal_in_every_process():
    script = "import sys; sys.path[:0] = sys.argv[1:]; import test_fingerprint; print(test_fingerprint.everything())"
    command = [sys.executable, "-c", script, str(ROOT / "tests"), str(Path(__file__).parent)]
    env = os.environ | {"PYTHONHASHSEED": "12"}
    answer = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert answer.stdout.split() == [everything()]


def test_scikit_learn_estimators_count():
    ensemble = pytest.importorskip("sklearn.ensemble")

    def forest(seed):
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


def cell(result="helper(x)", strength=1.0, doc=""):
    """A class as a notebook has it: in no file."""
    names = {"arena": arena, "__name__": "__main__"}
    exec(compile(CELL.format(result=result, strength=strength, doc=doc), "<cell>", "exec"), names)
    return names["Mine"]().fingerprint


def test_code_without_a_file_counts_with_the_globals_that_it_reads():
    assert cell() == cell(doc="What it is.")
    assert len({cell(), cell(result="1 - x"), cell(result="2 - x"), cell(strength=2.0)}) == 4


def test_classes_made_by_calling_type_belong_to_the_package_that_does(tmp_path, monkeypatch):
    (tmp_path / "makes_classes.py").write_text(
        "import arena\n"
        "def make(power):\n"
        "    def run(self, target, x, y, rng):\n"
        "        return x ** power\n"
        "    return type('Made', (arena.Attack,), dict(name='made', norm='l2', access='decision', run=run))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    make = importlib.import_module("makes_classes").make
    assert make(2).__module__ == "makes_classes"
    assert make(2)().fingerprint == make(2)().fingerprint != make(3)().fingerprint


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Puts a package of one module on the path: `install(name, version, requires, text)`."""
    monkeypatch.syspath_prepend(tmp_path)
    caches = (source._distributions, source._in_development)

    def put(name, version, requires=(), text="", entry_points=""):
        for old in tmp_path.glob(f"{name}-*"):
            shutil.rmtree(old)
        info = tmp_path / f"{name}-{version}.dist-info"
        info.mkdir()
        needs = "".join(f"Requires-Dist: {other}\n" for other in requires)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")
        (info / "top_level.txt").write_text(f"{name}\n")
        (info / "entry_points.txt").write_text(entry_points)
        (tmp_path / f"{name}.py").write_text(text)
        importlib.invalidate_caches()
        for cache in caches:
            cache.cache_clear()

    yield put
    for cache in caches:
        cache.cache_clear()


ATTACK = """
import arena
class Mine(arena.Attack):
    name, norm, access = "mine", "l2", "decision"
    def run(self, target, x, y, rng):
        return x
"""


def test_versions_of_required_libraries_count(install):
    """A package need not change its own version when a library that it wraps does."""
    requires = ["wrapped_library>=1,<2", "torch", 'nowhere; extra == "test"', 'elsewhere; sys_platform == "win32"']
    install("wrapping_attack", "1.0", requires, ATTACK, entry_points="[arena]\nmine = wrapping_attack\n")
    install("wrapped_library", "1.0")
    attack = importlib.import_module("wrapping_attack").Mine
    first = attack().identity
    assert (first.package, first.version) == ("wrapping_attack", "1.0")
    assert attack().fingerprint == first.fingerprint
    install("wrapped_library", "1.1")
    assert attack().fingerprint != first.fingerprint


@pytest.mark.parametrize(
    "value",
    [lambda: (x for x in [1]), Path(__file__).open, threading.Lock, lambda: {"deep": [threading.Lock()]}],
    ids=["generator", "file", "lock", "deep"],
)
def test_what_cannot_be_compared_is_refused_by_name(value):
    class Holds(LinearDefense):
        pass

    defense = Holds()
    defense.held = value()
    with pytest.raises(UserError, match=r"^linear: held.* cannot be compared .*fingerprint_state") as refused:
        _ = defense.fingerprint
    assert "\n" not in str(refused.value)

    Holds.fingerprint_state = lambda self: self.matrix
    assert len(defense.fingerprint) == 64


def test_it_takes_a_moment():
    arena.load_defense("cnn").fingerprint  # noqa: B018 (reads the sources, once a process)
    defense = arena.load_defense("cnn")
    started = time.process_time()
    assert defense.fingerprint
    assert time.process_time() - started < 0.1
