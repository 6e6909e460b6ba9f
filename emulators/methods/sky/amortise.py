"""Training of the generator: the loss of `SkyModel.emulate`, for many starts at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sbitools.seeds import generator

from .model import SkyModel
from .terms import linear

__all__ = ["Starts", "train_generator"]

_BATCH = 8
_RATE = 4e-3
_HELD_OUT = 8  # one in so many starts judges the result


@dataclass(frozen=True)
class Starts:
    """Gaussian starts of one theta.

    Attributes:
        place: theta in the cube [-1, 1], (P,).
        maps: standardised, float32, (n, 2, pixels).
        scale: standard deviations of pixels over that of all, (2, pixels).
        offset: means in the same unit, (2, pixels).
    """

    place: np.ndarray
    maps: Tensor
    scale: Tensor
    offset: Tensor


def train_generator(
    model: SkyModel, starts: Sequence[Starts], steps: int, seed: int
) -> tuple[float, float]:
    """Train `model.generator`; it stays the identity where that is best.

    Args:
        model: with targets.
        starts: of every theta.
        steps: of Adam, eight maps each.
        seed: of the choice of maps.

    Returns:
        Loss on held-out starts before and after.
    """
    network, rng = model.generator, generator(seed)
    network.reset()
    with torch.no_grad():
        targets = [_targets(model, s) for s in starts]
    held = [np.arange(len(s.maps)) % _HELD_OUT == 0 for s in starts]
    before = _held_out(model, starts, targets, held)
    if not bool(model.targets.shift.any()) or not steps:
        return before, before
    optimiser = torch.optim.Adam(network.parameters(), lr=_RATE)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = _RATE * 0.5 * (1 + math.cos(math.pi * step / steps))
        i = int(torch.randint(len(starts), (1,), generator=rng))
        rows = torch.from_numpy(np.flatnonzero(~held[i]))
        rows = rows[torch.randint(len(rows), (_BATCH,), generator=rng)]
        optimiser.zero_grad()
        loss = _loss(model, starts[i], targets[i], rows)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        optimiser.step()
    after = _held_out(model, starts, targets, held)
    if not after < before:
        network.reset()
        return before, before
    return before, after


def _targets(model: SkyModel, s: Starts) -> Tensor:
    terms = torch.from_numpy(linear(s.place)).float()[None]
    return model.targets(model.summaries(s.maps, s.scale, s.offset), terms)


def _loss(model: SkyModel, s: Starts, target: Tensor, rows: Tensor) -> Tensor:
    maps = s.maps[rows]
    n = (len(rows), -1)
    place = torch.from_numpy(s.place).float()[None].expand(*n)
    made = model.generator(maps, s.scale[None].expand(*n, -1), place)
    missed = model.summaries(made, s.scale, s.offset) - target[rows]
    return (missed.square() * model.loss_weights()).sum(1).mean()


def _held_out(
    model: SkyModel, starts: Sequence[Starts], targets: Sequence[Tensor],
    held: Sequence[np.ndarray],
) -> float:  # fmt: skip
    with torch.no_grad():
        losses = [
            float(_loss(model, s, t, torch.from_numpy(np.flatnonzero(h))))
            for s, t, h in zip(starts, targets, held, strict=True)
        ]
    return float(np.mean(losses))
