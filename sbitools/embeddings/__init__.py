"""Summary networks: from an observed field to the features a density estimator is given."""

from __future__ import annotations

from .build import EMBEDDINGS, EmbeddingOptions, build_embedding, observed_mask
from .each import EachEmbedding
from .field import FieldCNN
from .healpix import HealpixCNN
from .own import OwnEmbedding
from .pretrain import Regression, frozen, pretrain
from .sets import SetEmbedding
from .transformer import FieldTransformer
from .vector import VectorMLP

__all__ = [
    "EMBEDDINGS", "EachEmbedding", "EmbeddingOptions", "FieldCNN", "FieldTransformer",
    "HealpixCNN", "OwnEmbedding", "Regression", "SetEmbedding", "VectorMLP", "build_embedding",
    "frozen", "observed_mask", "pretrain",
]  # fmt: skip
