"""Smooth functions of theta from few noisy values: Gaussian processes, one for each mode.

References:
    | Gaussian Processes for Machine Learning (Rasmussen & Williams 2006), chapter 5
    | The Coyote Universe II: Cosmological models and precision emulation of the nonlinear matter
      power spectrum (Heitmann & al. 2009, arXiv:0902.0429): modes of spectra by Gaussian processes
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["MOST_POINTS", "Processes"]

MOST_POINTS = 2000
_SEARCHED = 400  # points that the search for lengths looks at
_STEPS = 40
_LINEAR, _BENT, _LENGTH = 3.0, 1.0, 1.5  # where the search begins: in standard deviations of t,
_JITTER = 1e-8
_SPREAD_OF_LOGS = 1.5  # of the priors of all these


class Processes(nn.Module):
    """K functions of c (B, Q): linear ones, and smooth ones that bend.

    Args:
        points: M, that they were fitted to.
        n: Q.
        modes: K.
    """

    points: Tensor
    noise: Tensor
    logs: Tensor
    scale: Tensor
    alpha: Tensor

    def __init__(self, points: int, n: int, modes: int) -> None:
        super().__init__()
        self.register_buffer("points", torch.zeros(points, n, dtype=torch.float64))
        self.register_buffer("logs", torch.zeros(modes, 3 + n, dtype=torch.float64))
        self.register_buffer("alpha", torch.zeros(modes, points, dtype=torch.float64))
        self.register_buffer("noise", torch.ones(points, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(modes, dtype=torch.float64))
        self._factors: list[Tensor] | None = None

    @classmethod
    def fit(cls, c: Tensor, t: Tensor, noise: Tensor) -> tuple[Processes, Tensor]:
        """The most likely functions, and what each point lacks if the others predict it.

        Args:
            c: (N, Q), of order 1.
            t: values of mean about 0, (N, K).
            noise: relative variance of each, (N,).

        Returns:
            The functions, and residuals (N, K) of each point as the others predict it.
        """
        c, t, noise = c[:MOST_POINTS], t[:MOST_POINTS], noise[:MOST_POINTS]
        scale = t.square().mean(0).sqrt().clamp(min=1e-150)
        y = (t / scale).T
        logs = _search(c[:_SEARCHED], y[:, :_SEARCHED], noise[:_SEARCHED])
        alpha, lacking = torch.empty_like(y), torch.empty_like(y)
        for k in range(len(y)):  # one at a time: each is a matrix of all points by all
            factor = torch.linalg.cholesky(_covariance(logs[[k]], c, noise)[0])
            inverse = torch.cholesky_inverse(factor)
            alpha[k] = inverse @ y[k]
            lacking[k] = alpha[k] / inverse.diagonal()
        out = cls(len(c), c.shape[1], t.shape[1])
        out.points.copy_(c)
        out.logs.copy_(logs)
        out.alpha.copy_(alpha * scale[:, None])
        out.noise.copy_(noise)
        out.scale.copy_(scale)
        return out, lacking.T * scale

    def forward(self, c: Tensor) -> Tensor:
        """Values (B, K) at c (B, Q)."""
        if not len(self.logs):
            return c.new_zeros(len(c), 0)
        each = [_kernel(one[None], c, self.points)[0] @ alpha
                for one, alpha in zip(self.logs, self.alpha, strict=True)]  # fmt: skip
        return torch.stack(each, 1)

    def unknown(self, c: Tensor) -> Tensor:
        """Standard deviations (B, K) of what the values at c (B, Q) may be besides."""
        if not len(self.logs):
            return c.new_zeros(len(c), 0)
        if self._factors is None:  # they follow from the rest, and are not among the weights
            self._factors = [
                torch.linalg.cholesky(_covariance(one[None], self.points, self.noise)[0])
                for one in self.logs
            ]
        seen = torch.stack([
            torch.linalg.solve_triangular(
                factor, _kernel(one[None], self.points, c)[0], upper=False
            ).square().sum(0)
            for factor, one in zip(self._factors, self.logs, strict=True)
        ])  # fmt: skip
        return (_variance(self.logs, c) - seen).clamp(min=0).sqrt().T * self.scale


def _search(c: Tensor, y: Tensor, noise: Tensor) -> Tensor:
    start = torch.tensor([_LINEAR, _BENT, 0.1] + [_LENGTH] * c.shape[1], dtype=c.dtype).log()
    logs = start.repeat(len(y), 1).requires_grad_()
    search = torch.optim.LBFGS([logs], max_iter=_STEPS, line_search_fn="strong_wolfe")
    low, high = start - 4.5, start + 4.5

    def closure() -> Tensor:
        search.zero_grad()
        bounded = logs.clamp(low, high)
        factor = torch.linalg.cholesky(_covariance(bounded, c, noise))
        white = torch.linalg.solve_triangular(factor, y[..., None], upper=False)
        loss = 0.5 * white.square().sum()
        loss = loss + factor.diagonal(dim1=1, dim2=2).log().sum()
        loss = loss + 0.5 * ((logs - start) / _SPREAD_OF_LOGS).square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        search.step(closure)
    found = logs.detach().clamp(low, high)
    return torch.where(torch.isfinite(found).all(1, keepdim=True), found, start)


def _covariance(logs: Tensor, c: Tensor, noise: Tensor) -> Tensor:
    diagonal = (2 * logs[:, 2]).exp()[:, None] * noise + _JITTER
    return _kernel(logs, c, c) + torch.diag_embed(diagonal)


def _kernel(logs: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """(K, A, B) of a (A, Q) and b (B, Q)."""
    linear, bent, length = (2 * logs[:, 0]).exp(), (2 * logs[:, 1]).exp(), logs[:, 3:].exp()
    x, y = a / length[:, None], b / length[:, None]
    square = x.square().sum(-1)[:, :, None] + y.square().sum(-1)[:, None] - 2 * x @ y.mT
    plain = (1 + x @ y.mT) * linear[:, None, None]
    return plain + bent[:, None, None] * (-0.5 * square.clamp(min=0)).exp()


def _variance(logs: Tensor, c: Tensor) -> Tensor:
    """The diagonal (K, B) of `_kernel` of c and c."""
    linear, bent, length = (2 * logs[:, 0]).exp(), (2 * logs[:, 1]).exp(), logs[:, 3:].exp()
    return (1 + (c / length[:, None]).square().sum(-1)) * linear[:, None] + bent[:, None]
