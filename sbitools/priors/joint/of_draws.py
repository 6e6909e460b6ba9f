"""A chain of draws as a prior: the sum of normals that tells held-out draws best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sbitools.errors import ParameterError
from sbitools.gate.arrays import real_tensor
from sbitools.gate.plain import whole
from sbitools.priors.base import log_normal_pdf
from sbitools.priors.bounds import Bounds, Ends, checked_bounds
from sbitools.seeds import check_seed, derive

from .mixture import Mixture

__all__ = ["joint_of_draws"]

_FEWEST = 200  # different draws; a chain that stands still repeats them
_PER_NUMBER = 10  # of them for each number that is fitted
_MOST_ROWS = 20_000  # that are fitted to: more tell nothing new of so few numbers
_BLOCKS = 50  # stretches of the chain, every fifth of which is held out
_COUNTS = (1, 2, 3, 4, 6, 8, 12, 16)  # components that are tried
_WORSE = 2  # numbers of components in a row that are no better end the search
_STEPS, _ENOUGH = 200, 3e-5  # of the EM algorithm, and the gain in nats a draw that ends it
# Added to variances, in units of those of all draws: no component shrinks onto a draw.
_RIDGE = 1e-4


def joint_of_draws(
    names: Sequence[str], draws: Any, *, seed: int, bounds: Sequence[Ends] | None = None,
    most: int = _COUNTS[-1],
) -> Mixture:  # fmt: skip
    """A prior that follows the draws of a chain, such as the posterior of other data.

    A sum of normals is fitted by the EM algorithm, with so many of them as tell held-out parts of
    the chain best. It is an approximation of what the draws came from (compare
    `Mixture` draws with them), and an exact prior from then on. Draws count alike.

    Args:
        names: of k parameters; they need no other priors.
        draws: (n, k), in the order of the chain.
        seed: of the starting points.
        bounds: hard bounds of each parameter, (low, high) with None for an end that is not
            there; where the draws pile up at an end, they should be told.
        most: of components.

    Raises:
        ParameterError: for too few different draws, ones that are not finite, outside the bounds
            or of no width, and wrong shapes.

    References:
        | Maximum likelihood from incomplete data via the EM algorithm (Dempster et al. 1977)
    """
    check_seed(seed)
    most = whole(most, "most, a number of components", least=1, error=ParameterError)
    names = tuple(names)
    rows = real_tensor(draws, "draws", ParameterError).detach().cpu().double()
    if rows.ndim != 2 or rows.shape[1] != len(names):
        raise ParameterError(
            "draws", expected=f"shape (n, {len(names)}), a column for each of {list(names)}",
            got=f"shape {tuple(rows.shape)}", fix="put draws in rows",
        )  # fmt: skip
    lines = _lines(names, bounds)
    _check_inside(rows, lines, names)
    different = len(np.unique(rows.numpy(), axis=0))
    needed = max(_FEWEST, _PER_NUMBER * _numbers(1, len(names)))
    if different < needed:
        raise ParameterError(
            "draws", expected=f"{needed} different draws or more, for {len(names)} parameters",
            got=f"{different} of {len(rows)}", fix="run the chain for longer",
        )  # fmt: skip
    y = torch.stack([line.to_line(rows[:, j]) for j, line in enumerate(lines)], 1)
    if len(y) > _MOST_ROWS:
        y = y[torch.linspace(0, len(y) - 1, _MOST_ROWS).long()]
    centre, width = y.mean(0), y.std(0)
    if not bool((width > 0).all()):
        raise ParameterError(
            "draws", expected="parameters that vary",
            got=f"none in {names[int(width.argmin())]!r}", fix="leave the parameter out",
        )  # fmt: skip
    z = (y - centre) / width
    counts = [
        c for c in _COUNTS if c <= most and _PER_NUMBER * _numbers(c, len(names)) <= different
    ]
    best = _best_count(z, counts, seed)
    w, m, c = _fitted(z, best, derive(seed, best))
    scale = torch.outer(width, width)
    means: Any = (m * width + centre).tolist()
    covariances: Any = (c * scale).tolist()
    return Mixture(
        names, tuple(w.tolist()), means, covariances, tuple(line.ends for line in lines)
    )


def _lines(names: Sequence[str], bounds: Sequence[Ends] | None) -> list[Bounds]:
    given: Any = [(None, None)] * len(names) if bounds is None else bounds
    if not isinstance(given, list | tuple) or len(given) != len(names):
        raise ParameterError(
            "bounds", expected=f"{len(names)} pairs, one for each of {list(names)}",
            got=f"{given!r}", fix="give (None, None) where there are none",
        )  # fmt: skip
    return [Bounds(checked_bounds(ends, f"bounds of {name!r}"))
            for name, ends in zip(names, given, strict=True)]  # fmt: skip


def _check_inside(rows: Tensor, lines: Sequence[Bounds], names: Sequence[str]) -> None:
    for j, line in enumerate(lines):
        bad = (~line.contains(rows[:, j])).nonzero().flatten()
        if len(bad):
            raise ParameterError(
                f"draws of {names[j]!r}", expected="finite values inside the bounds",
                got=f"{float(rows[bad[0], j])} in row {int(bad[0])} ({len(bad)} bad rows)",
                fix="correct the bounds, or leave these draws out",
            )  # fmt: skip


def _numbers(components: int, k: int) -> int:
    return components * (1 + k + k * (k + 1) // 2) - 1


def _best_count(z: Tensor, counts: Sequence[int], seed: int) -> int:
    """The number of components with the best mean log density of held-out stretches."""
    if len(counts) == 1:
        return counts[0]
    part = torch.arange(len(z)) * _BLOCKS // len(z)
    held = part % 5 == 4
    best, value, worse = counts[0], -math.inf, 0
    for n in counts:
        fit = _fitted(z[~held], n, derive(seed, n))
        score = float(_log_joint(z[held], *fit).logsumexp(1).mean())
        best, value, worse = (n, score, 0) if score > value else (best, value, worse + 1)
        if worse == _WORSE:
            break
    return best


def _fitted(z: Tensor, n: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Weights (n,), means (n, k) and covariances (n, k, k) of draws with unit variance."""
    rng, k = np.random.default_rng(seed), z.shape[1]
    share = torch.nn.functional.one_hot(_near(z, n, rng), n).double()
    ridge, before = _RIDGE * torch.eye(k, dtype=torch.float64), -math.inf
    w, m, c = _moments(z, share, ridge)
    for _ in range(_STEPS if n > 1 else 0):
        log_joint = _log_joint(z, w, m, c)
        total = log_joint.logsumexp(1, keepdim=True)
        w, m, c = _moments(z, (log_joint - total).exp(), ridge)
        value = float(total.mean())
        if value - before < _ENOUGH:
            break
        before = value
    return w, m, c


