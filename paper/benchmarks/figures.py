"""The picture of the README and the paper, from a finished run of the demo.

`python paper/benchmarks/figures.py --run DIR` reads what the stages have left, draws it with the
functions of the report and writes `paper/figures/chain.png`: one held-out universe by reference,
emulator and Zel'dovich approximation; transfer function and cross-correlation of all held-out
ones; ranks on emulated and on reference tests. Nothing is computed or chosen here. The date and
the verdict of the run, which belong into the caption, are printed.
"""

from __future__ import annotations

import argparse
import base64
import datetime
import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sbitools.calibration import CalibrationResult
from sbitools.report.artifacts import load_statistics
from sbitools.report.emulator_figures import _field_figure, _spectrum
from sbitools.report.figures import EMULATED, REFERENCE, canvas, embed, styled

__all__ = ["main"]

OUT = Path(__file__).resolve().parents[1] / "figures" / "chain.png"
LIMIT = 300_000  # bytes: the file is in the repository
CURVES = ("transfer", "correlation")


@styled
def curves(statistics: Mapping[str, Any], result: CalibrationResult, width: float) -> str:
    """Emulator against its rivals, and the ranks of the posterior, as a data URI."""
    figure, axes = canvas(1, len(CURVES) + 1, size=(width, 3.3))
    for ax, key in zip(axes[0], CURVES, strict=False):
        _spectrum(ax, key, statistics["curves"][key], statistics)
    axes[0, 0].legend(loc="lower left")
    ranks = axes[0, -1]
    result.check("sbc").plot(ranks, label="emulated", color=EMULATED)
    result.check("sbc", "reference").plot(ranks, label="reference", color=REFERENCE)
    ranks.set_title("ranks of the true parameters")
    ranks.legend(fontsize=7, loc="lower center", ncols=2, columnspacing=1.0, handlelength=1.6)
    return embed(figure, "png")


def stacked(uris: Sequence[str]) -> bytes:
    """PNG pictures below each other."""
    from PIL import Image

    pictures = [
        Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB")
        for uri in uris
    ]
    size = max(p.width for p in pictures), sum(p.height for p in pictures)
    page, top = Image.new("RGB", size, "white"), 0
    for picture in pictures:
        page.paste(picture, ((size[0] - picture.width) // 2, top))
        top += picture.height
    stream = io.BytesIO()
    page.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def main(argv: Sequence[str] | None = None) -> int:
    """Draw; 1 if the file became too large."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--run", type=Path, required=True, help="folder of a finished run")
    parser.add_argument("--out", type=Path, default=OUT, help="the picture, .png")
    chosen = parser.parse_args(argv)
    statistics = load_statistics(chosen.run / "validation" / "statistics.npz")
    source = chosen.run / "calibration" / "result.json"
    result = CalibrationResult.from_json(source)
    fields = statistics["fields"]
    picture = stacked([
        _field_figure(fields, statistics.get("fields_label", "")),
        curves(statistics, result, 2.2 * len(fields)),
    ])  # fmt: skip
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_bytes(picture)
    date = datetime.datetime.fromtimestamp(source.stat().st_mtime, datetime.UTC)
    print(f"{chosen.out.name}: {len(picture)} bytes; calibrated {date:%Y-%m-%d}")
    print(f"{statistics['n']} held-out simulations of the emulator. {result.verdict}")
    return int(len(picture) > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
