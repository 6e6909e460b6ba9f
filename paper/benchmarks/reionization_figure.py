"""True and emulated 21cm planes side by side: writes `paper/figures/reionization.png`.

Each row has the parameters of one shipped test plane: that plane, and emulated ones of three
seeds. The planes are the first ones in the set whose ionised share is near a quarter, a half and
three quarters; nothing else is chosen. Needs no 21cmFAST.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from figures import LIMIT, stacked

from emulators.reionization import shipped
from sbitools.report.figures import canvas, embed, styled

OUT = Path(__file__).resolve().parents[1] / "figures" / "reionization.png"
SHARES = (0.25, 0.5, 0.75)
SEEDS = 3


@styled
def picture() -> str:
    """As a data URI."""
    with tempfile.TemporaryDirectory() as folder:
        store = shipped.store("test", Path(folder) / "test")
        x, theta = store.read(store.done), store.theta[store.done]
    ionised = (x == 0).float().mean((1, 2))
    rows = [int(torch.nonzero((ionised - share).abs() < 0.03)[0]) for share in SHARES]
    emulator = shipped.emulator()
    figure, axes = canvas(len(rows), 1 + SEEDS, size=(8.0, 5.7))
    for line, row in zip(axes, rows, strict=True):
        drawn = emulator.simulate(theta[[row] * SEEDS], torch.arange(SEEDS))
        top = float(x[row].max())
        for ax, field in zip(line, [x[row], *drawn], strict=True):
            image = ax.imshow(field.T, origin="lower", vmin=0, vmax=top, cmap="inferno",
                              extent=(0, 128, 0, 128), interpolation="nearest")  # fmt: skip
            ax.set_xticks([])
            ax.set_yticks([])
        figure.colorbar(image, ax=line, shrink=0.9, label="mK")
        values = dict(zip(emulator.parameters.names, theta[row].tolist(), strict=True))
        line[0].set_ylabel(f"ζ = {values['zeta']:.0f}, lg T = {values['log10_Tvir']:.1f}")
    for ax, title in zip(axes[0], ["21cmFAST", *[f"emulated, seed {i}" for i in range(SEEDS)]],
                         strict=True):  # fmt: skip
        ax.set_title(title)
    return embed(figure, "png")


def main(argv: Sequence[str] | None = None) -> int:
    """Draw; 1 if the file became too large."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=OUT, help="the picture, .png")
    chosen = parser.parse_args(argv)
    content = stacked([picture()])
    chosen.out.write_bytes(content)
    print(f"{chosen.out.name}: {len(content)} bytes")
    return int(len(content) > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
