"""Posterior draws for ArviZ and GetDist.

ArviZ 0.2x keeps them in its `InferenceData`, ArviZ 1 in xarray's `DataTree`; both get the same
groups and variables here.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from .display.typeset import tex_text, typeset
from .errors import PosteriorError
from .gate.arrays import as_native
from .gate.plain import whole
from .observation.entry import in_dtype, is_one_field
from .parameters import Parameter, ParameterSpace, as_space
from .seeds import check_seed, fresh_seed

if TYPE_CHECKING:
    from .inference import Posterior
    from .simulator import FieldSpec

__all__ = ["draws_to_arviz", "draws_to_getdist", "from_arviz", "to_arviz", "to_getdist"]

_DIMENSIONS = ("chain", "draw", "observation")

Container = Literal["auto", "InferenceData", "DataTree"]


def to_arviz(
    posterior: Posterior, x: Any, n: int = 1000, *, seed: int | None = None, prior: int = 1000,
    container: Container = "auto",
) -> Any:  # fmt: skip
    """Draw from a posterior, for ArviZ.

    Args:
        posterior: from `sbitools.train`.
        x: observed fields, shape (B, *posterior.observed.shape), or one field.
        n: draws per observation.
        seed: of the draws, and of those of the prior; new ones at each call if None.
        prior: number of prior draws beside them; 0 leaves the group out.
        container: ``"InferenceData"`` (ArviZ 0.2x), ``"DataTree"`` (ArviZ 1), or what the
            installed ArviZ uses.

    Returns:
        Groups ``posterior``, ``sample_stats`` (``lp``: log density), ``observed_data`` and
        ``prior``; one variable per parameter with dimensions (chain, draw), and ``observation``
        if B > 1. The draws are independent: one chain.

    Raises:
        ObservationError: if x does not fit the posterior.
    """
    prior = whole(prior, "prior, a number of draws", least=0)
    seed = fresh_seed() if seed is None else check_seed(seed)
    draws, log_prob = posterior.sample_and_log_prob(x, n, seed=seed)
    return draws_to_arviz(
        draws, posterior.parameters, log_prob=log_prob, x=x, output=posterior.observed,
        prior=prior, seed=seed, container=container,
    )  # fmt: skip


def draws_to_arviz(
    draws: Any, parameters: ParameterSpace, *, log_prob: Any = None, x: Any = None,
    output: FieldSpec | None = None, prior: int = 1000, seed: int = 0,
    container: Container = "auto",
) -> Any:  # fmt: skip
    """`to_arviz` for draws that exist already.

    Args:
        draws: shape (n, P) or (B, n, P).
        parameters: of the columns.
        log_prob: shape (n,) or (B, n).
        x: observed fields, shape (B, *output.shape), one field, or None.
        output: what x is; needed with x.
        prior: number of prior draws; 0 leaves the group out.
        seed: of the prior draws.
        container: see `to_arviz`.

    Raises:
        PosteriorError: if shapes disagree.

    A parameter or an axis that is called like a dimension of ArviZ (``chain``, ``draw``,
    ``observation``), or an axis called like its field, gets a suffix: ``draw_parameter``,
    ``x_axis``.
    """
    parameters, seed = as_space(parameters), check_seed(seed)
    prior = whole(prior, "prior, a number of draws", least=0)
    values = _draws(draws, parameters)
    if x is not None and output is None:
        raise PosteriorError(
            "output", expected="a FieldSpec that says what x is", got="None",
            fix="pass output=posterior.observed, or leave x out",
        )  # fmt: skip
    groups = {"posterior": _dataset(values, parameters)}
    if log_prob is not None:
        density = _density(log_prob, values)
        groups["sample_stats"] = _named({"lp": density}, {})
    if x is not None and output is not None:
        groups["observed_data"] = _observed(x, output, len(values))
    if prior:
        design = parameters.design(prior, seed).numpy()[None]
        groups["prior"] = _dataset(design, parameters)
    return _container(groups, container)


def from_arviz(data: Any, parameters: ParameterSpace) -> np.ndarray:
    """Draws (B, chains * draws, P) out of the posterior group of an ArviZ container.

    Args:
        data: `InferenceData` or `DataTree`.
        parameters: whose names to read, in this order.

    Raises:
        PosteriorError: if a parameter is missing.
    """
    group = data["posterior"]
    parameters = as_space(parameters)
    names = _variables(parameters)
    missing = [name for name in names.values() if name not in group]
    if missing:
        raise PosteriorError(
            "posterior group", expected=f"variables {list(names.values())}",
            got=f"no {', '.join(missing)}", fix="rename the variables, or the parameters",
        )  # fmt: skip
    columns = []
    for name in names.values():
        variable = group[name]
        if "observation" not in variable.dims:
            variable = variable.expand_dims("observation")
        flat = variable.transpose("observation", "chain", "draw").values
        columns.append(flat.reshape(len(flat), -1))
    return np.stack(columns, axis=-1)


def to_getdist(posterior: Posterior, x: Any, n: int = 1000, *, seed: int | None = None) -> Any:
    """Draw from a posterior for one observation, as GetDist's `MCSamples`.

    Args:
        posterior: from `sbitools.train`.
        x: one observed field, with or without a batch axis.
        n: draws.
        seed: of the draws; new ones at each call if None.

    Raises:
        ObservationError: if x does not fit the posterior.
        PosteriorError: if x holds several observations.
    """
    draws, log_prob = posterior.sample_and_log_prob(x, n, seed=seed)
    return draws_to_getdist(draws, posterior.parameters, log_prob=log_prob)


def draws_to_getdist(
    draws: Any, parameters: ParameterSpace, *, log_prob: Any = None, label: str | None = None
) -> Any:
    """`MCSamples` with names, labels and the hard bounds of the prior.

    Args:
        draws: shape (n, P) or (1, n, P).
        parameters: of the columns.
        log_prob: shape (n,) or (1, n).
        label: of the samples in legends.

    Raises:
        PosteriorError: if shapes disagree or there are several observations.
    """
    from getdist import MCSamples

    parameters = as_space(parameters)
    values = _draws(draws, parameters)
    if len(values) != 1:
        raise PosteriorError(
            "draws for GetDist", expected="one observation", got=f"{len(values)}",
            fix="convert the observations one by one",
        )  # fmt: skip
    density = None if log_prob is None else -_density(log_prob, values).reshape(-1)
    return MCSamples(
        samples=values[0], loglikes=density, names=parameters.names,
        labels=[_getdist_label(p) for p in parameters],
        ranges=_ranges(parameters), label=label, sampler="uncorrelated",
        settings={"ignore_rows": 0},
    )  # fmt: skip


def _ranges(parameters: ParameterSpace) -> dict[str, tuple[float | None, float | None]]:
    """Bounds of the priors; GetDist corrects its density estimates at them.

    Those between ordered parameters are not of this kind, and GetDist knows none.
    """
    ranges = {}
    for p in parameters:
        bounds = (getattr(p.prior, side) for side in ("low", "high"))
        ranges[p.name] = tuple(float(b) if np.isfinite(b) else None for b in bounds)
    return ranges


def _getdist_label(p: Parameter) -> str:
    """A label without dollar signs, which GetDist puts around it."""
    unit = rf"\ [{tex_text(p.unit)}]" if p.unit else ""
    plain = p.label.replace("$", "")
    labels = (f"${label}$" for label in (plain, tex_text(p.name) + unit, tex_text(p.name)))
    return typeset(*labels).strip("$")


def _density(log_prob: Any, values: np.ndarray) -> np.ndarray:
    """Log densities of draws (B, n, P), shape (B, n)."""
    density = as_native(log_prob, "log_prob")
    if density.dtype.kind not in "fiu" or density.size != values.shape[0] * values.shape[1]:
        raise PosteriorError(
            "log_prob", expected=f"one number for each of {values.shape[:2]} draws",
            got=f"dtype {density.dtype}, shape {density.shape}", fix="pass it with its own draws",
        )  # fmt: skip
    return density.astype(np.float64).reshape(values.shape[:2])


def _draws(draws: Any, parameters: ParameterSpace) -> np.ndarray:
    values = parameters.table(draws, "draws", PosteriorError).numpy(force=True)
    values = values.astype(np.float64)
    values = values[None] if values.ndim == 2 else values
    if values.ndim != 3 or values.shape[2] != len(parameters):
        raise PosteriorError(
            "draws", expected=f"shape (n, {len(parameters)}) or (B, n, {len(parameters)})",
            got=f"{np.shape(draws)}", fix="pass draws of these parameters",
        )  # fmt: skip
    return values


def _dataset(values: np.ndarray, parameters: ParameterSpace) -> Any:
    names = _variables(parameters)
    columns = {names[p.name]: values[..., i] for i, p in enumerate(parameters)}
    attrs = {names[p.name]: {"units": p.unit, "long_name": p.label} for p in parameters}
    return _named(columns, attrs)


def _variables(parameters: ParameterSpace) -> dict[str, str]:
    """Names of the variables of parameters, none of them that of a dimension."""
    taken = {*_DIMENSIONS, *parameters.names}
    return {n: _other(n, "_parameter", taken) if n in _DIMENSIONS else n for n in parameters.names}


def _other(name: str, suffix: str, taken: set[str]) -> str:
    """`name` with as many suffixes as make it one of its own; it is taken from then on."""
    while name in taken:
        name += suffix
    taken.add(name)
    return name


def _named(columns: dict[str, np.ndarray], attrs: dict[str, dict[str, str]]) -> Any:
    """Dataset of columns (B, n), with the dimensions ArviZ knows."""
    import xarray as xr

    from .version import __version__

    data = {}
    for name, column in columns.items():
        one = len(column) == 1
        dims = ("chain", "draw") if one else ("chain", "draw", "observation")
        data[name] = xr.Variable(dims, column if one else column.T[None], attrs.get(name))
    n, b = next(iter(columns.values())).shape[::-1]
    coords: dict[str, Any] = {"chain": [0], "draw": np.arange(n)}
    coords |= {"observation": np.arange(b)} if b > 1 else {}
    library = {"inference_library": "sbitools", "inference_library_version": __version__}
    return xr.Dataset(data, coords, library)


def _observed(x: Any, output: FieldSpec, batch: int) -> Any:
    import xarray as xr

    alone = is_one_field(x, output)
    values = as_native(x, "observed x", output, batch=not alone)
    values = values[None] if alone else values
    if values.dtype.kind in "fiu":
        values = in_dtype(torch.from_numpy(values), output, "observed x").numpy()
    output.check(values, batch=batch, what="observed x")
    name = output.name.replace("/", "_") or "field"  # a slash is a path to xarray
    taken = {name, "chain", "draw"}
    batched = () if batch == 1 else (_other("observation", "_axis", taken),)
    dims = [_other(d.replace("/", "_"), "_axis", taken) for d in output.dims]
    values = values[0] if batch == 1 else values
    return xr.Dataset({name: ((*batched, *dims), values, {"units": output.unit})})


def _container(groups: dict[str, Any], container: Container) -> Any:
    import xarray as xr

    # ArviZ 0.23 announces its successor once a day, when it is imported.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        import arviz

    # Not hasattr: ArviZ 1 still answers to the name, with a warning.
    known = int(arviz.__version__.split(".")[0]) < 1
    if container not in ("auto", "InferenceData", "DataTree") or (
        container == "InferenceData" and not known
    ):
        raise PosteriorError(
            "container", expected="auto, DataTree" + (" or InferenceData" if known else ""),
            got=f"{container!r} with ArviZ {arviz.__version__}", fix="use container='auto'",
        )  # fmt: skip
    if container == "DataTree" or not known:
        return xr.DataTree.from_dict(groups)
    return arviz.InferenceData(**groups)
