"""The benchmark of one's own simulations: its sets, exact posteriors, rivals, rows and verdict."""

import ast
import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

BENCHMARKS = Path(__file__).resolve().parents[1] / "paper" / "benchmarks"

# The scripts import each other by bare names, as they do when they are run.
sys.path.append(str(BENCHMARKS))

script = importlib.import_module("own_simulations")
sets = importlib.import_module("_own_sets")
exact = importlib.import_module("_own_exact")
running = importlib.import_module("_own_run")
rows = importlib.import_module("_own_measured")
rivals = importlib.import_module("_own_rivals")

SHAPES = {"a": (64, 64), "b": (2, 64, 64), "c": (32, 32, 32), "d": (1024,), "e": (40,)}


@pytest.mark.parametrize("key", list(sets.SETS))
def test_a_set_is_written_to_plain_files(tmp_path, key):
    one = sets.SETS[key]
    sets.write_files(one, tmp_path, 6, 1)
    x = np.load(tmp_path / "fields.npy")
    theta = np.genfromtxt(tmp_path / "params.csv", delimiter=",", names=True)
    assert x.shape == (6, *SHAPES[key])
    assert x.dtype == np.float32
    assert np.isfinite(x).all()
    assert theta.dtype.names == tuple(one.priors)
    low, high = one.bounds.T
    values = np.array(theta.tolist())
    assert ((values > low) & (values < high)).all()
    again = one.draw(6, 1)
    np.testing.assert_array_equal(again[0], values)
    np.testing.assert_array_equal(again[1], x)
    assert not np.array_equal(one.draw(6, 2)[1], x)


