"""Sections about latent space and information, where the posterior has what they need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .blocks import Block, Figure, Paragraph, Row, Section, Table
from .posterior_figures import calibration_panel, quantile_panel
from .tables import p_text

if TYPE_CHECKING:
    from sbitools.calibration.check import Check
    from sbitools.calibration.sets import CheckSets

__all__ = ["measure_sections"]

_LATENT = {
    "radius": "distances from the origin follow the chi distribution",
    "dimensions": "every dimension is a standard normal",
    "covariance": "the covariance is the identity",
    "mean and summaries": "the position is unrelated to the field's summaries",
    "width and summaries": "the distance from the origin is unrelated to them",
}


def measure_sections(result: CheckSets) -> list[Section]:
    """Those of latent space and information that the calibration has; else none."""
    makers = {"latent": _latent, "information": _information}
    pairs = {name: _pair(result, name) for name in makers}
    return [makers[name](pair) for name, pair in pairs.items() if pair]


def _pair(result: CheckSets, name: str) -> dict[str, Check]:
    """A check by set of tests, the posterior's own first; empty if these have none."""
    found = {
        kind: check for kind, checks in result.sets().items() for check in checks
        if check.name == name and kind != "transfer"
    }  # fmt: skip
    if "emulated" not in found:
        return {}
    return {result.own_tests: found.pop("emulated")} | found


def _latent(checks: dict[str, Check]) -> Section:
    (tests, own), other = next(iter(checks.items())), checks.get("reference")
    figures = [
        Figure(
            calibration_panel(own, other, tests), "radii of latents of the truth",
            "Radius. How far from the origin truths are in latent space; the grey curve is what "
            "an exact posterior gives. Too far: intervals too narrow.",
        ),
        Figure(
            quantile_panel(own, other, tests),
            "quantiles of latents against a normal distribution",
            "Quantiles of every latent dimension against those of a standard normal. Steeper than "
            "the diagonal: too narrow; shifted: biased; bent: tails are wrong.",
        ),
    ]  # fmt: skip
    names = [row["name"] for row in own.details["parameters"]]
    rows = []
    for name in names:
        by_set = [_by_name(check, name) for check in checks.values()]
        cells = [cell for row in by_set for cell in (p_text(row.get("p_value")), _size(row))]
        rows.append((name, _LATENT.get(name, ""), *cells))
    n = len(names)
    blocks: list[Block] = [
        Row(figures),
        Table(
            ("test", "what an exact posterior must do",
             *(cell for kind in checks for cell in (f"p, {kind}", f"size, {kind}"))), rows,
            f"The {n} tests of the check. Each p is of that test alone; the check's own p is {n} "
            "times the smallest. Size: rms over fields of the bias in posterior sigmas, and of "
            "the relative error of the width, without what chance adds, ± one standard error.",
            frozenset(range(2, 2 + 2 * len(checks))),
        ),
    ]  # fmt: skip
    return Section(
        "latent", "Latent space",
        "The network turns each posterior into a standard normal. Truths, seen through it, must "
        "be standard normal, too, whatever the field looks like. This sees errors that depend on "
        "the field, which averages over all fields hide.", blocks,
    )  # fmt: skip


def _size(row: dict[str, Any]) -> str:
    effect, error = row.get("effect"), row.get("error")
    if effect is None:
        return "-"
    scale, unit, digits = (100, "%", 0) if row["name"].startswith("width") else (1, "sigma", 2)
    spread = "" if error is None else f" ± {scale * error:.{digits}f}"
    return f"{scale * effect:.{digits}f}{spread} {unit}"


def _by_name(check: Check, name: str) -> dict[str, Any]:
    return next((row for row in check.details["parameters"] if row["name"] == name), {})


def _information(checks: dict[str, Check]) -> Section:
    (tests, own), rows = next(iter(checks.items())), []
    for name in ["joint", *(row["name"] for row in own.details["parameters"])]:
        for kind, check in checks.items():
            row = check.details["joint"] if name == "joint" else _by_name(check, name)
            if row:
                low, high = row["band"]
                rows.append(("all together" if name == "joint" else name, kind,
                             f"{row['effect']:.3f} ± {row['error']:.1g}",
                             f"{low:.3f} to {high:.3f}"))  # fmt: skip
    figure = Figure(
        calibration_panel(own, checks.get("reference"), tests),
        "information about each parameter",
        "Lower bounds with their 95 % intervals.",
        wide=False,
    )
    claims = [
        f"{check.details['claimed']:.3f} nats on {kind} tests" for kind, check in checks.items()
        if check.details.get("claimed") is not None
    ]  # fmt: skip
    table = Table(
        ("parameter", "tests", "information [nats]", "95 % interval"), rows,
        "Mean log of posterior over prior density at the truth (Barber & Agakov 2003). 1 nat "
        "shrinks an interval by a factor 2.7. A parameter alone is measured by its marginal; the "
        "sum can differ from the joint value. ± is one bootstrap standard error.",
        frozenset({2, 3}),
    )  # fmt: skip
    blocks: list[Block] = [figure, table]
    if claims:
        blocks.append(Paragraph(
            f"By its own width the posterior claims {' and '.join(claims)}. A claim beyond the "
            "interval of the bound above is over-confidence."
        ))  # fmt: skip
    return Section(
        "information", "Information",
        "How much a field tells about the parameters: the mutual information. A posterior "
        "states a lower bound of it, which an exact posterior reaches and no other.", blocks,
    )  # fmt: skip
