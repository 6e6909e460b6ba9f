"""The ten benchmark tasks: simulators, likelihoods, exact posteriors; C2ST; the script's verdict.

Published observations and reference posteriors are used where the environment variable SBIBM_DATA
names their folder.
"""

import importlib
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import invwishart, ks_2samp, kstest

import sbitools
from sbitools import seeds

BENCHMARKS = Path(__file__).resolve().parents[1] / "paper" / "benchmarks"
DATA = os.environ.get("SBIBM_DATA", "")

# The scripts import each other by bare names, as they do when they are run.
sys.path.append(str(BENCHMARKS))

c2st = importlib.import_module("c2st").c2st
script = importlib.import_module("sbibm")
cells = importlib.import_module("_sbibm")
tasks = importlib.import_module("sbibm_tasks")
dynamics = importlib.import_module("sbibm_tasks.dynamics")
observations = importlib.import_module("sbibm_tasks.observations")
tempered_draws = importlib.import_module("sbibm_tasks.smc").tempered_draws

NAMES = list(tasks.TASKS)
EXACT = ["gaussian_linear", "gaussian_linear_uniform", "gaussian_mixture", "two_moons", "slcp"]
SIZES = {
    "gaussian_linear": (10, 10), "gaussian_linear_uniform": (10, 10), "gaussian_mixture": (2, 2),
    "two_moons": (2, 2), "slcp": (5, 8), "slcp_distractors": (5, 100), "bernoulli_glm": (10, 10),
    "bernoulli_glm_raw": (10, 100), "sir": (2, 10), "lotka_volterra": (4, 20),
}  # fmt: skip


