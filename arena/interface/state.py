"""Digests of Python objects: equal for equal state, whatever the process, the device or the place of a file."""

from __future__ import annotations

import copyreg
import dis
import functools
import hashlib
import sys
import types
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import Any

import numpy
import torch
from pydantic import BaseModel
from torch import Tensor

from arena.interface.source import code_digest, source_decides, source_of

# What a class has of itself beside what its author wrote.
_MACHINERY = frozenset({"_abc_impl", "model_config", "model_fields", "model_computed_fields"})
_OF_EVERY_MODULE = frozenset(vars(torch.nn.Module())) - {"_parameters", "_buffers", "_modules", "training"}
_CACHE = type(functools.cache(repr))
_DESCRIPTORS = (
    *(types.GetSetDescriptorType, types.MemberDescriptorType, types.MethodDescriptorType),
    *(types.ClassMethodDescriptorType, types.WrapperDescriptorType),
)


class Undecidable(Exception):
    """Of an object it cannot be told whether another is equal; the arguments are the way to it and why."""


class Digester:
    """SHA-256 digests of objects, built from those of their parts.

    Numbers, texts, containers, arrays and tensors (of any device) count by value, sets and dicts in no order; files by
    their bytes; classes and functions by their code (see `code_digest`), where it has no file by what it compiles to
    and the globals that it reads; any other object by its class and what `copy` and `pickle` ask it for. Values that
    a `cached_property` keeps do not count. `files`: paths for which the bytes of the file or folder count.

    Raises:
        Undecidable: an object gives no state: an open file, a generator, a lock, a foreign extension type.
    """

    def __init__(self, files: Iterable[str | Path] = ()) -> None:
        self._files = {str(file) for file in files}
        self._known: dict[int, tuple[Any, bytes]] = {}  # the object too: as long as it lives, its id is its own
        self._open: list[int] = []
        self._code: dict[str, bytes] = {}

    def digest(self, value: Any, path: str = "") -> bytes:
        """The digest of one object; `path` is what messages call it."""
        if (plain := _plain(value)) is not None:
            return _sha(type(value).__name__, plain)
        if id(value) in self._known:
            return self._known[id(value)][1]
        if id(value) in self._open:  # a circle: how far back it leads
            return _sha("circle", str(len(self._open) - self._open.index(id(value))).encode())
        self._open.append(id(value))
        try:
            found = self._of(value, path)
        except RecursionError:
            raise Undecidable(path, "it is nested too deeply") from None
        except OSError as failure:
            raise Undecidable(path, f"{failure.filename} cannot be read: {failure.strerror}") from None
        finally:
            self._open.pop()
        self._known[id(value)] = value, found
        return found

    def _of(self, value: Any, path: str) -> bytes:
        if isinstance(value, str | Path):
            return self._text(value)
        if isinstance(value, Tensor):
            return _tensor(value, path)
        if isinstance(value, torch.Generator):
            return _sha("generator", self.digest(value.get_state(), path))
        if isinstance(value, numpy.ndarray | numpy.generic) and not isinstance(value, numpy.ma.MaskedArray):
            return self._array(value, path)
        if isinstance(value, torch.nn.Module) and not isinstance(value, torch.jit.ScriptModule):
            return self._module(value, path)
        if isinstance(value, type):
            return self._class(value, path)
        if isinstance(value, BaseModel):
            return _sha("settings", self.digest(type(value), path), self._mapping(dict(value), path))
        if isinstance(value, Enum):
            return _sha("enum", self.digest(type(value), path), value.name.encode())
        if isinstance(value, torch.device):  # where something is computed is not what is computed
            return _sha("device")
        if type(value) in (list, tuple, set, frozenset, dict, OrderedDict, types.MappingProxyType):
            return self._container(value, path)
        if (code := self._callable(value, path)) is not None:
            return code
        return self._object(value, path)

    def _text(self, value: str | Path) -> bytes:
        """A path of `files` counts by content, so does the `Path` of any file; a text is a text."""
        file = Path(value)
        if str(value) in self._files or (isinstance(value, Path) and value.is_file()):
            if file.is_dir():
                inside = sorted(part for part in file.rglob("*") if part.is_file())
                parts = [_sha(str(part.relative_to(file)), _bytes_of(part)) for part in inside]
                return _sha("folder", *parts)
            if file.is_file():
                return _sha("file", _bytes_of(file))
        return _sha(type(value).__name__, str(value).encode("utf-8", "surrogatepass"))

    def _array(self, value: Any, path: str) -> bytes:
        array = numpy.asarray(value)
        if array.dtype.names:  # field by field: the bytes between them are nobody's
            fields = [self._array(array[name], path) for name in array.dtype.names]
            return _sha("array", f"{array.dtype.names} {array.shape}".encode(), *fields)
        head = f"{array.dtype.str} {array.shape}".encode()
        if array.dtype.hasobject:
            return _sha("array", head, *(self.digest(entry, path) for entry in array.reshape(-1).tolist()))
        return _sha("array", head, numpy.ascontiguousarray(array).reshape(-1).view(numpy.uint8).data)

    def _module(self, module: torch.nn.Module, path: str) -> bytes:
        """Class, parameters, buffers, children in order, mode, and what its author added; hooks where there are any."""
        state = {
            name: list(value.items()) if name == "_modules" else value
            for name, value in attributes(module).items()
            if name not in _OF_EVERY_MODULE or (isinstance(value, Mapping) and value)
        }
        return _sha("module", self.digest(type(module), path), self._mapping(state, path))

    def _container(self, value: Any, path: str) -> bytes:
        kind = type(value).__name__
        if isinstance(value, set | frozenset):
            return _sha(kind, *sorted(self.digest(member, path) for member in value))
        if isinstance(value, list | tuple):
            return _sha(kind, *(self.digest(member, f"{path}[{i}]") for i, member in enumerate(value)))
        if isinstance(value, OrderedDict):
            return _sha(kind, *(self.digest(pair, path) for pair in value.items()))
        return self._mapping(value, path)

    def _mapping(self, value: Mapping[Any, Any], path: str) -> bytes:
        pairs = [
            (self.digest(key, path), self.digest(member, f"{path}.{key}" if path else str(key)))
            for key, member in value.items()
        ]
        return _sha("dict", *(part for pair in sorted(pairs) for part in pair))

    def _callable(self, value: Any, path: str) -> bytes | None:
        """Functions of every sort; None for anything else."""
        if isinstance(value, types.FunctionType):
            return self._function(value, path)
        if isinstance(value, types.MethodType):
            return _sha("method", self.digest(value.__self__, path), self.digest(value.__func__, path))
        if isinstance(value, functools.partial):
            return _sha("partial", *(self.digest(part, path) for part in (value.func, value.args, value.keywords)))
        if isinstance(value, staticmethod | classmethod):
            return _sha(type(value).__name__, self.digest(value.__func__, path))
        if isinstance(value, property):
            return _sha("property", *(self.digest(part, path) for part in (value.fget, value.fset)))
        if isinstance(value, functools.cached_property):
            return _sha("cached_property", self.digest(value.func, path))
        if isinstance(value, types.BuiltinFunctionType):
            owner = None if isinstance(value.__self__, types.ModuleType) else value.__self__
            return _sha("builtin", f"{value.__module__} {value.__qualname__}".encode(), self.digest(owner, path))
        if isinstance(value, types.ModuleType):
            return _sha("python", value.__name__.encode(), self._code_of(value.__name__))
        if isinstance(value, types.CodeType):
            return self._compiled(value, path)
        if isinstance(value, _CACHE):  # what it kept is not state
            return _sha("cache", self.digest(value.__wrapped__, path))
        return None

    def _function(self, function: types.FunctionType, path: str) -> bytes:
        """By name and the code of its module; what the module does not have under that name also by its defaults and
        what it closes over; what is in no file by what it compiles to and the globals that it reads."""
        module, name, code = function.__module__ or "", function.__qualname__, function.__code__
        parts = [_sha(f"{module} {name}")]
        filed = not source_decides(module) or (source_of(module) is not None and Path(code.co_filename).is_file())
        if filed:
            parts.append(self._code_of(module))
            if _resolve(module, name) is function:
                return _sha("function", *parts)
        else:
            known = function.__globals__
            parts += [_sha(name, self.digest(known[name], name)) for name in _globals_read(code) if name in known]
        if not filed or "<lambda>" in name:  # several may have this name
            parts.append(self._compiled(code, path))
        parts += [self.digest(part, path) for part in (function.__defaults__, function.__kwdefaults__)]
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            with suppress(ValueError):  # not filled yet
                parts.append(_sha(name, self.digest(cell.cell_contents, name)))
        return _sha("code", *parts)

    def _compiled(self, code: types.CodeType, path: str) -> bytes:
        """What a piece of code does, step by step: not where it stands, nor its docstring, which no step reads."""
        steps = dis.get_instructions(code)
        parts = [self.digest((step.opname, step.argval), path) for step in steps if step.opname != "RESUME"]
        return _sha("compiled", ascii((code.co_varnames, code.co_argcount, code.co_kwonlyargcount)).encode(), *parts)

    def _class(self, cls: type, path: str) -> bytes:
        """A class statement of a file is its module's code; of one made otherwise what it holds counts as well. Bases
        count by themselves: a module may have them from a package that hands on what it does not import itself."""
        module, name = cls.__module__, cls.__qualname__
        head = f"{module} {name}".encode()
        source = source_of(module) if source_decides(module) else None
        bases = [self.digest(base, path) for base in cls.__bases__ if base is not object]
        if _resolve(module, name) is cls and (name in source.classes if source else not source_decides(module)):
            return _sha("class", head, *bases, self._code_of(module))
        held = {
            key: value
            for key, value in vars(cls).items()
            if key not in _MACHINERY and not isinstance(value, _DESCRIPTORS)
            if not key.startswith("__") or isinstance(value, types.FunctionType)
        }
        return _sha("class", head, *bases, self._mapping(held, path or name))

    def _object(self, value: Any, path: str) -> bytes:
        """By what `copy` and `pickle` would ask it for: how it is made again, and its state."""
        try:
            reduce = copyreg.dispatch_table.get(type(value))
            reduced = reduce(value) if reduce else value.__reduce_ex__(4)
        except Exception as failure:
            raise Undecidable(path, f"{type(value).__name__}: {' '.join(str(failure).split())}") from None
        if isinstance(reduced, str):
            return _sha("global", f"{getattr(value, '__module__', '')} {reduced}".encode())
        made, arguments, state, *items = (*reduced, None, None, None, None)[:5]
        if isinstance(state, tuple) and len(state) == 2 and isinstance(state[1], dict):  # attributes, and slots
            state = (state[0] or {}) | state[1] if isinstance(state[0], dict | None) else state
        parts = [self.digest(part, path) for part in (made, arguments)]
        if isinstance(state, dict):
            parts.append(self._mapping(_without_caches(value, state), path))
        else:
            parts.append(self.digest(state, path))
        listed, mapped = items
        if listed is not None:
            parts.append(self.digest(list(listed), path))
        if mapped is not None:
            parts.append(self.digest(dict(mapped), path))
        return _sha("object", self.digest(type(value), path), *parts)

    def _code_of(self, module: str) -> bytes:
        if module not in self._code:
            self._code[module] = code_digest([module])
        return self._code[module]


