"""Foreign posteriors behave like ours: same draws same verdict, seeds, support, typed errors."""

import numpy as np
import pytest
import torch
from torch.distributions import Independent, Normal

import sbitools
from sbitools import ForeignPosterior, Parameter, ParameterSpace, priors
from sbitools.calibration import CalibrationDraws, calibrate_draws
from sbitools.errors import (
    ObservationError,
    ParameterError,
    PosteriorError,
    StoreError,
    TimeLimitError,
)
from sbitools.observation import Noise
from sbitools.seeds import seeded_globals
from tests.bridge.conftest import SPACE, SPEC, gaussian_store

X = torch.tensor([[0.3, 0.4, 0.7], [-0.9, 0.65, -0.3], [0.9, 0.1, 1.1]])


@pytest.fixture(scope="module")
def posterior(trained):
    return ForeignPosterior(trained, SPACE, SPEC)


class Plain:
    """Any object: normal around the first two numbers of x, of the columns `order`."""

    def __init__(self, order=(0, 1), width=0.2):
        self.order, self.width, self.calls = list(order), width, 0

    def _law(self, x):
        return Independent(Normal(x[0, self.order], self.width), 1)

    def sample(self, shape, x):
        self.calls += 1
        return self._law(x).sample(shape)

    def log_prob(self, theta, x):
        return self._law(x).log_prob(theta)


def test_the_verdict_is_that_of_the_same_draws(posterior, trained, stores):
    test = stores[1]
    result = sbitools.calibrate(posterior, test, n_draws=100, seed=4, progress=False)
    draws = CalibrationDraws.from_posterior(
        posterior, test, 100, seed=sbitools.seeds.derive(4, 21), log_prob=True
    )
    # Arrays alone, as somebody would have them who drew from sbi by hand.
    by_hand = CalibrationDraws(
        draws.theta, draws.draws, log_prob_true=draws.log_prob_true,
        log_prob_draws=draws.log_prob_draws, prior=SPACE, seed=draws.seed,
    )  # fmt: skip
    again = calibrate_draws(by_hand)
    assert {c.name for c in result.emulated} >= {"sbc", "coverage", "tarp", "information"}
    assert {c.name: c.p_value for c in result.emulated} == {
        c.name: c.p_value for c in again.emulated
    }
    assert result.passed == again.passed
    # A posterior twice as wide is seen, at p below 1e-6, or this test could not fail.
    centre = draws.draws.mean(1, keepdims=True)
    wide = CalibrationDraws(draws.theta, centre + 4 * (draws.draws - centre), prior=SPACE)
    assert calibrate_draws(wide).emulated[0].p_value < 1e-6


def test_draws_and_densities_are_those_of_sbi(posterior, trained):
    ours = posterior.sample(X, 4000, seed=1)
    with seeded_globals(2):
        theirs = trained.sample_batched(
            (4000,), X, max_sampling_batch_size=1000, show_progress_bars=False
        ).transpose(0, 1)
        many = {"num_rejection_samples": 40_000}
        density = torch.stack([
            trained.log_prob(t, x=x[None], leakage_correction_params=many)
            for t, x in zip(ours[:, :50].float(), X, strict=True)
        ])  # fmt: skip
    assert ours.dtype == torch.float64
    # Six standard errors of the difference of two means, and of two standard deviations: a false
    # alarm in 1e-8 of seeds.
    scale = theirs.double().std(1) / np.sqrt(4000)
    assert bool(((ours.mean(1) - theirs.mean(1)).abs() < 6 * np.sqrt(2) * scale).all())
    assert bool(((ours.std(1) - theirs.std(1)).abs() < 6 * scale).all())
    # The share inside is counted among 1,152 draws here and 40,000 there: an error of 0.03 where
    # half are inside, six times.
    assert torch.allclose(posterior.log_prob(ours[:, :50], X), density.double(), atol=0.18)
    assert float(posterior._log_mass(X).min()) < -0.02  # it leaks, or nothing was tested


def test_densities_integrate_to_one_over_the_prior(posterior):
    a, b = np.meshgrid(np.linspace(-1, 1, 201), np.linspace(0.1, 0.7, 201), indexing="ij")
    grid = torch.from_numpy(np.stack([a.ravel(), b.ravel()], 1))
    density = posterior.log_prob(grid.expand(3, -1, -1), X).exp().reshape(3, 201, 201)
    mass = np.trapezoid(np.trapezoid(density, dx=0.6 / 200), dx=2 / 200)
    # 0.03 of the share inside (see above), six times, and less of the grid.
    assert mass == pytest.approx(np.ones(3), abs=0.18)


def test_same_seed_same_answer_and_nothing_outside_is_touched(posterior):
    one = posterior.sample(X, 50, seed=4)
    assert torch.equal(one, posterior.sample(X, 50, seed=4))
    assert not torch.equal(one, posterior.sample(X, 50, seed=5))
    assert torch.equal(posterior.log_prob(one, X), posterior.log_prob(one, X))
    assert bool(torch.isfinite(SPACE.log_prob(one)).all())
    assert posterior.sample(X[:0], 5).shape == (0, 5, 2)
    assert posterior.sample(X, 0).shape == (3, 0, 2)