def joint(task, n, seed):
    theta = task.parameters.design(n, seed)
    return theta, task.simulate(
        theta, torch.from_numpy(seeds.simulation_seeds(seed + 1, range(n)))
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_task_is_a_simulator_whose_rows_depend_on_their_seed_alone(name):
    task = tasks.get_task(name)
    theta, x = joint(task, 12, 3)
    own = torch.from_numpy(seeds.simulation_seeds(4, range(12)))
    assert (len(task.parameters), *task.output.shape) == SIZES[name]
    assert isinstance(task, sbitools.Simulator)
    task.output.check(x, 12)
    assert torch.isfinite(x).all()
    assert torch.equal(task.simulate(theta[5:8], own[5:8]), x[5:8])
    assert not torch.equal(task.simulate(theta, own + 1), x)


def test_the_store_is_filled(tmp_path):
    store = sbitools.simulate(
        tasks.get_task("two_moons"), 40, tmp_path / "store", seed=1, workers=1, progress=False
    )
    assert len(store.done) == 40


@pytest.mark.parametrize("name", NAMES)
def test_the_prior_for_other_packages_is_that_of_the_parameters(name):
    task = tasks.get_task(name)
    theta = task.parameters.design(50, 1)
    natural = torch.from_numpy(task.natural(theta.numpy()))
    jacobian = np.linalg.slogdet(getattr(task, "_whitening", np.eye(1)))[1]
    expected = task.parameters.log_prob(theta) + jacobian
    torch.testing.assert_close(
        task.prior().log_prob(natural.float()).double(), expected, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("name", [n for n in NAMES if n != "two_moons"])
def test_likelihood_ratios_average_to_one_over_simulations(name):
    """E[p(x | a) / p(x | b)] = 1 for x of b: 5 standard errors, false alarms 6e-7 per task."""
    task, n = tasks.get_task(name), 150 if name in ("sir", "lotka_volterra") else 1500
    middle = task.parameters.from_unconstrained(0.3 + torch.zeros(len(task.parameters)))[None]
    x = task.simulate(middle.repeat(n, 1), torch.from_numpy(seeds.simulation_seeds(5, range(n))))
    shifts = [1e-4, 3e-4] if name == "lotka_volterra" else [0.01, 0.03]
    near = [task.parameters.from_unconstrained(0.3 + s + torch.zeros(len(task.parameters)))
            for s in shifts]  # fmt: skip
    pair = task.natural(torch.stack([middle[0], *near]).numpy())
    log = np.stack([task.log_likelihood(pair, row) for row in x.double().numpy()])
    for ratio in np.exp(log[:, 1:] - log[:, :1]).T:
        error = ratio.std() / np.sqrt(n)
        assert error > 1e-5, "the likelihood must depend on theta"
        assert abs(ratio.mean() - 1) < 5 * error


def test_two_moons_likelihood_is_a_density():
    """Over theta, which moves the crescent with Jacobian 1 and covers it twice."""
    axis = (np.arange(1600) + 0.5) / 800 - 1
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    value = np.exp(tasks.get_task("two_moons").log_likelihood(grid, np.array([-0.4, 0.1])))
    assert value.sum() * (2 / 1600) ** 2 == pytest.approx(2.0, abs=0.01)


@pytest.mark.parametrize("name", EXACT)
def test_ranks_of_the_truth_among_reference_draws_are_uniform(name):
    """Cook et al. 2006; the smallest of P p-values below 1e-4 / P: false alarms 1e-4 per task."""
    task, n, draws = tasks.get_task(name), 300, 50
    theta, x = joint(task, n, 11)
    rows = zip(theta.numpy(), x.double().numpy(), range(n), strict=True)
    below = np.stack([(task.reference(row, draws, 900 + i) < t).sum(0) for t, row, i in rows])
    jitter = np.random.default_rng(1).random(below.shape)
    values = [kstest(column, "uniform").pvalue for column in ((below + jitter) / (draws + 1)).T]
    assert min(values) > 1e-4 / len(values)


def test_slcp_proposals_are_kept_by_the_ratio_of_posterior_and_proposal():
    """log posterior of (theta_2, theta_3, theta_4) minus log proposal: one constant for all."""
    slcp = importlib.import_module("sbibm_tasks.slcp")
    points = np.array([[0.3, -1.0], [1.2, 0.4], [-0.5, 0.9], [0.8, -0.2]])
    theta, keep = slcp._proposals(points, 40, np.random.default_rng(3))
    chosen = (np.abs(theta) < 3).all(1) & (np.abs(theta[:, 2:4]) > 0.3).all(1)
    theta, keep = theta[chosen], keep[chosen]
    theta[:, :2] = points.mean(0)
    scatter = (points - points.mean(0)).T @ (points - points.mean(0))

    def covariance(t):
        rho, s = torch.tanh(t[2]), t[:2] ** 2
        return torch.stack([s[0] ** 2, s[1] ** 2, rho * s[0] * s[1]])

    ratio = []
    for t, likelihood in zip(
        theta, slcp.SLCP().log_likelihood(theta, points.ravel()), strict=True
    ):
        jacobian = torch.autograd.functional.jacobian(covariance, torch.from_numpy(t[2:]))
        a, b, c = covariance(torch.from_numpy(t[2:])).tolist()
        s = np.array([[a, c], [c, b]])
        mean_integrated = likelihood + 0.5 * np.linalg.slogdet(s)[1]
        proposal = invwishart.logpdf(s, 2.5, scatter) + torch.linalg.slogdet(jacobian)[1].item()
        ratio.append(mean_integrated - proposal)
    constant = np.array(ratio) - np.log(keep)
    assert len(constant) > 10
    np.testing.assert_allclose(constant, constant[0], atol=1e-3)


def test_the_prior_of_the_neuron_is_as_defined():
    precision = tasks.get_task("bernoulli_glm").prior().precision_matrix.double().numpy()
    second = np.eye(9) - 2 * np.eye(9, k=-1) + np.eye(9, k=-2)
    smooth = second + np.diag(np.sqrt(np.arange(9) / 9))
    np.testing.assert_allclose(precision[1:, 1:], smooth.T @ smooth, atol=1e-4)
    np.testing.assert_allclose(precision[0], np.eye(10)[0] / 2, atol=1e-5)


def test_tempered_draws_of_two_modes_of_a_normal():
    """Prior N(0, 1)^2 and likelihood of |u_0| and u_1; 10 % covers 5 errors of 4,000 particles."""

    def log_likelihood(u):
        return -0.5 * ((np.abs(u[:, 0]) - 2.0) ** 2 + (u[:, 1] - 1.0) ** 2) / 0.25

    u = tempered_draws(log_likelihood, 2, 4000, 1)
    folded = np.stack([np.abs(u[:, 0]), u[:, 1]], axis=1)
    assert folded.mean(0) == pytest.approx([1.6, 0.8], abs=0.05)
    assert folded.std(0) == pytest.approx([np.sqrt(0.2)] * 2, rel=0.1)
    assert (u[:, 0] > 0).mean() == pytest.approx(0.5, abs=0.1)
    assert len(np.unique(u[:, 1])) > 3900, "copies of resampling must part"


def test_distractors_hide_the_numbers_of_slcp_in_the_published_order():
    plain, hidden = tasks.get_task("slcp"), tasks.get_task("slcp_distractors")
    theta, x = joint(hidden, 5, 2)
    own = torch.from_numpy(seeds.simulation_seeds(3, range(5)))
    informative = np.stack([hidden.informative(row) for row in x.double().numpy()])
    np.testing.assert_array_equal(informative, plain.simulate(theta, own).double().numpy())
    # Where the published first observation has the eight numbers of slcp's.
    places = hidden.informative(np.arange(100.0))
    np.testing.assert_array_equal(places, [22, 33, 23, 67, 42, 21, 16, 90])


def test_the_neuron_sums_up_published_spikes_as_published():
    spikes = (
        "11011111111000000111111100011101111000001111000011"
        "10001111001100011111001110000000111000111110000111"
    )
    summary = [56.0, 3.32306, 14.356438, 11.104893, -4.167525, -18.507809, -21.917496, -9.553517,
               -0.357257, -5.497825]  # fmt: skip
    raw = np.array([float(c) for c in spikes])
    task = tasks.get_task("bernoulli_glm_raw")
    np.testing.assert_allclose(task.summary(raw), summary, atol=1e-4)
    theta = task.natural(task.parameters.design(4, 1).numpy())
    short = tasks.get_task("bernoulli_glm").log_likelihood(theta, task.summary(raw))
    np.testing.assert_allclose(task.log_likelihood(theta, raw), short)


def test_dynamics_begin_as_defined():
    """x_0 and y_0 within 5 of their errors of 10 %; one infected among a million is not seen."""
    _, x = joint(tasks.get_task("lotka_volterra"), 20, 1)
    assert (x[:, 0] / 30).log().abs().max() < 0.5
    assert x[:, 10].log().abs().max() < 0.5
    assert x[:, [0, 10]].log().std(0).mean() == pytest.approx(0.1, abs=0.04)
    _, x = joint(tasks.get_task("sir"), 20, 1)
    assert x[:, 0].max() == 0
    assert torch.equal(x, x.round())


def test_noise_of_predators_and_prey_is_that_of_the_likelihood():
    """chi2 per number is 1; 5 standard errors of 1,000 numbers are 0.22."""
    task = tasks.get_task("lotka_volterra")
    theta = task.parameters.design(1, 4)
    x = task.simulate(theta.repeat(50, 1), torch.from_numpy(seeds.simulation_seeds(3, range(50))))
    chi2 = [-2 * task.log_likelihood(theta.numpy(), row)[0] for row in x.double().numpy()]
    assert np.mean(chi2) / 20 == pytest.approx(1.0, abs=0.22)


@pytest.mark.parametrize("solver", ["_states", "_states_together"])
def test_solutions_keep_what_the_equations_conserve(solver):
    solve = getattr(dynamics, solver)
    sir, prey = tasks.get_task("sir"), tasks.get_task("lotka_volterra")
    theta = sir.parameters.design(6, 2).numpy()
    s, i, r = solve(sir.rate, sir._start, sir.days, theta).transpose(1, 0, 2)
    np.testing.assert_allclose(s + i + r, 1e6, rtol=1e-6)
    b, g = theta.T[..., None]
    np.testing.assert_allclose(s, s[:, :1] * np.exp(-b * r / (g * 1e6)), rtol=1e-4)
    theta = prey.parameters.design(6, 2).numpy()
    x, y = solve(prey.rate, (30.0, 1.0), prey.times, theta).transpose(1, 0, 2)
    a, b, g, d = theta.T[..., None]
    energy = d * x - g * np.log(x) + b * y - a * np.log(y)
    np.testing.assert_allclose(energy, np.broadcast_to(energy[:, :1], energy.shape), rtol=2e-4)


def test_c2st_tells_apart_what_differs_and_only_that():
    rng = np.random.default_rng(0)
    one, two = rng.standard_normal((2, 400, 2))
    scale = np.array([1.0, 1e4])
    same = c2st(one, two)
    assert same == pytest.approx(0.5, abs=0.07)  # 4 standard errors of 800 guesses
    assert c2st(one * scale + 7, two * scale + 7) == pytest.approx(same, abs=0.02)
    assert c2st(one, two + np.array([3.0, 0.0])) > 0.9
    # The Bayes classifier of one sigma against two thirds of it, in two dimensions: 0.647.
    assert c2st(one, two / 1.5) == pytest.approx(0.6, abs=0.06)


def test_c2st_is_the_published_rule(monkeypatch):
    seen = {}

    def cross_val_score(classifier, data, target, cv, scoring):
        seen.update(classifier.get_params(), data=data, target=target, scoring=scoring)
        seen.update({key: getattr(cv, key) for key in ("n_splits", "shuffle")}, cv=cv.random_state)
        return np.array([0.5, 0.7])

    monkeypatch.setattr("sklearn.model_selection.cross_val_score", cross_val_score)
    one, two = np.random.default_rng(0).normal(3.0, 2.0, (2, 30, 3))
    assert c2st(one, two, seed=4) == pytest.approx(0.6)
    wanted = {"activation": "relu", "hidden_layer_sizes": (30, 30), "solver": "adam",
              "max_iter": 10_000, "random_state": 4, "cv": 4, "n_splits": 5, "shuffle": True,
              "scoring": "accuracy"}  # fmt: skip
    assert {key: seen[key] for key in wanted} == wanted
    both = (np.concatenate([one, two]) - one.mean(0)) / one.std(0, ddof=1)
    np.testing.assert_allclose(seen["data"], both, atol=1e-5)
    np.testing.assert_array_equal(seen["target"], np.arange(60) >= 30)


@pytest.mark.parametrize("wrong", [np.zeros((9, 2)), np.full((10, 2), np.nan), np.zeros(10)])
def test_c2st_refuses_what_cannot_be_compared(wrong):
    with pytest.raises(ValueError, match="two finite samples of one shape"):
        c2st(np.random.default_rng(0).random((10, 2)), wrong)


@pytest.mark.parametrize("number", range(1, 6))
@pytest.mark.parametrize("name", ["gaussian_linear", "two_moons", "slcp"])
def test_our_posterior_is_the_published_one(name, number):
    """Kolmogorov-Smirnov of each parameter and of the log likelihood; false alarms 1e-3 in all."""
    if not Path(DATA, name).is_dir():
        pytest.skip("set SBIBM_DATA to a folder with published reference posteriors")
    task = tasks.get_task(name)
    one = observations.observed(task, number, 10_000, Path(DATA))
    draws = task.reference(one.x, len(one.reference), 1)
    both = [np.c_[t, task.log_likelihood(t, one.x)] for t in (one.reference, draws)]
    values = [ks_2samp(a, b).pvalue for a, b in zip(both[0].T, both[1].T, strict=True)]
    assert one.published
    assert min(values) > 1e-3 / 15 / len(values)


def test_published_files_that_do_not_fit_are_refused(tmp_path):
    folder = tmp_path / "two_moons" / "observation_1"
    folder.mkdir(parents=True)
    (folder / "observation.csv").write_text("a,b,c\n1,2,3\n")
    bz2 = importlib.import_module("bz2")
    (folder / "reference_posterior_samples.csv.bz2").write_bytes(bz2.compress(b"a,b\n1,2\n"))
    with pytest.raises(ValueError, match="expected shapes"):
        observations.observed(tasks.get_task("two_moons"), 1, 1, tmp_path)


def scores(values, minutes=1.0):
    return cells.Scores(dict(enumerate(values, 1)), minutes, minutes, 100.0, "")


def test_a_row_is_reached_by_the_margin_to_the_best_of_the_others():
    ours = scores([0.6, 0.61, 0.9])
    assert script.reached("slcp", 1000, ours, [0.65, 0.7]) is True
    assert script.reached("slcp", 1000, ours, [0.63, 0.7]) is False
    assert script.reached("slcp", 1000, scores([0.52]), [0.5]) is True
    assert script.reached("slcp", 1000, ours, []) is None
    assert script.reached("slcp", 10_000, scores([0.5], minutes=11.0), [0.9]) is False
    assert script.reached("slcp", 100_000, scores([0.79]), [0.99]) is False
    assert script.reached("slcp", 100_000, scores([0.78]), []) is True
    assert script.reached("sir", 100_000, scores([0.5]), [0.9]) is None


def test_published_scores_are_medians_of_npe_and_of_the_rerun(tmp_path):
    rows = [
        "task,num_simulations,algorithm,c2st_median,source", "a,1000,NPE,0.7,main_paper.csv",
        "a,1000,NPE,0.6,gaussian_mixture_rerun.csv", "a,1000,NLE,0.5,main_paper.csv",
    ]  # fmt: skip
    (tmp_path / "published_c2st.csv").write_text("\n".join(rows))
    assert script.published(tmp_path) == {("a", 1000): 0.6}
    assert script.published(None) == {}


def test_differences_are_paired_by_observation():
    assert script._paired(scores([0.6, 0.7, 0.9]), scores([0.7, 0.75, 0.8])) == "-0.050 (2 of 3)"


def test_a_row_without_a_rival_is_not_judged():
    both = {"sbitools": scores([0.6]), "sbi_maf": scores([0.7]), "sbi_nsf": scores([0.8])}
    assert script._row("slcp", 1000, both, 0.9)[-1] == "yes"
    assert script._row("slcp", 1000, both, 0.62)[-1] == "NO"
    assert script._row("slcp", 1000, {k: both[k] for k in ("sbitools", "sbi_nsf")}, 0.9)[-1] == "-"


def test_numbers_and_ranges():
    assert script._numbers("1-3,7") == [1, 2, 3, 7]


def test_a_second_run_takes_what_the_first_has_measured(tmp_path, monkeypatch):
    judged = []

    def judge(reference, samples):
        judged.append((reference, samples))
        return 0.5 + len(judged) / 100

    monkeypatch.setattr(cells, "c2st", judge)
    for module in (script, cells):  # threads start faster than processes
        monkeypatch.setattr(module, "processes", ThreadPoolExecutor)
    call = ["--tasks", "gaussian_mixture", "--sims", "100", "--methods", "exact", "--workers", "1",
            "--observations", "1-2", "--draws", "100", "--cache", str(tmp_path / "cache"),
            "--out", str(tmp_path)]  # fmt: skip

    def median():
        assert script.main(call) == 0
        row = json.loads((tmp_path / "sbibm.json").read_text())["rows"][0]
        return row[script.COLUMNS.index("exact draws")]

    assert median() == pytest.approx(0.515)
    assert [a.shape == b.shape == (100, 2) for a, b in judged] == [True, True]
    assert not np.array_equal(*judged[0]), "the floor is of other draws than the reference"
    assert median() == pytest.approx(0.515)
    assert len(judged) == 2
    call += ["--fresh", "exact"]
    assert median() == pytest.approx(0.535)


@pytest.mark.slow
def test_the_quick_run_compares_all_methods(tmp_path):
    assert script.main(["--quick", "--out", str(tmp_path)]) == 0
    row = json.loads((tmp_path / "sbibm.json").read_text())["rows"][0]
    assert all(0.4 <= row[i] <= 1.0 for i in (2, 3, 4))
