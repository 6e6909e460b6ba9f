"""Fields to white noise that is normal, as far as maps without a network can take them, and back.

Each channel is made about normal cell by cell (`marginal`; where many cells are exactly 0, a
further channel says where), then freed of its mean and spread (`profile`), its distribution
made normal for each theta (`shape`), then freed of its spectrum and of the other channels
(`spectrum`). Which maps these are is what held-out simulations choose.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
from torch import Tensor

from sbitools.parameters import ParameterSpace

from .layout import Layout
from .marginal import Marginal, fit_marginal
from .modes import Modes
from .profile import Profile, fit_profile
from .shape import Shape, fit_shape
from .spectrum import Spectrum, products
from .terms import Terms, choose, possible_terms
from .zeros import filled, signed_depth

__all__ = ["Whitening"]

_CELLS = 2048  # of each channel and simulation, that its map is chosen by
_SURE = 1.0  # errors, by which a polynomial of a higher degree has to be better
_MOST = 1 << 25  # modes of all simulations that several kinds of bins are compared on


class Whitening:
    """A map of fields (B, *shape) to white ones (B, K, *space), for each theta another.

    Args:
        parameters: what theta is.
        layout: of the fields.
        marginals: of each channel.
        profiles: of each channel and each channel of zeros.
        shapes: of the same.
        terms: functions of theta that powers are followed by.
        mean_terms: the same for means and spreads.
        spectrum: of what is left.
        isotropic: whether it depends on the wavenumber alone.
    """

    def __init__(
        self, parameters: ParameterSpace, layout: Layout, marginals: Sequence[Marginal],
        profiles: Sequence[Profile], shapes: Sequence[Shape], terms: Terms, mean_terms: Terms,
        spectrum: Spectrum, isotropic: bool,
    ) -> None:  # fmt: skip
        self.parameters, self.layout = parameters, layout
        self.marginals, self.profiles, self.shapes = marginals, profiles, shapes
        self.terms, self.mean_terms, self.spectrum = terms, mean_terms, spectrum
        self.isotropic = isotropic
        self.modes = Modes(layout.space, layout.kinds, isotropic)
        self.gain = np.zeros_like(spectrum.log_power)  # see `correction`
        self.edges = np.zeros(len(self.marginals))  # depth from which on cells are 0

    @classmethod
    def fit(
        cls, x: np.ndarray, theta: Tensor, parameters: ParameterSpace, layout: Layout,
        symmetries: Sequence[str] = (), linear: bool = False,
    ) -> Self:  # fmt: skip
        """Of simulations x (n, *shape) with theta (n, P): every other one is held out.

        With `linear`, cells are not made normal, unless many are exactly 0: a Gaussian field then
        has the spectrum of the simulations, whatever else it lacks.
        """
        folded, held = layout.fold(x), np.arange(len(x)) % 2 == 1
        marginals = [_marginal(folded[:, c], held) for c in range(layout.channels)]
        if linear:
            marginals = [m if m.zeros else m.straight(folded[:, c])
                         for c, m in enumerate(marginals)]  # fmt: skip
        inner = np.stack([_inner(row, marginals, layout) for row in folded])
        mean_terms = _mean_terms(inner, theta, parameters, held)
        told = mean_terms(parameters, theta)
        free = [p and "shift" in symmetries for p in layout.periodic]
        profiles = [fit_profile(inner[:, k], told, held, free) for k in range(inner.shape[1])]
        for i, row in enumerate(told):
            inner[i] = [p.forward(f, row) for p, f in zip(profiles, inner[i], strict=True)]
        shapes = [fit_shape(inner[:, k], told, held, linear) for k in range(inner.shape[1])]
        for i, row in enumerate(told):
            inner[i] = [s.forward(f, row) for s, f in zip(shapes, inner[i], strict=True)]
        kinds = [True, False] if len(layout.space) > 1 and "turn" not in symmetries else [True]
        kinds = kinds if inner.size <= _MOST else kinds[:1]
        terms, isotropic, spectrum = _spectra(inner, theta, parameters, layout, held, kinds)
        return cls(
            parameters, layout, marginals, profiles, shapes, terms, mean_terms, spectrum, isotropic
        )

    @property
    def channels(self) -> int:
        """K: those of the fields, and those of zeros."""
        return len(self.profiles)

    @property
    def field_channels(self) -> list[int]:
        """Which of the K channels are values, not zeros."""
        each = [1 + m.zeros for m in self.marginals]
        return [sum(each[:c]) for c in range(len(each))]

    @property
    def varies(self) -> tuple[bool, ...]:
        """Whether cells differ along each axis of space, in their mean or spread."""
        each = [p.varies for p in self.profiles]
        return tuple(any(v) for v in zip(*each, strict=True))

    def forward(self, x: np.ndarray, theta: Tensor) -> np.ndarray:
        """Fields (B, *shape) to white ones (B, K, *space), float32."""
        told, powers = self._told(theta)
        out = np.empty((len(x), self.channels, *self.layout.space), dtype=np.float32)
        for i, folded in enumerate(self.layout.fold(x)):
            inner = _inner(folded, self.marginals, self.layout)
            flat = [
                s.forward(p.forward(f, told[i]), told[i])
                for p, s, f in zip(self.profiles, self.shapes, inner, strict=True)
            ]
            white = self.spectrum.whiten(
                self.modes.forward(np.stack(flat)), powers[i], self.modes
            )  # fmt: skip
            out[i] = self.modes.inverse(white)
        return out

    def inverse(self, white: np.ndarray, theta: Tensor) -> np.ndarray:
        """White fields (B, K, *space) to fields (B, *shape), float64; exact without a gain."""
        out = np.empty((len(white), self.layout.channels, *self.layout.space))
        for i, inner in enumerate(self._inside(white, theta)):
            out[i] = _outer(inner, self.marginals, self.edges)
        return self.layout.unfold(out)

    def set_edges(self, white: np.ndarray, theta: Tensor, shares: Sequence[float]) -> None:
        """Let as many cells of emulated fields be 0 as of simulations.

        Args:
            white: fields as `inverse` gets them, (B, K, *space).
            theta: theirs, (B, P).
            shares: of the cells of each channel of simulations that are 0.
        """
        depths = [k + 1 for k in self.field_channels]
        kept = np.stack(list(self._inside(white, theta)))
        for c, (m, k) in enumerate(zip(self.marginals, depths, strict=True)):
            self.edges[c] = np.quantile(kept[:, k], 1 - shares[c]) if m.zeros else 0.0

    def _inside(self, white: np.ndarray, theta: Tensor) -> Iterator[np.ndarray]:
        """Channels (K, *space) that are about normal and that say what is 0, of each field."""
        told, powers = self._told(theta)
        for i, w in enumerate(white.astype(np.float64)):
            coloured = self.spectrum.colour(
                self.modes.forward(w), powers[i], self.modes, self.gain
            )
            inner = self.modes.inverse(coloured)
            flat = [
                p.inverse(s.inverse(f, told[i]), told[i])
                for p, s, f in zip(self.profiles, self.shapes, inner, strict=True)
            ]
            yield np.stack(flat)

    def _told(self, theta: Tensor) -> tuple[np.ndarray, np.ndarray]:
        return self.mean_terms(self.parameters, theta), self.terms(self.parameters, theta)

    def arrays(self) -> dict[str, np.ndarray]:
        """What was measured, by names; changed in place, so is this map."""
        out = {"log_power": self.spectrum.log_power, "slopes": self.spectrum.slopes}
        out["gain"], out["edges"] = self.gain, self.edges
        for k, p in enumerate(self.profiles):
            for name in ("mean", "log_size", "place", "spread"):
                out[f"{name}_{k}"] = getattr(p, name)
        for k, s in enumerate(self.shapes):
            for name in ("nodes", "first", "gaps"):
                out[f"{name}_{k}"] = getattr(s, name)
        return out

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON: all but `arrays`, and their shapes."""
        return {
            "marginals": [m.to_dict() for m in self.marginals], "terms": self.terms.to_dict(),
            "mean_terms": self.mean_terms.to_dict(), "isotropic": self.isotropic,
            "shapes": {name: list(a.shape) for name, a in self.arrays().items()},
        }  # fmt: skip

    @classmethod
    def from_dict(
        cls, values: Mapping[str, Any], parameters: ParameterSpace, layout: Layout
    ) -> Self:  # fmt: skip
        """Of `to_dict`, with zeros as `arrays`."""
        empty = {name: np.zeros(shape) for name, shape in values["shapes"].items()}
        n = sum(name.startswith("mean_") for name in empty)
        profiles = [
            Profile(*(empty[f"{name}_{k}"] for name in ("mean", "log_size", "place", "spread")))
            for k in range(n)
        ]
        shapes = [
            Shape(*(empty[f"{name}_{k}"] for name in ("nodes", "first", "gaps"))) for k in range(n)
        ]
        found = cls(
            parameters, layout, [Marginal.from_dict(m) for m in values["marginals"]], profiles,
            shapes, Terms.from_dict(values["terms"]), Terms.from_dict(values["mean_terms"]),
            Spectrum(empty["log_power"], empty["slopes"]), values["isotropic"],
        )  # fmt: skip
        found.gain, found.edges = empty["gain"], empty["edges"]
        return found


