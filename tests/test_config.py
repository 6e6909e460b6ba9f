"""Configurations: what is wrong is named by its path, with the fix; nothing wrong gets through."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sbitools.commands.demo import demo_config, demo_text
from sbitools.config import RunConfig, apply_overrides, load_config, parse_config
from sbitools.errors import ConfigError
from sbitools.report.provenance import toml_text

GOOD = {"system": "line", "run_dir": "run", "seed": 1}


def test_defaults_fill_in():
    config = parse_config(GOOD)
    assert config.workers == 2
    assert config.reference.n_test == 512
    assert config.observe == []
    assert config.repair.method == "none"


@pytest.mark.parametrize(
    ("change", "subject", "fix"),
    [
        ({"refrence": {}}, "refrence", "did you mean 'reference'?"),
        ({"reference": {"n_trian": 3}}, "reference.n_trian", "did you mean 'n_train'?"),
        ({"zzz": 1}, "zzz", "remove 'zzz'"),
        ({"seed": -1}, "seed", "--set seed="),
        ({"seed": 1 << 63}, "seed", "--set seed="),
        ({"workers": 0}, "workers", "--set workers="),
        ({"workers": "two"}, "workers", "--set workers="),
        ({"calibrate": {"n_draws": 3}}, "calibrate.n_draws", "--set calibrate.n_draws="),
        ({"calibrate": {"false_alarm": 1.0}}, "calibrate.false_alarm", "--set calibrate"),
        ({"reference": {"time_limit": 0}}, "reference.time_limit", "--set reference.time_limit="),
        ({"repair": {"method": "hope"}}, "repair.method", "--set repair.method="),
        ({"repair": {"folds": 1}}, "repair.folds", "--set repair.folds="),
        ({"observe": {"kind": "noise"}}, "observe", "--set observe="),
    ],
)
def test_what_is_wrong_is_named_with_its_fix(change, subject, fix):
    with pytest.raises(ConfigError) as caught:
        parse_config(GOOD | change)
    assert caught.value.subject == subject
    assert fix in caught.value.fix


@pytest.mark.parametrize("name", ["system", "run_dir", "seed"])
def test_a_missing_field_is_named(name):
    with pytest.raises(ConfigError) as caught:
        parse_config({k: v for k, v in GOOD.items() if k != name})
    assert caught.value.subject == name
    assert "nothing" in caught.value.got
    assert f"add `{name} = ...`" in caught.value.fix


def test_a_missing_file_and_bad_toml(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        load_config(tmp_path / "absent.toml")
    bad = tmp_path / "bad.toml"
    bad.write_text("seed = = 3\n")
    with pytest.raises(ConfigError, match="valid TOML"):
        load_config(bad)
    for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"):
        bad.write_bytes("seed = 3\n".encode(encoding))
        with pytest.raises(ConfigError, match=f"{encoding[:6].upper()}.*save it as UTF-8"):
            load_config(bad)
    bad.write_bytes("title = 'é'\n".encode("latin-1"))
    with pytest.raises(ConfigError, match="such as Latin-1"):
        load_config(bad)


def test_overrides_are_typed_and_reach_into_lists():
    values = GOOD | {"observe": [{"kind": "noise", "sigma": 1.0}]}
    new = apply_overrides(values, ["train.epochs=3", "observe.0.sigma=0.5", "run_dir=other",
                                   "train.flow='maf'", "reference.n_test = 9"])  # fmt: skip
    config = parse_config(new)
    assert config.train == {"epochs": 3, "flow": "maf"}
    assert config.observe == [{"kind": "noise", "sigma": 0.5}]
    assert str(config.run_dir) == "other"
    assert config.reference.n_test == 9
    assert values["observe"][0]["sigma"] == 1.0, "the original is not changed"


@pytest.mark.parametrize("text", ["epochs", "=3", "seed.x=3", "observe.7.sigma=1", "a..b=1"])
def test_bad_overrides_are_refused(text):
    with pytest.raises(ConfigError, match="--set"):
        apply_overrides(GOOD | {"observe": []}, [text])


scalars = st.one_of(
    st.booleans(), st.integers(-(2**62), 2**62), st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(blacklist_categories=["Cs"])),
)  # fmt: skip
names = st.from_regex(r"[a-z][a-z_]{0,8}", fullmatch=True)
values = st.one_of(scalars, st.lists(scalars, max_size=3))
tables = st.dictionaries(names, st.one_of(values, st.dictionaries(names, values, max_size=3),
                                          st.lists(st.dictionaries(names, values, min_size=1,
                                                                   max_size=2), min_size=1,
                                                   max_size=2)), max_size=4)  # fmt: skip


@given(tables)
def test_the_reports_toml_reads_back(table):
    assert tomllib.loads(toml_text(table)) == table


@pytest.mark.parametrize("small", [False, True])
def test_the_packaged_demo_is_valid(small):
    config = demo_config("nbody", small, ["run_dir='elsewhere'"])
    assert isinstance(config, RunConfig)
    assert str(config.run_dir) == "elsewhere"
    assert tomllib.loads(demo_text("nbody", small))["system"] == "nbody"


def test_the_full_demo_is_as_large_as_promised():
    config = demo_config("nbody")
    assert config.emulated.n_train >= 4000
    assert min(config.emulated.n_test, config.reference.n_test) >= 500
