"""One run of 21cmFAST: values of the parameters and a seed in, a cube or a light cone out.

Some of its switches are silently ignored in some settings, so all that matter are set here:
`M_MIN_in_Mass` off (else log10_Tvir has no effect in this source model), the cosmology of the
light cone (else it is Planck's whatever the simulation's), one thread (the same seed with more
threads is another universe). Nothing is written to disk.
"""

from __future__ import annotations

import gc
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from sbitools.campaign import RejectedSimulation
from sbitools.errors import ConfigError

from .transfer import cold, warm_suppression

__all__ = ["VERSIONS", "Box", "Limits", "backend", "coeval", "lightcone"]

VERSIONS = ("4.1.1", "4.2")
"""From the first on, below the second: later ones refuse the table of warm dark matter."""

_INSTALL = (
    "apt-get install build-essential libgsl-dev libfftw3-dev, then pip install "
    "'sbitools[reionization]' (it compiles for some minutes); the shipped simulations need none "
    "of it: emulators.reionization.shipped"
)
# Of the transfer function's table: 21cmFAST integrates up to the scale of the smallest halos.
_K = np.logspace(-5, 3.5, 600)
# Above this mass in keV the cut-off is beyond the table: the matter is cold to it.
_COLD = 1e4


@dataclass(frozen=True)
class Box:
    """Size and physics of a run.

    Args:
        n: cells per side of the output.
        box_size: in Mpc.
        refinement: cells of the initial conditions per cell of the output and axis.
        spin_temperature: follow it; else it is far above that of the background.
        recombinations: inhomogeneous ones.
        r_max: largest radius in Mpc around a cell in which sources are counted.
        z_step: ratio of 1 + z between nodes of a run that evolves.
        z_heat_max: redshift at which the run of a spin temperature begins.
    """

    n: int
    box_size: float
    refinement: int = 2
    spin_temperature: bool = False
    recombinations: bool = False
    r_max: float = 30.0
    z_step: float = 1.1
    z_heat_max: float = 22.0


@dataclass(frozen=True)
class Limits:
    """What is known of reionization; a simulation that contradicts it is rejected.

    Args:
        tau: optical depth to the last scattering, at most.
        redshift: at which the neutral fraction is limited.
        x_hi: mean neutral fraction there, at most.
    """

    tau: float = 0.089
    redshift: float = 5.0
    x_hi: float = 0.1


