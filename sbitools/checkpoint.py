"""Checkpoints: safetensors and a JSON manifest, verified by sha256, rebuilt from registry names.

A checkpoint is a folder with `weights.safetensors` and `manifest.json` (schema, kind, config,
versions, sha256 of the weights). It is written aside and renamed, so it is whole or absent.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from . import __version__
from .errors import CheckpointError
from .files import hash_file
from .plain import as_path

__all__ = ["checkpoint_kind", "load_checkpoint", "rebuild", "save_checkpoint"]

SCHEMA = 1
WEIGHTS, MANIFEST = "weights.safetensors", "manifest.json"
_MAX_MANIFEST = 64 << 20
_T = TypeVar("_T")


def save_checkpoint(
    path: str | Path, kind: str, config: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> Path:
    """Write a checkpoint; an older one at `path` is replaced only once the new one is whole.

    Args:
        path: folder to make.
        kind: what it is, e.g. ``"posterior"``; `load_checkpoint` asks for it.
        config: JSON values from which the object is rebuilt.
        tensors: the weights.

    Raises:
        CheckpointError: if the config is not JSON or the disk refuses.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    path = as_path(path)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    for left in path.parent.glob(f".{path.name}.*.tmp"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    try:
        aside.mkdir(parents=True)
        flat = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
        save_file(flat, aside / WEIGHTS)
        manifest = {
            "schema": SCHEMA, "kind": kind, "config": dict(config),
            "versions": {"sbitools": __version__, "torch": str(torch.__version__)},
            "sha256": {WEIGHTS: hash_file(aside / WEIGHTS)},
        }  # fmt: skip
        manifest["sha256"]["config"] = _config_digest(kind, manifest["config"])
        (aside / MANIFEST).write_text(json.dumps(manifest, indent=1, allow_nan=False))
        for name in (WEIGHTS, MANIFEST):
            _sync(aside / name)
        _replace(aside, path)
    except (OSError, TypeError, ValueError, SafetensorError) as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise CheckpointError(
            f"checkpoint {path}", expected="a writable folder and a config of plain values",
            got=f"{type(error).__name__}: {error}", fix="free disk space or choose another path",
        ) from error  # fmt: skip
    return path


def load_checkpoint(path: str | Path, kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Config and tensors of a checkpoint, both verified.

    Raises:
        CheckpointError: if it is absent, of another kind or schema, truncated or altered.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = as_path(path)
    _recover(path)
    manifest = _read_manifest(path)
    if manifest.get("schema") != SCHEMA or manifest.get("kind") != kind:
        raise CheckpointError(
            f"checkpoint {path}", expected=f"kind {kind!r}, schema {SCHEMA}",
            got=f"kind {manifest.get('kind')!r}, schema {manifest.get('schema')!r}",
            fix="pass the folder of the right object, or load it with the version that wrote it",
        )  # fmt: skip
    hashes = manifest.get("sha256") or {}
    seen = {WEIGHTS: hash_file(path / WEIGHTS) if (path / WEIGHTS).is_file() else "no file"}
    seen["config"] = _config_digest(kind, manifest.get("config"))
    for name, value in seen.items():
        if hashes.get(name) != value:
            raise CheckpointError(
                f"checkpoint {path}", expected=f"sha256 {str(hashes.get(name))[:16]} of {name}",
                got=f"{value[:16]}", fix="the file was altered: copy it again, or train anew",
            )  # fmt: skip
    try:
        return manifest["config"], load_file(path / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"checkpoint {path}", expected="a safetensors file", got=str(error),
            fix="copy or train it anew",
        ) from error  # fmt: skip


def checkpoint_kind(path: str | Path) -> str:
    """What a checkpoint holds, by its manifest; `load_checkpoint` verifies the rest.

    Raises:
        CheckpointError: if there is none, or its manifest cannot be read.
    """
    path = as_path(path)
    _recover(path)
    return str(_read_manifest(path).get("kind"))


def rebuild(path: str | Path, what: str, build: Callable[[], _T]) -> _T:
    """Run `build` on a verified config; whatever a foreign config breaks is a typed error."""
    try:
        return build()
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"checkpoint {path}", expected=f"the configuration of a {what}",
            got=f"{type(error).__name__}: {error}",
            fix="load it with the version of sbitools that wrote it",
        ) from error  # fmt: skip


def _config_digest(kind: str, config: Any) -> str:
    return hashlib.sha256(json.dumps([kind, config], sort_keys=True).encode()).hexdigest()


def _read_manifest(path: Path) -> dict[str, Any]:
    file = path / MANIFEST
    try:
        if file.stat().st_size > _MAX_MANIFEST:
            raise ValueError("the manifest is too large")
        manifest = json.loads(file.read_text())
        if not isinstance(manifest, dict):
            raise ValueError("the manifest is not a table")
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"checkpoint {path}", expected=f"a folder with {MANIFEST}",
            got=f"{type(error).__name__}: {error}", fix="check the path; train it if it is absent",
        ) from error  # fmt: skip
    return manifest


def _sync(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def _replace(new: Path, path: Path) -> None:
    """Put the folder `new` at `path`; the old one goes only when the new one is in place."""
    _recover(path)
    old = path.with_name(f".{path.name}.old")
    if path.exists():
        path.rename(old)
    new.rename(path)
    shutil.rmtree(old, ignore_errors=True)


def _recover(path: Path) -> None:
    """Undo half a replacement: a kill between its two renames leaves the old folder aside."""
    old = path.with_name(f".{path.name}.old")
    if old.is_dir():
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.rename(path)
