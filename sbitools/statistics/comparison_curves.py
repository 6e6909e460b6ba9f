"""Curves of a comparison at equal theta: spectra, entries of vectors, distributions."""

from __future__ import annotations

from typing import Any

import numpy as np

from sbitools.seeds import derive

from .by_axes import chosen
from .comparison_sets import Measured
from .equal_theta import ABOVE, FLOOR, EqualTheta
from .theta_fit import random_halves

__all__ = ["correlations", "curves_of_entries", "curves_of_spectra", "value_pictures"]

_CHANNELS, _PAIRS, _ENTRIES = 3, 3, 64  # drawn at most; entries whose correlation is measured


def curves_of_spectra(m: Measured, labels: dict[str, str]) -> dict[str, Any]:
    """Power, its ratio and its scatter by channel, and correlation coefficients of channels."""
    one = m.compared.get("power")
    if one is None:
        return {}
    sphere, names = m.plan.kind == "sphere", m.channel_names
    symbol = "C_l" if sphere else "P(k)"
    out = _Curves()
    wide, band = one.difference.reshape(one.shape), np.expm1(2 * one.floor)
    ratio, error, _ = one.scatter_ratio()
    for i, c in enumerate(m.live[:_CHANNELS]):
        of = f", {names[c]}" if names[c] else ""
        scale = float(m.measure.scale[c])
        scale = scale**2 if 1e-140 < scale < 1e140 else 1.0  # beyond: in units of the variance
        power = {name: np.exp(v[:, i].mean(0)) * scale for name, v in one.sides.items()}
        out.add(f"{symbol}{of}", "log", power, band[i])
        out.add(f"{symbol} / reference{of}", "ratio", {"emulator": np.exp(wide[i])}, band[i])
        out.add(f"scatter of ln {symbol} / reference{of}", "ratio", {"emulator": ratio[i]},
                2 * error[i])  # fmt: skip
        if i == 0:
            labels |= {
                f"{symbol}{of}": _order(m) if sphere else
                f"Power spectrum in units of cells, {_tapered(m)}; geometric mean.",
                f"{symbol} / reference{of}": "Its ratio at equal theta, exp of the mean ln.",
                f"scatter of ln {symbol} / reference{of}": "Scatter of ln P between seeds at "
                "equal theta over that of the reference; there the band is two standard errors.",
            }  # fmt: skip
    cross = m.compared.get("cross")
    for i, pair in enumerate(m.kept("cross")[:_PAIRS]):
        if cross is None:
            break
        a, b = (names[c] for c in m.plan.pairs[pair])
        key = f"correlation of {a} and {b}"
        lines = {name: v[:, i].mean(0) for name, v in cross.sides.items()}
        out.add(key, "plain", lines, 2 * cross.floor[i])
        labels[key] = "Correlation coefficient of channels, wavenumber by wavenumber."
    return {"k": m.measure.x, "k_label": "multipole l" if sphere else "k [2π / cell]", **out.parts}


def _tapered(m: Measured) -> str:
    if all(m.plan.periodic):
        return "all axes periodic"
    return "tapered along axes that do not close on themselves"


def _order(m: Measured) -> str:
    known = m.spec.dims[m.plan.space[0]].endswith(m.plan.ordering)
    return "C_l of the map; geometric mean over simulations." + (
        "" if known else " The order of pixels is not named: ring is taken for it.")  # fmt: skip


def curves_of_entries(m: Measured, labels: dict[str, str]) -> dict[str, Any]:
    """Mean, difference and scatter of every entry, and the correlation of entries."""
    one, out = m.compared["entries"], _Curves()
    centre, scale = m.measure.centre, m.measure.scale
    means = {name: v.mean(0) * scale + centre for name, v in one.sides.items()}
    band, size = 2 * one.floor * one.unit * scale, np.abs(means["reference"])
    if m.measure.logarithmic:
        means = {name: np.exp(v) for name, v in means.items()}
        out.add("mean", "log", means, np.expm1(band))
    elif min(v.min() for v in means.values()) > 0 and size.max() > 30 * size.min():
        out.add("mean", "log", means, band / size)
    else:
        out.add("mean", "plain", means, band)
    out.add("difference of means [scatter]", "difference", {"emulator": one.difference},
            2 * one.floor)  # fmt: skip
    ratio, error, _ = one.scatter_ratio()
    out.add("scatter / reference", "ratio", {"emulator": ratio}, 2 * error)
    labels |= {
        "mean": "Mean of every entry." if not m.measure.logarithmic else "Geometric mean of every "
        "entry; what follows is of logarithms.",
        "difference of means [scatter]": "Difference at equal theta, in units of the scatter of "
        "the entry between seeds.",
        "scatter / reference": "Scatter between seeds at equal theta over that of the "
        "reference; there the band is two standard errors.",
    }  # fmt: skip
    found = {"k": m.measure.x, "k_label": "entry", "k_scale": "linear", **out.parts}
    if len(scale) > 1:
        found["matrices"] = correlations(one)[0]
        labels["matrices"] = "Correlation of entries between seeds at equal theta."
    return found


