"""Options of `train` where they are looked for: help, completion, type checkers, messages."""

import inspect
import subprocess
import sys
import typing
from collections.abc import Mapping
from pathlib import Path

import pytest
from torch import nn

import sbitools
from sbitools.calibration.calibrate import calibrate_draws
from sbitools.errors import ConfigError
from sbitools.inference import METHODS
from sbitools.inference.keywords import RoundKeywords, TrainKeywords
from sbitools.inference.methods import find_method

ROOT = Path(__file__).parents[2]
MODELS = [find_method(name).options for name in METHODS]
NAMES = {name for model in MODELS for name in model.model_fields} - {"method"}


def test_keywords_are_the_options_of_the_methods():
    keywords = typing.get_type_hints(TrainKeywords)
    assert set(keywords) == NAMES
    assert set(keywords) - set(typing.get_type_hints(RoundKeywords)) == {"seed", "workers"}
    for name, hint in keywords.items():
        stated = {typing.get_type_hints(m)[name] for m in MODELS if name in m.model_fields}
        assert stated == {str | dict[str, str]} if name == "embedding" else stated == {hint}, name
    assert keywords["embedding"] == str | nn.Module | Mapping[str, str | nn.Module]


@pytest.mark.parametrize(
    "function", [sbitools.train, sbitools.train_models, sbitools.train_rounds]
)
def test_help_and_completion_see_every_option(function):
    seen = inspect.signature(function).parameters
    assert set(seen) >= NAMES
    assert seen["learning_rate"].default == 1e-3
    assert "NPEOptions" in function.__doc__ or function is not sbitools.train


def test_a_notebook_completes_options():
    shell = pytest.importorskip("IPython.core.interactiveshell")
    completer = pytest.importorskip("IPython.core.completer")
    if not hasattr(shell, "InteractiveShell"):
        pytest.skip("no IPython")
    complete = completer.IPCompleter(namespace={"sbitools": sbitools}, use_jedi=False)
    complete.text_until_cursor = text = "sbitools.train(store, learn"
    complete.line_buffer = text
    assert "learning_rate=" in complete.python_func_kw_matches("learn")


@pytest.mark.slow
def test_a_type_checker_finds_a_misspelt_option(tmp_path):
    file = tmp_path / "script.py"
    file.write_text(
        "import sbitools\n"
        "sbitools.train('store', run_dir='run', learning_rate=1e-3, flow='coupling')\n"
        "sbitools.train('store', run_dir='run', learning_rat=1e-3)\n"
    )
    (tmp_path / "pyrightconfig.json").write_text(f'{{"extraPaths": ["{ROOT}"]}}')
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "-p", tmp_path], capture_output=True, text=True
    )
    errors = [line for line in done.stdout.splitlines() if " error: " in line]
    assert len(errors) == 1
    assert "script.py:3" in errors[0] and "learning_rat" in errors[0]  # noqa: PT018


def meant(expected):
    return pytest.raises(ConfigError, match=f"did you mean '{expected}'")


def test_wrong_names_are_answered_with_the_near_one(tmp_path):
    with meant("npe"):
        sbitools.train("nowhere", "NPE", run_dir=tmp_path)
    with meant("fmpe"):
        find_method("fmp")
    with meant("coverage"):
        calibrate_draws(None, checks=["sbc", "coverge"])  # pyright: ignore
    with meant("recalibrate"):
        sbitools.repair(None, None, "recalibrat")
    with pytest.raises(ConfigError, match="use method='npe'"):
        find_method("xyzzy")
    with pytest.raises(ConfigError, match="remove the unknown"):
        calibrate_draws(None, checks=[3])  # pyright: ignore