def backend() -> ModuleType:
    """21cmFAST's Python module, which is named py21cmfast.

    Raises:
        ConfigError: if it is missing, or of another version.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations of what it imports, not ours to mend
            import py21cmfast  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ConfigError(
            "21cmFAST", expected=f"version {VERSIONS[0]} or newer, below {VERSIONS[1]}",
            got=str(error), fix=_INSTALL,
        ) from error  # fmt: skip
    if not _numbers(VERSIONS[0]) <= _numbers(py21cmfast.__version__) < _numbers(VERSIONS[1]):
        raise ConfigError(
            "21cmFAST", expected=f"version {VERSIONS[0]} or newer, below {VERSIONS[1]}",
            got=py21cmfast.__version__,
            fix=f"pip install '21cmFAST>={VERSIONS[0]},<{VERSIONS[1]}': later ones have no way "
            "to warm dark matter, earlier ones are other physics",
        )  # fmt: skip
    logging.getLogger("py21cmfast").setLevel(logging.ERROR)
    return py21cmfast


def coeval(box: Box, values: Mapping[str, float], redshift: float, seed: int) -> np.ndarray:
    """Brightness temperature of a cube at one redshift, in mK, float32, (n, n, n).

    Args:
        box: its size and physics.
        values: of all parameters of `ReionizationSimulator`.
        redshift: of the cube.
        seed: of 21cmFAST, 1 to 2^31 - 1.
    """
    p21c = backend()
    with _quiet():
        inputs = _inputs(p21c, box, values, seed)
        if box.spin_temperature or box.recombinations:
            inputs = inputs.with_logspaced_redshifts(zmin=redshift, zmax=box.z_heat_max)
        (cube,) = p21c.run_coeval(
            inputs=inputs, out_redshifts=[redshift], write=False, progressbar=False
        )
        out = np.array(cube.brightness_temp, dtype=np.float32)
    del cube, inputs
    gc.collect()  # its objects refer to each other in circles, and hold 20 MB a run
    return out


def lightcone(
    box: Box, values: Mapping[str, float], redshift: float, n_los: int, seed: int,
    limits: Limits | None = None,
) -> np.ndarray:  # fmt: skip
    """Brightness temperature of a light cone, in mK, float32, (n, n, n_los).

    Args:
        box: its size and physics; cells along the line of sight are as long as the others.
        values: of all parameters of `ReionizationSimulator`.
        redshift: of the first cell.
        n_los: cells along the line of sight: cell k is k cells farther than the first, in
            comoving distance and in the cosmology of the simulation.
        seed: of 21cmFAST, 1 to 2^31 - 1.
        limits: None rejects nothing.

    Raises:
        RejectedSimulation: if the simulation contradicts the limits.
    """
    from astropy import units  # comes with 21cmFAST

    p21c = backend()
    with _quiet():
        inputs = _inputs(p21c, box, values, seed)
        cosmology = inputs.cosmo_params.cosmo
        first = cosmology.comoving_distance(redshift).to_value(units.Mpc)
        distances = first + box.box_size / box.n * np.arange(n_los)
        last = _redshift_at(cosmology, distances[-1] * (1 + 1e-6), redshift)
        inputs = inputs.with_logspaced_redshifts(
            zmin=redshift if limits is None else min(redshift, limits.redshift),
            zmax=max(last, box.z_heat_max if box.spin_temperature else 0.0),
        )
        lightconer = p21c.RectilinearLightconer(
            lc_distances=distances * units.Mpc, quantities=("brightness_temp",), cosmo=cosmology
        )
        cone = p21c.run_lightcone(
            lightconer=lightconer, inputs=inputs, write=False, progressbar=False
        )
        if limits is not None:
            _check_limits(p21c, inputs, cone, limits)
    out = np.array(cone.lightcones["brightness_temp"], dtype=np.float32)
    del cone, inputs
    gc.collect()  # as above
    return out


def _inputs(p21c: ModuleType, box: Box, values: Mapping[str, float], seed: int) -> Any:
    mass = values["m_wdm"]
    inputs = p21c.InputParameters.from_template(
        "const-zeta", random_seed=seed, N_THREADS=1, POWER_SPECTRUM="EH",
        HII_DIM=box.n, BOX_LEN=box.box_size, HIRES_TO_LOWRES_FACTOR=float(box.refinement),
        OMm=values["Omega_m"], HII_EFF_FACTOR=values["zeta"],
        ION_Tvir_MIN=values["log10_Tvir"], L_X=values["log10_LX"], NU_X_THRESH=values["E0"],
        M_MIN_in_Mass=False, USE_TS_FLUCT=box.spin_temperature,
        INHOMO_RECO=box.recombinations, R_BUBBLE_MAX=box.r_max,
        ZPRIME_STEP_FACTOR=box.z_step, Z_HEAT_MAX=box.z_heat_max,
    )  # fmt: skip
    return inputs if mass > _COLD else _warm(inputs, mass)


def _warm(inputs: Any, mass: float) -> Any:
    """The same inputs with a table of the transfer function: 21cmFAST then runs no CLASS."""
    import attrs  # comes with 21cmFAST
    from py21cmfast.wrapper.inputs import (  # pyright: ignore[reportMissingImports]
        CosmoTables,
        Table1D,
    )

    c = inputs.cosmo_params
    transfer = cold(_K, c.OMm, c.OMb, c.hlittle) * warm_suppression(_K, mass, c.OMm, c.hlittle)
    k = np.concatenate([[0.0], _K])
    # CLASS's normalisation of a transfer function: that of the density, k^2 T(k).
    table = Table1D(size=k.size, x_values=k, y_values=np.concatenate([[0.0], _K**2 * transfer]))
    tables = CosmoTables(
        transfer_density=table, transfer_vcb=table, ps_norm=c.SIGMA_8, USE_SIGMA_8=True
    )
    options = attrs.evolve(inputs.matter_options, POWER_SPECTRUM="CLASS")
    return inputs.clone(matter_options=options, cosmo_tables=tables)


def _check_limits(p21c: ModuleType, inputs: Any, cone: Any, limits: Limits) -> None:
    neutral = np.asarray(cone.global_quantities["neutral_fraction"])
    nodes = np.asarray(inputs.node_redshifts)
    up = np.argsort(nodes)
    nodes, neutral = nodes[up], neutral[up]
    x_hi = float(np.interp(limits.redshift, nodes, neutral))
    if x_hi > limits.x_hi:
        raise RejectedSimulation(
            f"neutral fraction {x_hi:.3f} at redshift {limits.redshift:g}, above {limits.x_hi:g}"
        )
    tau = float(p21c.compute_tau(redshifts=nodes, global_xHI=neutral, inputs=inputs))
    if tau > limits.tau:
        raise RejectedSimulation(f"optical depth {tau:.4f}, above {limits.tau:g}")


def _redshift_at(cosmology: Any, distance: float, start: float) -> float:
    """Redshift of a comoving distance in Mpc, beyond `start`."""
    z = np.linspace(start, 60.0, 4000)
    reach = cosmology.comoving_distance(z).value
    if distance >= reach[-1]:
        raise ConfigError(
            "light cone", expected="an end below redshift 60", got=f"{distance:.0f} Mpc",
            fix="use fewer cells along the line of sight",
        )  # fmt: skip
    return float(np.interp(distance, reach, z)) + 0.05


@contextmanager
def _quiet() -> Iterator[None]:
    """Its warnings are about settings that are chosen here; errors come through."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _numbers(version: str) -> tuple[int, ...]:
    parts = [p for p in version.split(".")[:3] if p.isdigit()]
    return tuple(int(p) for p in parts)
