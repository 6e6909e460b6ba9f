"""sha256 of any Python object by what it holds: functions, instances, arrays, plain values.

Equal in every process: no addresses, no hash seeds, no order of sets or tables. What cannot be
looked into (locks, open files, objects of C) counts by the name of its type; libraries count by
name, whatever their version.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import sys
from collections.abc import Iterable, Mapping
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from sbitools.parameters import Parameter
from sbitools.simulator import FieldSpec

from .code import code_digest, file_digest, instructions, is_own_file

__all__ = ["VALUE", "Digester", "is_own", "state_of"]

VALUE = "value of "  # of a global name, in the table of a function

_DEEPEST = 60
_HEAP_TYPE = 1 << 9  # a class that was made while running, not one of C
_GLOBAL = {"LOAD_GLOBAL", "LOAD_NAME"}
_MEMBER = {"LOAD_ATTR", "LOAD_METHOD"}
_SHOW = {"__repr__", "__str__", "_repr_html_"}


def is_own(kind: type) -> bool:
    """Whether a class is the user's own, not Python's, a library's or ours."""
    module = sys.modules.get(kind.__module__)
    if not kind.__flags__ & _HEAP_TYPE:
        return False
    if module is None or kind.__module__ in ("__main__", "builtins"):  # exec has no module name
        return True
    file = getattr(module, "__file__", None)
    return kind.__module__ not in sys.builtin_module_names if file is None else is_own_file(file)


def state_of(thing: Any) -> dict[str, Any]:
    """Attributes of an instance that make it what it is, without those that are memories."""
    kind = type(thing)
    if _is_module(thing):
        import torch

        usual = vars(torch.nn.Module())
        state = {k: v for k, v in vars(thing).items() if k not in usual}
        state |= {"modules": dict(thing._modules), "tensors": dict(thing._parameters)}
        state["buffers"] = dict(thing._buffers)
    elif hasattr(kind, "model_fields") and hasattr(thing, "__dict__"):  # a pydantic model
        state = dict(vars(thing))
    else:
        found = thing.__getstate__()
        parts = found if isinstance(found, tuple) else (found,)
        tables = [part for part in parts if isinstance(part, Mapping)]
        state = {str(k): v for table in tables for k, v in table.items()}
        if any(part is not None and not isinstance(part, Mapping) for part in parts):
            state["state"] = found
    return {k: v for k, v in state.items() if not _is_memory(kind, k)}


def _is_memory(kind: type, name: str) -> bool:
    known = inspect.getattr_static(kind, name, None)
    return isinstance(known, functools.cached_property) or _cached(name)


