"""Arrays that stages leave for the report: written by the chain, read by nothing else."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sbitools.disk.files import read_file, write_atomic
from sbitools.errors import StoreError

if TYPE_CHECKING:
    from sbitools.store import SimulationStore

__all__ = [
    "Examples",
    "load_draws",
    "load_examples",
    "load_statistics",
    "save_examples",
    "save_statistics",
]

_EXAMPLE_DRAWS = 4000
_SEPARATOR = "/"


@dataclass(frozen=True)
class Examples:
    """Posteriors of a few reference observations.

    Args:
        indices: of the simulations in the store, shape (n,).
        truth: inferred parameters, shape (n, P).
        draws: shape (n, n_draws, P).
    """

    indices: np.ndarray
    truth: np.ndarray
    draws: np.ndarray


def save_statistics(folder: Path, statistics: Mapping[str, Any]) -> Path:
    """Write what a system's `validate` returned: nested mappings of arrays, numbers and text."""
    return _write(folder / "statistics.npz", _flat(statistics))


def load_statistics(path: Path) -> dict[str, Any]:
    """Inverse of `save_statistics`; numbers and texts come back as such.

    Raises:
        StoreError: if the file cannot be read.
    """
    nested: dict[str, Any] = {}
    for key, value in _read(path).items():
        *parents, name = (part.replace("~1", _SEPARATOR).replace("~0", "~")
                          for part in key.split(_SEPARATOR))  # fmt: skip
        table = nested
        for parent in parents:
            table = table.setdefault(parent, {})
        table[name] = value.item() if value.ndim == 0 else value
    return nested


def save_examples(path: Path, posterior: Any, store: SimulationStore, n: int, seed: int) -> Path:
    """Draw from the posterior for `n` simulations spread over the store, and write the draws."""
    import torch

    from sbitools.seeds import derive

    done = store.done
    indices = done[np.linspace(0, len(done) - 1, min(n, len(done))).astype(int)]
    noise = torch.tensor([derive(seed, int(i)) for i in indices])
    x = posterior.observe(store.read(indices), noise)
    draws = posterior.sample(x, _EXAMPLE_DRAWS, seed=derive(seed, 0))
    columns = store.parameters.inferred_columns
    truth = store.theta[indices][:, columns].numpy()
    return _write(path, {"indices": indices, "truth": truth, "draws": draws.numpy()})


def load_examples(path: Path) -> Examples:
    """Inverse of `save_examples`."""
    return Examples(**_read(path))


def load_draws(path: Path) -> np.ndarray:
    """Draws (n, P) that the stage of the observation wrote.

    Raises:
        StoreError: if the file cannot be read.
    """
    return _read(path)["theta"]


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, np.ndarray]:
    out: dict[str, np.ndarray] = {}
    for key, value in values.items():
        path = prefix + key.replace("~", "~0").replace(_SEPARATOR, "~1")  # as in a JSON pointer
        if isinstance(value, Mapping):
            out |= _flat(value, path + _SEPARATOR)
        elif value is not None:
            out[path] = np.asarray(value)
    return out


def _write(path: Path, arrays: Mapping[str, np.ndarray]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **dict(arrays))
    write_atomic(path, stream.getvalue())
    return path


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        # By way of memory: numpy leaves a damaged file open.
        with np.load(io.BytesIO(read_file(path)), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise StoreError(
            str(path), expected="arrays written by an earlier stage", got=str(error),
            fix="run the stage that writes it again",
        ) from error  # fmt: skip
