"""Attribution: why is an emulator-trained posterior different on the reference?

Which statistic of the emulated fields is off, and at which scale; whether the network sees a
difference at equal theta; how much of a posterior's bias is the estimator's (it is there on
emulated tests as well) and how much the emulator's; and how much of the latter the biased
statistic explains.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sbitools.calibration.check import Check
from sbitools.calibration.drawing.observed_tests import ObservedTests
from sbitools.calibration.statistics.bootstrap import bootstrap_means
from sbitools.calibration.statistics.regression import group_weights, source_difference
from sbitools.seeds import derive

from .attribution_tools import Discriminant, conditional_features, paired_values, response
from .gate import checked

__all__ = ["attribute", "bias_source", "explained_bias", "feature_shift", "statistic_bias"]

_STATISTIC, _FEATURES, _SOURCE, _EXPLAINED = 91, 92, 93, 94
_PERMUTATIONS = 999
_FOLDS = 5
_MISSED = 0.05


@checked
def attribute(
    emulated: ObservedTests,
    reference: ObservedTests,
    coordinates: Mapping[str, np.ndarray] | None = None,
    *,
    false_alarm: float = 0.01,
    seed: int = 0,
) -> list[Check]:
    """All of it: one `statistic_bias` and `explained_bias` per statistic, and the others.

    Args:
        emulated: tests of the simulator the posterior was trained on.
        reference: tests of the reference simulator.
        coordinates: name of a statistic -> where its bins are, e.g. wavenumbers, shape (B,).
        false_alarm: probability that any check fails if the emulator is exact; shared equally.
        seed: of bootstraps and permutations.
    """
    level = false_alarm / (len(emulated.statistics) + 2)
    options: dict[str, Any] = {"false_alarm": level, "seed": seed}
    at = coordinates or {}
    checks = [bias_source(emulated, reference, **options)]
    for name in emulated.statistics:
        checks.append(statistic_bias(emulated, reference, name, at.get(name), **options))
        checks.append(explained_bias(emulated, reference, name, at.get(name), seed=seed))
    return [*checks, feature_shift(emulated, reference, **options)]


@checked
def statistic_bias(
    emulated: ObservedTests,
    reference: ObservedTests,
    name: str,
    coordinate: np.ndarray | None = None,
    *,
    false_alarm: float = 0.01,
    seed: int = 0,
) -> Check:
    """Is a statistic of emulated fields off at equal theta, and in which bins?

    Statistic: the largest |z| over bins of the difference at equal theta (`regression`); z is in
    bootstrap errors. p-value: share of bootstrap samples, centred, with a larger one, so it holds
    for all bins at once. Effect: the difference in the bin of the largest |z|, emulated minus
    reference, in units of the scatter at given theta; its band is simultaneous over bins.

    Args:
        emulated: tests of the emulator.
        reference: tests of the reference.
        name: of the statistic; positive statistics are compared in their logarithm.
        coordinate: where the bins are, shape (B,); their number if None.
        false_alarm: of the check.
        seed: of the bootstrap.
    """
    values, logarithm = paired_values(emulated, reference, name)
    pair = ((emulated.theta, reference.theta), values, (emulated.group, reference.group))
    d = source_difference(*pair, np.random.default_rng(derive(seed, _STATISTIC)))
    scale = np.where(d.scatter > 0, d.scatter, 1.0)
    z, half = d.value / d.error, d.quantile(1 - _MISSED) * d.error / scale
    at = np.arange(len(z)) if coordinate is None else np.asarray(coordinate, dtype=np.float64)
    rows = [
        {
            "name": f"{at[j]:.3g}", "coordinate": float(at[j]), "z": float(z[j]),
            "effect": float(d.value[j] / scale[j]), "difference": float(d.value[j]),
            "band": (float(d.value[j] / scale[j] - half[j]),
                     float(d.value[j] / scale[j] + half[j])),
        }
        for j in range(len(z))
    ]  # fmt: skip
    worst = rows[int(np.abs(z).argmax())]
    off = worst["difference"]
    size = f"{100 * np.expm1(off):+.1f} %" if logarithm else f"{off:+.3g}"
    p_value = d.p_value
    return Check(
        name=f"bias of {name}", kind="spectrum", statistic=float(np.abs(z).max()), p_value=p_value,
        effect=worst["effect"], band=worst["band"], passed=p_value >= false_alarm,
        false_alarm=false_alarm,
        summary=f"emulated {name} is off by {size}, {worst['effect']:+.2f} of its scatter, at "
        f"{worst['coordinate']:.3g} (z = {worst['z']:+.1f})",
        note=_sizes(emulated, reference),
        details={"parameters": rows, "logarithm": logarithm, "names": [r["name"] for r in rows]},
    )  # fmt: skip


@checked
def feature_shift(
    emulated: ObservedTests, reference: ObservedTests, *, false_alarm: float = 0.01, seed: int = 0
) -> Check:
    """Can a classifier tell emulated from reference tests by their features at equal theta?

    Features are what the network makes of x, freed of a quadratic function of theta; a linear
    discriminant in them and their squares is trained in five folds. Statistic and effect: the
    area under its ROC curve on held-out tests, minus 1/2 for the effect. p-value: by permutation
    of the two sets (999). (Lopez-Paz & Oquab 2017, arXiv:1610.06545.)

    Args:
        emulated: tests of the emulator.
        reference: tests of the reference.
        false_alarm: of the check.
        seed: of folds and permutations.
    """
    rng = np.random.default_rng(derive(seed, _FEATURES))
    inputs, label = conditional_features(emulated, reference, rng)
    discriminant = Discriminant(inputs, rng.permutation(len(label)) % _FOLDS)
    found = float(discriminant.auc(label[None])[0])
    shuffled = rng.permuted(np.tile(label, (_PERMUTATIONS, 1)), axis=1)
    null = np.concatenate([discriminant.auc(some) for some in np.array_split(shuffled, 10)])
    p_value = (1 + int((null >= found).sum())) / (1 + _PERMUTATIONS)
    low, high = np.quantile(null, (_MISSED / 2, 1 - _MISSED / 2)) - 0.5
    return Check(
        name="feature shift", kind="difference", statistic=found, p_value=p_value,
        effect=found - 0.5, band=(float(low), float(high)), passed=p_value >= false_alarm,
        false_alarm=false_alarm,
        summary=f"a classifier tells emulated from reference features with AUC {found:.3f}",
        note=f"{_sizes(emulated, reference)}; the band is that of chance",
        details={"parameters": [{"name": "AUC − ½", "effect": found - 0.5}], "names": ["AUC"]},
    )  # fmt: skip


@checked
def bias_source(
    emulated: ObservedTests, reference: ObservedTests, *, false_alarm: float = 0.01, seed: int = 0
) -> Check:
    """Is the posterior's bias there on emulated tests (estimator), or only on reference ones?

    For every parameter the mean error in posterior sigmas on emulated tests is the estimator's,
    and what comes on top on reference tests is the emulator's. Statistic: the largest |z| of the
    emulator's part. p-value: normal, Bonferroni over parameters. Bands: 95 %, bootstrap,
    Bonferroni over parameters.

    Args:
        emulated: tests of the emulator.
        reference: tests of the reference.
        false_alarm: of the check.
        seed: of the bootstrap.
    """
    from scipy.special import erfc

    samples = [
        bootstrap_means(d.errors, d.group, np.random.default_rng(derive(seed, _SOURCE, i)))
        for i, d in enumerate((emulated, reference))
    ]
    means = [d.errors.mean(0) for d in (emulated, reference)]
    rows = []
    for i, name in enumerate(emulated.names):
        parts = {
            "estimator": (means[0][i], samples[0][:, i]),
            "emulator": (means[1][i] - means[0][i], samples[1][:, i] - samples[0][:, i]),
            "total": (means[1][i], samples[1][:, i]),
        }
        row: dict[str, Any] = {"name": name}
        for part, (value, spread) in parts.items():
            tail = _MISSED / (2 * len(emulated.names))
            low, high = np.quantile(spread, (tail, 1 - tail))
            error = max(float(spread.std()), 1e-12)
            row |= {part: float(value), f"{part}_band": (float(low), float(high)),
                    f"{part}_z": float(value / error)}  # fmt: skip
        named = [p for p in ("emulator", "estimator") if not _covers(row[f"{p}_band"])]
        row |= {"source": " and ".join(named) or "neither", "effect": row["emulator"]}
        rows.append(row | {"band": row["emulator_band"]})
    worst = max(rows, key=lambda row: abs(row["emulator_z"]))
    statistic = abs(worst["emulator_z"])
    p_value = float(min(1.0, max(1e-12, len(rows) * erfc(statistic / np.sqrt(2)))))
    return Check(
        name="bias source", kind="bias source", statistic=statistic, p_value=p_value,
        effect=worst["emulator"], band=worst["emulator_band"], passed=p_value >= false_alarm,
        false_alarm=false_alarm,
        summary=f"{worst['name']}: {worst['estimator']:+.2f} posterior sigma from the estimator, "
        f"{worst['emulator']:+.2f} from the emulator (beyond chance: {worst['source']})",
        note=_sizes(emulated, reference),
        details={"parameters": rows, "names": list(emulated.names)},
    )  # fmt: skip


def explained_bias(
    emulated: ObservedTests,
    reference: ObservedTests,
    name: str,
    coordinate: np.ndarray | None = None,
    *,
    seed: int = 0,
) -> Check:
    """How much of the emulator's part of a posterior's bias does a biased statistic explain?

    On emulated tests, the posterior's error is regressed on what is left of the statistic when its
    dependence on theta is taken out: the response of the posterior to a fluctuation of that
    statistic. The response times the emulator's bias is the bias that is to be expected on the
    reference. Nothing is tested; bands are 95 % bootstrap intervals.

    Args:
        emulated: tests of the emulator.
        reference: tests of the reference.
        name: of the statistic; positive statistics are compared in their logarithm.
        coordinate: where the bins are, shape (B,).
        seed: of the bootstrap.
    """
    values, _ = paired_values(emulated, reference, name)
    rng = np.random.default_rng(derive(seed, _EXPLAINED))
    weights = [group_weights(d.group, 300, rng) for d in (emulated, reference)]
    ones = [np.ones(len(d.theta)) for d in (emulated, reference)]
    observed, parts, r2 = response(emulated, reference, values, *ones)
    samples = [response(emulated, reference, values, *w)[:2] for w in zip(*weights, strict=True)]
    at = np.arange(parts.shape[1]) if coordinate is None else np.asarray(coordinate)
    rows = []
    for i, parameter in enumerate(emulated.names):
        spread = np.array([s[1][i].sum() for s in samples])
        band = tuple(float(v) for v in np.quantile(spread, (0.025, 0.975)))
        error = float(np.std([s[0][i] for s in samples]))
        rows.append({
            "name": parameter, "observed": float(observed[i]), "observed_error": error,
            "effect": float(parts[i].sum()), "band": band, "r2": float(r2[i]),
            "bins": [float(v) for v in parts[i]],
        })  # fmt: skip
    worst = max(rows, key=lambda row: abs(row["observed"] / max(row["observed_error"], 1e-12)))
    return Check(
        name=f"bias explained by {name}", kind="explained", statistic=worst["effect"],
        p_value=None, effect=worst["effect"], band=worst["band"], passed=None, false_alarm=None,
        summary=f"the emulator changes the bias of {worst['name']} by {worst['observed']:+.2f} "
        f"posterior sigma; its {name} explains {worst['effect']:+.2f}",
        note=_sizes(emulated, reference),
        details={"parameters": rows, "names": list(emulated.names),
                 "coordinate": [float(v) for v in at]},
    )  # fmt: skip


def _covers(band: tuple[float, float]) -> bool:
    return band[0] <= 0 <= band[1]


def _sizes(emulated: ObservedTests, reference: ObservedTests) -> str:
    return f"{len(emulated.theta)} emulated and {len(reference.theta)} reference tests"
