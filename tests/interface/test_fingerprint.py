"""Equal fingerprints promise equal results: whatever can change a result changes the fingerprint, and nothing else."""

import importlib
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from typed import present

import arena
from arena.interface import source
from arena.interface.source import source_of

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


Package = Callable[..., type[arena.Attack]]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Package]:
    """Writes the package `fingerprinted`, a text in each file replaced, and gives its attack, freshly imported."""
    monkeypatch.syspath_prepend(tmp_path)

    def forget() -> None:
        for name in [name for name in sys.modules if name.partition(".")[0] == "fingerprinted"]:
            del sys.modules[name]
        importlib.invalidate_caches()

    def load(**replaced: tuple[str, str]) -> type[arena.Attack]:
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


def test_an_attack_is_its_settings(package: Package) -> None:
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
def test_code_that_decides_changes_it(package: Package, file: str, old: str, new: str) -> None:
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
def test_what_only_explains_does_not(package: Package, file: str, old: str, new: str) -> None:
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


def test_every_version_of_python_reads_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "portable.py").write_text(PORTABLE)
    monkeypatch.syspath_prepend(tmp_path)
    found = present(source_of("portable"))
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
def test_the_code_that_measures_is_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, text: str, counts: bool
) -> None:
    before = [arena.load_attack("fgsm").fingerprint, arena.load_defense("cnn").fingerprint]
    changed = importlib.import_module(f"arena.{module}")
    copy = tmp_path / "copy.py"
    copy.write_text(Path(present(changed.__file__)).read_text() + f"\n{text}\n")
    monkeypatch.setattr(changed, "__file__", str(copy))
    after = [arena.load_attack("fgsm").fingerprint, arena.load_defense("cnn").fingerprint]
    assert [one != other for one, other in zip(before, after, strict=True)] == [counts] * 2


@pytest.mark.parametrize(("module", "counts"), [("losses", True), ("starts", False)])
def test_of_the_helpers_those_that_it_uses_are_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, counts: bool
) -> None:
    """`arena.toolbox` hands on what its modules define; apgd-ce-linf takes a loss from it and no start."""
    before = arena.load_attack("apgd-ce-linf").fingerprint
    changed = importlib.import_module(f"arena.toolbox.{module}")
    copy = tmp_path / "copy.py"
    copy.write_text(Path(present(changed.__file__)).read_text() + "\nEXTRA = 1\n")
    monkeypatch.setattr(changed, "__file__", str(copy))
    assert (arena.load_attack("apgd-ce-linf").fingerprint != before) == counts


def test_classes_made_by_calling_type_belong_to_the_package_that_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Puts a package of one module on the path: `install(name, version, requires, text)`."""
    monkeypatch.syspath_prepend(tmp_path)
    caches = (source._distributions, source._in_development)

    def put(name: str, version: str, requires: Sequence[str] = (), text: str = "", entry_points: str = "") -> None:
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


def test_versions_of_required_libraries_count(install: Callable[..., None]) -> None:
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
