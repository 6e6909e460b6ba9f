"""The file of a table: round trip, interpolation, and everything that can be wrong with it."""

import math
from dataclasses import replace

import numpy as np
import pytest

from emulators.reionization.instrument import Background, NoiseTable, read_table, write_table
from sbitools.errors import ObservationError, StoreError

FREQUENCY = np.array([100.0, 120.0, 150.0])
K = np.array([0.1, 0.2, 0.5, 1.0])
MODE = np.outer([3.0, 2.0, 1.0], K**2)
AVERAGE = np.where(K < 0.15, np.inf, MODE / 50)


def small(**changes):
    table = NoiseTable(
        "a telescope", "moderate", 1000.0, Background(), "horizon", 0.07, 38.0, (45.0, 5000.0),
        FREQUENCY, K, {"mode": MODE, "average": AVERAGE},
    )  # fmt: skip
    return replace(table, **changes)


def test_a_file_holds_all_of_a_table(tmp_path):
    path = tmp_path / "a.csv"
    write_table(path, small())
    again = read_table(path)
    for name in ("telescope", "scenario", "hours", "background", "foregrounds", "buffer",
                 "station", "baselines"):  # fmt: skip
        assert getattr(again, name) == getattr(small(), name)
    for name in ("mode", "average"):
        np.testing.assert_allclose(again.powers[name], small().powers[name], rtol=5e-4)
    np.testing.assert_allclose(again.frequency, FREQUENCY, rtol=5e-6)
    write_table(tmp_path / "b.csv", again)
    assert (tmp_path / "b.csv").read_bytes() == path.read_bytes()
    write_table(path, small(powers={"average": AVERAGE}))  # replaces the first
    assert list(read_table(path).powers) == ["average"]
    with pytest.raises(StoreError, match="fix: "):
        write_table(tmp_path / "absent" / "a.csv", small())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.csv", "b.csv"]


def test_powers_between_two_frequencies_lie_on_a_power_law():
    table = small(powers={"mode": np.outer(FREQUENCY**-2.5, K**2), "average": AVERAGE})
    for frequency in (100.0, 107.0, 130.0, 150.0):
        np.testing.assert_allclose(table.at(frequency), frequency**-2.5 * K**2, rtol=1e-12)
    partly = AVERAGE.copy()
    partly[0, 1] = np.inf
    got = small(powers={"average": partly}).at(110.0, "average")
    assert np.isinf(got).tolist() == [True, True, False, False]
    assert np.isfinite(small(powers={"average": partly}).at(120.0, "average")[1])
    for frequency in (99.0, 151.0):
        with pytest.raises(ObservationError, match=r"100\.00 to 150\.00 MHz"):
            table.at(frequency)
    with pytest.raises(ObservationError, match="'median'"):
        table.at(120.0, "median")


def test_where_foregrounds_come_from_sets_the_wedge():
    slope = {name: small(foregrounds=name).wedge_slope(120.0) for name in
             ("none", "beam", "horizon")}  # fmt: skip
    assert slope["none"] == 0.0
    assert slope["horizon"] == float(Background().wedge_slope(1.0, 120.0))
    # Half of the first null, 1.22 lambda / D, of 2.498 m and 38 m.
    assert slope["beam"] / slope["horizon"] == pytest.approx(
        math.sin(0.61 * 2.4983 / 38), rel=1e-4
    )
    # A station smaller than the wave sees the whole sky.
    assert small(foregrounds="beam", station=0.5).wedge_slope(120.0) == slope["horizon"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frequency": FREQUENCY[::-1]}, "ascending positive frequencies"),
        ({"frequency": np.append(0.0, FREQUENCY[1:])}, "ascending positive frequencies"),
        ({"k": np.append(K[:-1], np.nan)}, "ascending positive wavenumbers"),
        ({"k": K[:1]}, "two or more"),
        ({"powers": {}}, "powers mode or average"),
        ({"powers": {"median": MODE}}, "powers mode or average"),
        ({"powers": {"mode": MODE[:2]}}, r"mode of shape \(3, 4\)"),
        ({"powers": {"mode": -MODE}}, "mode positive or infinite"),
        ({"powers": {"mode": np.where(MODE > 2, np.nan, MODE)}}, "mode positive or infinite"),
        ({"hours": 0.0}, "positive hours"),
        ({"baselines": (100.0, 50.0)}, "ascending baselines"),
        ({"background": Background(math.nan)}, "omega_m"),
        ({"buffer": -0.1}, "buffer"),
        ({"foregrounds": "moon"}, "foregrounds"),
        ({"telescope": "two\nlines"}, "one line"),
    ],
)
def test_bad_values_raise_typed_errors(changes, message):
    with pytest.raises(ObservationError, match=rf"expected .*{message}.*; got .*; fix: "):
        small(**changes)


def spoilt(text, change):
    lines = text.split("\n")
    change(lines)
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t[: len(t) // 2], "truncated"),
        (lambda t: t.replace("# end\n", ""), "truncated"),
        (lambda t: t.replace("# end", ""), "truncated"),
        (lambda _: "", "the first line"),
        (lambda _: "k,power\n1,2\n# end", "the first line"),
        (lambda t: t.replace("table 1", "table 2"), "the first line"),
        (lambda t: t.replace("# hours: 1000.0\n", ""), "the header"),
        (lambda t: t.replace("# hours", "# days"), "the header"),
        (lambda t: t.replace("1000.0", "long"), "numbers; got 'long'"),
        (lambda t: t.replace("mK^2", "K^2"), "units"),
        (lambda t: t.replace("k_per_Mpc", "k"), "columns"),
        (lambda t: t.replace("mode_mK2", "median_mK2"), "columns"),
        (lambda t: spoilt(t, lambda rows: rows.pop(14)), "same wavenumbers"),
        (lambda t: spoilt(t, lambda rows: rows.insert(13, rows.pop(18))), "same k at each"),
        (lambda t: spoilt(t, lambda rows: rows.insert(13, rows.pop(14))), "same k at each"),
        (lambda t: spoilt(t, lambda rows: rows.insert(14, "100,0.2,1")), "in every row"),
        (lambda t: t.replace(",inf", ",nan", 1), "average positive or infinite"),
        (lambda t: t.replace(",inf", ",-1", 1), "average positive or infinite"),
        (lambda t: t.replace(",inf", ",much", 1), "numbers; got 'much'"),
        (lambda t: t.replace("horizon", "moon"), "foregrounds"),
    ],
)  # fmt: skip
def test_damaged_files_raise_typed_errors(tmp_path, spoil, message):
    path = tmp_path / "noise.csv"
    write_table(path, small())
    path.write_text(spoil(path.read_text()))
    with pytest.raises(ObservationError, match=rf"noise\.csv: expected .*({message})"):
        read_table(path)


def test_files_that_cannot_be_read_raise_typed_errors(tmp_path):
    with pytest.raises(ObservationError, match="can be read; got No such file"):
        read_table(tmp_path / "absent.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ObservationError, match="can be read; got not text"):
        read_table(tmp_path / "binary.csv")
