"""The one place where x is centred and scaled: in float64, and then it is float32.

Every network that sees x derives from `Scaled` and sees what `standardise` gives. A posterior of
a x + b is therefore that of x, whatever the unit and the zero point.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from .moments import Moments, varies

__all__ = ["Pairs", "Scaled"]

Pairs = Callable[[], Iterable[tuple[Tensor, Tensor]]]

# Standardised values are cut here: nothing that far out is like the simulations (sampling says
# so), and squares and sums of what networks make of it must stay in float32.
_FAR = 1e6


class Scaled(nn.Module):
    """Centre and scale of x, and which of its cells are used.

    Args:
        size: of the mean and the standard deviation; broadcasts to `field`.
        field: shape of one x.
    """

    mean: Tensor
    std: Tensor
    seen: Tensor

    def __init__(self, size: tuple[int, ...], field: tuple[int, ...]) -> None:
        super().__init__()
        self.field = tuple(field)
        self.register_buffer("mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("std", torch.ones(size, dtype=torch.float64))
        self.register_buffer("seen", torch.ones((), dtype=torch.bool))  # () is all of them

    def set_scale(self, mean: Tensor, std: Tensor, common: Tensor | None = None) -> None:
        """Centre, scale and cells used of each cell by itself.

        Args:
            mean: of the training data, in the shape of one x.
            std: standard deviation, likewise; a cell that does not vary is not used.
            common: see `Moments`; only fields, whose cells are alike, look at it.
        """
        self._assign(mean, std, varies(mean, std))

    def set_moments(self, moments: Moments, mask: Tensor | None = None) -> None:
        """`set_scale` by measured moments, without the cells outside a mask."""
        mean, std, common = moments.mean, moments.std, moments.common
        if mask is not None:
            mask = mask.to(std.device)
            std, common = std * mask, common & mask
        self.set_scale(mean, std, common)

    def settle(self, batches: Pairs) -> tuple[Tensor, Tensor] | None:
        """Begin with what can be known before training, where a network can: see `Head`.

        Args:
            batches: gives what fields tell about, (B, P), of zero mean and unit variance or so,
                and the fields, (B, *field); to be called after `set_moments`, before training.

        Returns:
            All that fields tell about, (n, P), and what the first P features would have said of
            it, had they not known that field, (n, P); None if these are no guess.
        """

    def values(self, x: Tensor) -> Tensor:
        """What the moments are measured of, for fields x (B, *field)."""
        return x

    def standardise(self, x: Tensor) -> Tensor:
        """x of any real dtype, (B, *field), as float32 of mean 0 and standard deviation 1.

        Cells that are not used are 0, and no gradient passes through them.
        """
        z = ((x.to(self.mean) - self.mean) / self.std).clamp(-_FAR, _FAR).float()
        return torch.where(self.seen, z, torch.zeros_like(z)) if self.seen.ndim else z

    @property
    def log_scale(self) -> float:
        """log |d standardised / d x| where every cell is used and has a scale of its own."""
        return -float(self.std.log().sum())

    def unscaled(self, z: Tensor) -> Tensor:
        """x, float64, that `standardise` makes z of."""
        return z.to(self.mean) * self.std + self.mean

    def fill(self, x: Tensor) -> Tensor:
        """x with the mean in cells that are not used, so that cells may change places."""
        if not self.seen.ndim or x.is_complex():
            return x
        shaped = x.reshape(len(x), *self.field)
        return torch.where(self.seen.to(x.device), shaped, self.mean.to(shaped)).view_as(x)

    def _assign(self, mean: Tensor, std: Tensor, seen: Tensor) -> None:
        """`seen` of the shape of the field; mean and std of the buffers' own."""
        self.mean.copy_(mean)
        self.std.copy_(torch.where(std > 0, std, torch.ones_like(std)))
        self._choose(seen)

    def _choose(self, seen: Tensor) -> None:
        whole = bool(seen.all())
        kept = torch.ones((), dtype=torch.bool) if whole else seen.reshape(self.field).clone()
        self.seen = kept.to(self.mean.device)

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        # Weights from before cells were left out use all of them.
        seen = state_dict.setdefault(f"{prefix}seen", torch.ones((), dtype=torch.bool))
        if tuple(seen.shape) in ((), self.field):
            self.seen = torch.ones(seen.shape, dtype=torch.bool, device=self.mean.device)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
