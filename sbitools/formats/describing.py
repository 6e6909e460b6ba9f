"""What a set of fields is: its range, its faults and its axes, seen block by block."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np

from sbitools.axes import kinds_of
from sbitools.labels import is_missing

from .fields import Fields
from .reading import bad_file

__all__ = ["Axis", "Seen", "describe", "guess_axes"]

_BLOCK = 1 << 25  # bytes that are read at once
_CHANNELS = 8  # a longer first axis is hardly one of channels
_LEAST_PIXELS = 192  # of a map with Nside 4; shorter data are vectors


@dataclass(frozen=True)
class Axis:
    """An axis of one field.

    Args:
        name: as the file states it, or a proposal.
        length: cells along it.
        kind: one of `sbitools.axes.AXIS_KINDS`.
        reason: why.
        stated: whether the file says so; otherwise it is a guess, to be confirmed.
    """

    name: str
    length: int
    kind: str
    reason: str
    stated: bool


@dataclass(frozen=True)
class Seen:
    """What `describe` found.

    Args:
        shape: of the set, (n, ...).
        dtype: of the values.
        unit: as the file states it, or None.
        dims: names of axes as the file states them, or None.
        axes: each axis of one field, stated or guessed.
        minimum, maximum, mean, std: of all finite values (moduli of complex ones); NaN if none.
        zeros: share of values that are exactly zero.
        failed: number of simulations with NaN, infinite, UNSEEN or masked values.
        first_failed: the first of them, or None.
        duplicates: number of simulations that are equal to an earlier one, value for value.
        first_duplicate: the first of them and the one that it equals, or None.
        constant: share of cells that have one value in all simulations without missing values.
    """

    shape: tuple[int, ...]
    dtype: str
    unit: str | None
    dims: tuple[str, ...] | None
    axes: tuple[Axis, ...]
    minimum: float
    maximum: float
    mean: float
    std: float
    zeros: float
    failed: int
    first_failed: int | None
    duplicates: int
    first_duplicate: tuple[int, int] | None
    constant: float

    @property
    def n(self) -> int:
        """Number of simulations."""
        return self.shape[0]


class _Moments:
    """Range, mean and scatter of values that come in blocks (Chan, Golub & LeVeque 1983)."""

    def __init__(self) -> None:
        self.n, self.mean, self.squares, self.zeros = 0, 0.0, 0.0, 0
        self.least, self.most = math.inf, -math.inf

    def add(self, values: np.ndarray) -> None:
        if not values.size:
            return
        values = values.astype(np.float64).ravel()
        mean, n = float(values.mean()), values.size
        with np.errstate(over="ignore"):
            squares, total = float(((values - mean) ** 2).sum()), self.n + n
            step = mean - self.mean
            self.squares += squares + step * step * self.n * n / total
        self.mean, self.n = self.mean + step * n / total, total
        self.zeros += int(np.count_nonzero(values == 0))
        self.least = min(self.least, float(values.min()))
        self.most = max(self.most, float(values.max()))


def describe(fields: Fields) -> Seen:
    """Read all fields once, block by block, and say what they are.

    Args:
        fields: as from `open_fields`, of shape (n, ...).

    Raises:
        StoreError: for damage that shows only when everything is read, and if there is nothing.
    """
    if not len(fields):
        raise bad_file(fields.path, "one row per simulation", f"shape {fields.shape}",
                       "write the simulations along the first axis")  # fmt: skip
    n, cells = len(fields), math.prod(fields.shape[1:])
    rows = max(1, _BLOCK // max(1, cells * max(8, fields.dtype.itemsize)))
    moments, seen = _Moments(), {}
    failed: list[int] = []
    twice: list[tuple[int, int]] = []
    usual: np.ndarray | None = None
    constant = np.ones(cells, bool)
    for start in range(0, n, rows):
        block = fields[start : min(start + rows, n)]
        flat = np.ma.getdata(block).reshape(len(block), -1)
        bad = np.ma.getmaskarray(block).reshape(flat.shape) | is_missing(flat)
        whole = ~bad.any(1)
        failed += (np.flatnonzero(~whole) + start).tolist()
        moments.add(np.abs(flat[~bad]) if flat.dtype.kind == "c" else flat[~bad])
        for i in np.flatnonzero(whole):
            digest = hashlib.blake2b(np.ascontiguousarray(flat[i]).data, digest_size=16).digest()
            first = seen.setdefault(digest, start + int(i))
            if first != start + i:
                twice.append((start + int(i), first))
        if whole.any():
            usual = flat[whole][0].copy() if usual is None else usual
            constant &= (flat[whole] == usual).all(0)
    std = math.sqrt(moments.squares / moments.n) if moments.n else math.nan
    return Seen(
        fields.shape, str(fields.dtype), fields.unit, fields.dims, guess_axes(fields),
        moments.least if moments.n else math.nan, moments.most if moments.n else math.nan,
        moments.mean if moments.n else math.nan, std, moments.zeros / max(1, n * cells),
        len(failed), failed[0] if failed else None, len(twice), twice[0] if twice else None,
        float(constant.mean()) if usual is not None and len(seen) > 1 else 0.0,
    )  # fmt: skip


def guess_axes(fields: Fields) -> tuple[Axis, ...]:
    """The axes of one field: as the file names them, or a guess with its reason."""
    shape = list(fields.shape[1:])
    if fields.dims is not None:
        kinds = kinds_of(fields.dims)
        if fields.kinds is not None:
            kinds = (*kinds[: -len(fields.kinds)], *fields.kinds)
        return tuple(
            Axis(name, length, kind, "the file names it so", True)
            for name, length, kind in zip(fields.dims, shape, kinds, strict=True)
        )
    if not shape:
        return ()
    if fields.kinds == ("healpix",):
        order = fields.attrs.get("ORDERING")
        pixels = Axis(f"pixel_{order}", shape[-1], "healpix", f"the file says {order}", True)
        return (*(_channel(length, "map") for length in shape[:-1]), pixels)
    if _is_map(shape[-1]) and len(shape) <= 2:
        nside = math.isqrt(shape[-1] // 12)
        reason = f"{shape[-1]} = 12 x {nside}^2 pixels; the file does not say in which order"
        pixels = Axis("pixel", shape[-1], "healpix", reason, False)
        return (*(_channel(length) for length in shape[:-1]), pixels)
    first = len(shape) > 1 and shape[0] <= _CHANNELS and min(shape[1:]) > _CHANNELS
    return (*([_channel(shape[0])] if first else []), *_space(shape[1:] if first else shape))


def _space(lengths: list[int]) -> tuple[Axis, ...]:
    names = {1: ("i",), 2: ("x", "y"), 3: ("x", "y", "z")}.get(
        len(lengths), tuple(f"axis_{i}" for i in range(len(lengths)))
    )
    reason = "nothing says more; open holds for any, periodic where opposite ends are neighbours"
    return tuple(Axis(name, length, "open", reason, False)
                 for name, length in zip(names, lengths, strict=True))  # fmt: skip


def _channel(length: int, name: str = "channel") -> Axis:
    reason = f"{length} before longer axes: it seems to count fields"
    return Axis(name, length, "channel", reason, False)


def _is_map(length: int) -> bool:
    nside = math.isqrt(length // 12)
    return length >= _LEAST_PIXELS and 12 * nside**2 == length and nside & (nside - 1) == 0