def test_repair_and_report_take_it(posterior, stores, tmp_path):
    repaired = sbitools.repair(posterior, stores[1], "auto", folds=2, n_draws=50)
    assert set(repaired.info["repair"]["tried"]) == {"recalibrate", "reweight"}
    draws, density = repaired.sample_and_log_prob(X, 20)
    assert bool(torch.isfinite(density).all())
    assert bool(torch.isfinite(SPACE.log_prob(draws)).all())
    assert len(posterior.features(X)) == 3
    with pytest.raises(PosteriorError, match="code is foreign"):
        posterior.save(tmp_path / "p")
    others = gaussian_store(tmp_path / "others", 40, 5)
    result = sbitools.calibrate(posterior, others, reference=stores[1], n_draws=50, progress=False)
    assert result.transfer is not None
    assert "reference" in result.to_html(tmp_path / "report.html").read_text()


def test_what_it_was_trained_on_is_no_test(trained, stores):
    known = ForeignPosterior(trained, SPACE, SPEC, trained_on=stores[0])
    with pytest.raises(StoreError, match="not trained on"):
        sbitools.calibrate(known, stores[0], progress=False)


def test_any_object_serves_and_its_columns_are_put_in_order(stores):
    theirs = Plain(order=(1, 0))
    posterior = ForeignPosterior(theirs, SPACE, SPEC, order=["b", "a"])
    draws = posterior.sample(X, 2000, seed=1)
    # Truncated normals around x: a is near x[0], b near x[1].
    assert draws[0].mean(0).tolist() == pytest.approx([0.3, 0.4], abs=0.03)
    assert bool(torch.isfinite(SPACE.log_prob(draws)).all())
    inside = torch.tensor([[0.3, 0.4]], dtype=torch.float64)
    law = Normal(0.0, 0.2)
    share = law.cdf(torch.tensor(0.7)) * (2 * law.cdf(torch.tensor(0.3)) - 1)
    want = 2 * law.log_prob(torch.tensor(0.0)) - share.log()
    # The share, 0.85, from 1,152 draws: 0.012 of its logarithm, six times.
    assert float(posterior.log_prob(inside, X[:1])[0]) == pytest.approx(float(want), abs=0.075)
    assert posterior.log_prob(inside + 1, X[:1]).tolist() == [-np.inf]
    result = sbitools.calibrate(posterior, stores[1], n_draws=50, progress=False)
    # Noise carries the x of a few tests so far that the posterior leaves the prior.
    assert result.counts["emulated"]["tests"] > 56
    assert sum(result.counts["emulated"][k] for k in ("tests", "excluded")) == 64


def test_fields_are_observed_and_prepared(stores):
    seen = []

    def prepare(x):
        seen.append(x.dtype)
        return 2 * x

    posterior = ForeignPosterior(Plain(), SPACE, SPEC, observe=[Noise(0.1)], prepare=prepare)
    assert posterior.sample(X / 2, 500)[0].mean(0).tolist() == pytest.approx([0.3, 0.4], abs=0.06)
    noisy = posterior.observe(X, torch.tensor([1, 2, 3]))
    assert not torch.equal(noisy, X)
    with pytest.raises(ObservationError, match="batch axis first"):
        ForeignPosterior(Plain(), SPACE, SPEC, prepare=lambda x: x.sum())


def test_a_posterior_outside_the_prior_raises_and_is_counted_by_calibrate(stores):
    posterior = ForeignPosterior(Plain(width=1e-3), SPACE, SPEC)
    far = torch.tensor([[5.0, 0.4, 0.0]])
    with pytest.raises(PosteriorError, match=r"0 of \d+ inside for observation 0"):
        posterior.sample(far, 10)
    # An observation whose draws are all inside at once does not wait for one with many outside.
    wide, edge = ForeignPosterior(Plain(width=0.05), SPACE, SPEC), torch.tensor([[-1.04, 0.05, 0]])
    assert wide.sample(torch.cat([X[:1], edge]), 10).shape == (2, 10, 2)
    result = sbitools.calibrate(posterior, stores[1], n_draws=20, checks=("sbc",), progress=False)
    assert 0 < len(result.excluded["emulated"]) < 64
    assert "inside" in result.excluded["emulated"][0]["reason"]


class Broken(Plain):
    def __init__(self, how):
        super().__init__()
        self.how = how

    def sample(self, shape, x):
        if self.how == "raises":
            raise ValueError("no such x")
        if self.how == "time":
            raise RuntimeError("rejection sampling exceeded max_sampling_time.")
        return torch.zeros({"turned": (2, *shape), "wide": (*shape, 3)}[self.how])

    def log_prob(self, theta, x):
        return torch.full((len(theta), 1 if self.how == "wide" else 0), torch.nan)


