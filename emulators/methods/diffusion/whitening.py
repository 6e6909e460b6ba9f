"""Fields to white noise that is normal, as far as maps without a network can take them, and back.

Each channel is made about normal cell by cell (`marginal`; where many cells are exactly 0, a
further channel says where), then freed of its mean and spread (`profile`), its distribution
made normal for each theta (`shape`), then freed of its spectrum, of the other channels and of what
follows from a source (`spectrum`). Which maps these are is what held-out simulations choose.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Self

import numpy as np
from torch import Tensor

from sbitools.parameters import ParameterSpace

from .cells import cell_map, inner_channels, outer_channels
from .layout import Layout
from .marginal import Marginal
from .modes import Modes
from .profile import Profile, fit_profile
from .shape import Shape, fit_shape
from .source import Source
from .spectrum import Spectrum, products
from .spectrum_fit import fit_sized, log_sizes, resized
from .terms import Terms, choose, possible_terms

__all__ = ["Whitening"]

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
        source: that fields follow from, or None; its features are `told` to all methods.
        sizes: coefficients of the logarithms that channels are larger by than profiles say, (K,
            mean terms), as `spectrum.fit_sized` finds them.
    """

    def __init__(
        self, parameters: ParameterSpace, layout: Layout, marginals: Sequence[Marginal],
        profiles: Sequence[Profile], shapes: Sequence[Shape], terms: Terms, mean_terms: Terms,
        spectrum: Spectrum, isotropic: bool, source: Source | None = None,
        sizes: np.ndarray | None = None,
    ) -> None:  # fmt: skip
        self.parameters, self.layout = parameters, layout
        self.marginals, self.profiles, self.shapes = marginals, profiles, shapes
        self.terms, self.mean_terms, self.spectrum = terms, mean_terms, spectrum
        self.isotropic, self.source = isotropic, source
        self.modes = Modes(layout.space, layout.kinds, isotropic)
        none = np.zeros((len(profiles), mean_terms.n))
        self.sizes = none if sizes is None else sizes
        self.gain = np.zeros_like(spectrum.log_power)  # see `correction`
        self.edges = np.zeros(len(self.marginals))  # depth from which on cells are 0

    @classmethod
    def fit(
        cls, x: np.ndarray, theta: Tensor, parameters: ParameterSpace, layout: Layout,
        symmetries: Sequence[str] = (), linear: bool = False,
        sources: Sequence[tuple[Source, np.ndarray]] = (),
    ) -> Self:  # fmt: skip
        """Of simulations x (n, *shape) with theta (n, P): every other one is held out.

        With `linear`, cells are not made normal, unless many are exactly 0: a Gaussian field then
        has the spectrum of the simulations, whatever else it lacks. Of `sources`, each with its
        features (n, F, *space), the one is taken that held-out fields follow from best.
        """
        folded, held = layout.fold(x), np.arange(len(x)) % 2 == 1
        marginals = [cell_map(folded[:, c], held) for c in range(layout.channels)]
        if linear:
            marginals = [m if m.zeros else m.straight(folded[:, c])
                         for c, m in enumerate(marginals)]  # fmt: skip
        inner = np.stack([inner_channels(row, marginals, layout.periodic) for row in folded])
        sized = [not m.zeros for m in marginals for _ in range(1 + m.zeros)]
        mean_terms = _mean_terms(inner, theta, parameters, held, sized)
        told = mean_terms(parameters, theta)
        free = [p and "shift" in symmetries for p in layout.periodic]
        beside = sources[0][1].reshape(len(x), -1, inner[0, 0].size).mean(2) if sources else None
        profiles = [
            fit_profile(inner[:, k], told, held, free, beside) for k in range(inner.shape[1])
        ]
        for i, row in enumerate(told):
            inner[i] = [p.forward(f, row) for p, f in zip(profiles, inner[i], strict=True)]
        shapes = [fit_shape(inner[:, k], told, held, linear) for k in range(inner.shape[1])]
        for i, row in enumerate(told):
            inner[i] = [s.forward(f, row) for s, f in zip(shapes, inner[i], strict=True)]
        kinds = [True, False] if len(layout.space) > 1 and "turn" not in symmetries else [True]
        kinds = kinds if inner.size <= _MOST else kinds[:1]
        features = [f for _, f in sources]
        terms, isotropic, (spectrum, sizes), best = _spectra(
            inner, theta, parameters, layout, held, kinds, features, told, sized
        )  # fmt: skip
        return cls(
            parameters, layout, marginals, profiles, shapes, terms, mean_terms, spectrum,
            isotropic, sources[best][0] if sources else None, sizes,
        )  # fmt: skip

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

    def forward(
        self, x: np.ndarray, theta: Tensor, told: np.ndarray | None = None
    ) -> np.ndarray:  # fmt: skip
        """Fields (B, *shape) to white ones (B, K, *space), float32."""
        out = np.empty((len(x), self.channels, *self.layout.space), dtype=np.float32)
        for i, (_, white) in enumerate(self._whitened(x, theta, told)):
            out[i] = self.modes.inverse(white)
        return out

    def scores(self, x: np.ndarray, theta: Tensor, told: np.ndarray | None = None) -> np.ndarray:
        """Log density of fields, (B,), without the constants that all whitenings share."""
        means, powers = self._terms(theta)
        cells, out = int(np.prod(self.layout.space)), np.empty(len(x))
        folded = self.layout.fold(x)
        for i, (inner, white) in enumerate(self._whitened(x, theta, told)):
            total = -0.5 * float((np.abs(white) ** 2).sum())
            total -= 0.5 * float((powers[i] @ self.spectrum.log_power @ self.modes.counts).sum())
            for m, f in zip(self.marginals, folded[i], strict=True):
                total += float(m.log_slope(f[f != 0] if m.zeros else f).sum())
            for p, s, f in zip(self.profiles, self.shapes, inner, strict=True):
                flat = p.forward(f, means[i])
                total += float(np.log(s.slope(flat, means[i])).sum())
                total -= cells * float(means[i] @ p.log_size + np.log(p.spread).mean())
            total -= cells * float(log_sizes(means[[i]], self.sizes).sum())
            out[i] = total
        return out

    def _whitened(
        self, x: np.ndarray, theta: Tensor, told: np.ndarray | None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Of each field, its channels that are about normal, and the amplitudes of white ones."""
        means, powers = self._terms(theta)
        for i, folded in enumerate(self.layout.fold(x)):
            inner = inner_channels(folded, self.marginals, self.layout.periodic)
            flat = np.stack([
                s.forward(p.forward(f, means[i]), means[i])
                for p, s, f in zip(self.profiles, self.shapes, inner, strict=True)
            ])  # fmt: skip
            flat /= self._sizes(means[i])
            every = flat if told is None else np.concatenate([told[i], flat])
            yield inner, self.spectrum.whiten(self.modes.forward(every), powers[i], self.modes)

    def inverse(
        self, white: np.ndarray, theta: Tensor, told: np.ndarray | None = None
    ) -> np.ndarray:  # fmt: skip
        """White fields (B, K, *space) to fields (B, *shape), float64; exact without a gain."""
        out = np.empty((len(white), self.layout.channels, *self.layout.space))
        for i, inner in enumerate(self._inside(white, theta, told)):
            out[i] = outer_channels(inner, self.marginals, self.edges)
        return self.layout.unfold(out)

    def set_edges(
        self, white: np.ndarray, theta: Tensor, shares: Sequence[float],
        told: np.ndarray | None = None,
    ) -> None:  # fmt: skip
        """Let as many cells of emulated fields be 0 as of simulations.

        Args:
            white: fields as `inverse` gets them, (B, K, *space).
            theta: theirs, (B, P).
            shares: of the cells of each channel of simulations that are 0.
            told: features of their source, (B, F, *space), if there is one.
        """
        depths = [k + 1 for k in self.field_channels]
        kept = np.stack(list(self._inside(white, theta, told)))
        for c, (m, k) in enumerate(zip(self.marginals, depths, strict=True)):
            self.edges[c] = np.quantile(kept[:, k], 1 - shares[c]) if m.zeros else 0.0

    def _inside(
        self, white: np.ndarray, theta: Tensor, told: np.ndarray | None
    ) -> Iterator[np.ndarray]:
        """Channels (K, *space) that are about normal and that say what is 0, of each field."""
        means, powers = self._terms(theta)
        for i, w in enumerate(white.astype(np.float64)):
            source = None if told is None else self.modes.forward(told[i])
            coloured = self.spectrum.colour(
                self.modes.forward(w), powers[i], self.modes, self.gain, source
            )
            inner = self.modes.inverse(coloured) * self._sizes(means[i])
            flat = [
                p.inverse(s.inverse(f, means[i]), means[i])
                for p, s, f in zip(self.profiles, self.shapes, inner, strict=True)
            ]
            yield np.stack(flat)

    def _sizes(self, means: np.ndarray) -> np.ndarray:
        sizes = np.exp(log_sizes(means[None], self.sizes))
        return sizes.reshape(-1, *[1] * len(self.layout.space))

    def _terms(self, theta: Tensor) -> tuple[np.ndarray, np.ndarray]:
        return self.mean_terms(self.parameters, theta), self.terms(self.parameters, theta)

    def arrays(self) -> dict[str, np.ndarray]:
        """What was measured, by names; changed in place, so is this map."""
        out = {"log_power": self.spectrum.log_power, "slopes": self.spectrum.slopes}
        out["gain"], out["edges"], out["sizes"] = self.gain, self.edges, self.sizes
        for k, p in enumerate(self.profiles):
            for name in ("mean", "log_size", "place", "spread"):
                out[f"{name}_{k}"] = getattr(p, name)
        for k, s in enumerate(self.shapes):
            for name in ("nodes", "first", "gaps"):
                out[f"{name}_{k}"] = getattr(s, name)
        return out

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON: all but `arrays`, and their shapes."""
        known = {} if self.source is None else {"source": self.source.to_dict()}
        return known | {
            "marginals": [m.to_dict() for m in self.marginals], "terms": self.terms.to_dict(),
            "mean_terms": self.mean_terms.to_dict(), "isotropic": self.isotropic,
            "shapes": {name: list(a.shape) for name, a in self.arrays().items()},
        }  # fmt: skip

    @classmethod
    def from_dict(
        cls, values: Mapping[str, Any], parameters: ParameterSpace, layout: Layout,
        source: Layout | None = None,
    ) -> Self:  # fmt: skip
        """Of `to_dict`, with zeros as `arrays`; `source` is what fields follow from."""
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
            source and Source.from_dict(values["source"], source, layout.space),
        )  # fmt: skip
        found.gain, found.edges, found.sizes = (empty[k] for k in ("gain", "edges", "sizes"))
        return found


