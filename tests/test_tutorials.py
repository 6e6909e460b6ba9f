"""Tutorials: the notebook is the pair of the script, with small outputs or none, and it runs."""

from __future__ import annotations

import base64
import importlib.util
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

jupytext = pytest.importorskip("jupytext", reason="install the extra 'tutorials'")
pytest.importorskip("nbmake", reason="install the extra 'tutorials'")

nbformat = pytest.importorskip("nbformat", reason="install the extra 'tutorials'")

FOLDER = Path(__file__).resolve().parents[1] / "tutorials"
SCRIPTS = sorted(FOLDER.glob("*.py"))
NAMES = [script.stem for script in SCRIPTS]

_spec = importlib.util.spec_from_file_location("notebooks", FOLDER.parent / "docs/notebooks.py")
notebooks = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(notebooks)


def test_there_are_tutorials():
    assert SCRIPTS
    assert {p.stem for p in FOLDER.glob("*.ipynb")} == set(NAMES)


@pytest.mark.parametrize("script", SCRIPTS, ids=NAMES)
def test_the_notebook_is_the_pair(script):
    text, notebook = jupytext.read(script), jupytext.read(script.with_suffix(".ipynb"))
    assert [(c.cell_type, c.source) for c in notebook.cells] == [
        (c.cell_type, c.source) for c in text.cells
    ], f"run: make notebooks NOTEBOOKS={script.stem}"


@pytest.mark.parametrize("script", SCRIPTS, ids=NAMES)
def test_outputs_are_those_that_make_notebooks_keeps(script):
    """All cells were run, in order, or none was."""
    notebook = jupytext.read(script.with_suffix(".ipynb"))
    code = [c for c in notebook.cells if c.cell_type == "code"]
    numbers = [c.execution_count for c in code]
    assert numbers in ([None] * len(code), list(range(1, len(code) + 1)))
    for output in [o for cell in code for o in cell.outputs]:
        assert output.output_type != "error"
        assert output.get("name") != "stderr"
        assert not output.get("metadata")
    assert not any("execution" in c.metadata for c in notebook.cells)  # when it was
    assert "language_info" not in notebook.metadata
    assert any(c.outputs for c in code) == ("sbitools" in notebook.metadata)


def test_all_notebooks_are_small():
    """The repository is cloned by everybody."""
    assert sum(path.stat().st_size for path in FOLDER.glob("*.ipynb")) < 2e6


PLOT = """\
# %%
import os, sys
import matplotlib.pyplot as plt
print("small", os.environ["SBITOOLS_SMALL"], file=sys.stdout)
print("a warning", file=sys.stderr)
plt.imshow([[i * j % 251 for i in range(99)] for j in range(99)])
plt.show()
"""


def test_a_tutorial_is_run_and_tidied(tmp_path):
    """With its figure, also where MPLBACKEND=Agg, as for tests.

    It has 80 dots per inch, thus 6.4 x 4.8 inches or, cut to what is drawn, less.
    """
    (tmp_path / "one.py").write_text(PLOT)
    first, again = (notebooks.executed(tmp_path / "one.py") for _ in range(2))
    assert first == again
    assert first.metadata["sbitools"] == {"setting": "small"}  # docs/conf.py says so on the page
    (cell,) = first.cells
    stream, figure = cell.outputs
    assert stream.text == "small 1\n"
    assert list(figure.data) == ["image/png"]
    png = base64.b64decode(figure.data["image/png"])
    width, height = struct.unpack(">II", png[16:24])
    assert 200 < width <= 6.4 * notebooks.DPI
    assert 200 < height <= 4.8 * notebooks.DPI


def test_a_tutorial_that_fails_is_left_as_it_was(tmp_path, monkeypatch, capsys):
    (tmp_path / "bad.py").write_text("# %%\nraise RuntimeError('no')\n")
    (tmp_path / "bad.ipynb").write_text("as it was")
    monkeypatch.setattr(notebooks, "FOLDER", tmp_path)
    assert notebooks.main([]) == 1
    assert "bad FAILED" in capsys.readouterr().err
    assert (tmp_path / "bad.ipynb").read_text() == "as it was"


def test_paths_do_not_tell_where_it_ran_and_outputs_are_short():
    stream, shown = (
        nbformat.v4.new_output("stream", text="in /runs/here/x"),
        nbformat.v4.new_output("display_data", {"text/html": "<a href=/runs/here/y>"}),
    )  # fmt: skip
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(outputs=[stream, shown])])
    tidied = notebooks.tidy(book, Path("/runs/here")).cells[0].outputs
    assert tidied[0].text == "in x"
    assert tidied[1].data == {"text/html": "<a href=y>"}
    tidied[0].text = "a" * 60_000
    with pytest.raises(ValueError, match="cell 0: its output has 600"):
        notebooks.tidy(book, Path("/runs/here"))


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
