"""Tables of noise against frequency and wavenumber, in a text file that says what it holds.

    # sbitools noise table 1
    # telescope: SKA1-Low, model of 512 stations
    # scenario: moderate
    # hours: 1080.0
    # omega_m: 0.3158
    # h: 0.6766
    # foregrounds: horizon
    # buffer_per_Mpc: 0.06766
    # station_m: 38.0
    # shortest_baseline_m: 45.0
    # longest_baseline_m: 60707.4
    # units: MHz, 1/Mpc, mK^2
    frequency_MHz,k_per_Mpc,mode_mK2,average_mK2
    39.0527,0.01,12.3,inf
    ...
    # end

Rows ascend in frequency, and in k within each frequency; all frequencies have the same k. Of the
two columns of powers, one may be missing. ``mode_mK2`` is k^3 P_N / (2 pi^2) of a mode with
k_perp = k, P_N(k_perp) the power of the noise of single modes; ``average_mK2`` is the error of
Delta^2(k) averaged over a shell. Both are infinite where nothing is measured. ``foregrounds`` says
from where they come: ``none``, ``beam`` (up to half of the first null of a station's beam,
0.61 lambda / D) or ``horizon``; ``buffer_per_Mpc`` how far they leak beyond that wedge.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sbitools.disk.files import write_atomic
from sbitools.errors import ObservationError
from sbitools.gate.plain import as_path

from .geometry import Background, wavelength

__all__ = ["NoiseTable", "foreground_sine", "read_table", "write_table"]

_FIRST, _LAST = "# sbitools noise table 1", "# end"
_UNITS = "MHz, 1/Mpc, mK^2"
_COLUMNS = {"mode": "mode_mK2", "average": "average_mK2"}
_AXES = ["frequency_MHz", "k_per_Mpc"]
_FOREGROUNDS = ("none", "beam", "horizon")
_MAX_FILE = 64 << 20
_TEXT = ("telescope", "scenario", "foregrounds", "units")
_NUMBERS = (
    "hours", "omega_m", "h", "buffer_per_Mpc", "station_m", "shortest_baseline_m",
    "longest_baseline_m",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class NoiseTable:
    """Noise of one telescope, foreground scenario and time of integration.

    Args:
        telescope: its name.
        scenario: its name.
        hours: of integration on one field.
        background: the cosmology of the wavenumbers.
        foregrounds: ``"none"``, ``"beam"`` or ``"horizon"``.
        buffer: beyond the wedge, in 1/Mpc.
        station: diameter in m.
        baselines: shortest and longest, in m.
        frequency: ascending, in MHz, (n_f,).
        k: ascending, in 1/Mpc, (n_k,).
        powers: ``"mode"``, ``"average"`` or both, in mK^2, (n_f, n_k), positive or infinite.

    Raises:
        ObservationError: for values that cannot be used.
    """

    telescope: str
    scenario: str
    hours: float
    background: Background
    foregrounds: str
    buffer: float
    station: float
    baselines: tuple[float, float]
    frequency: np.ndarray
    k: np.ndarray
    powers: dict[str, np.ndarray]

    def __post_init__(self) -> None:
        shape = (len(self.frequency), len(self.k))
        self._check(_ascending(self.frequency), "ascending positive frequencies",
                    self.frequency)  # fmt: skip
        self._check(_ascending(self.k), "two or more ascending positive wavenumbers", self.k)
        known = bool(self.powers) and set(self.powers) <= set(_COLUMNS)
        self._check(known, f"powers {' or '.join(_COLUMNS)}", list(self.powers))
        for name, power in self.powers.items():
            same = power.shape == shape
            self._check(same, f"{name} of shape {shape}", power.shape)
            bad = power[~(power > 0)]  # also NaN
            self._check(not len(bad), f"{name} positive or infinite", bad[:3])
        low, high = self.baselines
        numbers = np.array([self.hours, self.station, low, self.background.h,
                            self.background.omega_m])  # fmt: skip
        positive = bool(((numbers > 0) & (numbers < np.inf)).all() and low < high < np.inf)
        self._check(positive, "positive hours, station, ascending baselines, h and omega_m",
                    (*numbers.tolist(), high))  # fmt: skip
        self._check(0 <= self.buffer < np.inf, "a buffer of 0 or more", self.buffer)
        self._check(self.foregrounds in _FOREGROUNDS, f"foregrounds of {_FOREGROUNDS}",
                    repr(self.foregrounds))  # fmt: skip
        lines = all("\n" not in text for text in (self.telescope, self.scenario))
        self._check(lines, "names of one line", repr(self.telescope))

    def _check(self, ok: bool, expected: str, got: object) -> None:
        if not ok:
            shown = got.tolist() if isinstance(got, np.ndarray) else got
            raise ObservationError(
                f"noise table of {self.telescope}", expected=expected, got=str(shown)[:80],
                fix="correct the table, or make it again",
            )  # fmt: skip

    def at(self, frequency: float, quantity: str = "mode") -> np.ndarray:
        """Powers at one frequency in MHz, (n_k,): ln power is linear in ln frequency.

        Raises:
            ObservationError: if the table does not reach there or has no such column.
        """
        self._check(quantity in self.powers, f"one of {list(self.powers)}", repr(quantity))
        low, high = self.frequency[[0, -1]]
        # The file keeps six digits of the frequencies.
        reached = low * (1 - 1e-5) <= frequency <= high * (1 + 1e-5)
        self._check(reached, f"a frequency from {low:.2f} to {high:.2f} MHz",
                    f"{frequency:.2f} MHz")  # fmt: skip
        place = np.interp(
            np.log(frequency), np.log(self.frequency), np.arange(len(self.frequency))
        )
        below = min(int(place), len(self.frequency) - 2)
        share = place - below
        pair = self.powers[quantity][below : below + 2]
        if share in (0.0, 1.0):
            return pair[int(share)]
        finite = np.isfinite(pair)
        log = np.log(np.where(finite, pair, 1.0))
        return np.where(finite.all(0), np.exp((1 - share) * log[0] + share * log[1]), np.inf)

    def wedge_slope(self, frequency: float) -> float:
        """Modes with |k_par| < slope k_perp + buffer hold foregrounds."""
        sine = foreground_sine(self.foregrounds, self.station, frequency)
        return float(self.background.wedge_slope(sine, frequency))


def foreground_sine(foregrounds: str, station: float, frequency: float) -> float:
    """Sine of the largest angle from which foregrounds come.

    Args:
        foregrounds: ``"none"``, ``"beam"`` or ``"horizon"``.
        station: diameter in m.
        frequency: in MHz.
    """
    if foregrounds == "beam":
        # Beyond the first null of a long wave the beam is the whole sky.
        return float(np.sin(min(0.61 * wavelength(frequency) / station, np.pi / 2)))
    return float(foregrounds == "horizon")


def write_table(path: str | Path, table: NoiseTable) -> None:
    """Write the file, whole or not at all; powers have four digits.

    Raises:
        StoreError: if the disk refuses.
    """
    header = {
        "telescope": table.telescope, "scenario": table.scenario, "hours": table.hours,
        "omega_m": table.background.omega_m, "h": table.background.h,
        "foregrounds": table.foregrounds, "buffer_per_Mpc": f"{table.buffer:.6g}",
        "station_m": table.station, "shortest_baseline_m": f"{table.baselines[0]:.6g}",
        "longest_baseline_m": f"{table.baselines[1]:.6g}", "units": _UNITS,
    }  # fmt: skip
    lines = [_FIRST, *(f"# {key}: {value}" for key, value in header.items())]
    lines.append(",".join(_AXES + [_COLUMNS[name] for name in table.powers]))
    for i, frequency in enumerate(table.frequency):
        for j, k in enumerate(table.k):
            powers = (f"{power[i, j]:.4g}" for power in table.powers.values())
            lines.append(",".join([f"{frequency:.6g}", f"{k:.5g}", *powers]))
    write_atomic(as_path(path), "\n".join([*lines, _LAST, ""]).encode())


def read_table(path: str | Path) -> NoiseTable:
    """Read a file of the format that the module describes.

    Raises:
        ObservationError: if it cannot be read, is of another format, truncated, or holds values
            that cannot be used.
    """
    path = as_path(path)
    lines = _lines(path)
    start = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    header = _header(path, lines[1:start])
    names, rows = _rows(path, lines[start:-1])
    n_k = int((rows[:, 0] == rows[0, 0]).sum())
    grid = len(rows) % n_k == 0
    _check(path, grid, "the same wavenumbers at every frequency", f"{len(rows)} rows")
    block = rows.reshape(-1, n_k, rows.shape[1])
    grid = bool(
        (block[:, :, 0] == block[:, :1, 0]).all() and (block[..., 1] == block[0, :, 1]).all()
    )
    _check(path, grid, "rows sorted by frequency, the same k at each", "another order")
    try:
        return NoiseTable(
            str(header["telescope"]), str(header["scenario"]), float(header["hours"]),
            Background(float(header["omega_m"]), float(header["h"])), str(header["foregrounds"]),
            float(header["buffer_per_Mpc"]), float(header["station_m"]),
            (float(header["shortest_baseline_m"]), float(header["longest_baseline_m"])),
            block[:, 0, 0], block[0, :, 1],
            {name: block[..., 2 + i] for i, name in enumerate(names)},
        )  # fmt: skip
    except ObservationError as error:
        raise ObservationError(
            str(path), expected=error.expected, got=error.got, fix=error.fix
        ) from error


def _lines(path: Path) -> list[str]:
    try:
        size = path.stat().st_size
        _check(path, size <= _MAX_FILE, f"a file of at most {_MAX_FILE} bytes", size)
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        got = getattr(error, "strerror", None) or "not text"
        raise ObservationError(
            str(path), expected="a noise table that can be read", got=got, fix="correct the path"
        ) from error
    _check(path, lines[:1] == [_FIRST], f"the first line {_FIRST!r}", repr(lines[:1])[:80])
    _check(path, lines[-1] == _LAST, f"the last line {_LAST!r}: it is truncated",
           repr(lines[-1])[:80])  # fmt: skip
    return lines


def _header(path: Path, lines: list[str]) -> dict[str, float | str]:
    pairs: dict[str, str] = {}
    for line in lines:
        key, _, value = line.lstrip("# ").partition(": ")
        pairs[key] = value
    expected = [*_TEXT, *_NUMBERS]
    _check(path, sorted(pairs) == sorted(expected), f"the header {expected}", list(pairs))
    _check(path, pairs["units"] == _UNITS, f"units: {_UNITS}", pairs["units"])
    return pairs | {name: _number(path, pairs[name]) for name in _NUMBERS}


def _rows(path: Path, lines: list[str]) -> tuple[list[str], np.ndarray]:
    """Names of the powers, and all numbers."""
    columns = lines[0].split(",") if lines else []
    names = [name for name, column in _COLUMNS.items() if column in columns]
    whole = len(lines) > 1 and columns == _AXES + [_COLUMNS[name] for name in names] and names
    _check(path, bool(whole), f"columns {_AXES + list(_COLUMNS.values())} and rows", columns)
    rows = [line.split(",") for line in lines[1:]]
    uneven = [i for i, row in enumerate(rows) if len(row) != len(columns)]
    _check(path, not uneven, f"{len(columns)} numbers in every row", f"another row {uneven[:1]}")
    return names, np.array([[_number(path, value) for value in row] for row in rows])


def _number(path: Path, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        pass
    raise ObservationError(
        str(path), expected="numbers", got=repr(text)[:80], fix="make the table again"
    )


def _ascending(values: np.ndarray) -> bool:
    two = values.ndim == 1 and len(values) >= 2
    return bool(two and values[0] > 0 and (np.diff(values) > 0).all() and values[-1] < np.inf)


def _check(path: Path, ok: bool, expected: str, got: object) -> None:
    if not ok:
        raise ObservationError(
            str(path), expected=expected, got=str(got), fix="make the table again"
        )
