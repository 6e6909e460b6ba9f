"""What the code of a function is, whatever its comments, layout, docstring and type hints.

The syntax of the source is taken where the source is at hand and is what runs: a file may have
been edited since it was imported, so its source is compiled and compared. Elsewhere (`exec`, the
prompt) the instructions are taken, which depend on the version of Python.
"""

from __future__ import annotations

import ast
import dis
import functools
import hashlib
import linecache
import sysconfig
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

__all__ = ["code_digest", "file_digest", "instructions", "is_own_file"]

_PACKAGE = Path(__file__).resolve().parents[1]
_LIBRARIES = (
    _PACKAGE, _PACKAGE.parent / "emulators",
    *{Path(sysconfig.get_paths()[k]).resolve() for k in ("stdlib", "platstdlib", "purelib")},
)  # fmt: skip
_SITES = {"site-packages", "dist-packages"}
# Of a syntax tree: what says nothing about what is computed.
_SILENT = {"ctx", "type_comment", "kind", "annotation", "returns", "type_params"}
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_IDLE = {"NOP", "RESUME", "CACHE", "PRECALL", "EXTENDED_ARG"}
_KINDS = 0x04 | 0x08 | 0x20 | 0x80 | 0x200  # *args, **kwargs, generators, coroutines


@functools.cache
def is_own_file(name: str) -> bool:
    """Whether code of the file `name` is the user's own, not Python's, a library's or ours."""
    if name.startswith("<frozen"):
        return False
    if name.startswith("<"):  # a prompt, a cell, exec
        return True
    path = Path(name).resolve()
    if _SITES & set(path.parts):
        return False
    return not any(path.is_relative_to(folder) for folder in _LIBRARIES)


def code_digest(function: FunctionType) -> bytes:
    """sha256 of what a function computes; names, defaults and closure are its caller's part."""
    code = function.__code__
    syntax = _syntax(code, function)
    text = f"syntax {_dump(syntax, top=True)}" if syntax is not None else _listing(code)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def file_digest(module: str) -> bytes | None:
    """sha256 of the syntax of a whole module of the user's own; None for all others."""
    try:
        spec = find_spec(module)
        origin = spec.origin if spec is not None and spec.origin is not None else "<frozen>"
        if not is_own_file(origin) or not origin.endswith(".py"):
            return None
        tree = ast.parse(Path(origin).read_bytes())
    except (ImportError, AttributeError, OSError, ValueError, SyntaxError):
        return None
    return hashlib.sha256(_dump(tree).encode("utf-8", "surrogatepass")).digest()


def instructions(code: CodeType) -> Iterator[dis.Instruction]:
    """Instructions of a code object and of those it makes, in order."""
    yield from dis.get_instructions(code)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from instructions(constant)


def _dump(node: Any, top: bool = False) -> str:
    """A syntax tree as text; `top` leaves out the name, decorators and defaults."""
    if isinstance(node, list):
        return "[" + ",".join(_dump(item) for item in node) + "]"
    if not isinstance(node, ast.AST):
        return f"{type(node).__name__}:{node!r}"
    fields = {k: v for k, v in ast.iter_fields(node) if k not in _SILENT}
    if isinstance(node, (*_FUNCTIONS, ast.ClassDef, ast.Module)) and "body" in fields:
        fields["body"] = _without_docstring(fields["body"])
    if top:
        fields = {k: v for k, v in fields.items() if k not in ("name", "decorator_list")}
        given = {k: v for k, v in ast.iter_fields(fields["args"]) if "defaults" not in k}
        fields["args"] = list(given.values())
    shown = (f"{k}={_dump(v)}" for k, v in sorted(fields.items()) if v is not None and v != [])
    return f"{type(node).__name__}({','.join(shown)})"


def _without_docstring(body: Any) -> Any:
    first = body[0] if isinstance(body, list) and body else None
    inner = getattr(first, "value", None) if isinstance(first, ast.Expr) else None
    return body[1:] if isinstance(getattr(inner, "value", None), str) else body


def _syntax(code: CodeType, function: FunctionType) -> ast.AST | None:
    """The syntax of a running code object, or None if the source is not that of what runs."""
    text = "".join(linecache.getlines(code.co_filename, function.__globals__))
    parsed = _parsed(text, code.co_filename) if text else None
    if parsed is None:
        return None
    tree, listings = parsed
    if (code.co_name, code.co_firstlineno, _listing(code)) not in listings:
        return None
    found = [node for node in ast.walk(tree) if _begins(node) == code.co_firstlineno
             and getattr(node, "name", "<lambda>") == code.co_name]  # fmt: skip
    found = found if len(found) == 1 else [n for n in found if _holds(n, code)]
    return found[0] if len(found) == 1 else None


@functools.lru_cache(64)
def _parsed(text: str, name: str) -> tuple[ast.Module, set[tuple[str, int, str]]] | None:
    try:
        tree = ast.parse(text)
        whole = compile(text, name, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError):
        return None
    return tree, {(c.co_name, c.co_firstlineno, _listing(c)) for c in _codes(whole)}


def _codes(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _codes(constant)


def _begins(node: ast.AST) -> int:
    if not isinstance(node, _FUNCTIONS):
        return -1
    first = getattr(node, "decorator_list", None) or [node]
    return min(first[0].lineno, node.lineno)


def _holds(node: Any, code: CodeType) -> bool:
    """Whether the instructions lie in the body of this one of several functions on a line."""
    if not isinstance(node, ast.Lambda):
        return False
    body = node.body
    begin, end = (body.lineno, body.col_offset), (body.end_lineno, body.end_col_offset)
    places = {(p[0], p[2]) for p in code.co_positions() if p[2] not in (None, 0)}
    ends = {(p[1], p[3]) for p in code.co_positions() if p[3] not in (None, 0)}
    return bool(places) and (min(places), max(ends)) == (begin, end)  # pyright: ignore


def _listing(code: CodeType) -> str:
    """Instructions with what they name, jumps counted in instructions."""
    steps = [i for i in dis.get_instructions(code) if i.opname not in _IDLE]
    number = {step.offset: i for i, step in enumerate(steps)}
    lines = []
    for step in steps:
        value = step.argval
        if step.opcode in dis.hasjrel or step.opcode in dis.hasjabs:
            # the first instruction at or after the target: an idle one may lie there
            value = next((number[o] for o in sorted(number) if o >= step.argval), len(steps))
        lines.append(f"{step.opname} {_constant(value)}")
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    kind = code.co_flags & _KINDS, code.co_posonlyargcount, code.co_kwonlyargcount, names
    return "\n".join([f"code {kind}", *lines])


def _constant(value: Any) -> str:
    if isinstance(value, CodeType):
        return f"<{_listing(value)}>"
    if isinstance(value, tuple):
        return f"({','.join(map(_constant, value))})"
    if isinstance(value, frozenset):
        return f"frozenset({sorted(map(_constant, value))})"
    return f"{type(value).__name__}:{value!r}"
