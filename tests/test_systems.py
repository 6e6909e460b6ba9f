"""Systems are found by entry point; what is wrong with one is said, with the known ones."""

from __future__ import annotations

import pytest

from sbitools.errors import ConfigError
from sbitools.installed import check_attributes
from sbitools.systems import EmulatedSystem, System, find_system, known_systems


def test_a_third_partys_system_is_found(line_installed):
    system = find_system("line")
    assert isinstance(system, System)
    assert system.name == "line"
    assert {"line", "nbody"} <= set(known_systems())


def test_the_own_system_is_one():
    assert isinstance(find_system("nbody"), System)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ConfigError) as caught:
        find_system("n-body")
    assert "nbody" in caught.value.expected
    assert "did you mean 'nbody'?" in caught.value.fix


@pytest.mark.parametrize(
    ("name", "message"), [("broken", "ModuleNotFoundError"), ("wrong", "without .*simulator")]
)
def test_a_broken_system_is_a_typed_error(line_installed, name, message):
    with pytest.raises(ConfigError, match=message):
        find_system(name)


def test_a_system_with_half_an_emulator_says_what_is_missing():
    class Half:
        name, settings = "half", object

        def simulator(self, settings):
            return None

        def emulator(self, settings):
            return None

    assert isinstance(Half(), System)
    with pytest.raises(ConfigError, match="without training_simulator, load_emulator, validate"):
        check_attributes("system 'half'", Half(), EmulatedSystem)
