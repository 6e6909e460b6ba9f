"""From maps of a few simulations to the numbers of a `MapModel`, step by step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import digamma, polygamma

from emulators.methods.sky.amortise import Starts, train_generator
from emulators.methods.sky.terms import curved, linear
from sbitools.seeds import derive

from .map_model import MapModel
from .ring_fit import RingDesign, fit_rings

__all__ = ["Sample", "fit_model"]

_COMPARED = 1536  # numbers of a map whose products are compared: 1 / 16 of all pairs at Nside 16
_HEAVIEST = 0.3  # Tukey's h: the fourth moment is infinite from 0.25 on, the variance from 0.5
_STARTS = 384  # Gaussian maps whose statistics are compared with those of the simulations


@dataclass(frozen=True)
class Sample:
    """Simulated maps of one theta.

    Attributes:
        place: theta in the cube [-1, 1], (P,).
        scan_angle: in degrees, or None for that of the strategy.
        maps: (n, 2, pixels), float64.
    """

    place: np.ndarray
    scan_angle: float | None
    maps: np.ndarray


def fit_model(
    model: MapModel, samples: list[Sample], seed: int, report: Callable[[float], None],
    generator_steps: int = 0,
) -> None:  # fmt: skip
    """Fit all of `model` to `samples`.

    Args:
        model: changed.
        samples: of different theta.
        seed: of random subsets and of the starts.
        report: called three times with how far the statistics of emulated maps are
            from those of the simulations: the mean squared difference of their means, in units
            of their standard deviation between maps, beyond what chance makes.
        generator_steps: for which the amortised generator is trained.
    """
    centred, freedom = _centred(samples)
    designs = [
        RingDesign(curved(s.place), _whole_degrees(s.scan_angle), maps, f)
        for s, maps, f in zip(samples, centred, freedom, strict=True)
    ]
    compared = _COMPARED if len(samples) == 1 else _COMPARED // 4
    fit_rings(model.rings, designs, derive(seed, 1), compared)
    per_theta = max(2, -(-_STARTS // len(samples)))
    latents = [_white(derive(seed, 2, i), per_theta, model.n_latent) for i in range(len(samples))]
    _fit_tail(model, samples, centred, latents)
    report(_fit_targets(model, samples, latents)[0])
    _fit_spread(model, samples, centred, freedom, latents)
    _fit_mean(model, samples)
    before, after = _fit_targets(model, samples, latents)
    report(before)
    report(after)
    starts = [_starts(model, s, z) for s, z in zip(samples, latents, strict=True)]
    train_generator(model, starts, generator_steps, derive(seed, 3))


def _whole_degrees(angle: float | None) -> float | None:
    """Rounded, so that templates are made, and kept, for few angles."""
    return None if angle is None else float(round(angle))


def _centred(samples: list[Sample]) -> tuple[list[np.ndarray], list[float]]:
    """Maps minus their mean; with few maps of each theta, minus the mean regressed on theta.

    The regression is made in units of the rms of each theta.
    """
    if len(samples) == 1:
        maps = samples[0].maps
        return [maps - maps.mean(0)], [len(maps) - 1.0]
    terms = np.stack([linear(s.place) for s in samples])
    counts = np.array([len(s.maps) for s in samples], dtype=float)
    sizes = np.array([np.sqrt((s.maps**2).mean()) for s in samples])
    means = np.stack([s.maps.mean(0) / size for s, size in zip(samples, sizes, strict=True)])
    gram = np.linalg.inv(terms.T @ (counts[:, None] * terms))
    slopes = np.einsum("tu,nu,n,nsp->tsp", gram, terms, counts, means)
    out = [
        s.maps - size * np.tensordot(t, slopes, 1)
        for s, size, t in zip(samples, sizes, terms, strict=True)
    ]
    leverage = counts * np.einsum("nt,tu,nu->n", terms, gram, terms)
    return out, list(np.maximum(counts - leverage, 0.5))


def _white(seed: int, n: int, size: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, size), dtype=np.float32)


def _fit_spread(
    model: MapModel, samples: list[Sample], centred: list[np.ndarray], freedom: list[float],
    latents: list[np.ndarray],
) -> None:  # fmt: skip
    """Spread of every pixel, simulated over modelled, shrunk to what is more than chance.

    So is the total: the fit of the rings knows it better than the sum over pixels, to which the
    loudest modes count most.
    """
    shape = model.spread.shape
    simulated, started, drawn = np.zeros(shape), np.zeros(shape), 0
    powers: tuple[list[float], list[float]] = ([], [])
    fourth, shares = np.zeros(shape), np.zeros(shape)
    for s, maps, latent in zip(samples, centred, latents, strict=True):
        scale = model.rings.scale(curved(s.place), s.scan_angle)
        starts = model.rings.draw(latent, curved(s.place), s.scan_angle)
        squares = (maps / scale) ** 2, (starts / scale) ** 2
        simulated += squares[0].sum(0)
        started += squares[1].sum(0)
        fourth += (squares[1] ** 2).sum(0)
        drawn += len(starts)
        share = scale**2 / (scale**2).mean()
        shares += share / len(samples)
        for kept, values in zip(powers, squares, strict=True):
            kept.extend((share * values).mean((1, 2)))
    ok = (simulated > 0) & (started > 0)
    log_ratio = np.zeros(shape)
    known = (sum(freedom), float(drawn))
    log_ratio[ok] = 0.5 * np.log(simulated[ok] / known[0] / (started[ok] / known[1]))
    # The logarithm of a chi squared with f degrees of freedom: mean and variance.
    bias = [0.5 * (float(digamma(f / 2)) - np.log(f / 2)) for f in known]
    # Heavy tails make a sample variance less certain: by (2 + excess kurtosis) / 2.
    kurtosis = float((fourth[ok] * drawn / started[ok] ** 2).mean())
    noise = 0.125 * (kurtosis - 1) * sum(float(polygamma(1, f / 2)) for f in known)
    mean, variance = _shrink(log_ratio[ok] - bias[0] + bias[1], noise)
    # The mean of the variance, not of its logarithm, is what spectra are made of.
    log_ratio[ok] = mean + variance
    each = sum(freedom) / len(powers[0])
    total = _log_total(np.array(powers[0]), np.array(powers[1]), each)
    before = shares * started
    total -= np.log((np.exp(2 * log_ratio) * before).sum() / before.sum())
    model.spread.copy_(torch.from_numpy(np.exp(log_ratio + 0.5 * total)))


def _log_total(simulated: np.ndarray, started: np.ndarray, freedom: float) -> float:
    """Logarithm of the ratio of mean powers of maps; 0 within two sigma of chance.

    Args:
        simulated: mean squares of the simulations (n,), of which a mean was taken.
        started: those of starts.
        freedom: degrees of freedom of a simulation, below 1.
    """
    ratio = np.log(simulated.mean() / freedom / started.mean())
    chance = sum(p.var(ddof=1) / p.mean() ** 2 / len(p) for p in (simulated, started))
    return float(ratio * max(0.0, 1 - 4 * chance / max(ratio**2, 1e-30)))


def _shrink(values: np.ndarray, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Posterior means and variances of numbers that were measured with the variance `noise`.

    The prior, found from all of them by expectation maximisation, is a narrow and a wide normal
    distribution: most pixels differ little from the model, a few by much.
    """
    centre, narrow, wide, share = float(np.median(values)), 0.01, 1.0, 0.9
    inside = np.full(values.shape, share)
    for _ in range(60):
        first = share * _normal(values, centre, narrow + noise)
        second = (1 - share) * _normal(values, centre, wide + noise)
        inside = first / (first + second + 1e-300)
        share = float(np.clip(inside.mean(), 0.5, 1 - 1e-6))
        square = (values - centre) ** 2
        narrow = max(float((inside * square).sum() / inside.sum()) - noise, 1e-6)
        rest = 1 - inside
        wide = max(float((rest * square).sum() / max(rest.sum(), 1e-9)) - noise, 4 * narrow, 0.09)
        centre = float((inside * values).sum() / inside.sum())
    gain = inside * narrow / (narrow + noise) + (1 - inside) * wide / (wide + noise)
    return centre + gain * (values - centre), gain * noise