def _near(z: Tensor, n: int, rng: np.random.Generator) -> Tensor:
    """Which of n draws that lie apart (Arthur & Vassilvitskii 2007) is nearest, (N,)."""
    chosen = [int(rng.integers(len(z)))]
    square = (z - z[chosen[0]]).square().sum(1)
    for _ in range(n - 1):
        p = (square / square.sum()).numpy()
        chosen.append(int(rng.choice(len(z), p=p)))
        square = torch.minimum(square, (z - z[chosen[-1]]).square().sum(1))
    return torch.cdist(z, z[chosen]).argmin(1)


def _moments(z: Tensor, share: Tensor, ridge: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    count = share.sum(0) + 1e-6  # a component that nothing belongs to stays, and weighs nothing
    m = share.T @ z / count[:, None]
    c = torch.einsum("nc,ni,nj->cij", share, z, z) / count[:, None, None]
    c = c - m[:, :, None] * m[:, None] + ridge
    return count / count.sum(), m, c


def _log_joint(z: Tensor, w: Tensor, m: Tensor, c: Tensor) -> Tensor:
    """log w_c N(z; m_c, C_c), (N, n)."""
    factor = torch.linalg.cholesky(c)
    e = torch.linalg.solve_triangular(factor, (z - m[:, None]).transpose(1, 2), upper=False)
    log_det = factor.diagonal(dim1=1, dim2=2).log().sum(1)
    return w.log() + (log_normal_pdf(e).sum(1) - log_det[:, None]).T
