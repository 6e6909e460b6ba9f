"""Parts (HDUs) of FITS files: which are there, and which one is meant."""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from .reading import bad_file

__all__ = ["find_part", "has_image", "is_map", "is_table", "open_parts"]


def open_parts(path: Path, stack: contextlib.ExitStack, *, mapped: bool = False) -> Any:
    """The parts (HDUs) of a FITS file, closed with `stack`; only headers are read.

    Raises:
        StoreError: for a file that ends early.
    """
    from astropy.io import fits

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        file = stack.enter_context(path.open("rb"))  # closed also if it is no FITS file
        parts: Any = stack.enter_context(fits.open(file, memmap=mapped))
        for part in parts:  # finds all headers
            _ = part.shape if part.is_image else None
    early = [str(w.message) for w in said if "truncated" in str(w.message)]
    if early:
        raise bad_file(path, "a whole FITS file", early[0])
    return parts


def find_part(path: Path, parts: Any, dataset: str | None, kinds: Any, what: str) -> Any:
    """The part that `dataset` names (``"1"``, ``"SCI"``, ``"SCI,2"``), or the only one.

    Args:
        path: of the file.
        parts: as from `open_parts`.
        dataset: name or number, or None.
        kinds: function that says whether a part is of the kind that is wanted.
        what: that kind, for messages.

    Raises:
        StoreError: if it is not there, or none is named and there are several.
    """
    wanted = [part for part in parts if kinds(part)]
    fix = "name one by its number or name: dataset=..., or --dataset on the command line"
    there = [f"{i}: {p.name or 'no name'} {type(p).__name__}" for i, p in enumerate(parts)]
    if dataset is None:
        if len(wanted) == 1:
            return wanted[0]
        raise bad_file(path, f"one {what}", f"{len(wanted)} in the parts {there[:20]}", fix)
    name, _, version = str(dataset).partition(",")
    key: Any = int(name) if name.strip().isdecimal() else name.strip()
    if version.strip().isdecimal():
        key = (key, int(version))
    try:
        part = parts[key]
    except (KeyError, IndexError) as error:
        raise bad_file(path, f"a part {dataset!r}", f"the parts {there[:20]}", fix) from error
    if not kinds(part):
        raise bad_file(path, f"{what} in part {dataset!r}", type(part).__name__, fix)
    return part


def has_image(part: Any) -> bool:
    """Whether a part has pixels."""
    return bool(part.is_image and part.shape and np.prod(part.shape))


def is_table(part: Any) -> bool:
    """Whether a part is a table, of text or binary."""
    return hasattr(part, "columns") and not part.is_image


def is_map(part: Any) -> bool:
    """Whether a part is a table of HEALPix maps."""
    return is_table(part) and str(part.header.get("PIXTYPE", "")).strip().upper() == "HEALPIX"
