"""Posteriors as flows along a learned vector field: flow matching (FMPE) and scores (NPSE).

Both learn how noise z ~ N(0, 1) turns into the posterior along v_t = a v + s z, from (a, s) =
(0, 1) to (1, 0): FMPE on the straight path a = t, s = 1 - t (Dax et al. 2023, arXiv:2305.17161;
Lipman et al. 2023, arXiv:2210.02747), NPSE by denoising at all levels of noise s / a (Geffner et
al. 2023, arXiv:2209.14249; Sharrock et al. 2024, arXiv:2210.04872; Karras et al. 2022,
arXiv:2206.00364). With w = v_t / (a^2 + s^2)^1/2 and the angle phi = atan2(a, s), the
probability-flow equation is the same for every such path (Kingma & Gao 2023, arXiv:2303.00848):

    dw / dphi = R(w, phi),   R = E[r | w, phi],   r = cos(phi) v - sin(phi) z,

from phi = 0 to pi / 2. So there is one network R and one solver; the methods differ in the angles
they train at and the weight of each. r has unit variance if v has, as in the preconditioning of
Karras et al. For v to have it, v is u whitened by the mean and the covariance that a Gaussian head
learns on the side: R = 0 is the Gaussian approximation of the posterior, and the network learns
the rest, however narrow the posterior is.
"""

from __future__ import annotations

import itertools
import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from sbitools.embeddings import EmbeddingOptions
from sbitools.embeddings.scale import Pairs
from sbitools.parameters import ParameterSpace
from sbitools.seeds import derive, initial_weights
from sbitools.simulator import FieldSpec

from .flows import GaussianHead, normal_log_prob
from .job import fit_network
from .methods import Method
from .options import CommonOptions
from .posterior import Posterior
from .vector_field_network import VectorFieldNet

__all__ = [
    "METHODS", "FMPEOptions", "NPSEOptions", "VectorFieldEstimator", "VectorFieldOptions",
]  # fmt: skip

# Karras et al. 2022, table 1: log-normal noise levels, for data of standard deviation 1/2.
_LOG_NOISE = (-1.2 + math.log(2), 1.2)
# The bound is one for parameters blurred by this part of the posterior's width; the smaller it is,
# the more the bound is about the last digits.
_LARGEST = math.acos(0.01)
# Steps in phi shorten towards the data, where a narrow structure appears last.
_GRID_POWER = 2.0


class VectorFieldOptions(EmbeddingOptions):
    """Which network; the options of its embedding are those of `EmbeddingOptions`.

    Attributes:
        method: ``"fmpe"`` or ``"npse"``.
        field_hidden: width of the vector field's network.
        field_blocks: its residual blocks.
        time_power: FMPE's times are drawn from p(t) ~ t^power: 0 is uniform, more puts the weight
            near the data, which sharp edges ask for (1 / (1 + alpha) in Dax et al. 2023, sec. 3).
        times: levels of noise per simulation and step; the embedding is computed once for them.
        steps: of the fourth-order Runge-Kutta solver, for draws and densities.
        seed: of the initial weights.
    """

    method: Literal["fmpe", "npse"] = "fmpe"
    field_hidden: int = Field(64, ge=1, le=65536)
    field_blocks: int = Field(3, ge=1, le=256)
    time_power: float = Field(1.0, ge=0)
    times: int = Field(8, ge=1, le=65536)
    steps: int = Field(10, ge=1, le=1000)
    seed: int = Field(0, ge=0)


class FMPEOptions(VectorFieldOptions, CommonOptions):
    """Options of flow matching posterior estimation: the network and its training."""


class NPSEOptions(VectorFieldOptions, CommonOptions):
    """Options of neural posterior score estimation: the network and its training."""

    method: Literal["fmpe", "npse"] = "npse"