def _sha(kind: str, *parts: bytes | memoryview) -> bytes:
    """The digest of a kind and its parts; lengths keep parts apart."""
    digest = hashlib.sha256(kind.encode())
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.digest()


def _plain(value: Any) -> bytes | None:
    """The bytes of a plain value; None for everything else."""
    if value is None or value is Ellipsis or value is NotImplemented or isinstance(value, bool):
        return repr(value).encode()
    if type(value) in (int, float, complex, range, slice, torch.dtype, torch.layout, torch.memory_format):
        return repr(value).encode()
    return bytes(value) if type(value) in (bytes, bytearray) else None


def _tensor(value: Tensor, path: str) -> bytes:
    if value.layout != torch.strided or value.is_quantized or value.is_meta:
        raise Undecidable(path, f"a tensor of layout {value.layout} and dtype {value.dtype} on {value.device}")
    flat = value.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
    return _sha("tensor", f"{value.dtype} {tuple(value.shape)}".encode(), flat.view(torch.uint8).numpy().data)


def _bytes_of(file: Path) -> bytes:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").digest()


def attributes(owner: Any) -> dict[str, Any]:
    """The attributes of an object without those that a `cached_property` keeps."""
    return _without_caches(owner, vars(owner))


def _without_caches(owner: Any, state: Mapping[str, Any]) -> dict[str, Any]:
    kind = type(owner)
    return {
        name: value
        for name, value in state.items()
        if not isinstance(getattr(kind, name, None) if isinstance(name, str) else None, functools.cached_property)
    }


def _resolve(module: str, name: str) -> Any:
    """What a module has under a qualified name; None if nothing."""
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = vars(found).get(part) if isinstance(found, types.ModuleType | type) else None
    return found


def _globals_read(code: types.CodeType) -> list[str]:
    names = {step.argval for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names.update(_globals_read(constant))
    return sorted(names)
