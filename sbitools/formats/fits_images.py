"""Images in FITS files, read as they are sliced, and whether a file has images or maps."""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from sbitools.errors import StoreError

from .fields import Fields
from .fits_parts import find_part, has_image, is_map, is_table, open_parts
from .healpix_maps import open_maps
from .reading import bad_file

__all__ = ["ImageFields", "open_fits"]


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


def open_fits(path: Path, dataset: str | None, stack: contextlib.ExitStack) -> Fields:
    """Images, or HEALPix maps, of a FITS file.

    Raises:
        StoreError: if it has neither, or several and none is named.
    """
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
