"""From a name and a field to a summary network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from pydantic import ConfigDict, Field
from torch import Tensor

from sbitools.axes import HEALPIX, SPACE
from sbitools.errors import ConfigError
from sbitools.gate.models import PlainModel
from sbitools.observation import Mask, Observation, Part
from sbitools.seeds import derive, initial_weights
from sbitools.simulator import FieldSpec

from .each import EachEmbedding
from .field import FieldCNN
from .healpix import HealpixCNN
from .own import GROUP, OwnEmbedding, build_own, is_own
from .products import ProductsEmbedding
from .sets import SetEmbedding
from .transformer import FieldTransformer
from .vector import VectorMLP

__all__ = ["EMBEDDINGS", "EmbeddingOptions", "build_embedding", "observed_mask"]

EMBEDDINGS = ("auto", "cnn", "healpix", "mlp", "set", "transformer")

One = FieldCNN | FieldTransformer | HealpixCNN | OwnEmbedding | SetEmbedding | VectorMLP
Network = One | EachEmbedding | ProductsEmbedding

# Where a FieldSpec does not say which axis counts fields, a first axis of these names does: what
# networks are made of must not change with the names that `sbitools.axes` comes to know.
_CHANNEL, _ITEM = ("channel", "map"), ("item",)
_POOLING = ("features", "attention", "padded")  # options of what pools the members of a set
_LONGEST_VECTOR = 256  # numbers in a row of which each may be told by itself


class EmbeddingOptions(PlainModel):
    """Which summary network: the part of a method's options that is about the embedding.

    Attributes:
        embedding: ``"auto"``, ``"cnn"``, ``"healpix"``, ``"mlp"``, ``"set"`` or
            ``"transformer"``, see `build_embedding`; or a module of your own, see `OwnEmbedding`,
            or the name of one that is installed in the entry-point group `sbitools.embeddings`.
            Of several data products, a mapping from names of fields to these; ``"auto"`` for
            others. The other options hold for all products.
        features: numbers the embedding gives on.
        channels: width of the embedding.
        boundary: of a field on a grid: ``"periodic"``, ``"open"`` or ``"evolving"``, for all axes
            or one per axis, see `FieldCNN` and `FieldTransformer`; None: what the field says, see
            `build_embedding`.
        ordering: of HEALPix maps: ``"ring"`` or ``"nested"``; None is what the name of the axis
            says, see `build_embedding`.
        attention: learned weighted means of a set.
        padded: some members of a set are not there: the last column says which if they are rows
            of numbers, and those that are 0 everywhere are not if they are fields.
        patch: cells per side that a CNN merges into one at first, or that are one token of a
            transformer, for all axes or one per axis; None chooses, see `FieldCNN`, `patch_sides`.
        depth: blocks of a transformer; None is 4.
        heads: of a transformer's attention; None is 4.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    embedding: str | dict[str, str] = "auto"
    features: int = Field(32, ge=1, le=65536)
    channels: int = Field(16, ge=1, le=65536)
    boundary: str | tuple[str, ...] | None = None
    ordering: Literal["ring", "nested"] | None = None
    attention: int = Field(0, ge=0, le=65536)
    padded: bool = False
    patch: int | tuple[int, ...] | None = None
    depth: int | None = Field(None, ge=1, le=256)
    heads: int | None = Field(None, ge=1, le=4096)

    def build(self, spec: FieldSpec, seed: int) -> Network:
        """The network for fields like `spec`, its initial weights a function of `seed`.

        Raises:
            ConfigError: see `build_embedding`.
        """
        if spec.parts is not None:
            return ProductsEmbedding(
                [one.build(part, seed) for one, part in self._of_parts(spec.parts)], spec
            )
        if isinstance(self.embedding, dict):
            raise ConfigError(
                "embedding", expected="one", got=f"a mapping of {list(self.embedding)}",
                fix="pass the embedding itself: x is a single field",
            )  # fmt: skip
        with initial_weights(derive(seed, 6)):
            if self.embedding not in EMBEDDINGS and is_own(self.embedding):
                member = spec.member
                self._check_unused(() if member is None else _POOLING)
                if member is None:
                    return build_own(self.embedding, spec)
                return EachEmbedding(
                    build_own(self.embedding, member), spec.shape[0], self.features,
                    self.attention, self.padded,
                )  # fmt: skip
            return build_embedding(
                self.embedding, spec, self.features, self.channels, self.boundary,
                ordering=self.ordering, attention=self.attention, padded=self.padded,
                patch=self.patch, depth=self.depth, heads=self.heads,
            )  # fmt: skip

    def _of_parts(self, parts: tuple[FieldSpec, ...]) -> list[tuple[EmbeddingOptions, FieldSpec]]:
        """Options of each data product's own embedding."""
        known, names = self.embedding, [p.name for p in parts]
        if isinstance(known, str):
            known = dict.fromkeys(names, known)
        if strange := [name for name in known if name not in names]:
            raise ConfigError(
                "embedding of several products", expected=f"names out of {names}",
                got=repr(strange[0]), fix="name the field of one of the stores",
            )  # fmt: skip
        fields: dict[str, Any] = {k: getattr(self, k) for k in EmbeddingOptions.model_fields}
        return [
            (EmbeddingOptions(**{**fields, "embedding": known.get(p.name, "auto")}), p)
            for p in parts
        ]

    def _check_unused(self, used: tuple[str, ...]) -> None:
        """Refuse options of our networks for another one, but for those in use."""
        fields = EmbeddingOptions.model_fields
        for name, field in fields.items():
            if name not in ("embedding", *used) and getattr(self, name) != field.default:
                raise ConfigError(
                    f"option {name!r} of the embedding", expected="none: the network is your own",
                    got=repr(getattr(self, name)), fix="leave it out",
                )  # fmt: skip


