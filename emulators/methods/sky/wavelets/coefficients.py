"""The conventional scattering coefficients, read off the Gram matrices.

    S0  mean of the map, and the standard error of that mean
    S1  <|I * psi_l|>
    S2  <(I1 * psi_l) (I2 * psi_l)*>
    S3  <(I1 * psi_l3) (|I2 * psi_l2| * psi_l3)*>, j2 <= j3
    S4  <(|I1 * psi_l1| * psi_l3) (|I2 * psi_l2| * psi_l3)*>, j1 <= j2 <= j3

with l = (j, g), a scale and an orientation. For one map and J scales of L orientations these are
2 + 2 J L + L^2 J (J + 1) / 2 + L^3 J (J + 1) (J + 2) / 6 numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .transform import ScatteringCovariance

__all__ = ["Coefficients", "coefficients"]


@dataclass(frozen=True)
class Coefficients:
    """Coefficients of B maps, or of B pairs of maps, in R regions.

    Attributes:
        s0: (B, R, 2).
        s1: (B, R, J, L).
        s2: (B, R, J, L), complex; real for one map.
        s3: (B, R, pairs j2 <= j3, L of l2, L of orientation 3), complex.
        s4: (B, R, triples j1 <= j2 <= j3, L of l1, L of l2, L of orientation 3), complex.
    """

    s0: Tensor
    s1: Tensor
    s2: Tensor
    s3: Tensor
    s4: Tensor

    def normalised(self) -> Coefficients:
        """S1 / sqrt(S2(l)), S3 / sqrt(S2(l2) S2(l3)) and S4 / sqrt(S2(l1) S2(l2)); S2 as it is.

        What is divided no longer changes with the amplitude of a map.
        """
        power = self.s2.real.clamp(min=torch.finfo(self.s1.dtype).tiny)
        levels = power.shape[2]
        pairs = [(j2, j3) for j3 in range(levels) for j2 in range(j3 + 1)]
        triples = [
            (j1, j2) for j3 in range(levels) for j2 in range(j3 + 1) for j1 in range(j2 + 1)
        ]
        third = [(power[:, :, j2, :, None] * power[:, :, j3, None, :]).sqrt() for j2, j3 in pairs]
        fourth = [
            (power[:, :, j1, :, None, None] * power[:, :, j2, None, :, None]).sqrt()
            for j1, j2 in triples
        ]
        return Coefficients(
            self.s0, self.s1 / power.sqrt(), self.s2, self.s3 / torch.stack(third, 2),
            self.s4 / torch.stack(fourth, 2),
        )  # fmt: skip

    def flat(self) -> Tensor:
        """All of them, (B, R, n) complex."""
        parts = (self.s0, self.s1, self.s2, self.s3, self.s4)
        return torch.cat([p.flatten(2) + 0j for p in parts], 2)


def coefficients(
    transform: ScatteringCovariance, s: Tensor, first: int = 0, second: int | None = None
) -> Coefficients:
    """Coefficients of field `first` and, for the products, field `second` (None: the same).

    Args:
        transform: that made `s`.
        s: (B, size).
        first: field that enters S3 unmodified; of complex maps, 2 c is field c and 2 c + 1 the
            conjugate of what it gives at the opposite orientations (S0: Re and Im of the field).
        second: the other field.
    """
    second = first if second is None else second
    parts = transform.split(s)
    complete = [_complex(g) for g in parts.gram]
    orientations = torch.arange(transform.orientations)

    def rows(field: int, level: int) -> Tensor:
        return transform.modulus_row(level, orientations, field)

    s2 = torch.stack([g[..., first, second].conj() for g in complete], 2)
    s3 = [
        complete[j3][..., first, :][..., rows(second, j2)].conj().transpose(2, 3)
        for j3 in range(transform.levels) for j2 in range(j3 + 1)
    ]  # fmt: skip
    s4 = [
        complete[j3][..., rows(first, j1), :][..., rows(second, j2)].conj().permute(0, 1, 3, 4, 2)
        for j3 in range(transform.levels) for j2 in range(j3 + 1) for j1 in range(j2 + 1)
    ]  # fmt: skip
    mean = parts.means[..., first]
    variance = (parts.squares[..., first, first] - mean**2).clamp(min=0)
    s0 = torch.stack([mean, (variance / transform.effective_pixels()).sqrt()], 2)
    s1 = torch.stack([m[..., first] for m in parts.moduli], 2)
    return Coefficients(s0, s1, s2, torch.stack(s3, 2), torch.stack(s4, 2))


def _complex(packed: Tensor) -> Tensor:
    """The Hermitian matrices <conj(A_k) A_k'> that are packed as real ones."""
    real = packed.triu() + packed.triu(1).mT
    imag = packed.tril(-1).mT
    return torch.complex(real, imag - imag.mT)
