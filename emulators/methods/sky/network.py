"""The amortised generator: a Gaussian start in, a map whose statistics are on target out.

What L-BFGS does to every map in many steps (`model.map_model`) a network has learned to do in
one: a small U-net on the twelve faces of HEALPix adds a correction to the standardised start. It
is trained with the loss that L-BFGS minimises. Filters are free 3 x 3 ones: pixel axes point
north-east and north-west everywhere, so a filter keeps its direction to the meridian.

The first of this kind on planes is in FOSCAT (Delouis et al. 2022, arXiv:2207.12527).
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sbitools.embeddings.sphere import Faces, face_order
from sbitools.seeds import generator

__all__ = ["MapGenerator"]

_FACES = 12
_WIDTHS = (12, 16, 24)  # channels at Nside, Nside / 2, Nside / 4


class MapGenerator(nn.Module):
    """Standardised maps (B, 2, pixels) to corrected ones; the identity before it is trained.

    Args:
        nside: of the maps, nested.
        n_parameters: of theta, which is given to all pixels.
    """

    order: Tensor
    back: Tensor

    def __init__(self, nside: int, n_parameters: int) -> None:
        super().__init__()
        order = torch.from_numpy(face_order(nside))
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("back", torch.argsort(order), persistent=False)
        self.nside, levels = nside, min(len(_WIDTHS), nside.bit_length())
        widths = _WIDTHS[:levels]
        self.faces = [Faces(nside >> i) for i in range(levels)]
        self.entry = _Conv(4 + n_parameters, widths[0])
        self.down = nn.ModuleList(_Conv(a, b) for a, b in pairwise(widths))
        self.middle = _Conv(widths[-1], widths[-1])
        self.up = nn.ModuleList(_Conv(a + b, a) for a, b in pairwise(widths))
        self.exit = _Conv(widths[0], 2)
        self.reset()

    def reset(self) -> None:
        """Initial weights, always the same: those of the identity."""
        rng = generator(0)
        for conv in (m for m in self.modules() if isinstance(m, _Conv)):
            conv.reset(rng)
        nn.init.zeros_(self.exit.weight)

    def forward(self, start: Tensor, scale: Tensor, place: Tensor) -> Tensor:
        """Corrected maps; what is 0 in the start stays 0.

        Args:
            start: standardised, (B, 2, pixels).
            scale: standard deviations of pixels over that of all, (B, 2, pixels).
            place: theta in [-1, 1], (B, P).
        """
        theta = place[:, :, None].expand(-1, -1, start.shape[2])
        x = torch.cat([start, torch.log(scale.clamp(min=1e-3)), theta], 1)
        x = self._to_faces(x)
        kept = []
        y = F.silu(self.entry(x, self.faces[0]))
        for conv, here in zip(self.down, self.faces, strict=False):
            kept.append(y)
            y = F.silu(conv(y, here))
            y = F.avg_pool2d(y, 2)
        y = F.silu(self.middle(y, self.faces[-1]))
        for conv, here, skip in reversed(list(zip(self.up, self.faces, kept, strict=False))):
            y = F.interpolate(y, scale_factor=2, mode="nearest")
            y = F.silu(conv(torch.cat([skip, y], 1), here))
        correction = self._to_pixels(self.exit(y, self.faces[0]))
        return start + torch.where(start != 0, correction, 0.0)

    def _to_faces(self, x: Tensor) -> Tensor:
        """(B, C, pixels) to (B * 12, C, n, n)."""
        n = self.nside
        cells = x[:, :, self.order].view(len(x), -1, _FACES, n, n)
        return cells.transpose(1, 2).reshape(-1, x.shape[1], n, n)

    def _to_pixels(self, x: Tensor) -> Tensor:
        """Inverse of `_to_faces`."""
        cells = x.view(-1, _FACES, *x.shape[1:]).transpose(1, 2)
        return cells.reshape(len(cells), x.shape[1], -1)[:, :, self.back]


class _Conv(nn.Module):
    """3 x 3 filters across the edges of faces."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(b, a, 3, 3))
        self.bias = nn.Parameter(torch.zeros(b))

    def reset(self, rng: torch.Generator) -> None:
        bound = (self.weight.shape[1] * 3) ** -0.5  # keeps the variance
        nn.init.uniform_(self.weight, -bound, bound, generator=rng)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, faces: Faces) -> Tensor:
        return F.conv2d(faces.pad(x), self.weight, self.bias)
