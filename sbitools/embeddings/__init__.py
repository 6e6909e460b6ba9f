"""Summary networks: from an observed field to the features a density estimator is given."""

from __future__ import annotations

from sbitools.errors import ConfigError
from sbitools.simulator import FieldSpec

from .field import FieldCNN
from .vector import VectorMLP

__all__ = ["FieldCNN", "VectorMLP", "build_embedding"]

_KINDS = {"cnn": FieldCNN, "mlp": VectorMLP}


def build_embedding(
    kind: str, spec: FieldSpec, features: int, channels: int, boundary: str
) -> FieldCNN | VectorMLP:
    """A summary network for fields like `spec`.

    Args:
        kind: ``"cnn"`` (1 to 3 axes), ``"mlp"`` (any shape, flattened), or ``"auto"``: a
            convolutional network for 2-D and 3-D fields, else a perceptron.
        spec: the observed field.
        features: numbers that come out.
        channels: width of the first level of a CNN, or of an MLP's hidden layers (times 8).
        boundary: ``"periodic"`` or ``"open"``, for a CNN.

    Raises:
        ConfigError: for an unknown kind, or a field that does not fit it.
    """
    if kind == "auto":
        kind = "cnn" if len(spec.shape) in (2, 3) else "mlp"
    unfit = kind == "cnn" and not 1 <= len(spec.shape) <= 3
    if kind not in _KINDS or unfit or spec.dtype.startswith("complex"):
        raise ConfigError(
            "embedding", expected="auto, mlp, or cnn for real fields of one to three axes",
            got=f"{kind!r} for {spec.dtype} of shape {spec.shape}", fix="choose another embedding",
        )  # fmt: skip
    if kind == "cnn":
        return FieldCNN(spec.shape, features, channels, boundary)
    return VectorMLP(spec.shape, features, 8 * channels)
