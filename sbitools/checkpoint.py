"""Checkpoints: safetensors and a JSON manifest, verified by sha256, rebuilt from registry names.

A checkpoint is a folder with `weights.safetensors` and `manifest.json` (schema, kind, config,
versions, sha256 of the weights) and nothing else. It is written aside and renamed, so it is whole
or absent; it replaces a checkpoint of its kind, and nothing else is ever removed. A reader takes
both files from one folder, into memory, and verifies the bytes that it then uses.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from .disk.files import parse_json, read_file
from .disk.folders import discard_folder, read_folder, replace_folder
from .disk.locks import Taken
from .errors import CheckpointError, SbitoolsError
from .gate.plain import as_path
from .version import __version__

__all__ = [
    "checkpoint_config", "checkpoint_kind", "load_checkpoint", "rebuild", "remove_checkpoint",
    "save_checkpoint",
]  # fmt: skip

SCHEMA = 1
WEIGHTS, MANIFEST = "weights.safetensors", "manifest.json"
_FILES = {WEIGHTS, MANIFEST}
_MAX_MANIFEST = 64 << 20
_WAIT = 60.0  # seconds for another process that saves to the same path
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_T = TypeVar("_T")


def save_checkpoint(
    path: str | Path, kind: str, config: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> Path:
    """Write a checkpoint; an older one at `path` is replaced only once the new one is whole.

    Of several processes that save to one path, one writes after the other.

    Args:
        path: folder to make; it may be empty, or a checkpoint of the same kind. A link to such a
            folder stays a link.
        kind: what it is, e.g. ``"posterior"``; `load_checkpoint` asks for it.
        config: JSON values from which the object is rebuilt.
        tensors: the weights.

    Raises:
        CheckpointError: if there is anything else at `path`, which is left as it is; if the
            config is not JSON, or the disk refuses.
    """
    path = as_path(path, "path of the checkpoint", error=CheckpointError)
    with _typed(path):
        place = Path(os.path.realpath(path))
        images = _images(kind, config, tensors)
        replace_folder(place, images, lambda: _check_replaceable(place, kind), _WAIT)
    return path


def load_checkpoint(path: str | Path, kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Config and tensors of a checkpoint, both verified; nothing is written.

    Raises:
        CheckpointError: if it is absent, of another kind or schema, truncated or altered.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    path = as_path(path, "path of the checkpoint", error=CheckpointError)
    manifest, weights = _read(path, (MANIFEST, WEIGHTS))
    if manifest.get("schema") != SCHEMA or manifest.get("kind") != kind:
        raise CheckpointError(
            f"checkpoint {path}", expected=f"kind {kind!r}, schema {SCHEMA}",
            got=f"kind {manifest.get('kind')!r}, schema {manifest.get('schema')!r}",
            fix="pass the folder of the right object, or load it with the version that wrote it",
        )  # fmt: skip
    hashes = manifest.get("sha256")
    hashes = hashes if isinstance(hashes, dict) else {}
    seen = {WEIGHTS: hashlib.sha256(weights).hexdigest()}
    seen["config"] = _config_digest(kind, manifest.get("config"))
    for name, value in seen.items():
        if hashes.get(name) != value:
            raise CheckpointError(
                f"checkpoint {path}", expected=f"sha256 {str(hashes.get(name))[:16]} of {name}",
                got=f"{value[:16]}", fix="the file was altered: copy it again, or train anew",
            )  # fmt: skip
    try:
        tensors = load(weights)
    except (SafetensorError, AssertionError, ValueError, RuntimeError, MemoryError) as error:
        raise CheckpointError(
            f"checkpoint {path}", expected="a safetensors file",
            got=str(error) or type(error).__name__, fix="copy or train it anew",
        ) from error  # fmt: skip
    if not isinstance(manifest["config"], dict):
        raise CheckpointError(
            f"checkpoint {path}", expected="a table of plain values as its config",
            got=type(manifest["config"]).__name__, fix="copy or train it anew",
        )  # fmt: skip
    return manifest["config"], tensors


def checkpoint_kind(path: str | Path) -> str:
    """What a checkpoint holds, by its manifest; `load_checkpoint` verifies the rest.

    Raises:
        CheckpointError: if there is none, or its manifest cannot be read.
    """
    path = as_path(path, "path of the checkpoint", error=CheckpointError)
    return str(_read(path, (MANIFEST,))[0].get("kind"))


def checkpoint_config(path: Path) -> dict[str, Any]:
    """The config of a checkpoint, by its manifest alone: nothing is verified; {} if none is in it.

    Raises:
        CheckpointError: if there is no checkpoint, or its manifest cannot be read.
    """
    config = _read(path, (MANIFEST,))[0].get("config")
    return config if isinstance(config, dict) else {}


def remove_checkpoint(path: Path, kind: str) -> None:
    """Remove a checkpoint of this kind; what is not one, or has other files in it, stays."""
    with contextlib.suppress(CheckpointError, OSError):
        if checkpoint_kind(path) == kind:
            discard_folder(path, _FILES)


def rebuild(
    path: str | Path, what: str, build: Callable[[], _T],
    tensors: Iterable[Tensor] | None = None, steps: int = 20_000,
) -> _T:  # fmt: skip
    """Run `build` on a verified config; whatever a foreign config breaks is a typed error.

    Args:
        path: of the checkpoint, for the message.
        what: is built, for the message.
        build: makes it.
        tensors: of the checkpoint: nothing is made that is out of proportion to them.
        steps: operations of torch that it may take, beside those that make layers.
    """
    from .networks.budget import Budget

    guard = contextlib.nullcontext() if tensors is None else Budget(tensors, steps)
    try:
        with guard:
            return build()
    except CheckpointError:
        raise
    except (
        ArithmeticError, AttributeError, AssertionError, LookupError, MemoryError, RecursionError,
        RuntimeError, TypeError, ValueError, OSError, SbitoolsError,
    ) as error:  # fmt: skip
        raise CheckpointError(
            f"checkpoint {path}", expected=f"the configuration of a {what}",
            got=f"{type(error).__name__}: {error}"[:1000],
            fix="load it with the version of sbitools that wrote it",
        ) from error  # fmt: skip


@contextlib.contextmanager
def _typed(path: Path) -> Iterator[None]:
    """Turn what the file system refuses while saving into a `CheckpointError`."""
    try:
        yield
    except Taken as taken:
        raise CheckpointError(
            f"checkpoint {path}", expected="a path that nobody else writes to",
            got=f"{taken.owner} saving there for {_WAIT:.0f} s",
            fix="wait for it, or choose another path",
        ) from taken  # fmt: skip
    except OSError as error:
        raise CheckpointError(
            f"checkpoint {path}", expected="a folder that can be written",
            got=f"{type(error).__name__}: {error.strerror or error}",
            fix="free disk space and save again; what was there before is kept"
            if error.errno in _FULL else "correct the path or its permissions, or choose another",
        ) from error  # fmt: skip


def _images(
    kind: str, config: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> dict[str, bytes]:  # fmt: skip
    """What the two files will hold."""
    from safetensors import SafetensorError
    from safetensors.torch import save

    try:
        flat = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
        weights = save(flat)
        manifest = {
            "schema": SCHEMA, "kind": kind, "config": dict(config),
            "versions": {"sbitools": __version__, "torch": str(torch.__version__)},
            "sha256": {
                WEIGHTS: hashlib.sha256(weights).hexdigest(),
                "config": _config_digest(kind, dict(config)),
            },
        }  # fmt: skip
        text = json.dumps(manifest, indent=1, allow_nan=False)
        parse_json(text)
    except (TypeError, ValueError, RecursionError, SafetensorError) as error:
        raise CheckpointError(
            f"checkpoint of kind {kind!r}", expected="a config of plain values, and tensors",
            got=f"{type(error).__name__}: {error}", fix="give finite numbers, text, lists, tables",
        ) from error  # fmt: skip
    return {WEIGHTS: weights, MANIFEST: text.encode()}


def _config_digest(kind: str, config: Any) -> str:
    return hashlib.sha256(json.dumps([kind, config], sort_keys=True).encode()).hexdigest()


def _read(path: Path, names: tuple[str, ...]) -> tuple[dict[str, Any], bytes]:
    """Manifest and, if named, weights, of one save."""
    limits = {MANIFEST: _MAX_MANIFEST}
    try:
        files = read_folder(path, {name: limits.get(name) for name in names})
        manifest = parse_json(files[0])
        if not isinstance(manifest, dict):
            raise ValueError("the manifest is not a table")
    except (OSError, ValueError, MemoryError) as error:
        raise CheckpointError(
            f"checkpoint {path}", expected=f"a folder with {WEIGHTS} and {MANIFEST}",
            got=f"{type(error).__name__}: {error}", fix="check the path; train it if it is absent",
        ) from error  # fmt: skip
    return manifest, files[-1]


def _check_replaceable(place: Path, kind: str) -> None:
    """Raise unless nothing, an empty folder or a checkpoint of this kind is at `place`."""
    got = _in_the_way(place, kind)
    if got:
        raise CheckpointError(
            f"checkpoint {place}", expected="a new path, an empty folder, or a checkpoint of kind "
            f"{kind!r} to replace", got=got,
            fix="choose another path; nothing there was changed",
        )  # fmt: skip


def _in_the_way(place: Path, kind: str) -> str:
    try:
        entries = {entry.name for entry in place.iterdir()}
    except FileNotFoundError:
        return ""
    except NotADirectoryError:
        return "a file"
    with contextlib.suppress(OSError):
        if place.samefile(Path.cwd()):
            return "the current folder"
    if not entries:
        return ""
    if MANIFEST not in entries:
        return f"a folder with {sorted(entries)[:3]}"
    try:
        manifest = parse_json(read_file(place / MANIFEST, most=_MAX_MANIFEST))
    except (OSError, ValueError) as error:
        return f"a folder whose {MANIFEST} cannot be read ({error})"
    ours = isinstance(manifest, dict) and {"schema", "kind", "sha256"} <= manifest.keys()
    if not ours or manifest["kind"] != kind:
        return f"one of kind {manifest['kind']!r}" if ours else f"another program's {MANIFEST}"
    other = sorted(entries - _FILES)
    return f"a checkpoint with other files in it: {other[:3]}" if other else ""
