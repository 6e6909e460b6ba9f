"""Tutorials: the notebook is the stripped pair of the script, and it runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

jupytext = pytest.importorskip("jupytext", reason="install the extra 'tutorials'")
pytest.importorskip("nbmake", reason="install the extra 'tutorials'")

FOLDER = Path(__file__).resolve().parents[1] / "tutorials"
SCRIPTS = sorted(FOLDER.glob("*.py"))
NAMES = [script.stem for script in SCRIPTS]


def test_there_are_tutorials():
    assert SCRIPTS
    assert {p.stem for p in FOLDER.glob("*.ipynb")} == set(NAMES)


@pytest.mark.parametrize("script", SCRIPTS, ids=NAMES)
def test_the_notebook_is_the_stripped_pair(script):
    text, notebook = jupytext.read(script), jupytext.read(script.with_suffix(".ipynb"))
    assert [(c.cell_type, c.source) for c in notebook.cells] == [
        (c.cell_type, c.source) for c in text.cells
    ], f"run: jupytext --update --to ipynb tutorials/{script.name}"
    code = [c for c in notebook.cells if c.cell_type == "code"]
    assert not any(c.outputs or c.execution_count for c in code), "strip the outputs"


@pytest.mark.parametrize("script", SCRIPTS, ids=NAMES)
@pytest.mark.timeout(600)
def test_the_tutorial_runs_at_its_small_setting(script, tmp_path):
    shutil.copy(script.with_suffix(".ipynb"), tmp_path)
    environment = os.environ | {"SBITOOLS_SMALL": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "--nbmake", "--nbmake-timeout=500", "-q",
               "--rootdir", str(tmp_path), "-c", os.devnull, "-p", "no:cacheprovider",
               str(tmp_path)]  # fmt: skip
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    pages = list(tmp_path.rglob("calibration.html"))
    assert len(pages) == script.read_text(encoding="utf-8").count('"calibration.html"')
    assert all("</html>" in page.read_text(encoding="utf-8") for page in pages)
