"""What a repair is worth, by reference simulations that it never saw."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from sbitools.calibration.checks.coverage import coverage
from sbitools.calibration.checks.ranks import sbc
from sbitools.calibration.drawing.draws import CalibrationDraws
from sbitools.calibration.statistics.bootstrap import bootstrap_means
from sbitools.display.brief import Brief
from sbitools.seeds import derive

__all__ = ["Judgement", "judge"]

_BOOTSTRAP = 76


@dataclass(frozen=True, repr=False)
class Judgement(Brief):
    """A repair against the posterior before it, on held-out reference simulations.

    Args:
        method: ``"fine_tune"``, ``"recalibrate"`` or ``"reweight"``.
        n: held-out simulations that were judged.
        groups: independent ones among them.
        folds: each simulation was judged by a repair fitted to the other folds.
        before: mean log density of the truth before the repair, in nats.
        after: the same after it.
        gain: after minus before.
        error: of the gain: standard error of paired differences, by bootstrap over groups.
        band: 95 % bootstrap interval of the gain.
        p_value: one-sided, of no gain, times the number of methods that were compared.
        helps: p_value is below 5 %.
        excluded: simulations for which either posterior had no answer.
        checks: rows of SBC and coverage on held-out draws, before and after.
        levels: credibilities (mass at higher density) of the held-out truths after the repair.
        levels_before: the same before.
        details: what the method has to say about its fit.
    """

    method: str
    n: int
    groups: int
    folds: int
    before: float
    after: float
    gain: float
    error: float
    band: tuple[float, float]
    p_value: float
    helps: bool
    excluded: int = 0
    checks: list[dict[str, Any]] = field(default_factory=list)
    levels: list[float] = field(default_factory=list)
    levels_before: list[float] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """The outcome in one sentence."""
        verdict = "helps" if self.helps else "does not help beyond chance"
        return (
            f"{self.method} {verdict}: {self.gain:+.3f} +- {self.error:.3f} nats of log density "
            f"at the truth, on {self.n} reference simulations in {self.folds} folds"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self) | {"band": list(self.band), "summary": self.summary}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Judgement:
        """Inverse of `to_dict`."""
        own = {k: v for k, v in values.items() if k != "summary"}
        return cls(**{**own, "band": tuple(own["band"])})


def judge(
    method: str,
    before: CalibrationDraws,
    after: CalibrationDraws,
    *,
    folds: int,
    compared: int = 1,
    seed: int = 0,
    excluded: int = 0,
    details: dict[str, Any] | None = None,
) -> Judgement:
    """Compare draws for the same held-out simulations before and after a repair.

    A truth of density zero counts as the lowest finite density that either posterior gave.

    Args:
        method: name of the repair.
        before: draws of the posterior as it was.
        after: draws of repaired posteriors, the same simulations in the same order.
        folds: of the cross-fit.
        compared: methods among which the best is chosen: p-values are multiplied by it.
        seed: of the bootstrap.
        excluded: simulations that are missing in the draws.
        details: to be kept.
    """
    from scipy.special import ndtr

    values = [np.asarray(d.log_prob_true, dtype=np.float64) for d in (before, after)]
    finite = np.concatenate([v[np.isfinite(v)] for v in values])
    lowest = float(finite.min()) if len(finite) else 0.0
    pair = np.stack([np.maximum(v, lowest) for v in values], axis=1)
    group = np.asarray(before.group)
    rng = np.random.default_rng(derive(seed, _BOOTSTRAP))
    difference = (pair[:, 1] - pair[:, 0])[:, None]
    resampled = bootstrap_means(difference, group, rng)[:, 0]
    gain, error = float(difference.mean()), float(resampled.std())
    p_value = float(ndtr(-gain / error)) if error > 0 else (0.0 if gain > 0 else 1.0)
    p_value = min(1.0, compared * max(1e-12, p_value))
    low, high = np.quantile(resampled, (0.025, 0.975))
    checks = [
        row for name, d in (("before", before), ("after", after)) for row in _checks(name, d)
    ]
    return Judgement(
        method=method, n=len(pair), groups=len(np.unique(group)), folds=folds,
        before=float(pair[:, 0].mean()), after=float(pair[:, 1].mean()), gain=gain, error=error,
        band=(float(low), float(high)), p_value=p_value, helps=gain > 0 and p_value < 0.05,
        excluded=excluded, checks=checks, levels=_levels(after), levels_before=_levels(before),
        details=details or {},
    )  # fmt: skip


def _checks(name: str, d: CalibrationDraws) -> list[dict[str, Any]]:
    rows = []
    for check in (sbc(d), coverage(d)):
        rows.append({
            "set": name, "check": check.name, "p_value": check.p_value,
            "effect": float(check.effect), "summary": check.summary,
        })  # fmt: skip
    return rows


def _levels(d: CalibrationDraws) -> list[float]:
    """Mass of each posterior where its density is above that of the truth."""
    ranks = np.asarray(d.hpd_ranks)
    return [float(v) for v in (ranks + 0.5) / (d.n_draws + 1)]
