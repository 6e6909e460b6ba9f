"""What `sbitools init` proposes: priors, axes and splits of a stranger's files."""

from __future__ import annotations

import tomllib
from dataclasses import replace

import numpy as np
import pytest

from emulators.own import system
from emulators.own.settings import OwnSettings
from sbitools.config import parse_config
from sbitools.errors import ConfigError, ParameterError, SbitoolsError, StoreError
from sbitools.proposal import Files, proposal_text, propose
from sbitools.proposal.periodic import looks_periodic
from sbitools.proposal.priors import propose_prior, round_bounds, stratified
from sbitools.proposal.splits import propose_emulated
from sbitools.proposal.training import propose_training
from sbitools.proposal.write import write_proposal
from sbitools.simulator import FieldSpec

N = 64


def waves(rng, n, length=32):
    """Smooth and periodic along the last axis."""
    k = np.arange(1, 4)
    phase, t = rng.uniform(0, 2 * np.pi, (n, 3, 1)), np.arange(length)
    return np.cos(2 * np.pi * k[:, None] * t / length + phase).sum(1)


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(1)
    theta = rng.uniform([0.1, 60.0], [0.5, 90.0], (N, 2))
    np.save(tmp_path / "x.npy", waves(rng, N).astype(np.float32))
    rows = [f"{i},{a!r},{b!r},4.0,s{i}" for i, (a, b) in enumerate(theta.tolist())]
    (tmp_path / "t.csv").write_text("\n".join(["run,Omega_m,H0,seeds,label", *rows]) + "\n")
    return Files(str(tmp_path / "x.npy"), str(tmp_path / "t.csv"))


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
@pytest.mark.parametrize(("low", "high"), [(0.1, 0.5), (-3.0, 3.0), (0.0, 1.0), (60.0, 90.0)])
def test_bounds_are_the_round_numbers_that_priors_have(low, high, scale):
    values = np.random.default_rng(2).uniform(low * scale, high * scale, 512)
    assert round_bounds(values) == pytest.approx((low * scale, high * scale), rel=1e-12)


def test_bounds_hold_all_values():
    rng = np.random.default_rng(3)
    for _ in range(200):
        values = rng.normal(rng.normal(0, 10), 10 ** rng.uniform(-5, 5), rng.integers(8, 100))
        low, high = round_bounds(values)
        assert low <= values.min() < values.max() <= high
        width = np.ptp(values)
        assert high - low <= width * (1 + 10.0 / (len(values) - 1)) * (1 + 1e-9)


def test_what_speaks_against_a_uniform_prior_is_said():
    rng = np.random.default_rng(4)
    doubts = {
        "log_uniform": 10 ** rng.uniform(-2, 2, 400), '"normal"': rng.normal(3, 1, 400),
        "log_normal": np.exp(rng.normal(0, 1, 400)), "categorical": rng.integers(0, 3, 400),
        "grid": np.repeat(rng.uniform(0, 1, 20), 20),
    }  # fmt: skip
    for word, values in doubts.items():
        assert word in propose_prior(values.astype(float)).doubt
    assert propose_prior(rng.uniform(0, 1, 400)).doubt == ""


def test_a_latin_hypercube_is_recognised():
    rng = np.random.default_rng(5)
    cube = np.stack([(rng.permutation(100) + rng.uniform(size=100)) / 100 for _ in range(3)], 1)
    assert stratified(cube, [(0.0, 1.0)] * 3)
    assert not stratified(rng.uniform(size=(100, 3)), [(0.0, 1.0)] * 3)


def test_ends_of_an_axis_are_compared():
    rng = np.random.default_rng(6)
    closed = waves(rng, 20)
    assert looks_periodic(closed, 1)
    assert looks_periodic(1e-30 * closed + 1.0e-28, 1)
    assert not looks_periodic(closed[:, :20], 1)
    assert not looks_periodic(rng.normal(size=(20, 32)), 1)  # tells nothing: steps are all alike


def test_a_configuration_that_parses_and_leaves_out_what_is_no_parameter(files):
    found = propose(files)
    assert list(found.priors) == ["Omega_m", "H0"]
    assert set(found.left_out) == {"run", "seeds", "label"}
    assert found.priors["H0"].prior == {"kind": "uniform", "low": 60.0, "high": 90.0}
    assert [a.kind for a in found.x.axes] == ["periodic"]
    text = proposal_text(found, "results")
    config = parse_config(tomllib.loads(text))
    assert config.system == "own"
    assert config.settings["x"]["shape"] == [32]
    sizes = config.reference
    assert sizes.n_train + sizes.n_validation + sizes.n_test == N
    assert config.settings["priors_confirmed"] is False


def test_headings_that_are_no_names(tmp_path):
    rng = np.random.default_rng(7)
    np.save(tmp_path / "x.npy", rng.normal(size=(N, 5)))
    values = rng.uniform(0, 1, (N, 3))
    rows = [",".join(map(repr, row)) for row in values.tolist()]
    (tmp_path / "t.csv").write_text("\n".join(["H0 [km/s/Mpc],lambda,log10(L)", *rows]) + "\n")
    found = propose(Files(str(tmp_path / "x.npy"), str(tmp_path / "t.csv")))
    config = parse_config(tomllib.loads(proposal_text(found, "results")))
    settings = OwnSettings.model_validate(config.settings)
    assert [(p.name, p.column, p.unit) for p in settings.parameters] == [
        ("H0", "H0 [km/s/Mpc]", "km/s/Mpc"), ("lambda", None, ""), ("log10_L", "log10(L)", ""),
    ]  # fmt: skip
    store = system.provide(settings, "reference/train", {"reference/train": N}, tmp_path / "s")
    assert np.allclose(store.theta.numpy(), values)


