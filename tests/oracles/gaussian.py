"""Linear-Gaussian inference, where everything is known in closed form.

theta ~ N(0, 1)^P and x = A theta + sigma n with n ~ N(0, 1)^D. The posterior is normal with
covariance C = (1 + A^T A / sigma^2)^-1 and mean C A^T x / sigma^2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from sbitools import FieldSpec, Parameter, ParameterSpace, priors, seeds


@dataclass(frozen=True)
class LinearGaussian:
    """The exact posterior of a linear-Gaussian problem, and posteriors wrong by a known amount.

    Args:
        n_parameters: P.
        n_data: D.
        sigma: of the noise.
        dtype: of x.
    """

    n_parameters: int = 2
    n_data: int = 5
    sigma: float = 1.0
    dtype: str = "float64"

    @property
    def matrix(self) -> np.ndarray:
        """A, shape (D, P): columns neither parallel nor orthogonal, so posteriors correlate."""
        i, j = np.mgrid[: self.n_data, : self.n_parameters]
        return 0.8 * np.cos(i * (j + 0.5)) + 0.3

    @property
    def covariance(self) -> np.ndarray:
        """C, shape (P, P)."""
        a = self.matrix
        return np.linalg.inv(np.eye(self.n_parameters) + a.T @ a / self.sigma**2)

    @property
    def parameters(self) -> ParameterSpace:
        """Standard normal priors."""
        return ParameterSpace(
            [Parameter(f"theta_{i}", priors.Normal(0.0, 1.0)) for i in range(self.n_parameters)]
        )

    @property
    def output(self) -> FieldSpec:
        """x."""
        return FieldSpec("x", ("i",), (self.n_data,), self.dtype)

    source = None
    group_size = 1

    def simulate(self, theta: torch.Tensor, simulation_seeds: torch.Tensor) -> torch.Tensor:
        """A Simulator."""
        noise = seeds.normal(simulation_seeds, (self.n_data,), torch.float64)
        x = theta @ torch.from_numpy(self.matrix).T + self.sigma * noise
        return x.to(self.output.torch_dtype)

    def joint(self, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """theta (n, P) and x (n, D)."""
        rng = np.random.default_rng(seed)
        theta = rng.normal(size=(n, self.n_parameters))
        return theta, theta @ self.matrix.T + self.sigma * rng.normal(size=(n, self.n_data))

    def mean(self, x: np.ndarray) -> np.ndarray:
        """Posterior mean (n, P) of x (n, D)."""
        return x @ self.matrix @ self.covariance / self.sigma**2

    def draws(
        self, x: np.ndarray, n_draws: int, seed: int, width: float = 1.0, shift: float = 0.0
    ) -> np.ndarray:
        """Draws (n, L, P) of a posterior `width` times as wide, off by `shift` marginal sd."""
        rng = np.random.default_rng([seed, 1])
        root = np.linalg.cholesky(self.covariance)
        noise = rng.normal(size=(len(x), n_draws, self.n_parameters)) @ root.T
        offset = shift * np.sqrt(np.diag(self.covariance))
        return self.mean(x)[:, None] + offset + width * noise

    def log_prob(
        self, theta: np.ndarray, x: np.ndarray, width: float = 1.0, shift: float = 0.0
    ) -> np.ndarray:
        """Log density of that posterior, theta (n, P) or (n, L, P) -> (n,) or (n, L)."""
        mean = self.mean(x) + shift * np.sqrt(np.diag(self.covariance))
        covariance = width**2 * self.covariance
        difference = theta - (mean if theta.ndim == 2 else mean[:, None])
        chi2 = np.einsum("...i,ij,...j", difference, np.linalg.inv(covariance), difference)
        return -0.5 * (chi2 + np.linalg.slogdet(2 * np.pi * covariance)[1])


class GaussianPosterior:
    """The exact posterior as an object with the methods of `sbitools.Posterior`.

    Args:
        model: the problem.
        width: factor on its width.
        shift: in marginal standard deviations.
    """

    def __init__(self, model: LinearGaussian, width: float = 1.0, shift: float = 0.0) -> None:
        self.model, self.error = model, {"width": width, "shift": shift}
        self.parameters, self.output = model.parameters, model.output
        self.info: dict = {}

    def observe(self, x: torch.Tensor, noise_seeds: torch.Tensor) -> torch.Tensor:
        return x

    def sample(self, x, n, seed=None, time_limit=None):
        return torch.from_numpy(self.model.draws(np.asarray(x), n, seed or 0, **self.error))

    def sample_and_log_prob(self, x, n, seed=None, time_limit=None):
        draws = self.sample(x, n, seed, time_limit)
        return draws, self.log_prob(draws, x)

    def log_prob(self, theta, x):
        values = self.model.log_prob(np.asarray(theta), np.asarray(x), **self.error)
        return torch.from_numpy(values)


def calibration_draws(
    n_tests: int = 1000,
    n_draws: int = 200,
    seed: int = 0,
    width: float = 1.0,
    shift: float = 0.0,
    model: LinearGaussian = LinearGaussian(),
    **options,
):
    """`CalibrationDraws` of the exact posterior, or of one that is wrong by a known amount."""
    from sbitools.calibration import CalibrationDraws

    theta, x = model.joint(n_tests, seed)
    draws = model.draws(x, n_draws, seed, width, shift)
    return CalibrationDraws(
        theta,
        draws,
        model.log_prob(theta, x, width, shift),
        model.log_prob(draws, x, width, shift),
        names=tuple(model.parameters.names),
        prior=model.parameters,
        seed=seed,
        **options,
    )
