"""Gaussian maps that know the scan: where the rings go, but not what they see.

    m = a(p) K^T g + K^T o + n

K are the binned templates of the rings. The ring amplitudes g, which multiply a sky a(p) that is
not known, and the offsets o are stationary along the rings of each detector; n is white noise
of the samples. The sky is a smooth map, sum of a_lm Y_lm up to a small l_max; the power of n and
those of g and o in octaves of frequency may change with theta.

The amplitudes may have heavy tails: g = z exp(h z^2 / 2) of a Gaussian z, up to a factor, which
is Tukey's h distribution (Hoaglin 1985).

All is found from covariances alone: the sum over pairs of pixels of (C - S)^2, with S the sample
covariance, minus what does not depend on the model, is an unbiased estimate of the squared
distance between C and the true covariance, however few the maps are. The pairs are those of a
random subset of pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from emulators.scattering.survey.geometry import Geometry, RingGeometry
from sbitools.errors import TrainingError

__all__ = ["RingDesign", "RingModel", "fit_rings"]

# Octaves of frequency whose powers are fitted, from one cycle in two rings downwards.
_AMPLITUDES = 7
_OFFSETS = 4
_MODES = 100  # order of (tr C)^2 / tr C^2: what makes the loss of order 1
_TOGETHER = 3e-3  # weight, beside that, of squared differences between the slopes of powers
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


class RingModel(nn.Module):
    """The model; `fit_rings` finds its numbers.

    Args:
        geometry: of the scan.
        nside: of the maps.
        lmax: of the sky.
        terms: number of functions of theta.
    """

    sky: Tensor
    powers: Tensor
    tail: Tensor

    def __init__(self, geometry: RingGeometry, nside: int, lmax: int = 2, terms: int = 1) -> None:
        super().__init__()
        self.geometry, self.nside, self.lmax = geometry, nside, lmax
        self.register_buffer("sky", torch.zeros((lmax + 1) ** 2, dtype=torch.float64))
        components = _AMPLITUDES + _OFFSETS + 1
        self.register_buffer("tail", torch.zeros((), dtype=torch.float64))
        self.register_buffer("powers", torch.zeros(terms, components, dtype=torch.float64))
        self._harmonics = harmonics(nside, lmax)

    @property
    def latent_sizes(self) -> tuple[int, int, int]:
        """Numbers behind g, o and n of one map."""
        detectors, rings = self.geometry.streams
        return 2 * detectors * rings, 2 * detectors * rings, 2 * 12 * self.nside**2

    def amplitude(self) -> np.ndarray:
        """a(p), (pixels,)."""
        return (self.sky.numpy() @ self._harmonics).astype(np.float64)

    def draw(self, latent: np.ndarray, terms: np.ndarray, scan_angle: float | None) -> np.ndarray:
        """Maps (B, 2, pixels) from standard normal numbers (B, sum of `latent_sizes`)."""
        place = self.geometry.at(self.nside, scan_angle)
        split = np.cumsum(self.latent_sizes)[:2]
        g, o, n = np.split(latent.astype(np.float64), split, axis=1)
        first, second, white = self._weights(terms)
        detectors, rings = self.geometry.streams
        g, o = (
            _correlated(z.reshape(len(z), detectors, 2 * rings), w)
            for z, w in ((g, first), (o, second))
        )
        g = _heavy(g, first.sum(), float(self.tail))
        shape = (len(latent), 2, 12 * self.nside**2)
        modulated = (g.reshape(len(g), -1) @ place.templates).reshape(shape) * self.amplitude()
        offsets = (o.reshape(len(o), -1) @ place.templates).reshape(shape)
        noise = np.einsum("pij,bjp->bip", place.noise, n.reshape(shape))
        return modulated + offsets + math.sqrt(white) * noise

    def scale(self, terms: np.ndarray, scan_angle: float | None) -> np.ndarray:
        """About the standard deviation of every pixel, (2, pixels); ring correlations left out."""
        place = self.geometry.at(self.nside, scan_angle)
        first, second, white = self._weights(terms)
        noise = np.einsum("pij,pij->ip", place.noise, place.noise)
        smooth = self.amplitude() ** 2
        # Where the sky changes sign a(p) vanishes, the true spread does not.
        smooth = np.maximum(smooth, 0.03 * smooth.mean())
        variance = (first.sum() * smooth + second.sum()) * place.squares + white * noise
        return np.sqrt(np.where(variance > 0, variance, 1.0))

    def _weights(self, terms: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        weights = np.exp(terms @ self.powers.numpy())
        return weights[:_AMPLITUDES], weights[_AMPLITUDES:-1], float(weights[-1])


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
        self.pairs = len(chosen) ** 2 / _MODES
        self.harmonics = torch.tensor(model._harmonics[:, chosen % (12 * model.nside**2)]).float()
        even = _evenness(designs)[chosen]
        self.templates, self.samples = [], []
        known: dict[float | None, Tensor] = {}
        for design in designs:
            if design.scan_angle not in known:
                place = model.geometry.at(model.nside, design.scan_angle)
                known[design.scan_angle] = _templates(place, chosen, model.geometry.streams)
            self.templates.append(known[design.scan_angle])
            maps = design.maps.reshape(len(design.maps), -1)[:, chosen]
            maps = maps * even / math.sqrt(self.unit)
            self.samples.append(torch.tensor(maps / math.sqrt(design.freedom)).float())
        traces = [t.diagonal(dim1=1, dim2=2).mean(1) for t in known.values()]
        self.sizes = torch.stack(traces).mean(0).double().clamp(min=1e-30)
        for t in known.values():
            t /= self.sizes.float()[:, None, None]
            t *= torch.tensor(np.outer(even, even)).float()

    def start(self, sky: np.ndarray) -> list[Tensor]:
        first = torch.tensor(sky / np.sqrt((sky**2).mean() + 1e-30), dtype=torch.float64)
        slopes, components = self.terms.shape[1] - 1, self.templates[0].shape[0]
        centre = torch.full((components,), -4.0, dtype=torch.float64)
        centre[:_AMPLITUDES] = -math.log(_AMPLITUDES)
        common = torch.zeros(slopes, 1, dtype=torch.float64)
        apart = torch.zeros(slopes, components, dtype=torch.float64)
        return [p.requires_grad_() for p in (first, centre, common, apart)]

    def loss(self, parameters: list[Tensor]) -> Tensor:
        sky, centre, _, apart = parameters
        amplitude = (sky.float() @ self.harmonics)[None, :]
        k, total = _AMPLITUDES, torch.zeros(())
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
    optimiser = torch.optim.LBFGS(
        parameters, max_iter=steps, history_size=20, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = problem.loss(parameters)
        loss.backward()
        return loss

    optimiser.step(closure)  # pyright: ignore[reportArgumentType]
    with torch.no_grad():
        return float(problem.loss(parameters))


def _templates(place: Geometry, chosen: np.ndarray, streams: tuple[int, int]) -> Tensor:
    """K^T R K of every octave and, last, white noise: (components, n, n)."""
    detectors, rings = streams
    k = place.templates[:, chosen].toarray().reshape(detectors, rings, -1)
    waves = np.fft.rfft(k, 2 * rings, axis=1).astype(np.complex64)
    both, fine = [], _octaves(2 * rings, _AMPLITUDES)
    for octave in fine:
        some = np.flatnonzero(octave)
        # Every frequency but the first and the last stands for two.
        share = octave[some] * np.where((some == 0) | (some == rings), 1, 2) / (2 * rings)
        part = (waves[:, some] * np.sqrt(share)[None, :, None]).reshape(-1, len(chosen))
        part = np.concatenate([part.real, part.imag]).astype(np.float32)
        both.append(part.T @ part)
    for octave in _octaves(2 * rings, _OFFSETS):  # the lowest octaves of offsets are one
        inside = [(i, np.flatnonzero(f)[0]) for i, f in enumerate(fine)]
        both.append(sum(both[i] * (octave[at] / fine[i, at]) for i, at in inside if octave[at]))
    pixels = place.noise.shape[0]
    covariance = place.noise @ place.noise.transpose(0, 2, 1)
    stokes, pixel = np.divmod(chosen, pixels)
    same = pixel[:, None] == pixel[None, :]
    white = np.where(same, covariance[pixel[:, None], stokes[:, None], stokes[None, :]], 0.0)
    return torch.tensor(np.stack([*both, white])).float()


def _octaves(n: int, count: int) -> np.ndarray:
    """Power spectra (count, n / 2 + 1) of series of variance 1 within octaves of frequency.

    The last one has all lower frequencies.
    """
    frequency = np.fft.rfftfreq(n)
    octave = np.clip(np.floor(-np.log2(2 * np.maximum(frequency, 1e-12))), 0, count - 1)
    out = np.stack([(octave == i).astype(float) for i in range(count)])
    return out / np.fft.irfft(out, n, axis=1)[:, :1]


def _correlated(z: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Stationary series (B, detectors, rings) from white noise (B, detectors, 2 * rings).

    The series is half of a periodic one, so that its ends are not neighbours.
    """
    n = z.shape[2]
    spectrum = weights @ _octaves(n, len(weights))
    return np.fft.irfft(np.fft.rfft(z, axis=2) * np.sqrt(spectrum), n, axis=2)[:, :, : n // 2]


def _heavy(g: np.ndarray, variance: float, tail: float) -> np.ndarray:
    """Gaussian g of this variance with the tails of Tukey's h, at the same variance."""
    if tail == 0:
        return g
    # E z^2 exp(h z^2) = (1 - 2 h)^(-3/2)
    return g * np.exp(0.5 * tail * g**2 / variance) * (1 - 2 * tail) ** 0.75


def _log_level(terms: Tensor, values: Sequence[float]) -> Tensor:
    """Logarithm of the mean square, regressed on the terms: noise of few maps does not weigh."""
    logs = torch.tensor(np.log(np.maximum(values, 1e-300)))
    ridge = 1e-6 * torch.eye(terms.shape[1], dtype=torch.float64)
    return terms @ torch.linalg.solve(terms.T @ terms + ridge, terms.T @ logs)


def harmonics(nside: int, lmax: int) -> np.ndarray:
    """Real spherical harmonics ((lmax + 1)^2, pixels), nested, of rms 1 over the sphere."""
    import healpy
    from scipy.special import sph_harm_y

    theta, phi = healpy.pix2ang(nside, np.arange(12 * nside**2), nest=True)
    out = []
    for l in range(lmax + 1):  # noqa: E741  (the multipole)
        for m in range(l + 1):
            y = math.sqrt(4 * math.pi) * sph_harm_y(l, m, theta, phi)
            out += [y.real] if m == 0 else [math.sqrt(2) * y.real, math.sqrt(2) * y.imag]
    return np.stack(out)
