"""Small maps of gain errors for the tests of validation: Nside 4, Gaussian or heavy-tailed."""

from __future__ import annotations

from functools import cache

import numpy as np

from emulators.survey.instrument.mapmaking import MapMaker
from emulators.survey.instrument.response import LinearResponse
from emulators.survey.instrument.scan import Scan
from emulators.survey.instrument.sky import dipole_map

NSIDE, PIXELS = 4, 192


@cache
def response():
    """Of 4 detectors and 64 rings, in uK per unit gain error."""
    maker = MapMaker(Scan(n_rings=64, samples=128).pointing(nside=NSIDE))
    return LinearResponse.build(maker, 1e6 * dipole_map(NSIDE))


def covariance():
    """Exact covariance of `stripes`, (384, 384), uK^2."""
    return response().covariance(1e-6)


def stripes(n, seed, tails=False):
    """Maps (n, 2, 192) in uK of gain errors of 1e-3; with `tails` the size varies by map."""
    rng = np.random.default_rng(seed)
    gains = 1e-3 * rng.standard_normal((n, 256))
    if tails:  # a mixture of two sizes with the same mean square
        size = np.where(rng.random(n) < 0.2, 2.0, 0.5)
        gains *= size[:, None]
    return response().maps(gains).astype(np.float32)


def blurred(maps):
    """Nine tenths of every pixel's value are replaced by the mean of the four of its parent."""
    parents = maps.reshape(*maps.shape[:-1], -1, 4).mean(-1)
    return (0.1 * maps + 0.9 * np.repeat(parents, 4, axis=-1)).astype(np.float32)


def shuffled(maps, seed):
    """Pixels of every map in another random order: values stay, stripes go."""
    order = np.random.default_rng(seed).permuted(
        np.tile(np.arange(PIXELS), (len(maps), 1)), axis=1
    )
    return np.take_along_axis(maps, np.repeat(order[:, None], 2, axis=1), axis=2)
