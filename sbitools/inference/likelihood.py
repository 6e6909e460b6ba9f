"""Neural likelihood estimation: a flow for the data given the parameters.

Papamakarios, Sterratt & Murray 2019 (arXiv:1805.07226). The posterior is this likelihood times the
prior, explored by `sbitools.inference.mcmc`. Unlike NPE it does not ask that theta was drawn from
the prior, and several independent data vectors simply multiply (`Posterior.together`); it needs
short data.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from pydantic import ConfigDict, Field
from torch import Tensor, nn

from sbitools.embeddings.scale import Scaled
from sbitools.errors import ConfigError
from sbitools.gate.models import PlainModel
from sbitools.parameters import ParameterSpace
from sbitools.simulator import FieldSpec

from .evidence import LikelihoodPosterior
from .flows import Family, build_flow
from .job import Job, fit_network
from .mcmc import Unnormalised
from .methods import Method
from .options import CommonOptions
from .together import TogetherPosterior
from .vectors import fitted_whole
from .vectors.likelihood import VectorLikelihood, require_varying
from .vectors.training import UNUSED, fit_likelihood, vector_options

__all__ = ["METHODS", "LikelihoodEstimator", "LikelihoodOptions", "NLEOptions"]

# A density of more numbers than this is learned badly from the simulations one has.
_LONGEST = 100
# Options of an embedding that learns, which a likelihood has not.
_NOT_LEARNT = ("pretrain_epochs", "frozen", "symmetry")


class LikelihoodOptions(PlainModel):
    """Which network.

    Attributes:
        method: name of the method.
        flow: ``"auto"``: the density of data vectors that NPE learns from, too
            (`sbitools.inference.vectors`); or the family of a flow, see `build_flow`. Chains ask
            it often: splines (zuko_nsf) follow sharper likelihoods, at several times the price.
        flow_hidden: width of the networks inside the flow.
        flow_transforms: number of transformations.
        members: networks in each stack of ``"auto"``.
        components: normals in each of their one-dimensional mixtures.
        seed: of the initial weights.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str = "nle"
    flow: Family = "auto"
    flow_hidden: int = Field(64, ge=1, le=65536)
    flow_transforms: int = Field(5, ge=1, le=256)
    members: int = Field(4, ge=1, le=64)
    components: int = Field(8, ge=1, le=64)
    seed: int = Field(0, ge=0)

    @property
    def channels(self) -> int:
        """Width of the embedding, which only standardises."""
        return 1


class NLEOptions(LikelihoodOptions, CommonOptions):
    """Options of neural likelihood estimation: the network and its training, in one table."""


class Standardise(Scaled):
    """Data vectors, flattened, with mean 0 and standard deviation 1 over the training set.

    Args:
        spec: the observed field.
    """

    def __init__(self, spec: FieldSpec) -> None:
        n = math.prod(spec.shape)
        super().__init__((n,), (n,))
        self.name, self.n_features = spec.name, n

    def set_scale(self, mean: Tensor, std: Tensor, common: Tensor | None = None) -> None:
        """Mean and standard deviation of the training data per entry.

        Raises:
            TrainingError: if an entry never changes: it has no density.
        """
        require_varying(self.name, mean, std)
        super().set_scale(mean.flatten(), std.flatten())

    def forward(self, x: Tensor) -> Tensor:
        """(B, *shape) to (B, D)."""
        return self.standardise(x.reshape(len(x), -1))


class LikelihoodEstimator(Unnormalised):
    """q(x | u) for standardised data x, and with the prior an unnormalised posterior of u.

    Args:
        options: which network.
        parameters: the inferred parameters.
        spec: the observed data.

    Raises:
        ConfigError: if the data are complex or too long for a density.
    """

    def __init__(
        self, options: LikelihoodOptions, parameters: ParameterSpace, spec: FieldSpec
    ) -> None:
        super().__init__(parameters)
        n = math.prod(spec.shape)
        if n > _LONGEST or spec.dtype.startswith("complex"):
            raise ConfigError(
                "method nle", expected=f"real data vectors of at most {_LONGEST} numbers",
                got=f"{n} ({spec.dtype} of shape {spec.shape})",
                fix="summarise the data first (a spectrum, or the features of a trained "
                "posterior), or use npe or nre, which learn their own summary",
            )  # fmt: skip
        # Counts have no density: spread evenly over their unit, they do.
        self.whole = spec.dtype.startswith(("int", "uint"))
        self.embedding = Standardise(spec)
        trend: Any = nn.utils.skip_init(nn.Linear, len(parameters), n)
        nn.init.zeros_(trend.weight)
        nn.init.zeros_(trend.bias)
        self.trend = trend
        self.flow = build_flow(
            options.flow, n, len(parameters), hidden=options.flow_hidden,
            transforms=options.flow_transforms, seed=options.seed,
        )  # fmt: skip

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def log_scale(self) -> float:
        """What the log density of standardised data lacks of that of x."""
        return self.embedding.log_scale

    def features(self, x: Tensor) -> Tensor:
        """The standardised data, (B, D) float32."""
        return self.embedding(x.to(self.device))

    def log_ratio(self, u: Tensor, features: Tensor) -> Tensor:
        """log q(x | u) up to a constant, (B, n), for u (B, n, P) and features (B, D)."""
        with torch.autocast(self.device.type, enabled=False):
            u = u.to(self.device, torch.float32)
            flat = u.flatten(0, 1)
            y = features.float().repeat_interleave(u.shape[1], 0) - self.trend(flat)
            return self.flow.log_prob(y[:, None], flat)[:, 0].view(u.shape[:2])

    def loss(self, u: Tensor, x: Tensor, rng: torch.Generator) -> Tensor:
        """-log q(x | u), shape (B,), for u (B, P) and x (B, *shape)."""
        x = x.to(self.device)
        if self.whole:
            x = x.double() + torch.rand(x.shape, generator=rng).to(self.device) - 0.5
        return -self.log_ratio(u[:, None], self.features(x))[:, 0]


def _build(
    options: LikelihoodOptions, parameters: ParameterSpace, spec: FieldSpec
) -> LikelihoodEstimator | VectorLikelihood:
    if spec.member is not None:
        raise ConfigError(
            "method nle", expected="single observations", got=f"sets of {spec.shape[0]}",
            fix="train it on one observation of each theta, and ask "
            f"posterior.together({spec.shape[0]}); or use npe, which learns from sets",
        )  # fmt: skip
    if fitted_whole(options, spec) and spec.shape[0] <= _LONGEST:
        return VectorLikelihood(
            parameters, spec, hidden=options.flow_hidden, members=options.members,
            components=options.components, seed=options.seed,
        )  # fmt: skip
    return LikelihoodEstimator(options, parameters, spec)


def _fit(job: Job, estimator: Any, run_dir: Path, resume: bool, on_epoch: Any) -> Any:
    fit = fit_likelihood if isinstance(estimator, VectorLikelihood) else fit_network
    return fit(job, estimator, run_dir, resume, on_epoch)


def _unused(options: NLEOptions, spec: FieldSpec) -> dict[str, str]:
    return dict.fromkeys(UNUSED if fitted_whole(options, spec) else _NOT_LEARNT, "")


METHODS = {
    "nle": Method(
        "nle", "neural likelihood estimation", LikelihoodOptions, NLEOptions, _build,
        LikelihoodPosterior, _fit, adapt=vector_options, unused=_unused,
        together=TogetherPosterior,
    )
}  # fmt: skip