def _normal(x: np.ndarray, mean: float, variance: float) -> np.ndarray:
    return np.exp(-0.5 * (x - mean) ** 2 / variance) / np.sqrt(variance)


def _fit_mean(model: MapModel, samples: list[Sample]) -> None:
    """Mean of every pixel, linear in theta, in units of its spread; shrunk as a whole."""
    terms = np.stack([linear(s.place) for s in samples])
    counts = np.array([len(s.maps) for s in samples], dtype=float)
    scaled = [s.maps / model.scale(s.place, s.scan_angle) for s in samples]
    means = np.stack([maps.mean(0) for maps in scaled])
    covariance = np.linalg.pinv(terms.T @ (counts[:, None] * terms))
    slopes = np.einsum("tu,nu,n,nsp->tsp", covariance, terms, counts, means)
    around = np.tensordot(terms, slopes, 1)
    squares_left = sum(
        ((x - m) ** 2).mean((1, 2)).sum() for x, m in zip(scaled, around, strict=True)
    )
    variance = squares_left / max(counts.sum() - terms.shape[1], 1)
    power = (slopes**2).mean((1, 2))
    kept = np.maximum(0, 1 - variance * np.diag(covariance) / np.maximum(power, 1e-300))
    model.mean.copy_(torch.from_numpy(kept[:, None, None] * slopes))


