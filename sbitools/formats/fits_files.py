"""FITS: which part of a file is meant, and images, read as they are sliced."""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from sbitools.errors import StoreError

from .fields import Fields
from .reading import bad_file

__all__ = [
    "ImageFields",
    "find_part",
    "has_image",
    "is_map",
    "is_table",
    "open_fits",
    "open_parts",
]


class ImageFields(Fields):
    """An image or a stack of images: BSCALE and BZERO are applied, BLANK is NaN."""

    def __init__(self, path: Path, part: Any) -> None:
        self._part = part
        header = part.header
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dtype = np.asarray(part.section[(slice(0, 1),) * len(part.shape)]).dtype
        super().__init__(path, part.shape, dtype, attrs=_facts(header, "BUNIT"))

    def _read(self, rows: Any) -> np.ndarray:
        chosen = slice(None) if rows is ... else rows
        # `section` returns numbers, not arrays, where all axes but one are of length 1
        return np.array(self._part.section[chosen]).reshape(-1, *self.shape[1:])


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


def open_fits(path: Path, dataset: str | None, stack: contextlib.ExitStack) -> Fields:
    """Images, or HEALPix maps, of a FITS file.

    Raises:
        StoreError: if it has neither, or several and none is named.
    """
    from .healpix_maps import open_maps

    parts = open_parts(path, stack)
    maps = [i for i, part in enumerate(parts) if is_map(part)]
    if maps and not any(has_image(part) for part in parts):
        return open_maps(path, dataset, stack)
    try:
        part = find_part(path, parts, dataset, lambda p: has_image(p) or is_map(p),
                         "image or HEALPix map")  # fmt: skip
    except StoreError as error:
        tables = [p for p in parts if is_table(p) and not is_map(p)]
        if dataset is None and tables and not maps and not any(map(has_image, parts)):
            raise bad_file(
                path, "an image, or maps with PIXTYPE = 'HEALPIX'", "tables of other kinds",
                "write maps with healpy.write_map; a table of parameters is given as theta",
            ) from error  # fmt: skip
        raise
    return open_maps(path, dataset, stack) if is_map(part) else ImageFields(path, part)


def _facts(header: Any, unit: str) -> dict[str, Any]:
    """Cards as attributes; a unit that is not stated is left out."""
    facts = {k: header[k] for k in ("OBJECT", "TELESCOP", "DATE-OBS") if k in header}
    text = str(header.get(unit, "")).strip()
    return facts | ({"units": text} if text else {})
