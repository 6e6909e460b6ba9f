"""What the documentation says exists, and its first program runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))


def _programs(page: str) -> list[str]:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def _run(program: str, folder: Path) -> None:
    (folder / "program.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=folder, capture_output=True, text=True, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


def test_the_first_program_runs(tmp_path):
    program = "\n".join(_programs("start.md"))
    for full, small in {" 2000,": " 256,", " 500,": " 64,", " 4000,": " 100,"}.items():
        assert full in program, f"the page changed: adapt this test to {full!r}"
        program = program.replace(full, small)
    _run(program + "\nassert draws.shape == (1, 100, 2)\n", tmp_path)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_programs_of_every_page_are_python_and_import_what_exists(page):
    for program in _programs(str(page.relative_to(ROOT / "docs"))):
        compile(program, str(page), "exec")
        for line in re.findall(
            r"^(?:from (?:sbitools|emulators)|import sbitools).*$", program, re.M
        ):
            exec(line, {})  # noqa: S102  (the documentation's own imports)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_names_of_the_package_exist(page):
    """`sbitools.a.b` in a page is a name that can be looked up."""
    import pydoc

    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:sbitools|emulators)(?:\.\w+)+)", text))
    assert not [name for name in named if pydoc.locate(name) is None]


def test_thirty_questions_are_answered():
    text = (ROOT / "docs" / "questions.md").read_text(encoding="utf-8")
    numbers = re.findall(r"^\*\*(\d+)\. .*\*\*\n: ", text, re.MULTILINE)
    assert numbers == [str(i) for i in range(1, 31)]


@pytest.mark.slow
def test_the_chain_in_python_runs(tmp_path):
    (program,) = _programs("guide/simulating.md")
    small = {"n=32, box_size=100.0": "n=16, box_size=50.0", " 64,": " 8,", " 4000,": " 128,",
             " 500,": " 32,", 'symmetry="cube"': 'symmetry="cube", epochs=2'}  # fmt: skip
    for full, reduced in small.items():
        assert full in program, f"the page changed: adapt this test to {full!r}"
        program = program.replace(full, reduced)
    _run(program + "\nassert draws.shape == (1, 128, 2)\n", tmp_path)
    assert (tmp_path / "run" / "calibration.html").is_file()


def test_the_program_of_the_readme_runs(tmp_path):
    """With fields of a user's own, of fewer cells and few passes."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    own = """
import numpy as np, warnings
warnings.simplefilter("ignore")
rng = np.random.default_rng(1)
theta = rng.uniform(0.1, 0.5, (300, 1))
x = (rng.standard_normal((300, 16, 16)) * theta[:, :, None]).astype(np.float32)
x_observed = x[-1]
"""
    small = {
        "(64, 64)": "(16, 16)",
        "indices=range(200)": "indices=range(200), epochs=1",
        "calibrate(posterior, tests)": "calibrate(posterior, store, n_draws=50, progress=False)",
    }
    for full, reduced in small.items():
        assert full in program, f"the README changed: adapt this test to {full!r}"
        program = program.replace(full, reduced)
    first, last = program.split("result = ")
    tests = 'store = SimulationStore.from_arrays("run/t", theta[200:], x[200:], space, field, '
    own_tests = tests + 'seeds=np.arange(1000, 1100), design="random")\n'
    whole = own + first + own_tests + "result = " + last + "\nassert draws.shape == (1, 4000, 1)\n"
    _run(whole, tmp_path)