def test_the_simulators_know_nothing_of_sbitools():
    tree = ast.parse((BENCHMARKS / "_own_sets.py").read_text(encoding="utf-8"))
    names = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    names |= {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    assert names == {"__future__", "collections.abc", "dataclasses", "pathlib", "numpy"}


def test_power_of_planes_is_that_of_the_likelihood():
    """Mean over 300 fields of |x_k|^2 / P_k is 1; all modes together to 5 errors, 0.0064."""
    theta = np.tile([[1.3, 2.2]], (300, 1))
    x = sets.SETS["a"].simulate(theta, np.random.default_rng(2))
    k = np.hypot(*np.meshgrid(*[np.fft.fftfreq(64, 1 / 64)] * 2, indexing="ij"))
    power = sets.plane_power(1.3, 2.2, k)
    ratio = (np.abs(np.fft.fft2(x, norm="ortho")) ** 2)[:, k > 0] / power[k > 0]
    assert ratio.mean() == pytest.approx(1.0, abs=0.0064)
    assert np.abs(x.mean((1, 2))).max() < 1e-12


def test_the_exact_posterior_of_planes_is_a_density_of_the_right_shape():
    theta = np.array([[1.2, 2.1]])
    x = sets.SETS["a"].simulate(theta, np.random.default_rng(5))
    # Along the degeneracy, and off it by t: small scales fix amplitude x 3.25^-slope.
    amplitude, t = np.meshgrid(np.arange(1.0, 1.65, 0.05), np.arange(-0.1, 0.11, 0.02))
    slope = 2.1 + np.log(amplitude / 1.2) / np.log(3.25) + t
    near = np.stack([amplitude, slope], axis=-1).reshape(-1, 2)
    log, _ = exact.exact_planes(near, np.repeat(x, len(near), 0))
    assert np.exp(log).sum() * 0.05 * 0.02 == pytest.approx(1.0, abs=0.02)
    k = np.hypot(*np.meshgrid(*[np.fft.fftfreq(64, 1 / 64)] * 2, indexing="ij"))
    seen = np.abs(np.fft.fft2(x[0].astype(float), norm="ortho"))[k > 0] ** 2

    def likelihood(t):
        power = sets.plane_power(*t, k[k > 0])
        return -0.5 * (np.log(power) + seen / power).sum()

    expected = likelihood(near[10]) - likelihood(near[-10])
    assert log[10] - log[-10] == pytest.approx(expected, rel=1e-6)


def test_the_exact_posterior_of_vectors_is_that_of_a_linear_model_in_closed_form(monkeypatch):
    """Errors of 3,000 draws are below 0.1; the prior cuts off nothing that counts."""
    low, high = sets.SETS["e"].bounds.T
    matrix = np.random.default_rng(0).normal(size=(4, 40)) / (high - low)[:, None]
    covariance = 0.2 * np.eye(40) + 0.02
    monkeypatch.setattr(exact, "band_powers", lambda theta: (theta @ matrix, covariance))
    theta = np.stack([0.4 * low + 0.6 * high, (low + high) / 2])
    noise = np.random.default_rng(1).multivariate_normal(np.zeros(40), covariance, 2)
    x = theta @ matrix + noise
    precision = matrix @ np.linalg.solve(covariance, matrix.T)
    means = np.linalg.solve(precision, matrix @ np.linalg.solve(covariance, x.T)).T
    expected = [multivariate_normal(m, np.linalg.inv(precision)).logpdf(t)
                for m, t in zip(means, theta, strict=True)]  # fmt: skip
    log, errors = exact.exact_vectors(theta, x, draws=3000)
    assert (errors < 0.1).all()
    np.testing.assert_allclose(log, expected, atol=0.3)


def test_densities_of_rivals_are_those_within_the_prior():
    """A normal of mean 0.9 that leaks out of [0, 1] has mass 1 inside; 2,000 draws give 4 %."""

    class Normal:
        def log_prob(self, theta, x):
            return torch.distributions.Normal(0.9, 0.3).log_prob(theta[..., 0])

        def sample(self, shape, x):
            rng = torch.Generator().manual_seed(1)
            return 0.9 + 0.3 * torch.randn((*shape, len(x), 1), generator=rng)

    prior = torch.distributions.Independent(torch.distributions.Uniform(
        torch.zeros(1), torch.ones(1)), 1)  # fmt: skip
    theta = (torch.arange(200)[:, None] + 0.5) / 200
    log = rivals._within_prior(Normal(), prior, theta, torch.zeros(200, 3))
    assert np.exp(log).mean() == pytest.approx(1.0, abs=0.04)
    assert torch.exp(Normal().log_prob(theta, None)).mean() < 0.7


CONFIG = """
[settings]
priors_confirmed = false
[[settings.parameters]]
name = "amplitude"
prior = { kind = "uniform", low = 0.51, high = 2.0 }
[[settings.parameters]]
name = "slope"
unit = ""
# TO CONFIRM: it looks normal.
prior = { kind = "uniform", low = 0.9, high = 3.0 }
"""


def test_priors_are_confirmed_as_they_were():
    text = running.confirm_priors(CONFIG, sets.SETS["a"])
    settings = running.tomllib.loads(text)["settings"]
    assert settings["priors_confirmed"] is True
    assert [list(p["prior"].values())[1:] for p in settings["parameters"]] == [[0.5, 2], [1, 3]]
    assert running.confirm_priors(text, sets.SETS["a"]) == text
    with pytest.raises(ValueError, match="expected parameters"):
        running.confirm_priors(CONFIG, sets.SETS["b"])


def test_a_command_that_ended_well_is_not_run_again(tmp_path):
    count = "from pathlib import Path; p = Path('n'); p.write_text(p.read_text() + 'x')"
    (tmp_path / "n").write_text("")
    first, ended = (
        running.Commands(tmp_path)("count", [sys.executable, "-c", count]) for _ in range(2)
    )
    assert (tmp_path / "n").read_text() == "x"
    assert first == ended
    assert ended.seconds > 0
    assert ended.megabytes > 1
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"fails ended with 3"):
            running.Commands(tmp_path)("fails", [sys.executable, "-c", f"{count}; exit(3)"])
    assert (tmp_path / "n").read_text() == "xxx"


