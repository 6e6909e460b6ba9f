"""Symmetries of cubes and light cones, as augmentation of statistically isotropic fields."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from sbitools.simulator import FieldSpec

__all__ = ["Symmetry", "random_symmetry", "turned_axes"]

Symmetry = Literal["none", "cube", "sky"]


def turned_axes(spec: FieldSpec, kind: Symmetry) -> tuple[int, ...]:
    """Numbers of the axes of a field that are exchanged and mirrored: those of space.

    Args:
        spec: of the field.
        kind: ``"sky"`` leaves the line of sight out.
    """
    return tuple(i for i in spec.space if kind != "sky" or spec.kinds[i] != "evolving")


def random_symmetry(
    x: Tensor, rng: torch.Generator, kind: Symmetry = "cube", axes: Sequence[int] | None = None
) -> Tensor:
    """Permute and flip the axes of a batch (B, n, ..., n), one element of the group for all.

    Only axes of equal length are exchanged.

    Args:
        x: fields.
        rng: what it is drawn from.
        kind: ``"sky"`` leaves the last axis as it is.
        axes: of a field, instead of what `kind` says: see `turned_axes`.
    """
    if axes is None:
        axes = range(x.ndim - 1 - (kind == "sky"))
    places = [1 + a for a in axes]
    order = torch.randperm(len(places), generator=rng).tolist()
    flips = torch.rand(len(places), generator=rng) < 0.5
    if len({x.shape[place] for place in places}) == 1:
        whole = list(range(x.ndim))
        for place, other in zip(places, order, strict=True):
            whole[place] = places[other]
        x = x.permute(whole)
    chosen = [place for place, flip in zip(places, flips.tolist(), strict=True) if flip]
    return x.flip(chosen) if chosen else x
