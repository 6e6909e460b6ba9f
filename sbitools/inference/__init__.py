"""Density estimators, their training, and the posterior a user samples from."""

from __future__ import annotations

from .discrete import DiscreteOptions, DiscretePosterior
from .likelihood import NLEOptions
from .mcmc import MCMCPosterior
from .methods import METHODS
from .npe import NPEOptions
from .posterior import Posterior
from .ratio import NREOptions
from .rounds import train_rounds
from .search import search
from .train import train
from .vector_field import FMPEOptions, NPSEOptions

__all__ = [
    "METHODS",
    "DiscreteOptions",
    "DiscretePosterior",
    "FMPEOptions",
    "MCMCPosterior",
    "NLEOptions",
    "NPEOptions",
    "NPSEOptions",
    "NREOptions",
    "Posterior",
    "search",
    "train",
    "train_rounds",
]
