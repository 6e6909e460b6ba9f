"""What the options of every emulator have in common: how they are read, and the precision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from pydantic import BaseModel, ValidationError

from sbitools.errors import ConfigError

__all__ = ["fast_bfloat16", "parse_options"]

M = TypeVar("M", bound=BaseModel)


def parse_options(model: type[M], config: M | Mapping[str, Any] | None) -> M:
    """Options from a table of a configuration file.

    Args:
        model: what the options may be.
        config: options, plain values, or None for the defaults.

    Raises:
        ConfigError: for an unknown option or a value out of range.
    """
    if isinstance(config, model):
        return config
    if config is not None and not isinstance(config, Mapping):
        raise ConfigError(
            "emulator options", expected=f"{model.__name__}, a table of options, or None",
            got=repr(config), fix="pass for example {'seed': 1}",
        )  # fmt: skip
    try:
        return model.model_validate(dict(config or {}))
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(
            f"emulator option {'.'.join(map(str, first['loc']))}", expected=first["msg"],
            got=repr(first["input"]), fix=f"known options: {sorted(model.model_fields)}",
        ) from error  # fmt: skip


def fast_bfloat16() -> bool:
    """Whether this processor (or an accelerator) multiplies bfloat16 in hardware."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    tests = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in tests)
