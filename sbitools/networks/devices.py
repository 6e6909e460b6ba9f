"""Torch devices by name."""

from __future__ import annotations

from typing import Any

import torch

from sbitools.errors import ConfigError

__all__ = ["find_device"]


def find_device(name: Any, what: str = "device", also: str = "") -> torch.device:
    """The device of that name, if this machine has it.

    Args:
        name: e.g. ``"cpu"`` or ``"cuda:1"``, or a `torch.device`.
        what: name for the message.
        also: further names that the caller understands, for the message.

    Raises:
        ConfigError: for what is no device of this machine.
    """
    problem: object = "no name of a device"
    try:
        if isinstance(name, str | torch.device):
            device = torch.device(name)
            torch.empty(1, device=device)
            return device
    # What torch raises for a missing device differs between its builds.
    except (RuntimeError, AssertionError, NotImplementedError, ImportError, ValueError) as error:
        problem = str(error).splitlines()[0] if str(error) else type(error).__name__
    raise ConfigError(
        what, expected=f"{also}'cpu' or a device of this machine", got=repr(name),
        fix=f"use device={'auto' if also else 'cpu'!r} ({problem})",
    )  # fmt: skip