def _marginal(x: np.ndarray, held: np.ndarray) -> Marginal:
    cells = x.reshape(len(x), -1)
    if cells.shape[1] > _CELLS:
        rng = np.random.default_rng(0)
        cells = cells[:, np.sort(rng.choice(cells.shape[1], _CELLS, replace=False))]
    cells = cells.astype(np.float64)
    found = fit_marginal(cells[~held], cells[held])
    return found.reaching(x)


def _inner(folded: np.ndarray, marginals: Sequence[Marginal], layout: Layout) -> np.ndarray:
    """Channels (C, *n) of one field to those that are about normal, (K, *n)."""
    out = []
    for m, x in zip(marginals, folded, strict=True):
        y = m.forward(x)
        if not m.zeros:
            out.append(y)
            continue
        empty = x == 0
        mean = float(y[~empty].mean()) if not empty.all() else 0.0
        out.append(filled(y - mean, empty, layout.periodic) + mean)
        out.append(signed_depth(empty, layout.periodic))
    return np.stack(out)


def _outer(inner: np.ndarray, marginals: Sequence[Marginal], edges: np.ndarray) -> np.ndarray:
    """Inverse of `_inner`, (K, *n) to (C, *n)."""
    out, rest = [], iter(inner)
    for m, edge in zip(marginals, edges, strict=True):
        x = m.inverse(next(rest))
        out.append(np.where(next(rest) > edge, 0.0, x) if m.zeros else x)
    return np.stack(out)