def _is_module(thing: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(thing, torch.nn.Module)


class Digester:
    """Digests of objects that refer to each other.

    Args:
        code: False leaves out the code of functions and classes, not what they hold: for those
            whose code is stated as a version.
    """

    def __init__(self, code: bool = True) -> None:
        self.code = code
        self._done: dict[int, tuple[Any, bytes]] = {}  # with the object: its id must not be reused
        self._open: list[int] = []

    def __call__(self, thing: Any) -> bytes:
        """sha256 of `thing`."""
        plain = _plain(thing)
        if plain is not None:
            return plain
        key = id(thing)
        if key in self._done:
            return self._done[key][1]
        if key in self._open:
            return _hash("cycle", len(self._open) - self._open.index(key))
        if len(self._open) > _DEEPEST:
            return _hash("deep", _name(type(thing)))
        self._open.append(key)
        try:
            digest = self._look(thing)
        finally:
            self._open.pop()
        self._done[key] = thing, digest
        return digest

    def _look(self, thing: Any) -> bytes:
        if isinstance(thing, FunctionType):
            return self._table("function", self.function(thing))
        if isinstance(thing, type):
            return self.class_(thing)
        if isinstance(thing, ModuleType):
            whole = file_digest(thing.__name__) if self.code else None
            return whole or _hash("module", thing.__name__)
        if isinstance(thing, MethodType):
            return _hash("method", self(thing.__func__), self(thing.__self__))
        if isinstance(thing, BuiltinFunctionType):
            owner = None if isinstance(thing.__self__, ModuleType) else thing.__self__
            return _hash("builtin", thing.__qualname__, self(owner))
        if isinstance(thing, dict):
            return self._table(_name(type(thing)), thing)
        if isinstance(thing, list | tuple | set | frozenset):
            items = [self(item) for item in thing]
            ordered = items if isinstance(thing, list | tuple) else sorted(items)
            return _hash(_name(type(thing)), *ordered)
        if isinstance(thing, property | staticmethod | classmethod | functools.cached_property):
            names = ("fget", "fset", "fdel", "__func__", "func")
            return _hash("descriptor", *(self(getattr(thing, n, None)) for n in names))
        if isinstance(thing, Parameter):  # texts may be corrected
            return _hash("parameter", *map(self, (thing.name, thing.prior, thing.inferred,
                                                  thing.categories)))  # fmt: skip
        if isinstance(thing, FieldSpec):
            return _hash("field", *map(self, (thing.name, thing.dims, thing.shape, thing.dtype)))
        return self._instance(thing)

    def _table(self, kind: str, table: Mapping[Any, Any]) -> bytes:
        rows = [(self(k), self(v)) for k, v in table.items() if not _cached(k)]
        return _hash(kind, *(part for row in sorted(rows) for part in row))

    def function(self, f: FunctionType) -> dict[str, Any]:
        """What makes a function: its code and all that it refers to, by a name for messages."""
        own = is_own_file(f.__code__.co_filename)
        if not own and "<locals>" not in f.__qualname__ and not hasattr(f, "__wrapped__"):
            return {"library": f"{_package(f.__module__)}.{f.__qualname__}"}
        cells = zip(f.__code__.co_freevars, f.__closure__ or (), strict=True)
        count = f.__code__.co_argcount
        names = f.__code__.co_varnames[:count][count - len(f.__defaults__ or ()) :]
        defaults = dict(zip(names, f.__defaults__ or (), strict=True)) | (f.__kwdefaults__ or {})
        out = {f"closure {name}": _content(cell) for name, cell in cells}
        out |= {f"default {name}": value for name, value in defaults.items()}
        out |= {f"attribute {name}": value for name, value in vars(f).items()}
        if not own:  # made by a library, of the user's function perhaps
            return out | {"library": f.__code__.co_name}
        if not self.code:
            return out | {"name": f.__qualname__}
        for name, value in _references(f).items():
            code = callable(value) or isinstance(value, bytes | ModuleType)
            out[f"global {name}" if code else f"{VALUE}{name}"] = value
        return out | {f"code of {f.__name__}": code_digest(f)}

    def class_(self, kind: type, leave: Iterable[str] = ()) -> bytes:
        """A class: its members and bases if it is the user's own, else its name.

        Args:
            kind: the class.
            leave: members that do not count.
        """
        if not self.code or not is_own(kind):
            return _hash("class", _name(kind))
        generated = hasattr(kind, "__dataclass_fields__")
        members = {}
        for name, value in vars(kind).items():
            dunder = name.startswith("__") and name.endswith("__")
            made = generated and getattr(getattr(value, "__code__", None), "co_filename", "")
            function = isinstance(value, FunctionType) and made != "<string>"
            if name not in leave and name not in _SHOW and not name.startswith("_abc_"):
                plain = not dunder and not inspect.isdatadescriptor(value)
                if function or plain or isinstance(value, property):
                    members[name] = value
        bases = [self(base) for base in kind.__bases__]
        return _hash("own class", kind.__qualname__, self._table("members", members), *bases)

    def _instance(self, thing: Any) -> bytes:
        kind = self(type(thing))
        inner = getattr(thing, "__wrapped__", None)
        if inner is not None and callable(thing) and not is_own(type(thing)):
            return _hash("wrapped", kind, self(inner))  # by functools, numba, ...
        try:
            if _is_module(thing) or hasattr(type(thing), "model_fields"):
                return _hash("state", kind, self._table("state", state_of(thing)))
            made = thing.__reduce_ex__(4)
            if isinstance(made, str):
                return _hash("named", kind, made)
            maker, args, state, *items = (*made, None, None, None)[:5]
            if isinstance(state, dict):
                state = {k: v for k, v in state.items() if not _is_memory(type(thing), str(k))}
            held = [list(part) if part is not None else None for part in items]
            return _hash("made", kind, self(maker), self(args), self(state), *map(self, held))
        except Exception:  # whatever its class does: then its type, and attributes if any
            return _hash("opaque", kind, self(dict(getattr(thing, "__dict__", {}))))


def _references(f: FunctionType) -> dict[str, Any]:
    """Global names a function and those inside it refer to, with their values.

    Of a module of the user's own, what is taken from it; the whole file where that is not seen.
    """
    out: dict[str, Any] = {}
    place: Any = None
    path = ""
    for step in instructions(f.__code__):
        if step.opname in _MEMBER and _is_own_module(place):
            out.pop(path, None)
            place, path = getattr(place, step.argval, None), f"{path}.{step.argval}"
            out[path] = place
            continue
        place = None
        if step.opname in _GLOBAL and step.argval in f.__globals__:
            place, path = f.__globals__[step.argval], str(step.argval)
            out[path] = place
        elif step.opname == "IMPORT_NAME":
            module = str(step.argval)
            if module not in sys.stdlib_module_names and (whole := file_digest(module)):
                out[f"module {module}"] = whole
    return {k: v for k, v in out.items() if not _cached(k) and v is not f}


def _is_own_module(place: Any) -> bool:
    """Whether this is a module of the user's own; those of libraries count by name."""
    if not isinstance(place, ModuleType) or place.__name__ in sys.builtin_module_names:
        return False
    return is_own_file(getattr(place, "__file__", None) or "<made>")


def _cached(name: Any) -> bool:
    return isinstance(name, str) and name.startswith("_") and name.lower().endswith("cache")


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return "not set yet"


def _plain(thing: Any) -> bytes | None:
    """Digest of a plain value or array, None for others."""
    if type(thing) is np.ndarray and thing.dtype.kind != "O":
        flat = np.ascontiguousarray(thing).reshape(-1).view(np.uint8)
        return _hash("array", thing.dtype.str, thing.shape, flat.data)
    if isinstance(thing, np.ndarray):
        return None
    if isinstance(thing, np.generic) and thing.dtype.kind not in "OV":
        return _hash("number", thing.dtype.str, thing.tobytes())
    if isinstance(thing, CodeType):
        return _hash("code")
    if type(thing) is int:
        return _hash("int", hex(thing))
    if thing is None or thing is Ellipsis or type(thing) in (bool, float, complex, str):
        return _hash(type(thing).__name__, repr(thing))
    if isinstance(thing, bytes | bytearray):
        return _hash(type(thing).__name__, bytes(thing))
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(thing, torch.Tensor):
        return _tensor(torch, thing)
    if torch is not None and isinstance(thing, torch.Generator):
        return _hash("generator")
    return None


def _tensor(torch: Any, tensor: Any) -> bytes:
    try:
        flat = tensor.detach().cpu().resolve_conj().contiguous().reshape(-1).view(torch.uint8)
        return _hash("tensor", str(tensor.dtype), tuple(tensor.shape), flat.numpy().data)
    except (RuntimeError, NotImplementedError, TypeError):
        return _hash("tensor", str(tensor.dtype), tuple(tensor.shape), str(tensor.layout))


def _name(kind: type) -> str:
    own = is_own(kind)
    return kind.__qualname__ if own else f"{_package(kind.__module__)}.{kind.__qualname__}"


def _package(module: str | None) -> str:
    """The library: its inner modules move from one version to the next."""
    return str(module).partition(".")[0]


def _hash(*parts: Any) -> bytes:
    h = hashlib.sha256()
    for part in parts:
        whole = isinstance(part, bytes | memoryview)
        raw = memoryview(part if whole else repr(part).encode("utf-8", "surrogatepass"))
        h.update(raw.nbytes.to_bytes(8, "little"))
        h.update(raw)
    return h.digest()
