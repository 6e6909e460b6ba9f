"""Ways out of a store, and its housekeeping: design tables, xarray, merging of small parts."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sbitools.disk.files import typed, write_table
from sbitools.errors import StoreError
from sbitools.gate.plain import as_path

from .manifest import lock
from .parts import DONE, PartData, write_part

if TYPE_CHECKING:
    import xarray

    from .contents import StoreContents

__all__ = ["compact", "export_design", "to_xarray"]


def export_design(store: StoreContents, path: str | Path) -> Path:
    """Write what a code that runs elsewhere needs: index, seed and theta of each simulation.

    Args:
        store: whose design is written.
        path: a ``.csv`` (numbers with all digits) or ``.npz`` (index, seed, theta, names) file.

    Returns:
        The path.

    Raises:
        StoreError: for another suffix, a path that cannot be written, or one with a file that is
            no design of these parameters.
    """
    path = as_path(path, error=StoreError)
    theta, seeds, names = store.theta.numpy(), store.seeds.numpy(), store.parameters.names
    index = np.arange(len(store))
    if path.suffix == ".csv":
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["index", "seed", *names])
        for i, seed, row in zip(index, seeds, theta, strict=True):
            writer.writerow([int(i), int(seed), *map(repr, row.tolist())])
        data = text.getvalue().encode()
    elif path.suffix == ".npz":
        buffer = io.BytesIO()
        np.savez(buffer, index=index, seed=seeds, theta=theta, names=np.array(names, "U"))
        data = buffer.getvalue()
    else:
        raise StoreError(
            str(path), expected="a .csv or .npz file", got=f"suffix {path.suffix!r}",
            fix="choose one of these suffixes",
        )  # fmt: skip
    write_table(path, data)
    return path


def to_xarray(store: StoreContents) -> xarray.Dataset:
    """All finished simulations along the dimension ``simulation``, whose coordinate is the index.

    Variables: theta (with names as coordinate ``parameter``), seed, and the fields under their
    own names. With dask installed the fields are lazy; without, they are loaded.

    Raises:
        StoreError: if no simulation is done.
    """
    import xarray

    done = store.done
    if not len(done):
        raise StoreError(
            str(store.path), expected="finished simulations", got="none",
            fix="run the campaign first",
        )  # fmt: skip
    layout = store.layout
    data: dict[str, Any] = {
        "theta": (("simulation", "parameter"), store.theta.numpy()[done]),
        "seed": ("simulation", store.seeds.numpy()[done]),
        "group": ("simulation", store.groups[done]),
    }
    for what, spec in layout.fields.items():
        attrs = {"units": spec.unit, "long_name": spec.name}
        dims = ("simulation", *layout.axes[what])
        data[layout.variables[what]] = (dims, _lazy(store, what, done), attrs)
    coords = {"simulation": done, "parameter": store.parameters.names}
    return xarray.Dataset(data, coords)


def _lazy(store: StoreContents, what: str, done: np.ndarray) -> Any:
    try:
        import dask.array as da
        from dask.delayed import delayed
    except ImportError:
        return store.read(done, what).numpy()
    spec = store.layout.fields[what]
    size = store.manifest.task_size

    def load(begin: int, end: int) -> np.ndarray:
        return store.read(done[begin:end], what).numpy()

    chunks = [
        da.from_delayed(
            delayed(load, pure=False)(a, min(a + size, len(done))),
            (min(a + size, len(done)) - a, *spec.shape), dtype=spec.dtype,
        )
        for a in range(0, len(done), size)
    ]  # fmt: skip
    return da.concatenate(chunks)


def compact(store: StoreContents) -> None:
    """Merge the parts of each task into one, and remove parts that no longer count.

    Kill it anywhere: a simulation is always in at least one part.

    Raises:
        StoreError: if a campaign runs on the store, or a part is damaged.
    """
    with lock(store.path, exclusive=True):
        store.refresh()
        for start, stop in store.manifest.tasks():
            _merge(store, start, stop)
        store.refresh()
        for path in store._catalog.superseded():
            with typed(path):
                path.unlink(missing_ok=True)
    store.close()
    store.refresh()


def _merge(store: StoreContents, start: int, stop: int) -> None:
    catalog = store._catalog
    place = catalog.place[start:stop]
    if (place < 0).any() or len(np.unique(place)) < 2:
        return
    state = catalog.state[start:stop].copy()
    done = np.flatnonzero(state == DONE)
    fields = {}
    for name, spec in store.layout.fields.items():
        fields[name] = np.zeros((stop - start, *spec.shape), spec.dtype)
        fields[name][done] = store.read(done + start, name).numpy()
    errors = ["" if s == DONE else catalog.message(start + i) for i, s in enumerate(state)]
    theta, seeds = store.theta.numpy()[start:stop], store.seeds.numpy()[start:stop]
    write_part(
        store.path / "parts", store.layout,
        PartData(start, theta, seeds, state, errors, **fields),
    )  # fmt: skip
