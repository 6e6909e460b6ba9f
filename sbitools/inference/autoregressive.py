"""Draws from zuko's autoregressive flows, in one pass through their networks.

y_k depends on x_k and on x_1 ... x_{k-1}, so x is found from y one parameter after the other. A
hidden unit of a masked network (Germain et al. 2015, arXiv:1502.03509) sees only some of the
parameters, and is final as soon as these are: each is computed once, where zuko's own inverse
computes all units and all splines once per parameter. Networks of other kinds than `flows` builds
(residual ones, activations that are not ReLU, graphs instead of an order) are not for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from zuko.flows.autoregressive import MaskedAutoregressiveTransform
from zuko.nn import MaskedLinear
from zuko.transforms import MonotonicRQSTransform
from zuko.utils import unpack

__all__ = ["inverse_of_spline", "invert"]


def invert(
    transforms: Iterable[nn.Module], y: Tensor, c: Tensor, density: bool
) -> tuple[Tensor, Tensor]:
    """x and log |det dy/dx| of a flow y = f(x | c).

    Args:
        transforms: of the flow, first to last.
        y: latents, (B, n, P).
        c: features, (B, F).
        density: whether the determinant is asked for; it is NaN otherwise.

    Returns:
        x (B, n, P) and its log-determinant (B, n).
    """
    log_det = y.new_full(y.shape[:2], 0.0 if density else torch.nan)
    for transform in reversed(list(transforms)):
        if isinstance(transform, MaskedAutoregressiveTransform):
            y, found = _invert_one(transform, y, c, density)
        else:  # of a single parameter
            y, found = _univariate(transform(c[:, None]), y, density)
        log_det = log_det + found
    return y, log_det


def _invert_one(
    transform: MaskedAutoregressiveTransform, y: Tensor, c: Tensor, density: bool
) -> tuple[Tensor, Tensor]:
    order = _order(transform).tolist()
    layers, last = _by_readiness(transform)
    of_features = (c @ layers[0].context.mT)[:, None]
    columns: list[Tensor] = [y.new_empty(0)] * len(order)
    known = y[..., :0]
    values = [y.new_empty(*y.shape[:2], 0) for _ in layers]
    log_det = y.new_zeros(())
    for step in range(transform.passes):
        below = known
        for i, layer in enumerate(layers):
            new = slice(values[i].shape[-1], layer.final[step])
            more = layer.units(new, below)
            if i == 0:
                more = more + of_features[..., new]
            values[i] = torch.cat([values[i], more.relu()], dim=-1)
            below = values[i]
        now = [k for k, when in enumerate(order) if when == step]
        for k in now:
            phi = last.units(slice(k * transform.total, (k + 1) * transform.total), below)
            found = transform.univariate(*unpack(phi, transform.shapes))
            columns[k], part = _univariate(found, y[..., k], density)
            log_det = log_det + part
        known = torch.cat([known, *(columns[k][..., None] for k in now)], dim=-1)
    return torch.stack(columns, dim=-1), log_det


def _univariate(transform: Any, y: Tensor, density: bool) -> tuple[Tensor, Tensor | float]:
    """x and log |dy/dx|."""
    splines = isinstance(transform, MonotonicRQSTransform)
    x = inverse_of_spline(transform, y) if splines else transform.inv(y)
    return x, transform.log_abs_det_jacobian(x, y) if density else 0.0


def inverse_of_spline(spline: MonotonicRQSTransform, y: Tensor) -> Tensor:
    """x of rational-quadratic splines (Durkan et al. 2019, arXiv:1906.04032, eqs. 25 to 29).

    Where a bin is very steep, the two roots nearly coincide and rounding makes the discriminant
    negative: zuko's own inverse is NaN there.
    """
    k: Any = spline.searchsorted(spline.vertical, y) - 1
    inside, x0, x1, y0, y1, d0, d1, s = spline.bin(k)
    above = torch.where(inside, y - y0, 0.0)
    curved = above * (d0 + d1 - 2 * s)
    a, b, c = (y1 - y0) * (s - d0) + curved, (y1 - y0) * d0 - curved, -s * above
    root = (b**2 - 4 * a * c).clamp(min=0.0).sqrt()
    t = (2 * c / (-b - root)).clamp(0.0, 1.0)
    return torch.where(inside, x0 + t * (x1 - x0), y)


@dataclass(frozen=True)
class _Layer:
    """Masked weights; hidden units and inputs are sorted by the step at which they are final."""

    weight: Tensor
    bias: Tensor
    context: Tensor  # weights of the features, for the first layer
    final: list[int]  # how many units are, after each step

    def units(self, which: slice, inputs: Tensor) -> Tensor:
        """Of inputs that are final: the first ones."""
        return functional.linear(inputs, self.weight[which, : inputs.shape[-1]], self.bias[which])


def _by_readiness(transform: MaskedAutoregressiveTransform) -> tuple[list[_Layer], _Layer]:
    """Hidden layers, and the last one, whose units keep their order."""
    linear = [m for m in transform.hyper if isinstance(m, MaskedLinear)]
    order = _order(transform)
    n, inputs, when = len(order), order.argsort(stable=True), order.sort(stable=True).values + 1
    steps = torch.arange(transform.passes, device=order.device)
    out = []
    for i, module in enumerate(linear):
        mask: Tensor = module.mask  # type: ignore[assignment]
        weight = mask * module.weight
        context = weight[:, n:] if i == 0 else weight[:, :0]
        ready, places = (mask[:, inputs] * when).amax(1).sort(stable=True)
        final = torch.searchsorted(ready, steps, right=True).tolist()
        if i == len(linear) - 1:
            places = torch.arange(len(places), device=order.device)
        out.append(_Layer(weight[places][:, inputs], module.bias[places], context[places], final))
        inputs, when = places, ready
    return out[:-1], out[-1]


def _order(transform: MaskedAutoregressiveTransform) -> Tensor:
    """The step at which each parameter is found."""
    return transform.order  # type: ignore[return-value]