def test_rows_are_joined_by_the_numbers_of_files(tmp_path):
    order = np.random.default_rng(8).permutation(N)
    for i in range(N):
        np.save(tmp_path / f"run_{i}.npy", np.full(4, i / N))
    rows = [f"{i},{i / N!r}" for i in order.tolist()]
    (tmp_path / "t.csv").write_text("\n".join(["number,a", *rows]) + "\n")
    found = propose(Files(str(tmp_path / "run_{index}.npy"), str(tmp_path / "t.csv")), ["a"])
    assert found.index == "number"
    config = parse_config(tomllib.loads(proposal_text(found, "results")))
    settings = OwnSettings.model_validate(config.settings)
    store = system.provide(settings, "reference/train", {"reference/train": N}, tmp_path / "s")
    assert np.allclose(store.read(store.done)[:, 0], store.theta[:, 0])


def test_chosen_columns(files):
    assert list(propose(files, ["H0"]).priors) == ["H0"]
    with pytest.raises(ParameterError, match="seeds: constant"):
        propose(files, ["seeds"])


@pytest.mark.parametrize(
    ("rows", "said"), [(4, "8 or more"), (N - 1, f"{N - 1} rows")],
)  # fmt: skip
def test_too_few_or_other_rows(files, tmp_path, rows, said):
    x = np.load(files.x)
    table = (tmp_path / "t.csv").read_text().splitlines()[: rows + 1]
    (tmp_path / "t.csv").write_text("\n".join(table) + "\n")
    np.save(tmp_path / "x.npy", x if rows > 8 else x[:rows])
    with pytest.raises(StoreError, match=said):
        propose(files)


def test_faults_are_told_before_anything_runs(files, tmp_path):
    x = np.load(files.x)
    x[3, 0], x[5], x[:, 7] = np.nan, x[6], 2.0
    np.save(tmp_path / "x.npy", x)
    text = " ".join(propose(files).warnings)
    assert "1 of 64 simulations have NaN" in text
    assert "the first: 6 is 5" in text
    assert "3.12 % of the cells" in text


def test_an_observation_of_another_shape(files, tmp_path):
    np.save(tmp_path / "o.npy", np.zeros(31, dtype=np.float32))
    other = Files(files.x, files.theta, observation=str(tmp_path / "o.npy"))
    with pytest.raises(SbitoolsError, match=r"shape \(32,\)"):
        propose(other)


def test_training_is_as_long_as_two_cores_can_bear():
    def proposed(*shape, kind="periodic", n=4096):
        spec = FieldSpec("x", tuple("abc"[: len(shape)]), shape, axes=(kind,) * len(shape))
        return propose_training(spec, n)

    assert proposed(40, kind="open") == {}  # densities fit such vectors whole
    assert proposed(16, 16) == {}
    plane, cube = proposed(64, 64), proposed(32, 32, 32)
    assert set(plane) == {"epochs"}
    assert 20 < plane["epochs"] < 60
    assert cube["patch"] == 2
    assert 12 < cube["epochs"] < 60
    assert 20 < proposed(1024, kind="open")["epochs"] < 60
    assert proposed(64, 64, n=256) == {}
    assert proposed(64, 64, 64)["patch"] == 4
    assert proposed() == {}  # a number
    assert propose_training(FieldSpec("x", ("a", "b"), (64, 64), "complex64"), 4096) == {}


def test_a_configuration_is_never_replaced(files, tmp_path):
    write_proposal(propose(files), tmp_path / "run.toml")
    before = (tmp_path / "run.toml").read_bytes()
    with pytest.raises(ConfigError, match="exists"):
        write_proposal(propose(files), tmp_path / "run.toml")
    assert (tmp_path / "run.toml").read_bytes() == before
    with pytest.raises(SbitoolsError, match="toml"):
        write_proposal(propose(files), tmp_path / "run.yaml")


def test_fields_that_follow_from_others_get_a_section_of_their_own(files, tmp_path):
    x = np.load(files.x)
    np.save(tmp_path / "coarse.npy", x.reshape(N, 16, 2).mean(2))
    files = replace(files, source=str(tmp_path / "coarse.npy"))
    found = propose(files)
    assert found.method == "auto"
    assert "diffusion" in found.why
    config = parse_config(tomllib.loads(proposal_text(found, str(tmp_path / "run"))))
    settings = OwnSettings.model_validate(config.settings)
    assert settings.source is not None
    assert (settings.source.shape, settings.source.axes) == ((16,), ("periodic",))
    assert system.simulator(settings).source is not None
    bad = x.copy()
    bad[3, 4] = np.nan
    for name, values in (("fewer", x[:-1]), ("holed", bad)):
        np.save(tmp_path / f"{name}.npy", values)
        with pytest.raises(StoreError, match=r"source in .*one for each"):
            propose(replace(files, source=str(tmp_path / f"{name}.npy")))


@pytest.mark.parametrize(
    ("cells", "n"), [(1, 40_000), (40, 40_000), (1024, 4096), (8192, 4096), (32**3, 2048),
                     (64**3, 1024)],
)  # fmt: skip
def test_as_many_fields_are_emulated_as_a_quarter_of_an_hour_makes(cells, n):
    """Cubes of 32^3 would have taken half an hour to make, and their posterior as long again."""
    assert propose_emulated(cells) == n
