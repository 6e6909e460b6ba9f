"""One parameter: its name, unit and prior."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from . import priors
from .display.brief import Brief
from .display.typeset import typeset
from .errors import ParameterError
from .gate.plain import flag, text
from .priors import Prior

__all__ = ["Parameter"]


@dataclass(frozen=True, repr=False)
class Parameter(Brief):
    """One parameter of a simulator.

    Args:
        name: an identifier, e.g. ``"Omega_m"``.
        prior: a prior of `sbitools.priors`, or a scalar distribution of `torch.distributions`;
            None for a member of a joint prior that says it, see `ParameterSpace`.
        unit: as text, ``""`` if dimensionless.
        latex: label, with or without dollar signs around it; the name if None.
        inferred: False for a nuisance parameter, which is drawn but not reported.
        categories: names of the codes of a categorical parameter; its prior is then
            `priors.Categorical`, uniform if None.

    Example:
        >>> from sbitools import Parameter, priors
        >>> hubble = Parameter("H_0", priors.Uniform(50.0, 90.0), unit="km/s/Mpc")
        >>> hubble.name, hubble.unit
        ('H_0', 'km/s/Mpc')
    """

    name: str
    prior: Prior | torch.distributions.Distribution | None
    unit: str = ""
    latex: str | None = None
    inferred: bool = True
    categories: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        prior = self.prior
        self._check_texts()
        if isinstance(prior, torch.distributions.Distribution):
            prior = priors.TorchPrior(prior)
        if self.categories is not None:
            what = f"categories of parameter {self.name!r}"
            listed = isinstance(self.categories, list | tuple) or np.ndim(self.categories) == 1
            names = self.categories if listed else ()
            names = tuple(text(c, what, error=ParameterError) for c in names)
            object.__setattr__(self, "categories", names)
            k = max(len(self.categories), 1)
            prior = prior or priors.Categorical((1 / k,) * k)
        codes = len(prior.probabilities) if isinstance(prior, priors.Categorical) else None
        matching = codes == (None if self.categories is None else len(self.categories))
        fitting = prior is None or isinstance(prior, Prior)
        if not fitting or not matching or not self.name.isidentifier():
            raise ParameterError(
                f"parameter {self.name!r}", expected="an identifier as name and a fitting prior",
                got=f"prior {self.prior!r}, categories {self.categories}",
                fix="give a prior of sbitools.priors; categories go with priors.Categorical",
            )  # fmt: skip
        object.__setattr__(self, "prior", prior)

    def _check_texts(self) -> None:
        """Every text can be written to a file."""
        put, error = object.__setattr__, ParameterError
        put(self, "name", text(self.name, "name of a parameter", error=error))
        what = f"of parameter {self.name!r}"
        put(self, "unit", text(self.unit, f"unit {what}", error=error))
        if self.latex is not None:
            put(self, "latex", text(self.latex, f"latex {what}", error=error))
        put(self, "inferred", flag(self.inferred, f"inferred {what}", error=error))

    @property
    def label(self) -> str:
        """Label with dollar signs and unit, for plots; the name where LaTeX cannot be set."""
        latex = (self.latex or "").strip().strip("$").strip()
        unit = f" [{typeset(self.unit)}]" if self.unit else ""
        shown = typeset(f"${latex}$", self.name) if latex else self.name
        return typeset(shown + unit, self.name + unit)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "name": self.name, "prior": self.prior and self._prior.to_dict(), "unit": self.unit,
            "latex": self.latex, "inferred": self.inferred,
            "categories": list(self.categories) if self.categories else None,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Parameter:
        """Inverse of `to_dict`."""
        prior = values.get("prior")
        return cls(**{**values, "prior": None if prior is None else priors.from_dict(prior)})

    @property
    def _prior(self) -> Prior:
        assert isinstance(self.prior, Prior)  # noqa: S101  (of every member of a space)
        return self.prior
