"""Summary statistics of fields on a grid and on the sphere, and the noise floor of comparisons.

One convention holds for all of them. What is measured comes first, fields of shape (B, *shape) or
maps of shape (B, n_pixels); on a grid `box_size` comes next, the side of the box in any unit of
length (for light cones `cell_size`, the side of a cell), and k has the inverse of that unit, with
2 pi in it. Everything else is passed by name: `edges`, ascending edges of bins, (n_bins + 1,), in
k or, of `pdf`, in the unit of the field; and `ordering`, ``"ring"`` or ``"nested"``, which has no
default, since no map tells its own.
"""

from __future__ import annotations

from .bispectrum import Bispectrum, bispectrum
from .comparison import compare
from .control_variates import (
    ControlledCovariance,
    ControlledMean,
    controlled_covariance,
    controlled_mean,
)
from .covariance import (
    Eigenbasis,
    diagonal_covariance,
    eigenbasis,
    gaussian_taper,
    hartlap_factor,
    inverse_covariance,
    ledoit_wolf,
    projected_spectrum,
    reduced_chi2,
    sample_covariance,
    scan_tapers,
    taper_covariance,
)
from .covariance_error import (
    LimitError,
    SampledTruth,
    cross_half_error,
    effective_rank,
    expected_sample_error,
    infinite_map_difference,
    infinite_map_error,
    matrix_difference,
    relative_error,
)
from .cylindrical import CylindricalSpectrum, cylindrical_power
from .distances import wasserstein
from .grid import (
    Spectrum,
    cross_correlation,
    cross_power,
    pdf,
    plane_power_spectrum,
    power_spectrum,
    transfer_function,
)
from .harmonics import SphericalSpectra
from .memorisation import Neighbours, nearest_neighbour
from .minkowski import Minkowski, gaussian_minkowski, minkowski_functionals, spectral_moments
from .noise_floor import NoiseFloor, noise_floor
from .scattering import scattering_2d, scattering_3d
from .spectra import angular_power

__all__ = [
    "Bispectrum",
    "ControlledCovariance",
    "ControlledMean",
    "CylindricalSpectrum",
    "Eigenbasis",
    "LimitError",
    "Minkowski",
    "Neighbours",
    "NoiseFloor",
    "SampledTruth",
    "Spectrum",
    "SphericalSpectra",
    "angular_power",
    "bispectrum",
    "compare",
    "controlled_covariance",
    "controlled_mean",
    "cross_correlation",
    "cross_half_error",
    "cross_power",
    "cylindrical_power",
    "diagonal_covariance",
    "effective_rank",
    "eigenbasis",
    "expected_sample_error",
    "gaussian_minkowski",
    "gaussian_taper",
    "hartlap_factor",
    "infinite_map_difference",
    "infinite_map_error",
    "inverse_covariance",
    "ledoit_wolf",
    "matrix_difference",
    "minkowski_functionals",
    "nearest_neighbour",
    "noise_floor",
    "pdf",
    "plane_power_spectrum",
    "power_spectrum",
    "projected_spectrum",
    "reduced_chi2",
    "relative_error",
    "sample_covariance",
    "scan_tapers",
    "scattering_2d",
    "scattering_3d",
    "spectral_moments",
    "taper_covariance",
    "transfer_function",
    "wasserstein",
]