def build_embedding(
    kind: str,
    spec: FieldSpec,
    features: int,
    channels: int,
    boundary: str | Sequence[str] | None = None,
    *,
    ordering: str | None = None,
    mask: Tensor | None = None,
    attention: int = 0,
    padded: bool = False,
    patch: int | Sequence[int] | None = None,
    depth: int | None = None,
    heads: int | None = None,
) -> Network:
    """A summary network for fields like `spec`.

    A first axis named ``"channel"`` or ``"map"``, or of the kind ``"channel"`` where ``spec.axes``
    says so, counts fields that share their cells or pixels; every other axis is space. A first
    axis of the kind ``"set"`` counts members in no order: all else is said of one member, whose
    embedding `EachEmbedding` pools. Members that are short vectors are the items of a
    `SetEmbedding`, unless `kind` names another embedding for them.

    Args:
        kind: ``"cnn"`` or ``"transformer"`` (1 to 3 axes besides channels), ``"healpix"`` (maps),
            ``"set"`` (items in rows), ``"mlp"`` (any shape, flattened), or ``"auto"``:
            ``"healpix"`` if the last axis is named ``"pixel_ring"``, ``"pixel_nested"``,
            ``"pixel"`` or ``"healpix"``, or is of that kind, ``"set"`` if the first of two is
            named ``"item"``, ``"cnn"`` for 2-D and 3-D fields, for several channels and for more
            than 256 cells on an axis that ``spec.axes`` says is space, else ``"mlp"``; never
            ``"transformer"``.
        spec: the observed field.
        features: numbers that come out.
        channels: width of the first level of a CNN, or of a perceptron's or a transformer's layers
            (times 8).
        boundary: for ``"cnn"``, see `FieldCNN`, and ``"transformer"``, see `FieldTransformer`: one
            word, or one per axis of space; None is what ``spec.axes`` says, and periodic if it
            says nothing. An open axis that is the only one counts as evolving: a series may drift.
        ordering: for ``"healpix"``: ``"ring"`` or ``"nested"``; None is what the name of the axis
            says, and ring if it says nothing.
        mask: for ``"healpix"``: where maps, or members of a set, are seen, see `HealpixCNN`.
        attention: for sets: learned weighted means.
        padded: for sets: not every member is there, see `SetEmbedding` and `EachEmbedding`.
        patch: for ``"cnn"`` and ``"transformer"``: cells per side, for all axes or one per axis.
        depth: for ``"transformer"``: blocks; None is 4.
        heads: for ``"transformer"``: of attention; None is 4.

    Raises:
        ConfigError: for an unknown kind, a field that does not fit it, or an option of another
            kind.
    """
    if (member := spec.member) is not None:
        one = _choose(member) if kind in ("auto", "set") else kind
        if one != "mlp" or kind == "mlp" or len(member.shape) > 1:
            single: Any = build_embedding(
                one, member, features, channels, boundary, ordering=ordering, mask=mask,
                patch=patch, depth=depth, heads=heads,
            )  # fmt: skip
            return EachEmbedding(single, spec.shape[0], features, attention, padded)
        kind = "set"
    kind = _choose(spec) if kind == "auto" else kind
    if kind not in EMBEDDINGS or spec.dtype.startswith("complex"):
        raise ConfigError(
            "embedding", expected=f"{', '.join(EMBEDDINGS)}, for real fields; a torch module; or "
            f"a name in the entry-point group {GROUP!r}",
            got=f"{kind!r} for {spec.dtype} of shape {spec.shape}", fix="choose another embedding",
        )  # fmt: skip
    _check_options(
        kind,
        healpix={"ordering": ordering is not None, "mask": mask is not None},
        set={"attention": bool(attention), "padded": padded},
        transformer={"depth": depth is not None, "heads": heads is not None},
        cnn_or_transformer={"patch": patch is not None},
    )  # fmt: skip
    if kind == "cnn":
        maps, space = _channels(spec)
        return FieldCNN(space, features, channels, boundary or _ends(spec), maps, patch)
    if kind == "transformer":
        maps, space = _channels(spec)
        return FieldTransformer(
            space, features, channels, boundary or _ends(spec), maps, patch, depth or 4, heads or 4
        )
    if kind == "healpix":
        return HealpixCNN(spec.shape, features, channels, _ordering(spec, ordering), mask)
    if kind == "set":
        return SetEmbedding(spec.shape, features, 8 * channels, attention, padded)
    return VectorMLP(spec.shape, features, 8 * channels)


