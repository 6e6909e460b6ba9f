"""One space of two parameters for each kind of joint prior, and where its mass is."""

import torch
from torch import distributions as D
from torch.distributions import transforms as T

from sbitools import Parameter, ParameterSpace, priors

AB = ("a", "b")
COVARIANCE = [[1.0, 0.9], [0.9, 2.0]]
GAMMA = priors.TorchPrior(D.Gamma(torch.tensor(2.0), torch.tensor(3.0)))
LEAST = 1e-7  # of the mass lies outside of the grids


def pair(joint, laws=(None, None), **more):
    parameters = [Parameter(n, law, **more) for n, law in zip(joint.names, laws, strict=True)]
    return ParameterSpace(parameters, [joint])


def normal():
    return D.MultivariateNormal(
        torch.tensor([1.0, -1.0]).double(), torch.tensor([[0.5, 0.3], [0.3, 0.4]]).double()
    )


def transformed():
    """Sigmoid, stretched; the second one decreases with its normal number."""
    stretch = T.AffineTransform(
        torch.tensor([1.0, 2.0]).double(), torch.tensor([2.0, -3.0]).double()
    )
    return D.TransformedDistribution(normal(), [T.SigmoidTransform(), stretch])


def low_rank():
    return D.LowRankMultivariateNormal(
        torch.tensor([1.0, 2.0]).double(), torch.tensor([[1.0], [0.5]]).double(),
        torch.tensor([0.3, 0.2]).double(),
    )  # fmt: skip


def independent():
    return D.Independent(
        D.Gamma(torch.tensor([3.0, 4.0]).double(), torch.tensor([2.0, 3.0]).double()), 1
    )


TORCH = {
    "torch normal": normal, "torch low rank": low_rank, "torch transformed": transformed,
    "torch independent": independent,
}  # fmt: skip
MIXTURE = priors.Mixture(
    AB, (0.3, 0.7), ((0.0, 0.0), (1.5, 1.0)),
    (((1.0, 0.5), (0.5, 1.0)), ((0.2, -0.1), (-0.1, 0.3))), ((0.0, 5.0), (-3.0, None)),
)  # fmt: skip
KINDS = {
    "copula": lambda: pair(
        priors.Copula(AB, 0.7), [priors.Uniform(0.0, 2.0), priors.LogNormal(0.0, 0.3)]
    ),
    "copula torch": lambda: pair(
        priors.Copula(AB, -0.6), [GAMMA, priors.TruncatedNormal(0.0, 1.0, -1.0, 2.0)]
    ),
    "multivariate normal": lambda: pair(priors.multivariate_normal(AB, [1.0, 2.0], COVARIANCE)),
    "ordered": lambda: pair(priors.Ordered(AB), [priors.Uniform(1.0, 3.0)] * 2),
    "ordered normal": lambda: pair(priors.Ordered(AB), [priors.Normal(1.0, 2.0)] * 2),
    "sequential": lambda: pair(priors.Sequential(AB), [priors.Uniform(1.0, 3.0)] * 2),
    "sequential mixed": lambda: pair(
        priors.Sequential(AB), [priors.LogUniform(0.1, 2.0), priors.Normal(1.0, 2.0)]
    ),
    "mixture": lambda: pair(MIXTURE),
} | {name: (lambda make=make: pair(priors.joint_of(AB, make()))) for name, make in TORCH.items()}
COPULAS = [name for name in KINDS if name.startswith(("copula", "multi", "torch"))]
