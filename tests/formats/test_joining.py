"""Files are joined with the rows of a table by their numbers, not by their order."""

import numpy as np
import pandas as pd
import pytest

from sbitools.errors import ParameterError
from sbitools.formats import open_fields, read_table, rows_for


def test_rows_are_found_by_number(tmp_path):
    numbers = np.random.default_rng(0).permutation(12) + 5
    pd.DataFrame({"run": numbers, "a": numbers / 100}).to_csv(tmp_path / "t.csv", index=False)
    for i in numbers:
        np.save(tmp_path / f"run_{i}.npy", np.full(3, i / 100))
    table = read_table(tmp_path / "t.csv")
    with open_fields(tmp_path / "run_*.npy") as fields:
        rows = rows_for(table, fields.indices, "run")
        assert np.array_equal(table.columns["a"][rows], fields[:][:, 0])


BAD = {
    "no such column": ([1, 2], "x", [1, 2]), "others": ([1.5, 2], "run", [1, 2]),
    "2 twice": ([1, 2, 2], "run", [1, 2]), "no row for": ([1, 2], "run", [1, 2, 3]),
    "rows without a file": ([1, 2, 3], "run", [1, 2]),
}  # fmt: skip


@pytest.mark.parametrize("message", BAD)
def test_numbers_that_do_not_match(tmp_path, message):
    numbers, column, indices = BAD[message]
    pd.DataFrame({"run": numbers}).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(ParameterError, match=message):
        rows_for(read_table(tmp_path / "t.csv"), np.array(indices), column)
