"""The code that decides: syntax trees of a module and of what it imports, without what only explains."""

from __future__ import annotations

import ast
import hashlib
import json
import re
import sys
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from importlib import metadata
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

# The parts of arena that compute what a row says. The others declare, keep and show; the kernels are held to a
# reference by tests: a change of theirs counts with the next version.
DECIDING = (
    "arena.evaluation",
    "arena.geometry",
    "arena.interface.calibration",
    "arena.interface.prototypes",
    "arena.models",
    "arena.plugins",
    "arena.target",
    "arena.testing",
    "arena.toolbox",
)
# What every plugin stands on: another version computes the same up to rounding, and would supersede every result.
FOUNDATION = frozenset({"arena", "numpy", "pydantic", "pydantic_core", "safetensors", "torch"})
_EXPLAINING = frozenset({"ctx", "kind", "type_comment", "type_ignores"})


class Source(NamedTuple):
    """What a file of code says: a digest, the dotted names that it imports or takes from `arena`, its class statements'
    qualified names."""

    digest: bytes
    imports: frozenset[str]
    classes: frozenset[str]


def code_digest(modules: Iterable[str]) -> bytes:
    """SHA-256 of the modules, of all that they import, in turn, where the source decides, and of the versions of the
    libraries they import.

    The source decides for what is not installed (a script and its neighbours), for packages of plugins and those
    installed in editable mode, and in arena itself for `DECIDING`. Comments, docstrings, layout and descriptions of
    settings do not count, nor does the version of Python. Modules without a file have no part in it.
    """
    digest = hashlib.sha256()
    libraries: set[str] = set()
    found: dict[str, Source] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if not source_decides(name):
            libraries.add(library(name))
        elif (module := _holding(name)) not in found and (source := source_of(module)) is not None:
            found[module] = source
            waiting += [_origin(other) for other in source.imports if _counts(module, other)]
    for module, source in sorted(found.items()):
        digest.update(f"{module} {source.digest.hex()}\n".encode())
    digest.update(" ".join(sorted(libraries)).encode())
    return digest.digest()


def source_of(module: str) -> Source | None:
    """What the file of a module says; None if it has none that is Python, as in a notebook or an extension."""
    file = _file_of(module)
    if file is None or file.suffix != ".py":
        return None
    try:
        facts = file.stat()
        return _read(module, file, facts.st_mtime_ns, facts.st_size)
    except (OSError, SyntaxError, ValueError):
        return None


def library(module: str) -> str:
    """The installed packages that hold a module, with their versions; empty for the standard library, `FOUNDATION`
    and what is not installed."""
    top = module.partition(".")[0]
    if top in FOUNDATION or top in sys.stdlib_module_names:
        return ""
    return " ".join(f"{name}=={metadata.version(name)}" for name in sorted(set(_distributions().get(top, []))))


def required(package: str) -> list[str]:
    """The installed packages that a package of plugins requires, with their versions, `FOUNDATION` left out."""
    versions = []
    for requirement in metadata.requires(package) or []:
        name = re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", requirement.strip(), maxsplit=1)[0]).lower()
        if "extra ==" in requirement or name in FOUNDATION | {"arena-robustness"}:
            continue
        with suppress(metadata.PackageNotFoundError):  # another platform's, or not needed here
            versions.append(f"{name}=={metadata.version(name)}")
    return sorted(versions)


def distribution_of(module: str) -> tuple[str, str]:
    """Name and version of the installed package that holds a module; ("local", "0") for a script or a notebook."""
    top = module.partition(".")[0]
    names = ["arena-robustness"] if top == "arena" else _distributions().get(top)
    return (names[0], metadata.version(names[0])) if names else ("local", "0")


@cache
def _distributions() -> dict[str, list[str]]:
    return dict(metadata.packages_distributions())


def _counts(importer: str, module: str) -> bool:
    """Adapters of the target name libraries that they only translate for; an attack that wraps one imports it."""
    return not importer.startswith("arena.target") or module.startswith("arena.")


def source_decides(module: str) -> bool:
    """Whether a module's source tells what it does, rather than its version or nothing."""
    top = module.partition(".")[0]
    if top == "arena":
        return any(module == part or module.startswith(part + ".") for part in DECIDING)
    if top in FOUNDATION or top in sys.stdlib_module_names:
        return False
    return all(_in_development(name) for name in _distributions().get(top, []))


@cache
def _in_development(package: str) -> bool:
    """Whether the version of an installed package does not tell its code: it has plugins, or its files are edited."""
    distribution = metadata.distribution(package)
    installed = json.loads(distribution.read_text("direct_url.json") or "{}")
    editable = installed.get("dir_info", {}).get("editable", False)
    return editable or any(entry.group == "arena" for entry in distribution.entry_points)


