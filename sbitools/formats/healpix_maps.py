"""HEALPix maps in FITS tables, one map per column; the order of pixels must be stated."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import Any

import numpy as np

from .fields import Fields
from .fits_parts import find_part, is_map, open_parts
from .reading import bad_file

__all__ = ["MapFields", "open_maps"]

_ORDERS = {"RING": "ring", "NESTED": "nested", "NEST": "nested"}


class MapFields(Fields):
    """Maps (n_maps, 12 Nside^2), one row per column of the table; UNSEEN stays as it is."""

    def __init__(self, path: Path, part: Any, columns: list[Any]) -> None:
        self._part, self._names = part, [column.name for column in columns]
        order, nside = _order(path, part.header), _nside(path, part.header)
        lengths = {int(np.prod(part.data.field(n).shape)) for n in self._names}
        if lengths != {12 * nside**2}:
            raise bad_file(
                path, f"maps of the full sky: {12 * nside**2} pixels for NSIDE {nside}",
                f"{sorted(lengths)} values per map",
                "write the full sky: healpy.write_map(..., partial=False)",
            )  # fmt: skip
        kinds = {part.data.field(n).dtype.newbyteorder("=") for n in self._names}
        attrs = {"ORDERING": order, "NSIDE": nside, "columns": tuple(self._names)}
        attrs |= {"COORDSYS": part.header["COORDSYS"]} if "COORDSYS" in part.header else {}
        attrs |= {"units": unit} if (unit := _unit(path, columns)) else {}
        super().__init__(
            path, (len(columns), 12 * nside**2), np.result_type(*kinds), attrs=attrs,
            axis_names=("", f"pixel_{order}"), kinds=("healpix",),
        )  # fmt: skip

    def _read(self, rows: Any) -> np.ndarray:
        names = self._names if rows is ... else self._names[rows]
        out = np.empty((len(names), self.shape[1]), self.dtype)
        for row, name in zip(out, names, strict=True):
            row[:] = np.ravel(self._part.data.field(name))
        return out

    def whole(self) -> np.ndarray:
        """All maps; of a single one, its pixels."""
        values = self[...]
        return values[0] if len(values) == 1 else values


def open_maps(path: Path, dataset: str | None, stack: contextlib.ExitStack) -> MapFields:
    """Maps of a FITS table: all columns of a part, or the column that `dataset` names.

    Raises:
        StoreError: for a part of the sky, an order that is not stated, or units that differ.
    """
    parts = open_parts(path, stack, mapped=True)
    for part in parts:
        named = [c for c in part.columns if c.name == dataset] if is_map(part) else []
        if named:
            return MapFields(path, part, named)
    part = find_part(path, parts, dataset, is_map, "table of HEALPix maps")
    scheme = str(part.header.get("INDXSCHM", "IMPLICIT")).strip().upper()
    if scheme != "IMPLICIT" or str(part.header.get("OBJECT", "")).strip() == "PARTIAL":
        raise bad_file(
            path, "maps of the full sky", "a list of pixels (INDXSCHM = 'EXPLICIT')",
            "write the full sky: healpy.write_map(..., partial=False)",
        )  # fmt: skip
    return MapFields(path, part, list(part.columns))


def _order(path: Path, header: Any) -> str:
    stated = str(header.get("ORDERING", "")).strip().upper()
    if stated not in _ORDERS:
        raise bad_file(
            path, "ORDERING = 'RING' or 'NESTED' in the header",
            f"ORDERING = {stated!r}" if stated else "no ORDERING",
            "find out which it is and write it down: astropy.io.fits.setval(file, 'ORDERING', "
            "value='RING', ext=1), or healpy.write_map(..., nest=...)",
        )  # fmt: skip
    return _ORDERS[stated]


def _nside(path: Path, header: Any) -> int:
    nside = header.get("NSIDE")
    if not isinstance(nside, int) or nside < 1 or math.log2(nside) % 1:
        raise bad_file(
            path, "NSIDE, a power of two, in the header", f"NSIDE = {nside!r}",
            "write the map with healpy.write_map",
        )  # fmt: skip
    return nside


def _unit(path: Path, columns: list[Any]) -> str:
    units = {str(c.unit or "").strip() for c in columns}
    if len(units) > 1:
        raise bad_file(
            path, "maps in one unit",
            f"{', '.join(f'{c.name} in {c.unit!r}' for c in columns)}",
            "name one of them: dataset=..., or --dataset on the command line",
        )  # fmt: skip
    return units.pop()
