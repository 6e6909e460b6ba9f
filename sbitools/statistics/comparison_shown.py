"""What a comparison at equal theta says, in the words and numbers of the report."""

from __future__ import annotations

from typing import Any

import numpy as np

from .comparison_curves import correlations, curves_of_entries, curves_of_spectra, value_pictures
from .comparison_sets import Measured
from .equal_theta import Responses, median_size, worst_size
from .field_pictures import field_pictures

__all__ = ["shown"]

_FEW = 8  # independent simulations, below which they say nothing of their scatter
_FLOOR = (
    "what two random halves of the held-out simulations differ by, each simulation less {how}, "
    "scaled to {n} simulations on either side: what the reference itself would show under other "
    "seeds"
)


def shown(measured: Measured, fields: dict[str, np.ndarray]) -> dict[str, Any]:
    """Nested plain values, named as `sbitools.report.emulator_figures` draws them.

    Args:
        measured: all statistics.
        fields: one field of each set, at the same theta.
    """
    vector, compared = measured.plan.kind == "vector", measured.compared
    responses = Responses(
        {_NAMES[name]: one for name, one in compared.items() if name != "scattering"},
        measured.fit, last=_NAMES["cdf"],
    )  # fmt: skip
    main = "entries" if vector else "power"
    labels = dict(_LABELS)
    how = compared[main if main in compared else "cdf"].residuals.how
    labels["noise_floor"] = (
        f"Two standard deviations: {_FLOOR.format(how=how, n=len(measured.clusters))}."
    )
    labels["errors"] = (
        "Differences are means over the held-out simulations, each at its own theta. Beside them, "
        f"the floor: {_FLOOR.format(how=how, n=len(measured.clusters))}."
    )
    if len(np.unique(measured.clusters)) < _FEW:
        labels["errors"] += (
            " The held-out simulations share their seeds: their scatter between seeds is not "
            "known, and the floor is too low."
        )
    errors = _errors(measured)
    out: dict[str, Any] = {
        "equal_theta": True, "n": len(measured.clusters), "errors": errors,
        "responses": responses.rows(), "labels": labels,
    }  # fmt: skip
    out |= (curves_of_entries if vector else curves_of_spectra)(measured, labels)
    out |= value_pictures(measured)
    out |= field_pictures(measured.spec, measured.plan, fields, measured.channel_names)
    if main in compared and measured.fit.names:
        curves = responses.curves(_NAMES[main])
        first = {p: {k: v if vector else v[0] for k, v in lines.items()}
                 for p, lines in curves.items()}  # fmt: skip
        out["response_curves"] = dict(list(first.items())[:8])
    out["labels"] = {k: v for k, v in labels.items() if k in _ALWAYS or _has(out, k)}
    return out


def _has(out: dict[str, Any], key: str) -> bool:
    return key in out or key in out.get("errors", ()) or key in out.get("curves", ())


_ALWAYS = ("noise_floor", "errors", "responses", "response_curves", "pdf")
_NAMES = {"power": "power spectrum", "entries": "entries", "mean": "mean", "variance": "variance",
          "cdf": "distribution of values", "cross": "correlation of channels"}  # fmt: skip
_LABELS = {
    "pdf": "Distribution of values, over all simulations.",
    "responses": "How strongly the statistics follow each parameter: rms change of the statistic "
    "that shows it best, in units of its scatter between seeds, per standard deviation of the "
    "parameter. A parameter that the emulator ignores has the reference's response as difference.",
    "response_curves": "Response to each parameter: change per standard deviation of the "
    "parameter, in units of the scatter between seeds.",
    "scatter of ln P, emulator / reference": "Scatter of P: between seeds at equal theta, median "
    "over wavenumbers; 1 is right, less means that fields are too much alike.",
    "scatter, emulator / reference": "Scatter: between seeds at equal theta, median over entries; "
    "1 is right, less means that vectors are too much alike.",
    "mean": "Mean and ln variance: of the values of a field, the mean in units of the scatter of "
    "its cells; the worst channel.",
    "distribution of values": "Distribution: largest difference of the cumulative distributions.",
    "correlation of channels": "Correlation of channels: median difference of the coefficients.",
    "correlation of entries": "Correlation of entries: rms difference of the coefficients between "
    "seeds at equal theta.",
    "scattering coefficients": "Scattering coefficients: median difference of their logarithms.",
    "constant fields": "Constant fields: their share; spectra are compared where the reference "
    "has structure.",
}


def _errors(m: Measured) -> dict[str, dict[str, float]]:
    """By quantity: the emulator's number and its floor."""
    out: dict[str, dict[str, float]] = {}
    one = m.compared.get("power")
    if one is not None:
        symbol = "C_l" if m.plan.kind == "sphere" else "P(k)"
        out[f"ln {symbol}, median"] = one.row(median_size)
        out[f"ln {symbol}, worst bin"] = one.row(worst_size)
        out["scatter of ln P, emulator / reference"] = one.scatter_ratio()[2]
    one = m.compared.get("entries")
    if one is not None:
        out["entries [scatter], median"] = one.row(median_size)
        out["entries [scatter], worst"] = one.row(worst_size)
        out["scatter, emulator / reference"] = one.scatter_ratio()[2]
        if one.reference.shape[1] > 1:
            out["correlation of entries"] = correlations(one)[1]
    for name, measure in (("cross", median_size), ("mean", worst_size), ("variance", worst_size),
                          ("cdf", worst_size), ("scattering", median_size)):  # fmt: skip
        if name in m.compared:
            out[_ERRORS[name]] = m.compared[name].row(measure)
    return out | ({"constant fields": m.constant} if m.constant else {})


_ERRORS = _NAMES | {"variance": "ln variance", "scattering": "scattering coefficients"}
