"""The numbers of a `RingModel`, from covariances alone.

The sum over pairs of pixels of (C - S)^2, with S the sample covariance, minus what does not depend
on the model, is an unbiased estimate of the squared distance between C and the true covariance,
however few the maps are. The pairs are those of a random subset of pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from emulators.methods.sky.terms import degrees
from emulators.survey.instrument.geometry import Geometry, RingGeometry
from emulators.survey.instrument.response import wave_templates
from sbitools.errors import TrainingError

from .ring_powers import refine_powers
from .rings import RingModel, spin_waves
from .series import octaves, period_means

__all__ = ["RingDesign", "fit_rings", "templates"]

_MODES = 100  # order of (tr C)^2 / tr C^2: what makes the loss of order 1
_TOGETHER = 3e-3  # weight, beside that, of squared differences between the slopes of powers
_NOTHING = 1e-9  # of the largest variance per unit power
_REFINED = 1024  # numbers of a map that decide about the powers, of those that are compared
# What coefficients of Legendre polynomials of degree k are expected to be, times k^2: those that
# all powers have in common, from degree 2 on, and those of single powers.
_BEND, _APART = 0.5, 2.0
_FEW = 8  # thetas that decide between starting points


@dataclass(frozen=True)
class RingDesign:
    """Maps of one theta.

    Attributes:
        terms: functions of theta that the powers depend on, (T,), the first one 1.
        scan_angle: in degrees; None is that of the strategy.
        maps: (n, 2, pixels) nested, their mean removed.
        freedom: what sums of products are divided by: n - 1 if the mean is that of the maps.
    """

    terms: np.ndarray
    scan_angle: float | None
    maps: np.ndarray
    freedom: float


def fit_rings(
    model: RingModel, designs: Sequence[RingDesign], seed: int, pixels: int, steps: int = 100
) -> float:
    """Find the model of the maps of `designs`, and put it into `model`.

    Args:
        model: changed.
        designs: one per theta, of maps of the model's Nside.
        seed: of the pixels that are compared and of the starts.
        pixels: how many numbers of a map (Q and U are two) are compared with each other.
        steps: of the last L-BFGS run.

    Returns:
        The loss: about minus the share of the squared covariance that is explained.
    """
    rng = np.random.default_rng(seed)
    n = 2 * 12 * model.nside**2
    chosen = np.sort(rng.choice(n, min(n, pixels), replace=False))
    problem = _Problem(model, designs, chosen)
    few = _Problem(model, designs[:_FEW], chosen) if len(designs) > _FEW else problem
    best: tuple[float, list[Tensor]] | None = None
    for _ in range(6):  # the direction of a dipole has local optima
        sky = np.zeros((model.lmax + 1) ** 2)
        sky[:4] = rng.standard_normal(min(4, len(sky)))
        start = few.start(sky)
        value = _minimise(few, start, 12)
        if math.isfinite(value) and (best is None or value < best[0]):
            best = (value, start)
    value = _minimise(problem, best[1], steps) if best else math.nan
    if best is None or not math.isfinite(value):
        raise TrainingError(
            "covariance of the rings", expected="a finite loss", got=str(value),
            fix="look for maps that are constant, or far larger than the others",
        )  # fmt: skip
    problem.refine(best[1], steps)
    sky, powers = best[1][0].detach(), _combined(best[1]).detach()
    model.sky.copy_(sky)
    model.powers.copy_(powers)
    model.powers[0] += math.log(problem.unit)
    model.powers[0] -= problem.sizes.log()
    return value


class _Problem:
    """The loss, in units in which data and templates are about 1."""

    def __init__(
        self, model: RingModel, designs: Sequence[RingDesign], chosen: np.ndarray
    ) -> None:
        self.terms = torch.tensor(np.stack([d.terms for d in designs]), dtype=torch.float64)
        level = _log_level(self.terms, [float((d.maps**2).mean()) for d in designs])
        self.unit = float(level.mean().exp())
        self.levels = torch.exp(level - level.mean())
        self.octaves = model.octaves
        self.modulated = self.octaves + 1  # components that multiply the sky
        self.pairs = len(chosen) ** 2 / _MODES
        self.harmonics = torch.tensor(model.harmonics[:, chosen % (12 * model.nside**2)]).float()
        even = _evenness(designs)[chosen]
        self.templates, self.samples = [], []
        known: dict[float | None, Tensor] = {}
        for design in designs:
            if design.scan_angle not in known:
                place = model.geometry.at(model.nside, design.scan_angle)
                known[design.scan_angle] = templates(model.geometry, place, chosen)
            self.templates.append(known[design.scan_angle])
            maps = design.maps.reshape(len(design.maps), -1)[:, chosen]
            maps = maps * even / math.sqrt(self.unit)
            self.samples.append(torch.tensor(maps / math.sqrt(design.freedom)).float())
        traces = [t.diagonal(dim1=1, dim2=2).mean(1) for t in known.values()]
        sizes = torch.stack(traces).mean(0).double()
        # What moves no pixel, such as the mean of gains that were estimated, gets no power.
        self.sizes = torch.where(sizes > _NOTHING * sizes.max(), sizes, math.inf)
        for t in known.values():
            t /= self.sizes.float()[:, None, None]
            t *= torch.tensor(np.outer(even, even)).float()

    def start(self, sky: np.ndarray) -> list[Tensor]:
        size = float(np.sqrt((sky**2).mean())) or 1.0
        first = torch.tensor(sky / size, dtype=torch.float64)
        slopes, components = self.terms.shape[1] - 1, self.templates[0].shape[0]
        centre = torch.full((components,), -4.0, dtype=torch.float64)
        centre[: self.octaves] = -math.log(self.octaves)
        common = torch.zeros(slopes, 1, dtype=torch.float64)
        apart = torch.zeros(slopes, components, dtype=torch.float64)
        return [p.requires_grad_() for p in (first, centre, common, apart)]

    def loss(self, parameters: list[Tensor]) -> Tensor:
        sky, centre, _, apart = parameters
        amplitude = (sky.float() @ self.harmonics)[None, :]
        k, total = self.modulated, torch.zeros(())
        weights = (self.terms @ _combined(parameters)).exp().float()
        for templates, x, w, level in zip(
            self.templates, self.samples, weights, self.levels, strict=True
        ):
            first = torch.einsum("c,cpq->pq", w[:k], templates[:k])
            rest = torch.einsum("c,cpq->pq", w[k:], templates[k:])
            model = first * amplitude * amplitude.T + rest
            cross = ((x @ model) * x).sum()
            total = total + (model.square().sum() - 2 * cross) / level.float() ** 2
        # Powers that the data do not ask for fade away, and change with theta as all others do.
        fade = 1e-6 * _bounded(centre).exp().sum() + _TOGETHER * apart.square().sum()
        return total / (len(self.samples) * self.pairs) + fade.float()

    def refine(self, parameters: list[Tensor], steps: int) -> None:
        """Powers with all modes weighed by their noise; the sky stays."""
        sky, centre, common, apart = parameters
        step = -(-self.harmonics.shape[1] // _REFINED)
        with torch.no_grad():
            amplitude = (sky.float() @ self.harmonics[:, ::step])[None, :]
            seen = {id(t): t[:, ::step, ::step].clone() for t in self.templates}
            for t in seen.values():
                t[: self.modulated] *= amplitude * amplitude.T
        samples = [x[:, ::step] for x in self.samples]
        # Minus the logarithm of the likelihood of all maps is the loss over twice this.
        unit = 2 / sum(x.numel() for x in samples)
        degree = torch.from_numpy(degrees(self.terms.shape[1]))[:, None]

        def minimise(loss: Callable[[Tensor], Tensor]) -> None:
            def whole() -> Tensor:
                bends = common[degree[:, 0] > 1] * degree[degree[:, 0] > 1] ** 2 / _BEND
                wide = apart * degree**2 / _APART
                prior = unit * (bends.square().sum() + wide.square().sum())
                fade = 1e-6 * _bounded(centre).exp().sum()
                return loss((self.terms @ _combined(parameters)).exp()) + prior + fade

            _descend(whole, parameters[1:], steps)

        refine_powers(
            [seen[id(t)] for t in self.templates], samples, self.levels,
            lambda: (self.terms @ _combined(parameters)).exp(), minimise,
        )  # fmt: skip


def _evenness(designs: Sequence[RingDesign]) -> np.ndarray:
    """Weights (2 pixels,) that let quiet parts of the sky count as much as loud ones.

    One over the rms of the neighbourhood, over all maps and both fields. Without them Minkowski
    functionals of the linear system, N = 100, are 2.6 times as far off as with them.
    """
    parts = [(d.maps**2).mean((0, 1)) / (d.maps**2).mean() for d in designs]
    variance = np.mean(parts, axis=0)
    block = 16 if variance.shape[0] >= 192 else 4
    local = variance.reshape(-1, block).mean(1).repeat(block)
    weights = np.tile(np.maximum(local, 1e-3 * local.mean()) ** -0.5, 2)
    return weights / np.sqrt((weights**2 * np.tile(local, 2)).mean() / local.mean())


def _bounded(powers: Tensor) -> Tensor:
    """Logarithms of powers between -14 and 4, far beyond what data decide."""
    return 9 * torch.tanh((powers + 5) / 9) - 5


def _combined(parameters: list[Tensor]) -> Tensor:
    """Powers (terms, components): at the centre, and slopes in common plus what differs."""
    _, centre, common, apart = parameters
    return torch.cat([_bounded(centre)[None], common + apart])


def _minimise(problem: _Problem, parameters: list[Tensor], steps: int) -> float:
    _descend(lambda: problem.loss(parameters), parameters, steps)
    with torch.no_grad():
        return float(problem.loss(parameters))


def _descend(loss: Callable[[], Tensor], parameters: list[Tensor], steps: int) -> None:
    optimiser = torch.optim.LBFGS(
        parameters, max_iter=steps, history_size=20, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = loss()
        value.backward()
        return value

    optimiser.step(closure)  # pyright: ignore[reportArgumentType]


def templates(geometry: RingGeometry, place: Geometry, chosen: np.ndarray) -> Tensor:
    """Covariances of unit variance of every component, (components, n, n), at chosen numbers."""
    detectors, rings = geometry.streams
    k = place.templates[:, chosen].toarray().reshape(detectors, rings, -1)
    offsets = _octave_products(k)
    if geometry.period is None:
        modulated = [*offsets, np.zeros_like(offsets[0])]
    else:
        starts = np.arange(0, rings, geometry.period)
        sums = np.add.reduceat(k, starts, axis=1).reshape(-1, len(chosen)).astype(np.float32)
        modulated = [*_octave_products(k - period_means(k, geometry.period)), sums.T @ sums]
    waves = [
        sum(
            (w.T @ w).toarray()
            for w in (x[:, chosen] for x in wave_templates(place.maker, shapes))
        )
        for shapes in spin_waves(geometry.scan.samples)
    ]
    return torch.tensor(np.stack([*modulated, *offsets, *waves, _white(place, chosen)])).float()


def _octave_products(k: np.ndarray) -> list[np.ndarray]:
    """K^T R K for series with the power 1 in each octave; K is (detectors, rings, n)."""
    rings, n = k.shape[1:]
    waves, out = np.fft.rfft(k, 2 * rings, axis=1).astype(np.complex64), []
    for octave in octaves(2 * rings):
        some = np.flatnonzero(octave)
        # Every frequency but the first and the last stands for two.
        share = octave[some] * np.where((some == 0) | (some == rings), 1, 2) / (2 * rings)
        part = (waves[:, some] * np.sqrt(share)[None, :, None]).reshape(-1, n)
        part = np.concatenate([part.real, part.imag]).astype(np.float32)
        out.append(part.T @ part)
    return out


def _white(place: Geometry, chosen: np.ndarray) -> np.ndarray:
    """Covariance of white noise of unit variance per sample, (n, n)."""
    covariance = place.noise @ place.noise.transpose(0, 2, 1)
    stokes, pixel = np.divmod(chosen, place.noise.shape[0])
    same = pixel[:, None] == pixel[None, :]
    return np.where(same, covariance[pixel[:, None], stokes[:, None], stokes[None, :]], 0.0)


def _log_level(terms: Tensor, values: Sequence[float]) -> Tensor:
    """Logarithm of the mean square, regressed on the terms: noise of few maps does not weigh."""
    logs = torch.tensor(np.log(np.maximum(values, 1e-300)))
    ridge = 1e-6 * torch.eye(terms.shape[1], dtype=torch.float64)
    return terms @ torch.linalg.solve(terms.T @ terms + ridge, terms.T @ logs)
