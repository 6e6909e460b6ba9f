"""Powers of the components once the sky is known, every mode weighed by its own variance.

Least squares in pixels, which finds the sky, is led by the loudest modes. Here the covariance is
divided by that of the model, C0, on both sides,

    | C0^-1/2 (sum_c w_c T_c - S) C0^-1/2 |^2 = w G w - 2 b w + ...

which for C close to C0 is the Gaussian likelihood (Tegmark 1997, arXiv:astro-ph/9611174), but
stays unbiased for maps that are not Gaussian. It is quadratic in the powers w: the products G of
all components T_c and those with the maps, b, are made once per round, and C0 is then renewed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.cluster.vq import kmeans2
from torch import Tensor

__all__ = ["refine_powers"]

_ROUNDS = 2
_GROUPS = 12  # of thetas that share a C0
_FLOOR = 1e-3  # of the variance of a mode, over the mean: quieter ones are not modelled so well


def refine_powers(
    templates: Sequence[Tensor],
    samples: Sequence[Tensor],
    levels: Tensor,
    powers: Callable[[], Tensor],
    minimise: Callable[[Callable[[Tensor], Tensor]], None],
) -> None:
    """Move the powers to the best ones.

    Args:
        templates: covariances (components, n, n) of unit power for every theta, of the sky that
            was found; those of one scan angle are the same object.
        samples: maps (k, n) of every theta, scaled so that their products are covariances.
        levels: about the mean square of the maps of every theta.
        powers: gives those of the components now, (thetas, components).
        minimise: moves what `powers` depends on to where a loss of it is least.
    """
    for _ in range(_ROUNDS):
        with torch.no_grad():
            now = powers() / levels[:, None]
            products = _products(templates, samples, now, levels)

        def loss(w: Tensor, products: list[tuple[Tensor, Tensor]] = products) -> Tensor:
            scaled = w / levels[:, None]
            total = w.new_zeros(())
            for x, (g, b) in zip(scaled, products, strict=True):
                total = total + x @ g @ x - 2 * b @ x
            return total / len(products)

        minimise(loss)


def _products(
    templates: Sequence[Tensor], samples: Sequence[Tensor], now: Tensor, levels: Tensor
) -> list[tuple[Tensor, Tensor]]:
    """G and b of every theta, over the number of pixels."""
    alike = _alike(now)
    keys = [(id(t), int(label)) for t, label in zip(templates, alike, strict=True)]
    made: dict[tuple[int, int], tuple[Tensor, Tensor, Tensor]] = {}
    out = []
    for i, (key, t, x) in enumerate(zip(keys, templates, samples, strict=True)):
        if key not in made:
            same = torch.tensor([k == key for k in keys])
            root = _whitening(torch.einsum("c,cpq->pq", now[same].mean(0).float(), t))
            white = torch.stack([root @ part @ root for part in t])
            flat = white.reshape(len(white), -1).double()
            made[key] = root, white, flat @ flat.T / t.shape[1]
        root, white, g = made[key]
        y = x @ root / levels[i].sqrt().float()
        b = torch.einsum("np,cpq,nq->c", y, white, y).double() / t.shape[1]
        out.append((g, b))
    return out


def _alike(powers: Tensor) -> np.ndarray:
    """Labels of groups of thetas (n,) whose maps have much the same covariance."""
    shares = (powers / powers.sum(1, keepdim=True)).clamp(min=1e-3).log().numpy()
    if len(shares) <= _GROUPS:
        return np.arange(len(shares))
    return kmeans2(shares, _GROUPS, minit="++", rng=np.random.default_rng(0))[1]


def _whitening(covariance: Tensor) -> Tensor:
    """C^-1/2, with a floor under the eigenvalues."""
    values, vectors = np.linalg.eigh(covariance.double().numpy())
    roots = np.maximum(values, _FLOOR * values.mean()) ** -0.5
    return torch.from_numpy((vectors * roots) @ vectors.T).float()