def observed_mask(observation: Observation, spec: FieldSpec) -> Tensor | None:
    """Where all mask steps of an observation see a field, in the shape of the observed field.

    Args:
        observation: the observation model.
        spec: the observed field; masks of another shape, from before a coarsening, are left out.

    Returns:
        Booleans of shape ``spec.shape``, or None if nothing is masked.
    """
    if spec.parts is not None:
        own = {s.name: observed_mask(s.steps, p) for p in spec.parts for s in observation.steps
               if isinstance(s, Part) and s.name == p.name}  # fmt: skip
        if all(mask is None for mask in own.values()):
            return None
        whole = [own.get(p.name) for p in spec.parts]
        return torch.cat([
            torch.ones(math.prod(p.shape), dtype=torch.bool) if mask is None else mask.flatten()
            for p, mask in zip(spec.parts, whole, strict=True)
        ])  # fmt: skip
    masks = [s.mask for s in observation.steps if isinstance(s, Mask)]
    masks = [mask for mask in masks if tuple(mask.shape) == spec.shape]
    return torch.stack(masks).all(0) if masks else None


def _ordering(spec: FieldSpec, given: str | None) -> str:
    named = HEALPIX.get(spec.dims[-1])
    if given and named and given != named:
        raise ConfigError(
            "ordering of a HEALPix embedding", expected=f"{named!r}, as the axis of {spec.name!r} "
            f"is named {spec.dims[-1]!r}", got=repr(given), fix="leave the option out",
        )  # fmt: skip
    return given or named or "ring"


def _choose(spec: FieldSpec) -> str:
    dims = spec.dims
    if not dims:
        return "mlp"
    told = dims[-1] in HEALPIX if spec.axes is None else spec.axes[-1] == "healpix"
    if told:
        return "healpix"
    if len(dims) == 2 and dims[0] in _ITEM:
        return "set"
    maps, space = _channels(spec)
    series = spec.axes is not None and spec.axes[-1] in SPACE and space[-1] > _LONGEST_VECTOR
    fits = len(space) in (2, 3) or (len(space) == 1 and (maps is not None or series))
    return "cnn" if fits else "mlp"


def _ends(spec: FieldSpec) -> tuple[str, ...]:
    """What happens at the ends of each axis of space, as far as the field says."""
    space = _channels(spec)[1]
    if spec.axes is None:
        return ("periodic",) * len(space)
    words = [word if word in SPACE else "open" for word in spec.axes[-len(space) :]]
    if words == ["open"]:
        words = ["evolving"]
    # One axis evolves at most; of several, the last is the line of sight.
    last = max((i for i, word in enumerate(words) if word == "evolving"), default=0)
    return tuple(
        "open" if word == "evolving" and i != last else word for i, word in enumerate(words)
    )


def _channels(spec: FieldSpec) -> tuple[int | None, tuple[int, ...]]:
    """Number of channels, None without such an axis, and the axes of space."""
    counted = spec.dims[:1] if spec.axes is None else spec.axes[:1]
    if counted and counted[0] in _CHANNEL:
        return spec.shape[0], spec.shape[1:]
    return None, spec.shape


def _check_options(kind: str, **options: dict[str, bool]) -> None:
    for owner, given in options.items():
        owners = owner.split("_or_")
        strange = [name for name, used in given.items() if used and kind not in owners]
        if strange:
            raise ConfigError(
                f"option {strange[0]!r} of the embedding",
                expected=f"embedding = {' or '.join(map(repr, owners))}",
                got=repr(kind), fix="leave the option out, or choose the other embedding",
            )  # fmt: skip
