"""A sum of multivariate normals: posteriors of other data, and priors with several places."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from sbitools.display.brief import Brief
from sbitools.errors import ParameterError
from sbitools.gate.arrays import real_tensor
from sbitools.priors.base import Prior, log_normal_pdf, ndtr, probit
from sbitools.priors.bounds import Bounds, checked_bounds
from sbitools.priors.normal_mixture import NormalMixture, checked_weights, quantile

from .base import Joint, chain_reach, minus_infinity
from .matrices import covariance_of, rows_of

__all__ = ["Mixture"]


@dataclass(frozen=True, repr=False)
class Mixture(Brief, Joint):
    """The density sum_c w_c N(y; m_c, C_c) of y, which is theta, or theta without its bounds.

    Of theta_j given those before it the density is again a sum of normals, whose weights depend
    on these: u_j = Phi^-1(F(theta_j | theta_1 ... theta_j-1)) is worked out from it, and theta
    from u by Newton's method, to rounding. Its marginals are sums of normals, so every parameter
    can be left out. `joint_of_draws` makes one of a chain.

    Args:
        names: of k parameters; they need no priors of their own.
        weights: w, (C,), positive, with the sum 1.
        means: m, (C, k), of y.
        covariances: (C, k, k), of y.
        bounds: for each parameter (low, high), None for an end that is not there; see
            `sbitools.priors.bounds.Bounds` for y. No bounds if None.

    Raises:
        ParameterError: for wrong shapes, numbers or bounds, or a matrix that is no covariance.
    """

    names: tuple[str, ...]
    weights: tuple[float, ...]
    means: Any  # rows of numbers, once it is made, as the next
    covariances: Any
    bounds: Any = None
    laws: tuple[Prior, ...] = field(default=(), repr=False)
    kind: ClassVar[str] = "mixture"

    def __post_init__(self) -> None:
        self._check_names()
        put, of, k = object.__setattr__, ", ".join(self.names), len(self.names)
        put(self, "weights", checked_weights(self.weights, f"weights of {of}"))
        n = len(self.weights)
        means = real_tensor(self.means, f"means of {of}", ParameterError).double()
        if tuple(means.shape) != (n, k) or not bool(torch.isfinite(means).all()):
            raise ParameterError(
                f"means of {of}", expected=f"finite numbers of shape ({n}, {k})",
                got=f"shape {tuple(means.shape)}", fix="a row for each weight",
            )  # fmt: skip
        put(self, "means", rows_of(means))
        if np.ndim(self.covariances) != 3 or len(self.covariances) != n:
            raise ParameterError(
                f"covariances of {of}", expected=f"shape ({n}, {k}, {k})",
                got=f"shape {np.shape(self.covariances)}", fix="a matrix for each weight",
            )  # fmt: skip
        matrices = []
        for i, matrix in enumerate(self.covariances):
            covariance_of(matrix, k, f"covariance {i} of {of}")
            plain = real_tensor(matrix, "covariance", ParameterError).double()
            matrices.append(rows_of(0.5 * (plain + plain.T)))
        put(self, "covariances", tuple(matrices))
        ends: Any = ((None, None),) * k if self.bounds is None else self.bounds
        if not isinstance(ends, list | tuple) or len(ends) != k:
            raise ParameterError(
                f"bounds of {of}", expected=f"{k} pairs", got=f"{ends!r}", fix="one for each name"
            )
        put(self, "bounds", tuple(checked_bounds(e, f"bounds of {of}") for e in ends))

    @cached_property
    def _lines(self) -> list[Bounds]:
        return [Bounds(ends) for ends in self.bounds or ()]

    @cached_property
    def _tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        """Weights (C,), means (C, k) and Cholesky factors (C, k, k)."""
        kept = self.weights, self.means, self.covariances
        w, m, c = (torch.tensor(v, dtype=torch.float64) for v in kept)
        return w, m, torch.linalg.cholesky(c)

    def _own_laws(self) -> Sequence[Prior | None]:
        return [
            NormalMixture(
                self.weights, tuple(row[j] for row in self.means),
                tuple(math.sqrt(matrix[j][j]) for matrix in self.covariances), ends,
            ) for j, ends in enumerate(self.bounds or ())
        ]  # fmt: skip

    def _on_lines(self, theta: Tensor) -> Tensor:
        return torch.stack([b.to_line(theta[..., j]) for j, b in enumerate(self._lines)], -1)

    def _log_slopes(self, y: Tensor) -> Tensor:
        return sum(
            (b.log_slope(y[..., j]) for j, b in enumerate(self._lines)),
            torch.zeros_like(y[..., 0]),
        )

    def _standard(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Of y (..., k) e = L_c^-1 (y - m_c) and log w_c N(y_1 ... y_j), both (..., k, C)."""
        w, m, factor = self._tensors
        e = torch.linalg.solve_triangular(factor, (y[..., None, :] - m)[..., None], upper=False)
        e = e[..., 0].transpose(-1, -2)
        terms = log_normal_pdf(e) - factor.diagonal(dim1=1, dim2=2).T.log()
        return e, w.log() + terms.cumsum(-2)

    def to_unconstrained(self, theta: Tensor) -> Tensor:
        """See `Joint`."""
        e, joint = self._standard(self._on_lines(theta))
        first = self._tensors[0].log().expand_as(joint[..., :1, :])
        share = torch.cat([first, joint[..., :-1, :]], -2).softmax(-1)
        return probit((share * ndtr(e)).sum(-1), (share * ndtr(-e)).sum(-1))

    def from_unconstrained(self, u: Tensor) -> Tensor:
        """See `Joint`."""
        y = self._line_of(u)
        return torch.stack([b.from_line(y[..., j]) for j, b in enumerate(self._lines)], -1)

    def _line_of(self, u: Tensor) -> Tensor:
        """y (..., k) for u."""
        w, m, factor = self._tensors
        log_w = w.log().expand(*u.shape[:-1], len(w))
        e, columns = u.new_zeros(*u.shape[:-1], len(w), u.shape[-1]), []
        for j in range(u.shape[-1]):
            centre = m[:, j] + (factor[:, j, :j] * e[..., :j]).sum(-1)
            scale = factor[:, j, j]
            y = quantile(u[..., j], log_w.softmax(-1), centre, scale)
            e[..., j] = (y[..., None] - centre) / scale
            log_w = log_w + log_normal_pdf(e[..., j]) - scale.log()
            columns.append(y)
        return torch.stack(columns, -1)

    def log_prob(self, theta: Tensor) -> Tensor:
        """See `Joint`."""
        inside, safe = self._safe(theta)
        return minus_infinity(self._log_prob_of(self._on_lines(safe)), inside)

    def log_abs_det_at(self, u: Tensor, theta: Tensor) -> Tensor:
        """See `Joint`; not from theta, whose y ends at a bound."""
        return self._log_prob_of(self._line_of(u)) - self.log_prob_unconstrained(u)

    def _log_prob_of(self, y: Tensor) -> Tensor:
        """Log density of theta at y."""
        return self._standard(y)[1][..., -1, :].logsumexp(-1) + self._log_slopes(y)

    def reach(self) -> list[tuple[float, float]]:
        """See `Joint`."""
        return chain_reach(self.laws)

    def first(self, names: Sequence[str]) -> Self:
        """See `Joint`; a mixture has no order."""
        return self._of(sorted(range(len(self.names)), key=lambda j: self.names[j] not in names))

    def cut(self, n: int) -> Self:
        """See `Joint`."""
        return self._of(list(range(n)))

    def _of(self, order: Sequence[int]) -> Self:
        bounds = self.bounds or ()
        return replace(
            self, names=tuple(self.names[j] for j in order),
            means=tuple(tuple(row[j] for j in order) for row in self.means),
            covariances=tuple(tuple(tuple(matrix[i][j] for j in order) for i in order)
                              for matrix in self.covariances),
            bounds=tuple(bounds[j] for j in order), laws=tuple(self.laws[j] for j in order),
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """See `Joint`."""
        return {
            "kind": self.kind, "names": list(self.names), "weights": list(self.weights),
            "means": [list(row) for row in self.means],
            "covariances": [[list(row) for row in matrix] for matrix in self.covariances],
            "bounds": [list(ends) for ends in self.bounds or ()],
        }  # fmt: skip
