"""Networks with seeded weights, none of which is zero."""

import pytest

from sbitools.seeds import initial_weights, normal


@pytest.fixture
def seeded():
    """seeded(build, seed=0): what build() makes, initialised apart from the global generator."""

    def make(build, seed=0, awake=True):
        with initial_weights(seed):
            net = build()
        for i, p in enumerate(net.parameters()):
            if awake and not p.any():  # residual branches start at zero: switch them on
                p.data.copy_(0.1 * normal([i], tuple(p.shape))[0])
        return net

    return make
