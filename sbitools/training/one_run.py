"""One training per folder, of however many networks: each has a part of the folder for its state.

Networks of other methods have other parts, so that no part alone could tell that another training
is there already.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sbitools.errors import CheckpointError

from .run_state import RunState, claimed

__all__ = ["only_training"]

# Folders of the states of one training: stages, networks for data vectors, and members.
_STAGES = ("", "pretrain", "frozen")
_VECTORS = ("direct", "emulated", "emulator-affine", "emulator-mixtures")
_OWN = {"option seed", "option option seed", "network", "option network"}  # of each member
_LOCK = ".training.lock"


@contextlib.contextmanager
def only_training(run_dir: Path, identity: Mapping[str, Any], resume: bool) -> Iterator[None]:
    """Be the only training of `run_dir` for the block, and go on with no other one.

    Args:
        run_dir: of the training; made if absent.
        identity: plain values that tell it from others.
        resume: take up what is there.

    Raises:
        RunDirError: if another process trains there, or a training is there that is of another
            identity, or not to be taken up.
    """
    # The first stage writes them so.
    state = RunState(run_dir, {f"option {k}": v for k, v in identity.items()} | dict(identity))
    if os.environ.get("RANK", "0") != "0":  # of torchrun: the first one looks, and waits for none
        yield
        return
    with claimed(state.run_dir, _LOCK):
        for part in _parts(state.run_dir):
            there = RunState(part, state.options)
            if not resume:
                there.refuse()
            with contextlib.suppress(CheckpointError):  # damaged: whoever needs it says so
                before = there.stated()
                there.compare(before, there.options.keys() & before.keys() - _OWN)
        yield


def _parts(run_dir: Path) -> list[Path]:
    """Folders that hold states."""
    members = sorted(p for p in run_dir.glob("member-*") if p.name[7:].isdecimal())
    found = [run_dir / name for name in (*_STAGES, *_VECTORS)]
    found += [member / name for member in members for name in _STAGES]
    return [folder for folder in found if folder.is_dir()]
