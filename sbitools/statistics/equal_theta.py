"""Two sets of simulations at the same theta, one statistic at a time.

With s(x_i) of the reference and s(y_i), s(z_i) of two emulated fields of the same theta, which
share no seed, the mean of s(y_i) - s(x_i) is what the emulator is off by. How far it would be off
by chance if the emulator were the reference under other seeds is the floor: two random halves of
the reference against each other, each taken from a smooth fit in theta, because no two
simulations share theta; scaled to the number of simulations. The scatter between seeds of the
emulator is half the mean square of s(y_i) - s(z_i); that of the reference is what is left about
the fit. Where theta acts too strongly for a fit, the emulator's mean is taken from the reference
first, and its own scatter from the result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sbitools.seeds import derive

from .theta_fit import Residuals, ThetaFit, random_halves

__all__ = ["ABOVE", "ERROR", "FLOOR", "EqualTheta", "Responses", "median_size", "worst_size"]

FLOOR, ABOVE = "reference against itself (floor)", "floor, exceeded once in 20"
ERROR = "standard error"
_SPLITS, _RESAMPLED = 300, 200
_CLEAR = 5.0  # times the floor


def median_size(values: np.ndarray) -> np.ndarray:
    """Median of the absolute values, over the last axis."""
    return np.median(np.abs(values), axis=-1)


def worst_size(values: np.ndarray) -> np.ndarray:
    """Largest of the absolute values, over the last axis."""
    return np.abs(values).max(axis=-1)


@dataclass
class EqualTheta:
    """One statistic of the reference and of two emulated sets at equal theta.

    Args:
        reference: (n, ...).
        first: emulated, of the same shape.
        second: emulated with other seeds.
        fit: in theta.
        clusters: of simulations that share their randomness, (n,).
        seed: of random halves.
        in_scatter: give differences in units of the reference's scatter between seeds.
    """

    reference: np.ndarray
    first: np.ndarray
    second: np.ndarray
    fit: ThetaFit
    clusters: np.ndarray
    seed: int
    in_scatter: bool = False

    def __post_init__(self) -> None:
        self.shape, n = self.reference.shape[1:], len(self.reference)
        x, y, z = (v.reshape(n, -1) for v in (self.reference, self.first, self.second))
        self._half_square = (y - z) ** 2 / 2
        self.emulator_scatter = np.sqrt(self._half_square.mean(0))
        self.residuals = self._left(x, (y + z) / 2)
        self.reference_scatter = np.sqrt((self.residuals.values**2).mean(0))
        total = np.sqrt(((x - x.mean(0)) ** 2).mean(0))
        # What does not scatter is measured by how far theta moves it.
        self.unit = np.maximum(self.reference_scatter, 1e-3 * total)
        self.unit[self.unit == 0] = 1.0
        scale = self.unit if self.in_scatter else np.ones_like(self.unit)
        signs = random_halves(self.clusters[self.residuals.rows], _SPLITS, self.seed)
        self._signs = signs
        chance = signs @ self.residuals.values * np.sqrt(2 / (signs.shape[1] * n))
        self.difference = (y - x).mean(0) / scale
        self.chance = chance / scale

    def _left(self, x: np.ndarray, mean: np.ndarray) -> Residuals:
        self.controlled = plain = self.fit.residuals(x)
        if self.fit.repeats:
            return plain
        self.controlled = other = self.fit.residuals(x - mean)
        sizes = [np.log((r.values**2).mean(0) + 1e-300).mean() for r in (plain, other)]
        if sizes[0] <= sizes[1]:
            return plain
        square = (other.values**2).mean(0)
        # An emulator that scatters three times too much would leave nothing; two thirds is its
        # share if it scatters twice too much, and a third if it is right.
        own = np.maximum(square - self.emulator_scatter**2 / 2, square / 3)
        share = np.sqrt(np.where(square > 0, own / np.where(square > 0, square, 1.0), 1.0))
        how = f"the emulator's mean and {other.how}"
        return Residuals(other.rows, other.values * share, how)

    @property
    def sides(self) -> dict[str, np.ndarray]:
        """Reference and emulator, (n, ...)."""
        return {"reference": self.reference, "emulator": self.first}

    @property
    def scatters(self) -> np.ndarray:
        """Which elements scatter enough for slopes to be measured in units of it, (m,)."""
        return self.reference_scatter >= 0.05 * np.median(self.reference_scatter)

    @property
    def floor(self) -> np.ndarray:
        """Standard deviation of the difference by chance, of the shape of the statistic."""
        return np.sqrt((self.chance**2).mean(0)).reshape(self.shape)

    def row(self, measure: Callable[[np.ndarray], np.ndarray]) -> dict[str, float]:
        """A number of the differences, and what it is by chance.

        Args:
            measure: of the last axis.
        """
        chance = measure(self.chance)
        return {"emulator": float(measure(self.difference)), FLOOR: float(chance.mean()),
                ABOVE: float(np.quantile(chance, 0.95))}  # fmt: skip

    def scatter_ratio(self) -> tuple[np.ndarray, np.ndarray, dict[str, float]]:
        """Scatter between seeds, emulator over reference.

        Returns:
            The ratio, and its standard error, of the shape of the statistic; and the row of their
            median. Where neither scatters, the ratio is 1.
        """
        size = max(self.emulator_scatter.max(), self.reference_scatter.max())
        least = max((1e-6 * size) ** 2, 1e-300)
        squares = self._half_square, self.residuals.values**2
        rng = np.random.default_rng(derive(self.seed, 1))
        drawn = [rng.multinomial(len(s), np.full(len(s), 1 / len(s)), _RESAMPLED) / len(s)
                 for s in squares]  # fmt: skip
        top, below = (d @ s + least for d, s in zip(drawn, squares, strict=True))
        found = np.sqrt((squares[0].mean(0) + least) / (squares[1].mean(0) + least))
        again = np.sqrt(top / below)
        middle = np.median(again, axis=1)
        row = {"emulator": float(np.median(found)), FLOOR: 1.0, ERROR: float(middle.std())}
        return found.reshape(self.shape), again.std(0).reshape(self.shape), row


@dataclass
class Responses:
    """How the statistics follow each parameter, in the reference and in the emulator.

    Slopes of linear regressions on theta: the change of a statistic, in units of its
    scatter between seeds, per standard deviation of the parameter.

    Args:
        compared: by the name of the statistic.
        fit: in theta.
        last: one of the statistics, to be used where no other one sees a parameter.
    """

    compared: dict[str, EqualTheta]
    fit: ThetaFit
    last: str

    def rows(self) -> dict[str, dict[str, float | str]]:
        """By parameter: rms slopes of the statistic that shows it best, and their difference."""
        if not self.fit.names:
            return {}
        found = {name: tuple(slopes[..., one.scatters] for slopes in self._slopes(one))
                 for name, one in self.compared.items()}  # fmt: skip
        out: dict[str, dict[str, float | str]] = {}
        for p, parameter in enumerate(self.fit.names):
            slopes = {name: (truth[p], emulated[p], _rms(chance[:, p]))
                      for name, (truth, emulated, chance) in found.items()}  # fmt: skip
            clear = {name: max(_rms(truth), _rms(emulated)) / (chance.mean() + 1e-300)
                     for name, (truth, emulated, chance) in slopes.items()}  # fmt: skip
            first = {name: c for name, c in clear.items() if name != self.last}
            shown = max(first, key=lambda name: first[name], default=self.last)
            # The distribution answers to everything a little: it is asked last. Of statistics
            # that all say little, the best by chance is not chosen.
            if clear[shown] < _CLEAR:
                shown = self.last if clear[self.last] > _CLEAR else next(iter(clear))
            truth, emulated, chance = slopes[shown]
            out[parameter] = {
                "seen in": shown, "reference": float(_rms(truth)),
                "emulator": float(_rms(emulated)), "difference": float(_rms(emulated - truth)),
                FLOOR: float(chance.mean()), ABOVE: float(np.quantile(chance, 0.95)),
            }  # fmt: skip
        return out

    def _slopes(self, one: EqualTheta) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of both sides (P, m), and of their difference by chance (n_splits, P, m)."""
        n = len(one.reference)
        truth, emulated = (self._named(one, v.reshape(n, -1) / one.unit)
                           for v in (one.reference, one.first))  # fmt: skip
        left, rows = one.residuals.values / one.unit, one.residuals.rows
        signed = [sign[:, None] * left for sign in one._signs[:60]]
        both = np.concatenate(signed, axis=1) * np.sqrt(2 * len(rows) / n)
        chance = self._named(one, both, rows).reshape(len(truth), len(signed), -1)
        return truth, emulated, chance.swapaxes(0, 1)

    def _named(
        self, one: EqualTheta, values: np.ndarray, rows: np.ndarray | None = None
    ) -> np.ndarray:
        """Slopes with every parameter; 0 with those that do not vary where this is known."""
        found = dict(zip(one.fit.names, one.fit.slopes(values, rows), strict=True))
        slopes = [found.get(p, np.zeros(values.shape[1])) for p in self.fit.names]
        return np.array(slopes).reshape(len(slopes), values.shape[1])

    def curves(self, name: str) -> dict[str, dict[str, np.ndarray]]:
        """By parameter: slopes of one statistic, of its shape, and twice the floor of them."""
        truth, emulated, chance = self._slopes(one := self.compared[name])
        floor = 2 * np.sqrt((chance**2).mean(0))
        return {parameter: {"reference": truth[p].reshape(one.shape),
                            "emulator": emulated[p].reshape(one.shape),
                            "floor": floor[p].reshape(one.shape)}
                for p, parameter in enumerate(self.fit.names)}  # fmt: skip


def _rms(values: np.ndarray) -> np.ndarray:
    return np.sqrt((values**2).mean(-1))
