"""Conditional flows behind one interface, of zuko and nflows.

A flow here is a Gaussian head, u -> A(c)(u - m(c)) with A lower triangular, followed by the flow
of a library. The head finds the place and the width of the posterior at once, which splines on a
fixed interval learn slowly when the posterior is much narrower than the prior.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from sbitools.densities.normal import normal_log_prob
from sbitools.errors import ConfigError
from sbitools.seeds import derive, initial_weights

from .first_guess import FirstGuess

__all__ = ["FAMILIES", "ConditionalFlow", "Family", "build_flow"]

Family = Literal["auto", "zuko_nsf", "zuko_maf", "nflows_nsf", "nflows_maf", "coupling"]
FAMILIES: tuple[str, ...] = ("zuko_nsf", "zuko_maf", "nflows_nsf", "nflows_maf", "coupling")

# Widths from e^-8 to e^2 prior standard deviations; a flow never needs more.
_LOG_SCALE = (-2.0, 8.0)
_SMALL = 0.01  # of the last initial weights: random splines would spoil a guess


def build_flow(
    family: str, n_parameters: int, n_features: int, *, hidden: int, transforms: int, seed: int
) -> ConditionalFlow:
    """A flow for u (n_parameters) given features c.

    Args:
        family: ``zuko_nsf`` (also called ``auto``) and ``zuko_maf`` (autoregressive),
            ``nflows_nsf`` (spline coupling, an invertible network), ``nflows_maf``, ``coupling``
            (affine coupling, the cINN of 21cmPIE-INN, arXiv:2401.04174).
        n_parameters: dimension of u.
        n_features: dimension of c.
        hidden: width of the networks inside.
        transforms: number of transformations.
        seed: of the initial weights; torch's global generator is left as it was.

    Raises:
        ConfigError: for an unknown family, or coupling layers on one parameter.
    """
    family = "zuko_nsf" if family == "auto" else family
    least = 2 if family in ("nflows_nsf", "coupling") else 1  # half of them condition the others
    if family not in FAMILIES or n_parameters < least:
        raise ConfigError(
            "flow", expected=f"one of {', '.join(FAMILIES)}; coupling flows from 2 parameters on",
            got=f"{family!r} for {n_parameters} parameters", fix="use zuko_nsf",
        )  # fmt: skip
    with initial_weights(derive(seed, 5)):
        start = FirstGuess(n_parameters)
        head = GaussianHead(n_parameters, n_features, hidden)
        build = _zuko if family.startswith("zuko") else _nflows
        body = build(family, n_parameters, n_features, hidden, transforms)
        return ConditionalFlow(start, head, body)


class ConditionalFlow(nn.Module):
    """u <-> z given features; z is standard normal. See `build_flow`."""

    def __init__(self, start: FirstGuess, head: GaussianHead, body: _Zuko | _NFlows) -> None:
        super().__init__()
        self.start, self.head, self.body = start, head, body

    @torch.no_grad()
    def settle(self, told: tuple[Tensor, Tensor] | None) -> None:
        """Begin with a guess, and as little else as may be: see `FirstGuess.settle`."""
        self.start.settle(told)
        if told is not None and isinstance(self.body, _Zuko):
            for transform in self.body.net.transform.transforms:
                for weights in transform.hyper[-1].parameters():
                    weights.mul_(_SMALL)

    def forward(self, u: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """z (B, n, P) and log |det dz/du| (B, n) for u (B, n, P) and c (B, F)."""
        w, first = self.start(u, c)
        v, second = self.head(w, c)
        z, third = self.body(v, c)
        return z, first + second + third

    def inverse(self, z: Tensor, c: Tensor, density: bool = True) -> tuple[Tensor, Tensor]:
        """u (B, n, P) and log |det dz/du| (B, n) for z (B, n, P) and c (B, F).

        Without `density` the determinant may be NaN, and is not worked out if that takes long.
        """
        v, third = self.body.inverse(z, c, density)
        w, second = self.head.inverse(v, c)
        u, first = self.start.inverse(w, c)
        return u, first + second + third

    def log_prob(self, u: Tensor, c: Tensor) -> Tensor:
        """log q(u | c), shape (B, n), for u (B, n, P) and c (B, F)."""
        z, log_det = self(u, c)
        return normal_log_prob(z) + log_det


class GaussianHead(nn.Module):
    """u -> A(c) (u - m(c)), A lower triangular with positive diagonal; starts as the identity."""

    def __init__(self, n_parameters: int, n_features: int, hidden: int) -> None:
        super().__init__()
        self.n = n_parameters
        n_lower = n_parameters * (n_parameters - 1) // 2
        self.net = nn.Sequential(
            nn.Linear(n_features, hidden), nn.SiLU(), nn.Linear(hidden, 2 * n_parameters + n_lower)
        )
        last = self.net[-1]
        nn.init.zeros_(last.weight)  # type: ignore[arg-type]
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        self.register_buffer("rows", torch.tril_indices(n_parameters, n_parameters, -1))

    def _parts(self, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_scale, lower = self.net(c).split([self.n, self.n, self.rows.shape[1]], -1)  # type: ignore[index]
        log_scale = log_scale.clamp(*_LOG_SCALE)
        matrix = torch.diag_embed(log_scale.exp())
        matrix[:, self.rows[0], self.rows[1]] = lower  # type: ignore[index]
        return mean[:, None], matrix, log_scale.sum(-1, keepdim=True)

    def forward(self, u: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """See `ConditionalFlow.forward`."""
        mean, matrix, log_det = self._parts(c)
        return (u - mean) @ matrix.mT, log_det.expand(u.shape[:2])

    def inverse(self, v: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """See `ConditionalFlow.inverse`."""
        mean, matrix, log_det = self._parts(c)
        inverse = torch.linalg.solve_triangular(
            matrix, torch.eye(self.n, dtype=v.dtype, device=v.device), upper=False
        )
        return mean + v @ inverse.mT, log_det.expand(v.shape[:2])


class _Zuko(nn.Module):
    """A zuko flow; its lazy transform broadcasts features over draws. Its inverse is ours."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net

    def forward(self, v: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        return self.net(c[:, None]).transform.call_and_ladj(v)

    def inverse(self, z: Tensor, c: Tensor, density: bool) -> tuple[Tensor, Tensor]:
        from .autoregressive import invert

        return invert(self.net.transform.transforms, z, c, density)


class _NFlows(nn.Module):
    """An nflows transform; it wants flat rows."""

    def __init__(self, transform: nn.Module) -> None:
        super().__init__()
        self.transform = transform

    def forward(self, v: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        return self._flat(self.transform, v, c)

    def inverse(self, z: Tensor, c: Tensor, density: bool) -> tuple[Tensor, Tensor]:
        v, log_det = self._flat(self.transform.inverse, z, c)  # type: ignore[arg-type]
        return v, -log_det

    @staticmethod
    def _flat(transform: Any, v: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        context = c[:, None].expand(-1, v.shape[1], -1).flatten(0, 1)
        out, log_det = transform(v.flatten(0, 1), context=context)
        return out.view(v.shape), log_det.view(v.shape[:2])


def _zuko(family: str, n_parameters: int, n_features: int, hidden: int, transforms: int) -> _Zuko:
    from zuko.flows import MAF, NSF

    build = NSF if family == "zuko_nsf" else MAF
    return _Zuko(
        build(n_parameters, n_features, transforms=transforms, hidden_features=[hidden, hidden])
    )


def _nflows(
    family: str, n_parameters: int, n_features: int, hidden: int, transforms: int
) -> _NFlows:
    from nflows import transforms as t
    from nflows.nn.nets import ResidualNet
    from nflows.utils.torchutils import create_alternating_binary_mask

    def network(n_in: int, n_out: int) -> nn.Module:
        return ResidualNet(n_in, n_out, hidden, context_features=n_features)

    def layer(i: int) -> nn.Module:
        if family == "nflows_maf":
            return t.MaskedAffineAutoregressiveTransform(
                n_parameters, hidden, context_features=n_features
            )
        mask = create_alternating_binary_mask(n_parameters, even=i % 2 == 0)
        if family == "coupling":
            return t.AffineCouplingTransform(mask, network)
        return t.PiecewiseRationalQuadraticCouplingTransform(
            mask, network, num_bins=8, tails="linear", tail_bound=5.0
        )

    layers: list[Any] = []
    for i in range(transforms):
        layers += [layer(i), t.ReversePermutation(n_parameters)]
    return _NFlows(t.CompositeTransform(layers))
