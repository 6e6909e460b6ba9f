"""Thermal noise of SKA1-Low, from its design: temperature, area and baselines to a power spectrum.

A visibility of two stations of effective area A_e, observed for a time t in two polarisations,
has a noise of T_sys lambda^2 / A_e / sqrt(2 B t). Divided among the cells of the u-v plane that a
field of view tells apart, with n(u) baselines per unit area of half that plane, it is a noise of
power

    P_N(k_perp) = X^2 Y (lambda^2 / A_e)^2 T_sys^2 / (2 t n(u)),   k_perp = 2 pi u / X,

white along the line of sight (McQuinn et al. 2006, equations 6 to 8; Parsons et al. 2012a,
equation 15, with Omega' for lambda^2 / A_e and the time in one cell for t n). It is the noise of
one mode. Averaged over all modes of a shell in k, with weights 1 / P_N^2, a power spectrum has
the far smaller error of

    1 / error^2 = V / (2 (2 pi)^3) int_shell d^3k / Delta^2_N(k)^2,

V = X^2 Y Omega B, over the modes outside the foreground wedge: what 21cmSense calls its
sensitivity (Pober et al. 2013, 2014).

How it compares. With stations whose area does not fall above 110 MHz, as in 21cmSense, the error
is 0.5 to 1.1 times that of the tables which arXiv:2201.07587 made with 21cmSense for its own model
of the array (`REFERENCE_ERRORS`). In truth stations become sparse at 110 MHz, and from there on
their area falls as nu^-2: the error is larger by (nu / 110 MHz)^4, 8 at 187 MHz. That is in the
shipped tables: the flux density that equals the noise is 2 k_B T_sys / A_e = 1.9 kJy at 160 MHz,
against about 1.8 kJy of the SKAO's calculator and 0.8 kJy of 21cmSense (21cmSense issue 204).

References:
    | Cosmological parameter estimation using 21 cm radiation (McQuinn et al., 2006),
      astro-ph/0512263
    | A sensitivity and array-configuration study (Parsons et al., 2012a), arXiv:1103.2135
    | What next-generation 21 cm power spectrum measurements can teach us (Pober et al., 2014),
      arXiv:1310.7031
    | The cosmic dawn and epoch of reionization with SKA (Koopmans et al., 2015), arXiv:1505.07568
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from sbitools.errors import ObservationError

from .geometry import LINE, Background, wavelength
from .table import NoiseTable, foreground_sine

__all__ = [
    "FREQUENCIES", "REFERENCE_ERRORS", "SCENARIOS", "STATION", "baseline_density",
    "effective_area", "mode_power", "shell_error", "ska_low_table", "stations",
    "system_temperature",
]  # fmt: skip

STATION = 38.0
"""Diameter of a station in m."""

SCENARIOS = {"optimistic": ("beam", 0.0), "moderate": ("horizon", 0.1)}
"""Where foregrounds come from, and how far beyond their wedge they leak, in h/Mpc."""

FREQUENCIES = np.sort(LINE / (6 * 1.02 ** np.arange(92)))
"""In MHz: nodes of 1 + z in steps of 1.02 from z = 5 to 35.4."""

REFERENCE_ERRORS = (
    (85.0, 0.2049, 1.586, 4.353), (85.0, 0.4611, 18.55, 25.30), (85.0, 1.0759, 231.7, 237.9),
    (141.0, 0.2651, 0.0518, 0.1348), (141.0, 0.3976, 0.1855, 0.3392),
    (141.0, 1.3917, 8.179, 8.429), (187.0, 0.3045, 0.0085, 0.0224),
    (187.0, 0.4568, 0.0297, 0.0558), (187.0, 1.5987, 1.345, 1.385),
)  # fmt: skip
"""MHz, k in h/Mpc, errors in mK^2 of the optimistic and the moderate scenario, by 21cmSense.

