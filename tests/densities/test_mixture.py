"""Ensembles: a mixture is a density, draws follow it, and stacking finds the better member."""

import numpy as np
import torch
from scipy import stats

from sbitools import FieldSpec, seeds
from sbitools.densities.mixture import Mixture, stacking_weights
from sbitools.inference.estimator import Estimator, EstimatorOptions

SPEC = FieldSpec("x", ("i",), (3,))


def members(n=3):
    """Untrained flows, moved apart so that the mixture has several modes."""
    out = []
    for k in range(n):
        member = Estimator(
            EstimatorOptions(seed=k, flow_hidden=8, features=4, channels=1), 2, SPEC
        )
        with torch.no_grad():
            member.flow.head.net[-1].bias[:2] = 3.0 * (k - 1)
        out.append(member.eval())
    return out


def mixture():
    mixed = Mixture(members())
    mixed.weights.copy_(torch.tensor([0.5, 0.3, 0.2]))
    return mixed


@torch.no_grad()
def test_density_integrates_to_one():
    mixed, x = mixture(), torch.zeros(1, 3)
    axis = torch.linspace(-9, 9, 181)
    grid = torch.cartesian_prod(axis, axis)[None]
    total = mixed.log_prob(grid, mixed.features(x)).exp().sum() * (axis[1] - axis[0]) ** 2
    # The midpoint rule at a tenth of a width errs by less than 1e-3 on smooth densities; the
    # splines' kinks are the rest.
    assert abs(float(total) - 1) < 5e-3


@torch.no_grad()
def test_draws_take_members_by_weight_and_know_their_density():
    mixed, x = mixture(), torch.zeros(2, 3)
    features = mixed.features(x)
    z = seeds.normal([1, 2], (4000, mixed.n_latents))
    u, log_q = mixed.draw(z, features)
    torch.testing.assert_close(log_q, mixed.log_prob(u, features))
    # Members sit at -3, 0 and 3 with unit width: a box of 3 around each tells them apart but for
    # 7 % at either edge, the same for neighbours with weights within that.
    shares = [float(((u[..., 0] > a) & (u[..., 0] <= a + 3)).float().mean()) for a in
              (-4.5, -1.5, 1.5)]  # fmt: skip
    inside = stats.norm.cdf(1.5)
    edge = 1 - inside
    expected = [inside * 0.5 + edge * 0.3 - edge * 0.5, 0.3 * (2 * inside - 1) + edge * 0.7,
                inside * 0.2 + edge * 0.3 - edge * 0.2]  # fmt: skip
    # Four standard errors of a share of 8,000 draws (0.006): false alarm below 1e-3 for three;
    # untrained flows are not exactly normal, which the second 0.02 allows for.
    np.testing.assert_allclose(shares, expected, atol=0.04)


@torch.no_grad()
def test_latents_of_draws_are_standard_normal():
    mixed, x = mixture(), seeds.normal(range(2000), (3,))
    features = mixed.features(x)
    u, _ = mixed.draw(seeds.normal(range(5000, 7000), (1, mixed.n_latents)), features)
    z = mixed.latent(u, features, seeds.generator(3))[:, 0].numpy()
    # Kolmogorov-Smirnov on two columns at a false-alarm rate of 1e-3 in all; seed fixed.
    for column in z.T:
        assert stats.kstest(column, "norm").pvalue > 5e-4
    wrong = mixed.members[0].latent(u, mixed._split(features)[0], seeds.generator(3))[:, 0, 0]
    assert stats.kstest(wrong.numpy(), "norm").pvalue < 1e-6


def test_stacking_finds_the_better_member_and_drops_the_useless_one():
    rng = np.random.default_rng(1)
    y = np.where(rng.random(4000) < 0.7, rng.normal(-2, 1, 4000), rng.normal(2, 1, 4000))
    logs = [stats.norm(m, s).logpdf(y) for m, s in ((-2, 1), (2, 1), (40, 0.1))]
    weights = stacking_weights(torch.tensor(np.stack(logs, 1))).numpy()
    # The share of 4,000 labels has a standard error of 0.007; overlap adds little.
    np.testing.assert_allclose(weights, [0.7, 0.3, 0.0], atol=0.03)
    assert weights[2] == 0


@torch.no_grad()
def test_every_observation_gets_its_own_draws():
    mixed, x = mixture(), seeds.normal(range(3), (3,))
    with torch.no_grad():
        for member in mixed.members:  # so that the place depends on x
            member.flow.head.net[-1].weight.normal_(generator=seeds.generator(1))
    z = seeds.normal([5, 6, 7], (40, mixed.n_latents))
    together, _ = mixed.draw(z, mixed.features(x))
    for i in range(3):
        alone, _ = mixed.draw(z[i : i + 1], mixed.features(x[i : i + 1]))
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-4, atol=1e-4)
