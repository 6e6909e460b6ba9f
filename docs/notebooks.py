"""Run the tutorials and keep what they show: `make notebooks`.

Each script of `tutorials/` is run as a notebook in a folder of its own, at its small setting, and
written beside the script with its outputs, which the documentation then shows without running
anything, and with a note that they are of the small setting (`docs/conf.py`). Outputs are made
small, and free of what changes from run to run though nothing has changed: times, identifiers,
warnings on stderr. A notebook that fails is left as it was.
"""

from __future__ import annotations

import argparse
import base64
import io
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient
from PIL import Image

__all__ = ["executed", "main", "tidy"]

FOLDER = Path(__file__).resolve().parents[1] / "tutorials"
DPI = 80
_COLOURS = 64  # of a figure: lines, letters and one colour map look as they did
_KINDS = ("image/png", "text/html", "text/markdown", "text/plain")  # the first that there is
_LONGEST = 50_000  # letters of one output


def executed(script: Path, small: bool = True, timeout: int = 3600) -> Any:
    """The notebook of a script with its outputs, tidied.

    Args:
        script: in jupytext's percent format.
        small: at the setting that the tests run.
        timeout: seconds of one cell.

    Raises:
        nbclient.exceptions.CellExecutionError: if a cell fails.
    """
    notebook = jupytext.read(script)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "matplotlibrc").write_text(f"figure.dpi: {DPI}\n", encoding="utf-8")
        inside = {
            "MPLBACKEND": "module://matplotlib_inline.backend_inline",
            "SBITOOLS_SMALL": str(int(small)), "MATPLOTLIBRC": name, "OMP_NUM_THREADS": "1",
            "COLUMNS": "99",
            "PYTHONPATH": os.pathsep.join([str(FOLDER.parent), os.environ.get("PYTHONPATH", "")]),
        }  # fmt: skip
        client = NotebookClient(
            notebook, timeout=timeout, kernel_name="python3", record_timing=False,
            resources={"metadata": {"path": name}},
        )  # fmt: skip
        client.execute(env=os.environ | inside)
        notebook.metadata["sbitools"] = {"setting": "small" if small else "full"}
        return tidy(notebook, folder)


def tidy(notebook: Any, folder: Path) -> Any:
    """`notebook` without what differs between runs, and with small figures.

    Args:
        notebook: changed in place.
        folder: where it ran, which is cut off from paths.

    Raises:
        ValueError: if an output is too long.
    """
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        cell.metadata.pop("execution", None)  # when it was
        if cell.cell_type == "code":
            outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
            cell.outputs = [_tidied(output, f"{folder}/") for output in outputs]
            length = sum(len(text) for output in cell.outputs for text in _texts(output))
            if length > _LONGEST:
                raise ValueError(f"cell {number}: its output has {length} letters; shorten it")
    notebook.metadata.pop("language_info", None)  # a version of Python
    return notebook


def _tidied(output: Any, folder: str) -> Any:
    if "data" not in output:
        output.text = output.get("text", "").replace(folder, "")
        return output
    output.metadata = {}
    kind = next((kind for kind in _KINDS if kind in output.data), None)
    kept = {} if kind is None else {kind: output.data[kind].replace(folder, "")}
    output.data = {k: _small(v) if k == "image/png" else v for k, v in kept.items()}
    return output


def _small(png: str) -> str:
    """A figure with few colours: a third of its bytes."""
    image = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    out = io.BytesIO()
    image.quantize(_COLOURS, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
    return base64.b64encode(out.getvalue()).decode()


def _texts(output: Any) -> list[str]:
    data = output.get("data", {"text": output.get("text", "")})
    return [text for kind, text in data.items() if kind != "image/png"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tutorials, one after the other; 1 if one failed."""
    scripts = {path.stem: path for path in sorted(FOLDER.glob("*.py"))}
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="as 01_chain; all if not given")
    parser.add_argument("--full", action="store_true", help="at the full setting, of hours")
    chosen = parser.parse_args(argv)
    if unknown := set(chosen.names) - set(scripts):
        parser.error(f"no tutorial {', '.join(sorted(unknown))}; there are {', '.join(scripts)}")
    failed = False
    for name in chosen.names or scripts:
        begun = time.perf_counter()
        try:
            notebook = executed(scripts[name], small=not chosen.full)
        except Exception as error:  # the others are run all the same
            print(f"{name} FAILED, and is left as it was: {error}", file=sys.stderr)
            failed = True
            continue
        target = scripts[name].with_suffix(".ipynb")
        nbformat.write(notebook, target)
        size, seconds = target.stat().st_size / 1e3, time.perf_counter() - begun
        print(f"{name}: {size:.0f} kB, {seconds:.0f} s", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
