"""How often checks of calibration reject posteriors that are right, and wrong by a known amount.

theta has a standard normal prior in two dimensions and x = theta + n / 2 with n standard normal:
the posterior is normal with mean 0.8 x and variance 0.2. A posterior to be tested has another
width, or another mean. Every check sees the same draws:

- sbi's `check_tarp`, which compares the curve of expected coverage with its own grid of levels;
- this package's `tarp` and `sbc`, which test the ranks behind such curves;
- the default set of `calibrate`, whose rate is that of the set: one failure or more.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from _table import Table, options

from sbitools import Parameter, ParameterSpace, priors
from sbitools.calibration import CalibrationDraws, sbc, tarp
from sbitools.calibration.calibrate import calibrate_draws

__all__ = ["main"]

PRIOR = ParameterSpace([Parameter(name, priors.Normal(0.0, 1.0)) for name in ("a", "b")])
GAIN, SD = 0.8, 0.2**0.5
CASES = {
    "exact": (1.0, 0.0), "sd x 0.8": (0.8, 0.0), "sd x 0.6": (0.6, 0.0), "sd x 1.4": (1.4, 0.0),
    "mean + 0.3 sd": (1.0, 0.3),
}  # fmt: skip
RATE = 0.05


def pairs(n: int, n_draws: int, width: float, shift: float, seed: int) -> CalibrationDraws:
    """Draws of a posterior `width` times as wide and off by `shift` standard deviations."""
    rng = np.random.default_rng(seed)
    theta = rng.normal(size=(n, 2))
    x = theta + 0.5 * rng.normal(size=theta.shape)
    mean, sd = GAIN * x + shift * SD, width * SD
    draws = mean[:, None] + sd * rng.normal(size=(n, n_draws, 2))
    true, drawn = (
        -0.5 * (((value - centre) / sd) ** 2).sum(-1)
        for value, centre in ((theta, mean), (draws, mean[:, None]))
    )
    return CalibrationDraws(theta, draws, true, drawn, prior=PRIOR, seed=seed)


def sbi_tarp(d: CalibrationDraws) -> float:
    """p-value of sbi's `check_tarp`, with the scaling and the references of its `run_tarp`."""
    from sbi.diagnostics.tarp import _run_tarp, check_tarp

    theta = torch.from_numpy(d.theta).float()
    draws = torch.from_numpy(d.draws).float().transpose(0, 1)
    low, high = theta.min(0).values, theta.max(0).values
    # As sbi's get_tarp_references, which draws from the global generator.
    uniform = torch.rand(theta.shape, generator=torch.Generator().manual_seed(d.seed))
    curve = _run_tarp(draws, theta, low + (high - low) * uniform, z_score_theta=True)
    return check_tarp(*curve)[1]


def rejected(d: CalibrationDraws) -> list[bool]:
    """Whether sbi's TARP, our TARP, our SBC and our default set reject at `RATE`."""
    return [
        sbi_tarp(d) < RATE,
        not tarp(d, false_alarm=RATE).passed,
        not sbc(d, false_alarm=RATE).passed,
        not calibrate_draws(d, false_alarm=RATE).passed,
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """Count and tabulate."""
    chosen = options((__doc__ or "").partition("\n")[0], argv)
    n, n_draws, repeats = (200, 100, 4) if chosen.quick else (1000, 500, 20)
    table = Table(
        "tarp_power", f"Posteriors rejected at {RATE:.0%}, out of {repeats}",
        ("posterior", "sbi check_tarp", "tarp", "sbc", "default set"), quick=chosen.quick,
    )  # fmt: skip
    begun = time.perf_counter()
    for case, (width, shift) in enumerate(CASES.values()):
        counts = np.sum(
            [rejected(pairs(n, n_draws, width, shift, 1000 * case + i)) for i in range(repeats)],
            axis=0,
        )
        table.add(list(CASES)[case], *(int(count) for count in counts))
    table.notes += [
        f"{n} pairs of theta and x with {n_draws} draws each; two parameters, normal throughout",
        f"the default set fails if one of its checks does, at a joint rate of {RATE:.0%}",
        f"seeds are fixed; {time.perf_counter() - begun:.0f} s",
    ]
    table.data = {"n": n, "n_draws": n_draws, "repeats": repeats, "rate": RATE}
    table.write(chosen.out)


if __name__ == "__main__":
    main()