@pytest.mark.parametrize(
    ("how", "error", "words"),
    [
        ("raises", PosteriorError, "ValueError: no such x"),
        ("time", TimeLimitError, "raise time_limit"),
        ("turned", PosteriorError, "one row per draw"),
        ("wide", PosteriorError, "2 columns"),
    ],
)
def test_errors_of_foreign_code_are_typed(how, error, words):
    posterior = ForeignPosterior(Broken(how), SPACE, SPEC, normalised=False)
    with pytest.raises(error, match=words):
        posterior.sample(X, 10)
    with pytest.raises(PosteriorError, match="one number for each row"):
        posterior.log_prob(torch.tensor([[0.0, 0.5]]).double(), X[:1])
    with pytest.raises(TimeLimitError):
        ForeignPosterior(Plain(), SPACE, SPEC).sample(X, 10, time_limit=0.0)


def test_what_does_not_fit_is_refused(trained):
    swapped = ParameterSpace([SPACE[1], SPACE[0]])
    with pytest.raises(ParameterError, match="prior of the foreign posterior"):
        ForeignPosterior(trained, swapped, SPEC)
    ForeignPosterior(trained, swapped, SPEC, order=["a", "b"])
    wider = ParameterSpace([Parameter("a", priors.Uniform(-2.0, 1.0)), SPACE[1]])
    with pytest.raises(ParameterError, match="prior of the foreign posterior"):
        ForeignPosterior(trained, wider, SPEC)
    with pytest.raises(ParameterError, match="2 inferred ones"):
        ForeignPosterior(trained, ParameterSpace([SPACE[0]]), SPEC)
    with pytest.raises(ParameterError, match="once"):
        ForeignPosterior(trained, SPACE, SPEC, order=["a", "a"])
    with pytest.raises(ObservationError, match=r"shape \(B, 3"):
        ForeignPosterior(trained, SPACE, SPEC, prepare=lambda x: x[:, :2])
    for strange in (None, Plain, "posterior"):
        with pytest.raises(PosteriorError, match="methods sample and log_prob"):
            ForeignPosterior(strange, SPACE, SPEC)
    posterior = ForeignPosterior(trained, SPACE, SPEC)
    with pytest.raises(ObservationError, match="finite"):
        posterior.sample(X * torch.nan, 10)
    with pytest.raises(PosteriorError, match="one row of theta"):
        posterior.log_prob(torch.zeros(1, 3).double(), X[:1])


def test_ensembles_chains_and_rejection_of_sbi(trained):
    from sbi.inference import EnsemblePosterior, MCMCPosterior, RejectionPosterior
    from sbi.inference.potentials.base_potential import BasePotential

    class Likelihood(BasePotential):
        """Normal around x, within the prior."""

        def __call__(self, theta, track_gradients=True):
            inside = trained.prior.support.check(theta)
            value = -((theta - self.x_o[:, :2]) ** 2).sum(1) / (2 * 0.1**2)
            return torch.where(inside, value, -torch.inf)

        def allow_iid_x(self):
            return False

    ensemble = ForeignPosterior(EnsemblePosterior([trained, trained]), SPACE, SPEC)
    assert ensemble.normalised
    draws, density = ensemble.sample_and_log_prob(X[:1], 5, seed=3)
    alone = ForeignPosterior(trained, SPACE, SPEC).log_prob(draws, X[:1])
    assert torch.allclose(density, alone, atol=0.18)  # errors of two counts of the share inside

    potential = Likelihood(trained.prior, None, device="cpu")
    chains = MCMCPosterior(
        potential, trained.prior, num_chains=4, warmup_steps=20, thin=1,
        method="slice_np_vectorized",
    )  # fmt: skip
    rejection = RejectionPosterior(potential, trained.prior, num_samples_to_find_max=500)
    for theirs in (chains, rejection):
        posterior = ForeignPosterior(theirs, SPACE, SPEC)
        assert not posterior.normalised
        draws = posterior.sample(X, 200, seed=1)
        # 0.1 / sqrt(200) and the correlation of a chain, six times.
        assert draws[0].mean(0).tolist() == pytest.approx([0.3, 0.4], abs=0.08)
        assert torch.equal(draws, posterior.sample(X, 200, seed=1))


def test_densities_of_ordered_parameters_lack_what_is_in_the_wrong_order(stores):
    """Neither has a bound of its own: half of two equal normals is in order."""

    class Normals(Plain):
        def sample(self, sample_shape, x=None):
            return torch.randn(*sample_shape, 2)

        def log_prob(self, theta, x=None):
            return torch.distributions.Normal(0.0, 1.0).log_prob(theta).sum(-1)

    space = ParameterSpace(
        [Parameter(name, priors.Normal(0.0, 1.0)) for name in "ab"],
        joint=[priors.Ordered(("a", "b"))],
    )  # fmt: skip
    posterior = ForeignPosterior(Normals(), space, stores[0].output)
    x = stores[0].read([0])
    draws = posterior.sample(x, 500, seed=1)
    assert bool((draws[..., 0] <= draws[..., 1]).all())
    theta = torch.tensor([[-0.5, 0.5]])
    told = float(posterior.log_prob(theta, x)) - float(space.log_prob(theta.double()))
    assert abs(told) < 0.15  # five errors of a share of 0.5 among 1,152 draws
    assert float(posterior.log_prob(theta.flip(1), x)) == -torch.inf
