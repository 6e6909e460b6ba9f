"""The judge of emulated planes: the truth passes, and each fault is found by its own row."""

import importlib
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from emulators.reionization import shipped
from sbitools.seeds import mix

ROOT = Path(__file__).parents[3]
# The scripts import each other by bare names, as they do when they are run.
sys.path.append(str(ROOT / "paper" / "benchmarks"))

cases = importlib.import_module("_reionization")
emulated = importlib.import_module("_reionization_emulated")
rows = importlib.import_module("_reionization_rows")
script = importlib.import_module("reionization_emulator")
Table = importlib.import_module("_table").Table

# With 8 planes each, P(k) of the truth itself is 0.1 off.
CASE = cases.Case("toy planes", n=32, box_size=64.0, limit=0.12)
N_POINTS, CUBES, PLANES, DRAWN = 4, 16, 9, 48


class Toy:
    """Filtered Gaussian planes with ionised peaks, and what may be wrong with an emulator."""

    def __init__(self, fault=""):
        self.fault = fault

    def sampling(self, **changes):
        return self

    def simulate(self, theta, seeds):
        theta, n = theta.clone(), CASE.n
        if self.fault == "deaf":
            theta[:] = torch.tensor([30.0, 4.7])
        white = np.stack([
            np.random.default_rng(int(s) % 2**63).standard_normal((n, n)) for s in seeds
        ])  # fmt: skip
        k = np.hypot(*np.meshgrid(np.fft.fftfreq(n), np.fft.fftfreq(n), indexing="ij"))
        modes = np.fft.fft2(white)
        if self.fault == "alike":  # every universe has the same amplitudes
            modes *= n / np.abs(modes)
            white = np.fft.ifft2(modes).real
        smooth = np.fft.ifft2(modes * np.exp(-0.5 * (6 * k) ** 2)).real
        smooth *= 3.0  # about unit variance
        zeta, log_t = theta.numpy().T[:, :, None, None]
        edge = 1.5 - 0.5 * np.log(zeta / 30)
        level = 20 * (zeta / 30) ** 0.5
        temperature = level + 3 * np.exp(log_t - 4.7) * (white + smooth)
        if self.fault == "rough":
            temperature = level + 1.5 * (temperature - level)
        if self.fault == "ionised":
            edge = edge - 0.3
        x = np.where(smooth > edge, 0.0, temperature.clip(1.0))
        return torch.from_numpy(x.astype(np.float32))


@pytest.fixture(scope="module")
def truth():
    """Points, reference planes of each, and those of the derivatives."""
    n, theta = CUBES * PLANES, cases.points(CASE, N_POINTS)

    def planes(at, first):
        x = Toy().simulate(at.expand(n, -1), first + torch.arange(n))
        return x.view(CUBES, PLANES, CASE.n, CASE.n)

    def moved(name, step):
        values = cases.shifted(name, step)
        return planes(torch.tensor([[values[p] for p in CASE.priors]]), 10**6)

    at_points = [planes(row, 10_000 * (1 + i)) for i, row in enumerate(theta)]
    sides = {name: (moved(name, -step), moved(name, step)) for name, step in CASE.steps.items()}
    return theta, at_points, sides


def verdicts(truth, fault=""):
    """Row to whether it is met."""
    theta, at_points, sides = truth
    table, toy = Table("toy", "toy", ("statistic", "mine", "floor", "required", "met")), Toy(fault)

    def draw(name, at, n, seed):
        return toy.simulate(at.expand(n, -1), mix(torch.arange(n), seed))

    shown = list(range(N_POINTS))
    compared = rows.Comparison(CASE, draw, theta, at_points, shown, CUBES // 2, DRAWN)
    compared.rows(table)
    rows.rows_of_scatter(table, CASE, draw, theta, at_points, shown[:3], 2 * DRAWN)
    rows.rows_of_response(table, CASE, draw, sides, CUBES * PLANES)
    return {row[0].partition(" (")[0]: row[-1] for row in table.rows if row[-1]}


def test_the_truth_under_other_seeds_meets_every_requirement(truth):
    found = verdicts(truth)
    assert len(found) == 9
    assert set(found.values()) == {"yes"}, found


@pytest.mark.parametrize(
    ("fault", "found_by"),
    [
        ("rough", ["ln P(k): median", "ln P(k): mean of the worst", "scattering", "values"]),
        ("ionised", ["ionised cells: bias", "mean signal", "values"]),
        ("alike", ["scatter of P(k)"]),
        ("deaf", ["mean signal", "response d ln P / d zeta", "response d ln P / d log10_Tvir"]),
    ],
)
def test_a_fault_is_found(truth, fault, found_by):
    found = verdicts(truth, fault)
    for words in found_by:
        row = next(name for name in found if name.startswith(words))
        assert found[row] == "NO", (row, found)


def test_other_noise_is_that_of_the_same_parameters():
    theta = torch.tensor([[10.0, 4.3], [30.0, 4.7], [90.0, 5.2]], dtype=torch.float64)
    *samplers, other = script.samplers(CASE, Toy(), theta, [0, 1, 2], 32)
    assert all("ln P +0.000 to +0.000" in note for note in samplers)
    # 48 planes of either part, of the same points: 0.06. The first against the last half of the
    # fields, which are other points, is 1.9 apart.
    assert float(other.split("ln P ")[1].split()[0]) < 0.15


def test_slopes_are_those_of_a_power_law():
    # P proportional to (1 + theta)^2 in every universe: d ln P / d theta is 2 / (1 + theta).
    white = torch.from_numpy(np.random.default_rng(1).standard_normal((40, 32, 32))).float()
    slope, error = rows.slopes(CASE, white * 0.9, white * 1.1, 0.1, 40)
    np.testing.assert_allclose(slope, math.log(1.1 / 0.9) / 0.1, rtol=1e-5)
    assert float(error.max()) < 1e-4  # the same universes on both sides: no noise is left


def test_drawn_fields_are_those_of_the_emulator_and_are_kept(tmp_path, monkeypatch):
    emulator, at = shipped.emulator(), torch.tensor([[30.0, 4.7]], dtype=torch.float64)
    first = emulated.drawing(emulator, tmp_path, 2)("point", at, 8, 5)
    few = emulated.drawing(emulator, tmp_path, 1)("few", at, 3, 5)
    torch.testing.assert_close(few, first[:3])  # convolutions of other batches round differently
    draw = emulated.drawing(emulator, tmp_path, 1)
    for name, point, seed in (("theta", at + torch.tensor([5.0, 0.0]), 5), ("seed", at, 6)):
        assert float((draw(name, point, 3, seed) - few).abs().max()) > 1.0  # mK

    def never(*arguments):
        raise AssertionError("drawn again")

    monkeypatch.setattr(type(emulator), "simulate", never)
    torch.testing.assert_close(emulated.drawing(emulator, tmp_path, 2)("point", at, 8, 5), first)
