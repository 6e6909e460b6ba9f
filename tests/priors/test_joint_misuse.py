"""Joint priors that cannot be are refused, by name and with the fix."""

import math

import numpy as np
import pytest
import torch
from torch import distributions as D
from torch.distributions import transforms as T

from sbitools import Parameter, ParameterSpace, priors
from sbitools.errors import ParameterError, StoreError
from sbitools.priors.joint import joint_from_dict

from .spaces import AB, KINDS, pair

U = priors.Uniform(0.0, 1.0)
ABC = ("a", "b", "c")


def space(*joint, names="abc", law=U, **more):
    return ParameterSpace([Parameter(n, law, **more) for n in names], list(joint))


def chain(n=500, k=2):
    return np.random.default_rng(0).normal(size=(n, k))


WRONG = {
    "correlation of 1": (lambda: priors.Copula(AB, 1.0), "between -1 and 1"),
    "correlation beyond": (lambda: priors.Copula(AB, [[1, 1.2], [1.2, 1]]), "between -1 and 1"),
    "correlation NaN": (lambda: priors.Copula(AB, math.nan), "finite"),
    "not symmetric": (lambda: priors.Copula(AB, [[1, 0.5], [0.4, 1]]), "symmetric"),
    "not definite": (
        lambda: priors.Copula(ABC, [[1, 0.9, -0.9], [0.9, 1, 0.9], [-0.9, 0.9, 1]]),
        "positive definite",
    ),
    "a covariance": (lambda: priors.Copula(AB, [[2, 0.5], [0.5, 2]]), "ones on the diagonal"),
    "wrong size": (lambda: priors.Copula(ABC, [[1, 0.5], [0.5, 1]]), r"shape \(3, 3\)"),
    "one number for three": (lambda: priors.Copula(ABC, 0.5), r"shape \(3, 3\)"),
    "text": (lambda: priors.Copula(AB, "0.5"), "correlation"),
    "one name": (lambda: priors.Copula(("a",), [[1.0]]), "two or more"),
    "a name twice": (lambda: priors.Copula(("a", "a"), 0.5), "two or more"),
    "names as text": (lambda: priors.Copula("ab", 0.5), "two or more"),
    "names as numbers": (lambda: priors.Ordered((1, 2)), "text"),
    "marginals of another number": (
        lambda: priors.Copula(AB, 0.5, marginals=(U,)), "2 priors",
    ),
    "mean of another size": (
        lambda: priors.multivariate_normal(AB, [0.0], np.eye(2)), r"shape \(2,\)",
    ),
    "mean NaN": (lambda: priors.multivariate_normal(AB, [0, math.nan], np.eye(2)), "finite"),
    "covariance of another size": (
        lambda: priors.multivariate_normal(AB, [0, 0], np.eye(3)), r"shape \(2, 2\)",
    ),
    "covariance not symmetric": (
        lambda: priors.multivariate_normal(AB, [0, 0], [[1, 0.2], [0.1, 1]]), "symmetric",
    ),
    "covariance not definite": (
        lambda: priors.multivariate_normal(AB, [0, 0], [[1, 2], [2, 1]]), "positive definite",
    ),
    "variance of 0": (
        lambda: priors.multivariate_normal(AB, [0, 0], [[0, 0], [0, 1]]), "variances above 0",
    ),
    "covariance NaN": (
        lambda: priors.multivariate_normal(AB, [0, 0], [[1, math.nan], [math.nan, 1]]), "finite",
    ),
    "a simplex": (
        lambda: priors.joint_of(AB, D.Dirichlet(torch.ones(2))), "MultivariateNormal",
    ),
    "a logistic normal": (
        lambda: priors.joint_of(ABC, D.LogisticNormal(torch.zeros(2), torch.ones(2))), "affine",
    ),
    "several distributions": (
        lambda: priors.joint_of(AB, D.MultivariateNormal(torch.zeros(3, 2), torch.eye(2))),
        "batch shape",
    ),
    "scalars side by side": (
        lambda: priors.joint_of(AB, D.Normal(torch.zeros(2), 1.0)), "Independent",
    ),
    "another number of names": (
        lambda: priors.joint_of(ABC, D.MultivariateNormal(torch.zeros(2), torch.eye(2))),
        r"event shape \(3,\)",
    ),
    "discrete": (lambda: priors.joint_of(AB, D.Independent(D.Poisson(torch.ones(2)), 1)), "norm"),
    "no bijection": (
        lambda: priors.joint_of(AB, D.TransformedDistribution(
            D.MultivariateNormal(torch.zeros(2), torch.eye(2)),
            [T.IndependentTransform(T.AbsTransform(), 1)])),
        "affine",
    ),
    "a mixing transform": (
        lambda: priors.joint_of(AB, D.TransformedDistribution(
            D.MultivariateNormal(torch.zeros(2), torch.eye(2)), [T.SoftmaxTransform()])),
        "affine",
    ),
    "a support that is not covered": (
        lambda: priors.joint_of(AB, D.TransformedDistribution(
            D.MultivariateNormal(torch.zeros(2), torch.eye(2)),
            [T.PowerTransform(torch.tensor(2.0))])),
        "numbers in",
    ),
    "another base": (
        lambda: priors.joint_of(AB, D.TransformedDistribution(
            D.Independent(D.Gamma(torch.ones(2), torch.ones(2)), 1), [T.ExpTransform()])),
        "normal one",
    ),
    "no distribution": (lambda: priors.joint_of(AB, "normal"), "MultivariateNormal"),
    "weights that do not sum to 1": (
        lambda: priors.Mixture(AB, (0.5, 0.6), np.zeros((2, 2)), [np.eye(2)] * 2), "sum to 1",
    ),
    "a mean too few": (
        lambda: priors.Mixture(AB, (0.5, 0.5), np.zeros((1, 2)), [np.eye(2)] * 2), "means",
    ),
    "a mixture not definite": (
        lambda: priors.Mixture(AB, (1.0,), np.zeros((1, 2)), [np.ones((2, 2))]), "definite",
    ),
    "bounds upside down": (
        lambda: priors.Mixture(AB, (1.0,), np.zeros((1, 2)), [np.eye(2)], ((1, 0), (0, None))),
        "low < high",
    ),
    "too few draws": (lambda: priors.joint_of_draws(AB, chain(150), seed=0), "200 different"),
    "a chain that stands still": (
        lambda: priors.joint_of_draws(AB, np.repeat(chain(60), 50, 0), seed=0), "60 of 3000",
    ),
    "draws NaN": (
        lambda: priors.joint_of_draws(AB, chain() * np.array([1, math.nan]), seed=0), "finite",
    ),
    "draws of other parameters": (
        lambda: priors.joint_of_draws(ABC, chain(), seed=0), r"shape \(n, 3\)",
    ),
    "draws outside": (
        lambda: priors.joint_of_draws(AB, chain(), seed=0, bounds=[(0, None), (None, None)]),
        "inside the bounds",
    ),
    "draws of no width": (
        lambda: priors.joint_of_draws(AB, chain() * np.array([1, 0]), seed=0), "vary",
    ),
    "bounds of another number": (
        lambda: priors.joint_of_draws(AB, chain(), seed=0, bounds=[(None, None)]), "bounds",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_joint_prior(name):
    make, said = WRONG[name]
    with pytest.raises(ParameterError, match=rf"(?s){said}.*fix: |fix: .*{said}"):
        make()


MISFITS = {
    "unknown name": (lambda: space(priors.Copula(("a", "z"), 0.5)), "no such parameter"),
    "two blocks": (
        lambda: space(priors.Copula(AB, 0.5), priors.Ordered(("b", "c"))), "copula of a, b too",
    ),
    "no list": (lambda: ParameterSpace([Parameter("a", U)], "ab"), "list of joint priors"),
    "no joint prior": (lambda: space(U), "list of joint priors"),
    "categories": (
        lambda: ParameterSpace(
            [Parameter("a", U), Parameter("b", None, categories=("x", "y"))],
            [priors.Copula(AB, 0.5)]),
        "continuous",
    ),
    "no prior, no block": (lambda: ParameterSpace([Parameter("a", None)]), "a prior"),
    "no prior, and a block that has none": (
        lambda: space(priors.Copula(ABC, np.eye(3)), law=None), "give each",
    ),
    "another prior than the block's": (
        lambda: space(priors.multivariate_normal(AB, [0, 0], np.eye(2)), names="ab"), "leave it",
    ),
    "different priors in order": (
        lambda: pair(priors.Ordered(AB), [U, priors.Uniform(0.0, 2.0)]), "sequential",
    ),
    "nothing above": (
        lambda: pair(priors.Sequential(AB), [priors.Uniform(0.0, 2.0), U]), "mass above",
    ),
    "next to nothing above": (
        lambda: pair(priors.Sequential(AB), [priors.Normal(100.0, 1.0), priors.Normal(0.0, 1.0)]),
        "mass above",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISFITS)
def test_what_does_not_fit_its_parameters(name):
    make, said = MISFITS[name]
    with pytest.raises(ParameterError, match=said):
        make()


@pytest.mark.parametrize(
    "values",
    [
        None, 3, [], {}, {"kind": "os.system"}, {"kind": ["copula"]}, {"kind": "copula"},
        {"kind": "copula", "names": ["a", "b"], "correlation": {"a": 1}},
        {"kind": "copula", "names": ["a", "b"], "correlation": [[1, "x"], ["x", 1]]},
        {"kind": "copula", "names": ["a", "b"], "correlation": [[1], [1, 2]]},
        {"kind": "copula", "names": ["a", "b"], "correlation": None},
        {"kind": "copula", "names": None, "correlation": 0.5},
        {"kind": "copula", "names": ["a", "b"], "correlation": 0.5, "laws": []},
        {"kind": "ordered", "names": ["a", "b"], "correlation": 0.5},
        {"kind": "ordered", "names": ["a", "z"]},
        {"kind": "mixture", "names": ["a", "b"], "weights": [1.0], "means": [[0, 0]],
         "covariances": [[[1, 0], [0]]], "bounds": None},
        {"kind": "mixture", "names": ["a", "b"], "weights": 1, "means": 2, "covariances": 3},
    ],
)  # fmt: skip
def test_files_with_a_bad_block_are_refused(values):
    rows = [Parameter(n, U).to_dict() for n in "ab"]
    rows[0]["joint"] = values
    with pytest.raises(ParameterError):
        ParameterSpace.from_dict(rows)


def test_a_bad_block_in_a_store(tmp_path):
    import json

    from sbitools import FieldSpec, SimulationStore
    from sbitools.store.manifest import _own_digest

    mine = KINDS["copula"]()
    theta = mine.design(4, 0)
    SimulationStore.from_arrays(tmp_path / "s", theta, theta.float(), mine,
                                FieldSpec("x", ("i",), (2,)))  # fmt: skip
    assert SimulationStore.open(tmp_path / "s").parameters == mine
    file = tmp_path / "s" / "store.json"
    values = json.loads(file.read_text())
    del values["sha256"]
    values["parameters"][0]["joint"]["correlation"] = [[1, 3], [3, 1]]
    file.write_text(json.dumps(values | {"sha256": _own_digest(values)}))
    with pytest.raises(StoreError, match="between -1 and 1"):
        SimulationStore.open(tmp_path / "s")


@pytest.mark.parametrize(
    "make",
    [
        lambda: priors.Transformed(0.0, 1.0, (("log",),)),
        lambda: priors.Transformed(0.0, 1.0, (("affine", 0.0, -1.0),)),
        lambda: priors.Transformed(0.0, 1.0, (("affine", 0.0, 0.0),)),
        lambda: priors.Transformed(0.0, 1.0, (("affine", 0.0),)),
        lambda: priors.Transformed(0.0, 1.0, (("eval", "x"),)),
        lambda: priors.Transformed(0.0, -1.0, (("exp",),)),
        lambda: priors.Transformed(0.0, 1.0, "exp"),
        lambda: priors.Transformed(math.nan, 1.0, (("exp",),)),
        lambda: priors.NormalMixture((0.5, 0.6), (0.0, 1.0), (1.0, 1.0)),
        lambda: priors.NormalMixture((0.5, 0.5), (0.0,), (1.0, 1.0)),
        lambda: priors.NormalMixture((1.0,), (0.0,), (0.0,)),
        lambda: priors.NormalMixture((1.0,), (0.0,), (1.0,), (2.0, 1.0)),
        lambda: priors.NormalMixture((), (), ()),
        lambda: joint_from_dict({"kind": "multivariate_normal", "names": ["a", "b"]}),
    ],
)
def test_bad_numbers_of_single_priors(make):
    with pytest.raises(ParameterError, match=r"expected .*; got .*; fix: "):
        make()