def _origin(name: str) -> str:
    """The name where it is defined, of one that `arena` or a package in it hands on: another helper of `arena.toolbox`
    decides nothing."""
    if name.startswith("arena.") and (package := _holding(name)) != name:
        source, file = source_of(package), _file_of(package)
        if source is not None and file is not None and file.name == "__init__.py":
            last = name.rpartition(".")[2]
            return next((other for other in sorted(source.imports) if other.rpartition(".")[2] == last), name)
    return name


def _holding(name: str) -> str:
    """The module that a dotted name is, or is of; empty if there is none with a file."""
    while name and _file_of(name) is None:
        name = name.rpartition(".")[0]
    return name


def _file_of(module: str) -> Path | None:
    loaded = sys.modules.get(module)
    if loaded is not None:
        file = getattr(loaded, "__file__", None)
        return Path(file) if file else None
    spec = _spec(module)
    return Path(spec.origin) if spec is not None and spec.has_location and spec.origin else None


def _spec(module: str) -> ModuleSpec | None:
    """Where a module would be imported from, without importing the packages that hold it."""
    package, _, _ = module.rpartition(".")
    try:
        if not package:
            return find_spec(module)
        above = getattr(sys.modules.get(package), "__spec__", None) or _spec(package)
        places = above.submodule_search_locations if above is not None else None
        return PathFinder.find_spec(module, list(places)) if places is not None else None
    except (ImportError, ValueError):
        return None


@cache
def _read(module: str, file: Path, _modified: int, _size: int) -> Source:
    reader = _Reader(package=module if file.name == "__init__.py" else module.rpartition(".")[0])
    reader.read(ast.parse(file.read_bytes()))
    digest = hashlib.sha256("".join(reader.text).encode()).digest()
    return Source(digest, frozenset(reader.imports), frozenset(reader.classes))


class _Reader:
    """Writes a syntax tree as text that is equal for every version of Python that can read it, and blind to what only
    explains; notes imports (`from a import b` as a.b) and class statements on the way."""

    def __init__(self, package: str) -> None:
        self.text: list[str] = []
        self.imports: set[str] = set()
        self.classes: set[str] = set()
        self._package = package
        self._scope: tuple[str, ...] = ()

    def read(self, node: Any) -> None:
        put = self.text.append
        if isinstance(node, ast.Constant):
            put(f"{node.value!a},")
        elif isinstance(node, ast.AST):
            put(f"{type(node).__name__}(")
            outside = self._scope
            self._note(node)
            for name in node._fields:
                value = getattr(node, name, None)
                if isinstance(value, list):
                    value = _deciding(node, name, value)
                # What an older Python does not have is empty in a newer one.
                if value not in (None, []) and name not in _EXPLAINING:
                    put(f"{name}=")
                    self.read(value)
            self._scope = outside
            put(")")
        elif isinstance(node, list):
            put("[")
            for part in node:
                self.read(part)
            put("]")
        else:
            put(f"{node!a},")

    def _note(self, node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            self.imports.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = self._package.rsplit(".", node.level - 1)[0] if node.level else None
            self.imports.update(".".join(filter(None, [above, node.module, alias.name])) for alias in node.names)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "arena":
            self.imports.add(f"arena.{node.attr}")
        elif isinstance(node, ast.ClassDef):
            self._scope += (node.name,)
            self.classes.add(".".join(self._scope))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            self._scope += (node.name, "<locals>")


def _deciding(node: ast.AST, field: str, values: list[Any]) -> list[Any]:
    """The members of a list in a syntax tree without those that do nothing."""
    if isinstance(node, ast.JoinedStr):
        return _joined(values)
    if field == "keywords" and isinstance(node, ast.Call):
        called = getattr(node.func, "id", getattr(node.func, "attr", None))
        return [value for value in values if not (called == "Field" and value.arg == "description")]
    return [value for value in values if not (isinstance(value, ast.Pass) or _is_docstring(value))]


def _is_docstring(node: Any) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _joined(parts: list[ast.expr]) -> list[ast.expr]:
    """The parts of an f-string, neighbouring texts as one: versions of Python split them at other places."""
    joined: list[ast.expr] = []
    for part in parts:
        if isinstance(part, ast.Constant) and joined and isinstance(joined[-1], ast.Constant):
            joined[-1] = ast.Constant(str(joined[-1].value) + str(part.value))
        elif not (isinstance(part, ast.Constant) and part.value == ""):
            joined.append(part)
    return joined
