"""Several data products of one theta: each has a network, a scale and a unit of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sbitools.simulator import FieldSpec

from .moments import measure
from .scale import Pairs

__all__ = ["ProductsEmbedding", "learn_scale"]


class ProductsEmbedding(nn.Module):
    """x that holds the parts of `spec` side by side, to the features of all of them.

    Args:
        ones: an embedding for each part.
        spec: with parts, see `FieldSpec.of_parts`.
    """

    leader: Tensor

    def __init__(self, ones: Sequence[Any], spec: FieldSpec) -> None:
        super().__init__()
        self.ones, self.spec = nn.ModuleList(ones), spec
        self.register_buffer("leader", torch.zeros((), dtype=torch.int64))
        self.n_features = sum(int(one.n_features) for one in ones)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N) to (B, n_features), those of the product that guesses best first."""
        parts = zip(self.ones, self.spec.split(x), strict=True)
        found = [one(part).float() for one, part in parts]
        found.insert(0, found.pop(int(self.leader)))
        return torch.cat(found, dim=1)

    def settle(self, batches: Pairs) -> tuple[Tensor, Tensor] | None:
        """See `Scaled.settle`: the guess is that of the product which errs least."""
        told = [
            one.settle(lambda i=i: ((u, self.spec.split(x)[i]) for u, x in batches()))  # type: ignore[operator]
            for i, one in enumerate(self.ones)
        ]
        known = [i for i, one in enumerate(told) if one is not None]
        if not known:
            return None
        best = min(known, key=lambda i: float((told[i][0] - told[i][1]).square().mean()))
        self.leader.fill_(best)
        return told[best]

    def unscaled(self, z: Tensor) -> Tensor:
        """x, float64, whose parts are standardised to those of z."""
        parts = zip(self.ones, self.spec.split(z, cast=False), strict=True)
        return self.spec.pack([one.unscaled(part) for one, part in parts])  # type: ignore[operator]

    def fill(self, x: Tensor) -> Tensor:
        """x as it is: cells of products do not change places."""
        return x


def learn_scale(
    embedding: Any, fields: Callable[[], Iterable[Tensor]], spec: FieldSpec, mask: Tensor | None
) -> None:
    """Give an embedding the scale of observed fields, each product's by itself.

    Args:
        embedding: a network, or several behind one face.
        fields: gives batches of them, (B, *spec.shape), the same at every call.
        spec: of the observed field.
        mask: where it is seen, None for everywhere.

    Raises:
        TrainingError: see `measure`.
    """
    if (ones := getattr(embedding, "ones", None)) is None:
        embedding.set_moments(measure(map(embedding.values, fields()), spec), mask)
        return
    seen = [None] * len(ones) if mask is None else spec.split(mask[None], cast=False)
    for i, (one, part) in enumerate(zip(ones, spec.parts or (), strict=True)):
        own = seen[i]
        learn_scale(
            one, lambda i=i: (spec.split(x)[i] for x in fields()), part,
            None if own is None else own[0],
        )  # fmt: skip