def _mean_terms(
    inner: np.ndarray, theta: Tensor, parameters: ParameterSpace, held: np.ndarray
) -> Terms:
    means = inner.reshape(*inner.shape[:2], -1).mean(2)
    spread = means.std(0)
    means = (means - means.mean(0)) / np.where(spread > 1e-9 * np.abs(means).max(0), spread, 1.0)

    def scores(terms: Terms) -> np.ndarray:
        told = terms(parameters, theta)
        slopes = np.linalg.lstsq(told[~held], means[~held], rcond=None)[0]
        return -((means[held] - told[held] @ slopes) ** 2).sum(1)

    return choose(possible_terms(parameters, theta, int((~held).sum())), scores, _SURE)


def _spectra(
    inner: np.ndarray, theta: Tensor, parameters: ParameterSpace, layout: Layout,
    held: np.ndarray, kinds: Sequence[bool],
) -> tuple[Terms, bool, Spectrum]:  # fmt: skip
    found: dict[bool, tuple[np.ndarray, np.ndarray]] = {}
    for isotropic in kinds:
        modes = Modes(layout.space, layout.kinds, isotropic)
        each = np.stack([products(modes.forward(row), modes) for row in inner])
        found[isotropic] = each, modes.counts

    def scores(candidate: tuple[Terms, bool]) -> np.ndarray:
        (each, counts), told = found[candidate[1]], candidate[0](parameters, theta)
        fitted = Spectrum.fit(told[~held], each[~held], counts)
        return fitted.scores(told[held], each[held], counts)

    tried = [(t, True) for t in possible_terms(parameters, theta, int((~held).sum()))]
    best = choose(tried, scores, _SURE)
    best = choose([best, *((best[0], False) for k in kinds if not k)], scores)
    each, counts = found[best[1]]
    return *best, Spectrum.fit(best[0](parameters, theta), each, counts)