class VectorFieldEstimator(nn.Module):
    """q(u | x) for u in unconstrained coordinates, by the flow along a vector field.

    Args:
        options: which network.
        n_parameters: dimension P of u.
        spec: the observed field.
    """

    def __init__(self, options: VectorFieldOptions, n_parameters: int, spec: FieldSpec) -> None:
        super().__init__()
        self.options, self.n_latents = options, n_parameters
        self.embedding = options.build(spec, options.seed)
        n_features, hidden = self.embedding.n_features, options.field_hidden
        with initial_weights(derive(options.seed, 7)):
            self.head = GaussianHead(n_parameters, n_features, hidden)
            self.net = VectorFieldNet(n_parameters, n_features, hidden, options.field_blocks)

    def settle(self, batches: Pairs) -> None:
        """Begin with what can be known before training: see `Scaled.settle`."""
        self.embedding.settle(batches)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def features(self, x: Tensor) -> Tensor:
        """Features (B, F) float32 of observed fields (B, *shape)."""
        return self.embedding(x.to(self.device)).float()

    def loss(self, u: Tensor, x: Tensor, rng: torch.Generator) -> Tensor:
        """What is minimised in training; in evaluation a bound on -log q(u | x), shape (B,).

        With R = 0 both are -log q of the head. The field takes off its gain, the integral of
        |r|^2 - |r - R|^2 over phi. Weighted by tan(phi) that makes the bound (Song et al. 2021,
        arXiv:2101.09258; Kong et al. 2023, arXiv:2302.03792), which does not depend on how the
        head divides the work with the field, as a score that chooses an epoch must not.

        Args:
            u: (B, P).
            x: (B, *shape).
            rng: of the noise and its levels.
        """
        features = self.features(x)
        shape = (len(u), self.options.times)
        # A random grid: the levels of one batch cover the path evenly (Kingma et al. 2021,
        # arXiv:2107.00630), which takes much of the noise from the loss.
        number = torch.arange(math.prod(shape)).view(shape[::-1]).T / math.prod(shape)
        uniform = (number + torch.rand((), generator=rng)).remainder(1)
        phi, weight = (part.to(self.device) for part in self._levels(uniform))
        z = torch.randn((*shape, self.n_latents), generator=rng).to(self.device)
        with torch.autocast(self.device.type, enabled=False):
            v, log_det = self.head(u[:, None].float().to(self.device), features)
            gaussian = normal_log_prob(v) + log_det
            v, sin, cos = v.detach(), phi.sin()[..., None], phi.cos()[..., None]
            field = self.net(sin * v + cos * z, phi, self.net.condition(features))
            gain = (field * (2 * (cos * v - sin * z) - field)).sum(-1)
        return -(weight * gain).mean(1) - gaussian[:, 0]

    def _levels(self, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """Angles phi of uniform numbers in (0, 1), and the weight of |R - r|^2 at each."""
        if not self.training:
            phi = _LARGEST * uniform
            return phi, _LARGEST * phi.tan()
        if self.options.method == "npse":
            # Log-normal noise, and weights that make the network's target of unit variance.
            uniform = uniform.double().clamp(1e-6, 1 - 1e-6)
            log_noise = _LOG_NOISE[0] + _LOG_NOISE[1] * torch.special.ndtri(uniform)
            phi = torch.atan((-log_noise).exp()).float()
            return phi, torch.ones_like(phi)
        t = uniform ** (1 / (1 + self.options.time_power))
        # The error of the straight path's velocity is that of R over (t^2 + (1 - t)^2)^1/2.
        return torch.atan2(t, 1 - t), 1 / (t**2 + (1 - t) ** 2)

    def draw(self, z: Tensor, features: Tensor, density: bool = True) -> tuple[Tensor, Tensor]:
        """u (B, n, P) and log q(u | x) (B, n) of latents z (B, n, P).

        Args:
            z: standard normal.
            features: (B, F).
            density: False skips log q, which costs P times as much as u, and gives NaN for it.
        """
        z = z.float().to(self.device)
        v, expansion = self._flow(z, features, density, forward=True)
        u, log_det = self.head.inverse(v, features)
        return u, normal_log_prob(z) - expansion + log_det

    def log_prob(self, u: Tensor, features: Tensor) -> Tensor:
        """log q(u | x), shape (B, n), for u (B, n, P)."""
        v, log_det = self.head(u.float().to(self.device), features)
        z, expansion = self._flow(v, features, True, forward=False)
        return normal_log_prob(z) + expansion + log_det

    def latent(self, u: Tensor, features: Tensor, rng: torch.Generator) -> Tensor:
        """z (B, n, P) of u (B, n, P): standard normal if u was drawn from q."""
        v = self.head(u.float().to(self.device), features)[0]
        return self._flow(v, features, False, forward=False)[0]

    def _flow(
        self, w: Tensor, features: Tensor, density: bool, *, forward: bool
    ) -> tuple[Tensor, Tensor]:
        """w at the other end, and the integral of the field's divergence on the way, (B, n).

        Classical Runge-Kutta on a fixed grid: the time for a draw is the same for all of them.
        """
        condition = self.net.condition(features)
        remaining = torch.linspace(1, 0, self.options.steps + 1, dtype=torch.float64)
        grid = (0.5 * math.pi * (1 - remaining**_GRID_POWER)).tolist()
        total = torch.full(w.shape[:2], 0.0 if density else math.nan, device=w.device)

        def field(w: Tensor, phi: float) -> tuple[Tensor, Tensor]:
            at = torch.tensor(phi, device=w.device)
            if density:
                return self.net.with_divergence(w, at, condition)
            return self.net(w, at, condition), total

        for a, b in itertools.pairwise(grid if forward else grid[::-1]):
            h, middle = b - a, 0.5 * (a + b)
            k1, d1 = field(w, a)
            k2, d2 = field(w + 0.5 * h * k1, middle)
            k3, d3 = field(w + 0.5 * h * k2, middle)
            k4, d4 = field(w + h * k3, b)
            w = w + h / 6 * (k1 + 2 * (k2 + k3) + k4)
            total = total + h / 6 * (d1 + 2 * (d2 + d3) + d4)
        return w, total


def _build(
    options: VectorFieldOptions, parameters: ParameterSpace, spec: FieldSpec
) -> VectorFieldEstimator:
    return VectorFieldEstimator(options, len(parameters), spec)


METHODS = {
    "fmpe": Method(
        "fmpe", "flow matching posterior estimation", VectorFieldOptions, FMPEOptions, _build,
        Posterior, fit_network,
    ),
    "npse": Method(
        "npse", "neural posterior score estimation", VectorFieldOptions, NPSEOptions, _build,
        Posterior, fit_network,
    ),
}  # fmt: skip
