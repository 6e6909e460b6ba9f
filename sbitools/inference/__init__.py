"""Density estimators, their training, and the posterior a user samples from."""

from __future__ import annotations

from . import discrete, likelihood, npe, ratio, repaired, vector_field
from .discrete import DiscreteOptions, DiscretePosterior
from .evidence import LikelihoodPosterior
from .keywords import list_options
from .likelihood import NLEOptions
from .mcmc import MCMCPosterior
from .methods import METHODS, enter_methods
from .models import train_models
from .npe import NPEOptions
from .posterior import Posterior
from .ratio import NREOptions
from .rounds import train_rounds
from .saved import enter_kind
from .search import search
from .train import train
from .vector_field import FMPEOptions, NPSEOptions

__all__ = [
    "METHODS",
    "DiscreteOptions",
    "DiscretePosterior",
    "FMPEOptions",
    "LikelihoodPosterior",
    "MCMCPosterior",
    "NLEOptions",
    "NPEOptions",
    "NPSEOptions",
    "NREOptions",
    "Posterior",
    "search",
    "train",
    "train_models",
    "train_rounds",
]

# What is asked for by name is entered here, so that those who ask import nothing of it.
for _home in (npe, vector_field, likelihood, ratio, discrete):
    enter_methods(_home.METHODS)
for _asked in (train, train_models, train_rounds):
    list_options(_asked)
enter_kind(repaired.KIND, repaired.load_repaired)
