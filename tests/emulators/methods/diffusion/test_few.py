"""How many fields of the network are compared with simulations: a tenth of the training."""

from __future__ import annotations

import pytest

from emulators.methods.diffusion.correction import MOST, few_of
from emulators.methods.diffusion.field_options import FieldOptions


@pytest.mark.parametrize(("steps", "few"), [(20, 64), (1000, 133), (2000, MOST)])
def test_more_fields_are_compared_after_longer_training(steps: int, few: int) -> None:
    """Chance in the power of 64 pulsed series was a third: they were made a third too loud."""
    options = FieldOptions.model_validate({"steps": steps, "batch_size": 16, "sampler_steps": 18})
    assert few_of(options) == few


def test_slow_samplers_make_fewer() -> None:
    options = {"steps": 2000, "batch_size": 16}
    slow = FieldOptions.model_validate(options | {"sampler_steps": 40})
    assert 64 < few_of(slow) < MOST
