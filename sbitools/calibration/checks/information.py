r"""How much x tells about theta, in nats: a lower bound of the mutual information.

Barber & Agakov (2003): :math:`I(\theta; x) \ge E[\log q(\theta | x) - \log p(\theta)]`, with
equality if q is the exact posterior. So a posterior states a lower bound of what the data hold,
and two posteriors of the same simulations, one of the field and one of a summary of it, say how
much of it the summary loses. A wrong posterior lowers the bound, it never raises it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from sbitools.calibration.check import Check
from sbitools.calibration.drawing.draws import CalibrationDraws, as_draws
from sbitools.calibration.statistics.bootstrap import bootstrap_means
from sbitools.calibration.statistics.coordinates import expected_log_prob, normal_score
from sbitools.errors import ShapeError

__all__ = ["information", "information_lost"]

_BOOTSTRAP = 41
_ENTROPY = 0.5 * np.log(2 * np.pi * np.e)  # of N(0, 1)

# A kernel estimate of a density needs this many draws.
_MIN_DRAWS = 50
_ROWS = 2000


class _Terms(NamedTuple):
    """Per test: log q of the truth, and log p less its expectation, which is known."""

    name: str
    log_q: np.ndarray
    excess: np.ndarray
    entropy: float


def information(
    draws: CalibrationDraws, *, seed: int | None = None, per_parameter: bool = True
) -> Check:
    r"""Lower bound of the mutual information of theta and x, jointly and per parameter, in nats.

    Jointly from the densities of the truth. Per parameter from a kernel estimate of the marginal
    posterior in coordinates in which its prior is N(0, 1), on the draws; its smoothing lowers the
    bound by some 0.01 nat at 1,000 draws. The entropy of the prior is exact, and the sampling
    error of :math:`\log p(\theta)`, whose expectation is known, is regressed out.

    Nothing is tested. Statistic and effect: the joint bound; band: its 95 % bootstrap interval,
    resampling groups. ``details["claimed"]`` is the information that the posterior's own width
    claims, :math:`H(\theta) - E[H(q)]`: above the bound by more than the errors, it is
    over-confident.

    Args:
        draws: with normalised log densities, and the prior.
        seed: of the bootstrap.
        per_parameter: also the marginal bounds.

    Raises:
        ShapeError: if densities or the prior are missing.

    References:
        | The IM algorithm: a variational approach to information maximization
          (Barber & Agakov 2003, NIPS 16), equation 3
    """
    d = as_draws(draws, seed=seed)
    terms = _terms(d, per_parameter)
    rows = [_row(d, t, i) for i, t in enumerate(terms)]
    lost = _outside(d)
    notes = [f"{lost} truths have no density: left out, the bound is minus infinity"] * bool(lost)
    if per_parameter and len(terms) == 1 and d.draws.shape[2] > 1:
        notes.append(f"marginals need {_MIN_DRAWS} draws at least")
    joint = rows[0]
    claimed = _claimed(d, terms[0])
    return Check(
        name="information", kind="information", statistic=joint["effect"], p_value=None,
        effect=joint["effect"], band=joint["band"], passed=None, false_alarm=None,
        summary=f"x tells at least {joint['effect']:.2f} ± {joint['error']:.2f} nats about theta "
        "(lower bound)", note="; ".join(notes),
        details={
            "parameters": rows[1:], "joint": joint, "claimed": claimed, "names": list(d.names),
            "labels": list(d.labels), "n_tests": d.n_tests, "outside_support": lost,
            "xlabel": "information about theta, lower bound (nats)",
        },
    )  # fmt: skip


def information_lost(
    field: CalibrationDraws, summary: CalibrationDraws, *, seed: int | None = None
) -> Check:
    """Information that a summary of x loses against x itself, in nats, jointly and per parameter.

    The difference of the two bounds of `information` on the same tests, so that most of the
    scatter between tests cancels. Both posteriors must be good for it to speak of the data: a poor
    posterior of the field looks like a summary that loses nothing.

    Statistic and effect: mean log q(theta | x) - log q(theta | summary); band: 95 % bootstrap
    interval, resampling groups. p-value: two-sided, of no difference.

    Args:
        field: draws given the whole x.
        summary: draws given a summary of it, for the same simulations in the same order.
        seed: of the bootstrap.

    Raises:
        ShapeError: if densities or the prior are missing, or the tests are not the same.
    """
    from scipy.special import erfc

    first, second = as_draws(field, seed=seed), as_draws(summary, seed=seed)
    if first.theta.shape != second.theta.shape or not np.allclose(first.theta, second.theta):
        raise ShapeError(
            "information_lost", expected="the same tests in the same order in both sets",
            got="other theta", fix="draw from both posteriors for the same store and indices",
        )  # fmt: skip
    pairs = zip(_terms(first), _terms(second), strict=False)
    rows = []
    for i, (a, b) in enumerate(pairs):
        good = np.isfinite(a.log_q) & np.isfinite(b.log_q)
        difference = (a.log_q - b.log_q)[good]
        samples = bootstrap_means(
            difference[:, None], np.asarray(first.group)[good], first.rng(_BOOTSTRAP, 100 + i)
        )[:, 0]
        rows.append(_figures(a.name, float(difference.mean()), samples))
    joint = rows[0]
    z = joint["effect"] / joint["error"] if joint["error"] > 0 else 0.0
    return Check(
        name="information lost", kind="information", statistic=z,
        p_value=float(max(1e-12, erfc(abs(z) / np.sqrt(2)))), effect=joint["effect"],
        band=joint["band"], passed=None, false_alarm=None,
        summary=f"the summary loses {joint['effect']:.2f} ± {joint['error']:.2f} nats",
        details={
            "parameters": rows[1:], "joint": joint, "names": list(first.names),
            "labels": list(first.labels), "n_tests": first.n_tests,
            "xlabel": "information lost (nats)",
        },
    )  # fmt: skip


def _terms(d: CalibrationDraws, per_parameter: bool = True) -> list[_Terms]:
    if d.prior is None or d.log_prob_true is None or not d.normalised:
        raise ShapeError(
            "information", expected="the prior and normalised log densities of theta",
            got="draws without them", fix="draw with CalibrationDraws.from_posterior from a "
            "posterior with a normalised density (npe, fmpe, npse)",
        )  # fmt: skip
    import torch

    expected = expected_log_prob(d.prior)
    prior = d.prior.log_prob(torch.from_numpy(d.theta)).numpy()
    terms = [_Terms("joint", d.log_prob_true, prior - expected, -expected)]
    if per_parameter and d.n_draws >= _MIN_DRAWS:
        for i, name in enumerate(d.names):
            truth = normal_score(d.prior, d.theta[:, i], i)
            log_q = _kernel(truth, d, i)
            terms.append(_Terms(name, log_q, 0.5 * (1 - truth**2), float(_ENTROPY)))
    return terms


def _row(d: CalibrationDraws, terms: _Terms, i: int) -> dict[str, Any]:
    good = np.isfinite(terms.log_q)
    log_q, excess = terms.log_q[good], terms.excess[good]
    if not len(log_q):
        return _figures(terms.name, 0.0, np.zeros(1))
    # log p has a known mean: what scatters with it is taken out (control variate).
    variance = float(excess.var())
    slope = float(np.cov(log_q, excess, bias=True)[0, 1]) / variance if variance > 1e-12 else 0.0
    values = log_q - slope * excess
    samples = bootstrap_means(values[:, None], np.asarray(d.group)[good], d.rng(_BOOTSTRAP, i))
    return _figures(
        terms.name, float(values.mean()) + terms.entropy, samples[:, 0] + terms.entropy
    )


def _figures(name: str, effect: float, samples: np.ndarray) -> dict[str, Any]:
    low, high = np.quantile(samples, (0.025, 0.975))
    return {
        "name": name, "effect": effect, "error": float(samples.std()),
        "band": (float(low), float(high)),
    }  # fmt: skip


def _claimed(d: CalibrationDraws, joint: _Terms) -> float | None:
    if d.log_prob_draws is None:
        return None
    values = d.log_prob_draws[np.isfinite(d.log_prob_draws)]
    return float(values.mean()) + joint.entropy if values.size else None


def _outside(d: CalibrationDraws) -> int:
    return int((~np.isfinite(np.asarray(d.log_prob_true))).sum())


def _kernel(truth: np.ndarray, d: CalibrationDraws, i: int) -> np.ndarray:
    """Log of a Gaussian kernel estimate at truth (N,), from the draws of parameter i.

    Bandwidth: Silverman (1986, "Density Estimation"), equation 3.31.
    """
    from scipy.special import logsumexp

    out = np.empty(len(truth))
    for start in range(0, len(truth), _ROWS):
        rows = slice(start, start + _ROWS)
        points = normal_score(d.prior, d.draws[rows, :, i], i)  # type: ignore[arg-type]
        quarter, three = np.quantile(points, (0.25, 0.75), axis=1)
        spread = points.std(1)
        inner = (three - quarter) / 1.349
        width = 0.9 * np.where(inner > 0, np.minimum(spread, inner), spread)
        width = np.maximum(width * d.n_draws**-0.2, 1e-9)[:, None]
        exponent = -0.5 * ((points - truth[rows, None]) / width) ** 2
        out[rows] = logsumexp(exponent, axis=1) - np.log(
            d.n_draws * np.sqrt(2 * np.pi) * width[:, 0]
        )
    return out