def found(**changed):
    """What a set that meets everything says."""
    repair = {"chosen": "recalibrate", "tried": {"recalibrate": {"gain": 0.1, "error": 0.05}}}
    scores = {name: [1.0, 0.1] for name in ("ours", *rows._RIVALS)}
    return {
        "set": "a", "init_seconds": 3.0, "run_minutes": 20.0, "peak_gb": 1.0, "method": "m",
        "embedding": "FieldCNN", "scores": scores,
        "above": [0.3, 0.1], "choice": {}, "repair": repair,
        "verdict": {"title": "t", "passed": True, "evidence": [], "text": ""},
        "spectra": {"median": 0.3, "floor": 0.1},  # of the report: shown, and not judged
        "emulated": {"median": 0.05, "floor": 0.02, "scatter": 1.1, "scatter_error": 0.02},
    } | changed  # fmt: skip


EMULATED = found()["emulated"]
FAILED = {"title": "t", "passed": False, "evidence": [], "text": ""}
WORSE = {"chosen": "x", "tried": {"x": {"gain": -0.1, "error": 0.05}}}


@pytest.mark.parametrize(
    ("changed", "unmet"),
    [
        ({}, []),
        ({"run_minutes": 61.0}, ["time"]),
        ({"peak_gb": 4.1}, ["memory"]),
        ({"above": [-0.01, 1.0]}, ["not below sbi"]),
        ({"verdict": FAILED}, []),
        ({"verdict": FAILED, "repair": WORSE}, ["transfer or repair"]),
        ({"emulated": EMULATED | {"median": 0.11}}, ["ln P"]),
        ({"emulated": EMULATED | {"median": 0.11, "floor": 0.08}}, []),
        ({"emulated": EMULATED | {"scatter": 0.79}}, ["scatter of P"]),
    ],
)
def test_a_row_is_reached_if_nothing_is_missed(changed, unmet):
    one, m = sets.SETS["a"], found(**changed)
    assert [name for name, met in rows.reached(one, m).items() if not met] == unmet
    line = rows.row(one, m)
    assert len(line) == len(rows.COLUMNS)
    assert line[-1] == ("yes" if not unmet else "NO: " + ", ".join(unmet))


def test_vectors_have_less_time_and_no_spectra():
    one, m = sets.SETS["e"], found(emulated=EMULATED | {"median": 9.0})
    assert [name for name, met in rows.reached(one, m).items() if not met] == ["time"]


@pytest.mark.parametrize(("n_ahead", "passed"), [(5, True), (4, True), (3, False)])
def test_the_verdict_asks_for_four_sets_in_front(n_ahead, passed):
    table = script.Table("t", "t", rows.COLUMNS)
    sizes = [0.3] * n_ahead + [0.1] * (5 - n_ahead)
    every = [found(set=key, above=[size, 0.1], run_minutes=1.0, exact_sampling_error=0.01)
             for key, size in zip(sets.SETS, sizes, strict=True)]  # fmt: skip
    script._finish(table, every, False, [])
    assert table.passed is passed
    table.passed = None
    script._finish(table, every[:4], False, [])
    assert table.passed is None, "some sets alone are not judged"
    script._finish(table, [found(peak_gb=5.0)], False, [])
    assert table.passed is False


@pytest.mark.slow
def test_the_quick_run_goes_from_files_to_a_row(tmp_path):
    call = ["--quick", "--set", "emulator.method=none", "--out", str(tmp_path), "--work",
            str(tmp_path / "work")]  # fmt: skip
    assert script.main(call) == 0
    table = json.loads((tmp_path / "own_simulations.json").read_text())
    (m,) = table["data"]["sets"]
    assert table["passed"] is None
    assert m["embedding"] == "none"
    assert m["n_test"] == 48
    assert all(np.isfinite(m["scores"][name][0]) for name in rows._RIVALS)
    assert m["exact"][0] > max(score[0] for score in m["scores"].values())
    begun = (tmp_path / "work" / "e" / "commands.json").read_bytes()
    assert script.main(call) == 0
    assert (tmp_path / "work" / "e" / "commands.json").read_bytes() == begun
