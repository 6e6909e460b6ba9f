"""What the axes of a field are: space, or a number that tells fields apart, or members of a set.

One reading for all that works along axes: smoothing, coarsening, symmetries, noise with a
spectrum, and the choice of a summary network. A `FieldSpec` may say it axis by axis; otherwise the
names of its axes do.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["AXIS_KINDS", "HEALPIX", "LINE_OF_SIGHT", "MEMBERS", "SPACE", "kinds_of"]

MEMBERS = "set"
"""Kind of a first axis that counts members in no order: independent observations of one theta."""

AXIS_KINDS = ("periodic", "open", "evolving", "healpix", "channel", MEMBERS)
"""Cells in a row that close on themselves, or that end; cells along a line of sight, along which
fields evolve; pixel numbers of a HEALPix map; whatever counts fields instead of cells; and what
counts the members of a set, which have no order."""

SPACE = ("periodic", "open", "evolving")
"""Kinds of axes along which neighbours in the array are neighbours in space."""

LINE_OF_SIGHT = "los"
"""Name of an axis along which fields evolve: mirrored, they are no longer what they were."""

HEALPIX = {"pixel": None, "healpix": None, "pixel_ring": "ring", "pixel_nested": "nested"}
"""Names of axes of HEALPix maps, and the order of pixels that each tells."""

_CHANNEL = ("channel", "map", "slice", "item")
# These count fields where there are further axes; alone, they are the axis of a spectrum.
_CHANNEL_OF_FIELDS = (
    "band", "bin", "chan", "channel", "color", "colour", "component", "detector", "energy",
    "energy_bin", "filter", "freq", "frequency", "map", "nu", "pol", "polarisation",
    "polarization", "redshift", "redshift_bin", "rgb", "snapshot", "stokes", "tomographic_bin",
    "wavelength", "z_bin",
)  # fmt: skip
# Other names of pixels, for what acts along axes; a summary network is chosen by those above.
_PIXELS = ("hpx", "healpix_pixel", "ipix", "npix", "pix", "pixel")


def kinds_of(dims: Sequence[str]) -> tuple[str, ...]:
    """The kind of each axis, as its name tells; an axis of no known name is periodic space.

    Args:
        dims: names of the axes of one field.
    """
    if len(dims) == 2 and dims[0] == "item":  # a set: neither its rows nor its columns are space
        return ("channel", "channel")
    return tuple(_kind(name, alone=len(dims) == 1) for name in dims)


def _kind(name: str, alone: bool) -> str:
    if name in HEALPIX:
        return "healpix"
    if name == LINE_OF_SIGHT:
        return "evolving"
    plain = name.lower()
    forms = {plain, plain.removesuffix("s"), plain.removesuffix("ies") + "y"}
    if not forms.isdisjoint(_PIXELS):
        return "healpix"
    counted = name in _CHANNEL or (not alone and not forms.isdisjoint(_CHANNEL_OF_FIELDS))
    return "channel" if counted else "periodic"