class _Curves:
    """Curves, what kind they are, and their noise floors."""

    def __init__(self) -> None:
        self.parts: dict[str, dict[str, Any]] = {
            "curves": {}, "curve_kinds": {}, "noise_floor": {}
        }  # fmt: skip

    def add(self, key: str, kind: str, lines: dict[str, np.ndarray], band: np.ndarray) -> None:
        """One panel."""
        for part, value in zip(self.parts.values(), (lines, kind, band), strict=True):
            part[key] = value


def correlations(one: EqualTheta) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Correlation matrices of entries at equal theta, and their rms difference with its floor."""
    some = chosen(one.reference.shape[1], _ENTRIES)
    # Without the emulator's mean: what a fit leaves of theta would look like correlation.
    left = one.controlled.values[:, some] / one.unit[some]
    pairs = (one.first - one.second)[:, some] / one.unit[some]

    def reference(rows: np.ndarray) -> np.ndarray:
        covariance = left[rows].T @ left[rows]
        if not one.fit.repeats:  # half the emulator's own is in it
            covariance -= pairs[rows].T @ pairs[rows] / 4
        return _coefficients(covariance)

    matrices = {"reference": reference(np.ones(len(left), dtype=bool)),
                "emulator": _coefficients(pairs.T @ pairs)}  # fmt: skip
    matrices["difference"] = matrices["emulator"] - matrices["reference"]
    off = ~np.eye(len(some), dtype=bool)
    signs = random_halves(one.clusters[one.controlled.rows], 60, derive(one.seed, 2))
    chance = [reference(s > 0)[off] - reference(s < 0)[off] for s in signs]
    sizes = np.sqrt((np.array(chance) ** 2).mean(1) / 2)
    return matrices, {
        "emulator": float(np.sqrt((matrices["difference"][off] ** 2).mean())),
        FLOOR: float(sizes.mean()), ABOVE: float(np.quantile(sizes, 0.95)),
    }  # fmt: skip


def _coefficients(covariance: np.ndarray) -> np.ndarray:
    variance = np.diag(covariance).copy()
    size = np.sqrt(np.where(variance > 0, variance, np.inf))
    matrix = np.clip(covariance / np.outer(size, size), -1, 1)
    np.fill_diagonal(matrix, 1.0)
    return matrix


def value_pictures(m: Measured) -> dict[str, Any]:
    """The distribution of values of the drawn channels."""
    one, names, out = m.compared["cdf"], m.channel_names, {}
    chance = one.chance.reshape(-1, *one.shape)
    log = "ln of the " if m.measure.logarithmic else ""
    for c in range(min(one.shape[0], _CHANNELS)):
        edges = m.measure.edges[c]
        if len(edges) < 2:
            continue  # a constant has no density
        vector = m.plan.kind == "vector"
        centre, scale = (0.0, 1.0) if vector else (m.measure.centre[c], m.measure.scale[c])
        width = np.diff(edges) * scale
        shares = {name: v[:, c, : len(edges)].mean(0) for name, v in one.sides.items()}
        curves = {name: np.diff(v) / width for name, v in shares.items()}
        unit = f" [{m.spec.unit}]" if m.spec.unit else ""
        name = "" if vector else names[c]
        out[name or "values"] = {
            "x": centre + scale * (edges[1:] + edges[:-1]) / 2,
            "x_label": f"{log}entry, standardised" if vector else f"{m.spec.name}{unit}",
            "curves": curves,
            "noise_floor": 2 * np.diff(chance[:, c, : len(edges)]).std(0) / width,
        }
    return {"pdfs": out} if out else {}