Rows of the 184 tables that come with arXiv:2201.07587. 21cmSense writes k in h/Mpc; that work
takes them for 1/Mpc.
"""

_K = np.geomspace(0.01, 6.3, 29)
_DENSE = 110.0  # MHz, below which a station is filled
_BANDWIDTH = 8.0  # MHz, of the volume of which modes are averaged
_SQUARE_BEAM = 1.13 * (2.35 * 0.45) ** 2 / 2  # of a Gaussian of that width, in (lambda / D)^2
_BINS = 24  # of the length of baselines: fewer than make the pattern of the model visible


@lru_cache(maxsize=1)
def stations() -> np.ndarray:
    """Positions of 512 stations in m, (512, 2).

    A model of the published design, not a survey of the site: 224 stations fill a core of 500 m
    radius, 12 clusters of six surround it up to 1.85 km, and 36 clusters of six lie on three
    logarithmic spirals out to 35 km.
    """
    number = np.arange(224)
    angle = number * np.pi * (3 - np.sqrt(5))  # the golden angle: evenly filled
    core = _polar(500 * np.sqrt((number + 0.5) / 224), angle)
    corners = np.concatenate([np.zeros((1, 2)), _polar(45.0, np.arange(5) * 2 * np.pi / 5)])
    radius = np.concatenate([np.geomspace(700, 1850, 4), np.geomspace(2400, 35000, 12)])
    arms = [_polar(radius, 1.5 * np.log(radius / 700) + 2 * np.pi * arm / 3) for arm in range(3)]
    clusters = np.concatenate(arms)[:, None] + corners
    return np.concatenate([core, clusters.reshape(-1, 2)])


def _polar(radius: np.ndarray | float, angle: np.ndarray) -> np.ndarray:
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)


@lru_cache(maxsize=1)
def _baselines() -> tuple[np.ndarray, np.ndarray]:
    """Edges of bins in length in m, (25,), and baselines per m^2 of half the plane, (24,)."""
    place = stations()
    pairs = np.triu_indices(len(place), 1)
    length = np.hypot(*(place[pairs[0]] - place[pairs[1]]).T)
    edges = np.geomspace(length.min() * (1 - 1e-9), length.max() * (1 + 1e-9), _BINS + 1)
    counts = np.histogram(length, edges)[0]
    return edges, counts / (np.pi / 2 * (edges[1:] ** 2 - edges[:-1] ** 2))


def baseline_density(length: np.ndarray) -> np.ndarray:
    """Baselines per m^2 of half the plane, the average over all directions.

    Tracks of six hours turn the array by a quarter; that the baselines also become shorter when
    the field is low is left out. 0 for lengths that no pair of stations has.

    Args:
        length: in m, any shape.
    """
    edges, density = _baselines()
    middle = np.log(edges[:-1] * edges[1:]) / 2
    inside = (length >= edges[0]) & (length <= edges[-1])
    log = np.interp(np.log(np.where(inside, length, edges[0])), middle, np.log(density))
    return np.where(inside, np.exp(log), 0.0)


def system_temperature(frequency: np.ndarray | float) -> np.ndarray:
    """T_sky + T_receiver in K: 60 K (300 MHz / nu)^2.55, and 40 K + 0.1 T_sky (Koopmans 2015)."""
    sky = 60.0 * (300.0 / np.asarray(frequency, dtype=float)) ** 2.55
    return 1.1 * sky + 40.0


def effective_area(frequency: np.ndarray | float, dense: bool = False) -> np.ndarray:
    """Of a station in m^2: its geometric area, and less as nu^-2 above 110 MHz unless `dense`."""
    geometric = np.pi * STATION**2 / 4
    sparse = np.minimum(1.0, (_DENSE / np.asarray(frequency, dtype=float)) ** 2)
    return geometric * (np.ones_like(sparse) if dense else sparse)


def mode_power(
    k_perp: np.ndarray, frequency: float, background: Background, hours: float,
    dense: bool = False,
) -> np.ndarray:  # fmt: skip
    """P_N in mK^2 Mpc^3 of modes, infinite where there is no baseline.

    Args:
        k_perp: in 1/Mpc, positive, any shape.
        frequency: in MHz.
        background: the cosmology.
        hours: of integration on one field.
        dense: see `effective_area`.
    """
    x, length = background.distance(frequency), wavelength(frequency)
    density = baseline_density(k_perp * x / (2 * np.pi) * length) * length**2
    beam = length**2 / effective_area(frequency, dense)
    seconds_times_hertz = 2 * hours * 3600 * 1e6  # Y is per MHz
    noise = x**2 * background.depth(frequency) * (beam * system_temperature(frequency) * 1e3) ** 2
    with np.errstate(divide="ignore"):
        return noise / (seconds_times_hertz * density)


def shell_error(
    k: np.ndarray, frequency: float, scenario: str, background: Background, hours: float,
    dense: bool = False,
) -> np.ndarray:  # fmt: skip
    """Standard error of Delta^2 averaged over a shell, in mK^2, of noise alone.

    The shell is as wide as a mode along the line of sight in 8 MHz of bandwidth.

    Args:
        k: in 1/Mpc, (n,).
        frequency: in MHz.
        scenario: name of `SCENARIOS`.
        background: the cosmology.
        hours: of integration on one field.
        dense: see `effective_area`.
    """
    foregrounds, buffer = SCENARIOS[scenario]
    sine = foreground_sine(foregrounds, STATION, frequency)
    slope = background.wedge_slope(sine, frequency)
    # |k_par| / k at the middle of 4000 steps: the edge of the wedge is found to 1e-3 of the error.
    mu = (np.arange(4000) + 0.5) / 4000
    k_perp, k_par = k[:, None] * np.sqrt(1 - mu**2), k[:, None] * mu
    delta2 = k[:, None] ** 3 * mode_power(k_perp, frequency, background, hours, dense)
    seen = k_par >= slope * k_perp + buffer * background.h
    weight = np.where(seen, (2 * np.pi**2 / delta2) ** 2, 0.0).mean(axis=1)
    depth = background.depth(frequency) * _BANDWIDTH
    angle = _SQUARE_BEAM * (wavelength(frequency) / STATION) ** 2
    volume = background.distance(frequency) ** 2 * angle * depth
    modes = volume / (2 * (2 * np.pi) ** 3) * 4 * np.pi * k**2 * (2 * np.pi / depth)
    with np.errstate(divide="ignore"):
        return 1 / np.sqrt(modes * weight)


def ska_low_table(
    scenario: str, *, hours: float = 1080.0, background: Background | None = None,
    frequencies: np.ndarray = FREQUENCIES, dense: bool = False,
) -> NoiseTable:  # fmt: skip
    """The table of a scenario, see the module.

    Args:
        scenario: ``"optimistic"``: foregrounds come from the primary beam alone; ``"moderate"``:
            from the whole sky, and leak 0.1 h/Mpc beyond their wedge.
        hours: of integration on one field.
        background: the cosmology; the default of `Background` if None.
        frequencies: in MHz, ascending.
        dense: see `effective_area`.

    Raises:
        ObservationError: for another scenario.
    """
    if scenario not in SCENARIOS:
        raise ObservationError(
            "scenario of the noise", expected=" or ".join(SCENARIOS), got=repr(scenario),
            fix="choose one of them",
        )  # fmt: skip
    background = background or Background()
    edges, _ = _baselines()
    power = [mode_power(_K, float(f), background, hours, dense) for f in frequencies]
    error = [shell_error(_K, float(f), scenario, background, hours, dense) for f in frequencies]
    foregrounds, buffer = SCENARIOS[scenario]
    return NoiseTable(
        telescope=f"SKA1-Low, model of {len(stations())} stations", scenario=scenario,
        hours=hours, background=background, foregrounds=foregrounds,
        buffer=buffer * background.h, station=STATION,
        baselines=(float(edges[0]), float(edges[-1])), frequency=np.asarray(frequencies), k=_K,
        powers={"mode": _K**3 / (2 * np.pi**2) * np.stack(power), "average": np.stack(error)},
    )  # fmt: skip