def _mean_terms(
    inner: np.ndarray, theta: Tensor, parameters: ParameterSpace, held: np.ndarray,
    sized: Sequence[bool],
) -> Terms:  # fmt: skip
    """Those that means and logarithms of spreads are followed by."""
    cells = inner.reshape(*inner.shape[:2], -1)
    means, sizes = cells.mean(2), cells.std(2)
    usual = sizes.mean(0)
    logs = np.log(np.maximum(sizes, 1e-6 * usual + 1e-300))
    # Means that are alike but for rounding say nothing.
    units = np.concatenate([np.maximum(means.std(0), 1e-5 * usual), logs.std(0)]) + 1e-300
    means = np.concatenate([means, logs], 1)
    means = ((means - means.mean(0)) / units)[:, [True] * len(sized) + list(sized)]

    def scores(terms: Terms) -> np.ndarray:
        told = terms(parameters, theta)
        slopes = np.linalg.lstsq(told[~held], means[~held], rcond=None)[0]
        return -((means[held] - told[held] @ slopes) ** 2).sum(1)

    return choose(possible_terms(parameters, theta, int((~held).sum())), scores, _SURE)


def _spectra(
    inner: np.ndarray, theta: Tensor, parameters: ParameterSpace, layout: Layout,
    held: np.ndarray, kinds: Sequence[bool], features: Sequence[np.ndarray], means: np.ndarray,
    sized: Sequence[bool],
) -> tuple[Terms, bool, tuple[Spectrum, np.ndarray], int]:  # fmt: skip
    """Functions of theta, whether axes are alike, spectrum and sizes, the features it follows."""

    @cache
    def found(isotropic: bool, which: int) -> tuple[np.ndarray, np.ndarray, int]:
        modes = Modes(layout.space, layout.kinds, isotropic)
        told = features[which] if features else inner[:, :0]
        each = [products(modes.forward(np.concatenate(rows)), modes)
                for rows in zip(told, inner, strict=True)]  # fmt: skip
        return np.stack(each), modes.counts, told.shape[1]

    def scores(candidate: tuple[Terms, bool, int]) -> np.ndarray:
        (each, counts, given), told = found(*candidate[1:]), candidate[0](parameters, theta)
        fitted, sizes = fit_sized(
            told[~held], means[~held], each[~held], counts, given, sized
        )  # fmt: skip
        logs = log_sizes(means[held], sizes)
        return (
            fitted.scores(told[held], resized(each[held], -logs), counts)
            - counts.sum() * logs.sum(1)
        )  # fmt: skip

    tried = [(t, True, 0) for t in possible_terms(parameters, theta, int((~held).sum()))]
    best = choose(tried, scores, _SURE)
    best = choose([best, *((best[0], False, 0) for k in kinds if not k)], scores)
    best = choose([best, *((*best[:2], i) for i in range(1, len(features)))], scores)
    each, counts, given = found(*best[1:])
    fitted = fit_sized(best[0](parameters, theta), means, each, counts, given, sized)
    return best[0], best[1], fitted, best[2]
