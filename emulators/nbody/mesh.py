"""With which force meshes structure grows as it should; settings import this, so it is light."""

from __future__ import annotations

__all__ = ["FINE", "mesh_factors"]

FINE = 6.25
"""Spacing of the particles in Mpc/h up to which a force mesh of factor 2 follows growth."""


def mesh_factors(spacing: float) -> tuple[int, ...]:
    """Cells of the force mesh per particle and axis with which growth is right, the usual first.

    The clouds of the mesh weaken the force. The lattice of the particles, whose images the mesh
    takes for structure, strengthens it, the more the less particles have moved in units of a
    cell: hence their spacing counts. With factor 2 both cancel where particles are close, with 3
    at any spacing: to 5 % of P at half the Nyquist frequency and redshift 2, where factor 2 gave
    1.09 at 9 Mpc/h and 1.27 at 100. With 1 the clouds win (P is 0.5 to 0.7), and with 4 the mesh
    resolves single particles, whose lattice grows more slowly than a fluid (0.85 to 0.95).

    Args:
        spacing: of the particles in Mpc/h.

    References:
        | Quantification of discreteness effects in cosmological N-body simulations. II. Evolution
        | up to shell crossing (Joyce & Marcos, 2007), arXiv:0704.3697
    """
    return (2, 3) if spacing <= FINE else (3,)