def _fit_targets(
    model: MapModel, samples: list[Sample], latents: list[np.ndarray]
) -> tuple[float, float]:
    """Shifts of the statistics; how far these are off without and with them."""
    simulated, started = [], []
    for s, latent in zip(samples, latents, strict=True):
        scale, offset = (f(s.place, s.scan_angle) for f in (model.scale, model.offset))
        unit = np.sqrt((scale**2).mean())
        relative, mean = (torch.from_numpy(m / unit).float() for m in (scale, offset))
        maps = s.maps - offset
        if len(samples) == 1:  # the spread of maps about their own mean is too small
            n = len(s.maps)
            maps = (s.maps - s.maps.mean(0)) * np.sqrt(n / (n - 1))
        starts = model.start(latent, s.place, s.scan_angle)
        with torch.no_grad():
            for values, out in ((maps, simulated), (starts, started)):
                y = torch.from_numpy(values / scale).float()
                out.append(model.summaries(y, relative, mean))
            # The mean map is not known exactly: spectra are those of the maps as they came.
            simulated[-1][:, -model.summaries.n_spectra :] = model.summaries.of_spectra(
                torch.from_numpy(s.maps / unit).float()
            )
    terms = torch.from_numpy(np.stack([linear(s.place) for s in samples]))
    return model.targets.fit(simulated, started, terms, model.summaries.groups)


def _starts(model: MapModel, s: Sample, latent: np.ndarray) -> Starts:
    scale, offset = (f(s.place, s.scan_angle) for f in (model.scale, model.offset))
    unit = np.sqrt((scale**2).mean())
    maps = model.start(latent, s.place, s.scan_angle) / scale
    relative, mean = (torch.from_numpy(m / unit).float() for m in (scale, offset))
    return Starts(s.place, torch.from_numpy(maps).float(), relative, mean)


def _fit_tail(
    model: MapModel, samples: list[Sample], centred: list[np.ndarray], latents: list[np.ndarray]
) -> None:
    """Tails of the ring amplitudes that make starts as heavy-tailed as the simulations.

    The measure is the mean absolute value over the rms of every pixel (Geary 1935), which one
    outlier moves little, of maps that have each been brought to the same rms: it knows nothing of
    amplitudes that depend on theta. Starts are taken in as many as there are simulations, so that
    what few maps do to it cancels.
    """
    scales = [model.rings.scale(curved(s.place), s.scan_angle) for s in samples]
    simulated = _geary(np.concatenate([m / c for m, c in zip(centred, scales, strict=True)]))
    n = sum(len(m) for m in centred)

    def started(tail: float) -> np.ndarray:
        model.rings.tail.fill_(tail)
        maps = np.concatenate([
            model.rings.draw(z, curved(s.place), s.scan_angle) / c
            for s, z, c in zip(samples, latents, scales, strict=True)
        ])  # fmt: skip
        parts = np.array_split(maps, max(1, len(maps) // n))
        return np.array([_geary(p - p.mean(0)) for p in parts])

    gaussian = started(0.0)
    excess = float(gaussian.mean()) - simulated
    if excess > 0 and len(gaussian) > 2:  # of it, what is beyond chance; none below 1.4 sigma
        excess *= max(0.0, 1 - 2 * float(gaussian.var(ddof=1)) / excess**2)
    low, high = 0.0, _HEAVIEST
    for _ in range(7 if excess > 0 else 0):
        middle = 0.5 * (low + high)
        heavier = float(gaussian.mean()) - float(started(middle).mean())
        low, high = (middle, high) if heavier < excess else (low, middle)
    model.rings.tail.fill_(low)


def _geary(maps: np.ndarray) -> float:
    """Mean over pixels of mean |x| / rms, each over maps (n, 2, pixels) of equal rms."""
    maps = maps / np.sqrt((maps**2).mean((1, 2), keepdims=True))
    rms = np.sqrt((maps**2).mean(0))
    return float((np.abs(maps).mean(0)[rms > 0] / rms[rms > 0]).mean())
