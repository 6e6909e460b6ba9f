"""The time-ordered-data simulator: contract, exact answers, what every parameter does, errors."""

import os

import cloudpickle
import healpy
import numpy as np
import pytest
import torch

from emulators.survey.instrument.presets import NAMES, PRESETS
from emulators.survey.instrument.sky import dipole_map, regrade, sky_map
from emulators.survey.simulator import TodSimulator
from sbitools.errors import ConfigError, ParameterError, ShapeError
from sbitools.priors import LogUniform, Uniform
from sbitools.simulator import Simulator

KINDS = {
    "response": {"fixed": {"scan_angle": 80.0}, "net": 1.0},
    "tod": {"net": 1.0},
    "dipole": {"calibration": "dipole"},
}


def make(**options):
    return TodSimulator(**{"nside": 4, **options})


def draw(simulator, n, seed=1):
    return simulator.parameters.design(n, seed), torch.arange(n) + 10


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("components", ["QU", "TQU"])
def test_contract(kind, components):
    simulator = make(components=components, **KINDS[kind])
    assert isinstance(simulator, Simulator)
    assert simulator.source is None
    assert simulator.group_size == 1
    assert simulator.output.name == "systematics"
    assert simulator.output.dims == ("map", "pixel_nested")
    assert simulator.output.shape == (len(components), 192)
    simulator.output.check_unit("uK")
    x = simulator.simulate(*draw(simulator, 3))
    simulator.output.check(x, 3)
    assert torch.isfinite(x).all()
    assert x.std() > 0
    assert simulator.simulate(*draw(simulator, 0)).shape == (0, len(components), 192)


def test_parameters_have_units_and_default_to_those_with_an_effect():
    assert make().parameters.names == ["gain_rms", "correlation_time", "scan_angle"]
    assert make(net=1.0).parameters.names == list(NAMES)
    assert make(calibration="dipole").parameters.names == list(NAMES)
    space = make(net=1.0, fixed={"knee": 10.0}, priors={"gain_rms": Uniform(0, 1)}).parameters
    assert space.names == ["gain_rms", "correlation_time", "scan_angle"]
    assert space[0].prior == Uniform(0, 1)
    units = {p.name: p.unit for p in make(net=1.0).parameters}
    assert units == {"gain_rms": "", "correlation_time": "day", "knee": "mHz", "scan_angle": "deg"}
    assert make(strategy="litebird").parameters[-1].prior == Uniform(45.0, 55.0)
    assert make(calibration="dipole").parameters[0].prior == LogUniform(1e-3, 1e-1)


@pytest.mark.parametrize("net", [0.0, 0.5])
@pytest.mark.parametrize("distribution", ["gaussian", "student"])
@pytest.mark.parametrize("strategy", ["planck", "litebird"])
def test_response_and_time_ordered_data_agree(net, distribution, strategy):
    options = {"strategy": strategy, "distribution": distribution, "net": net,
               "parameters": ["gain_rms"], "fixed": {"correlation_time": 3.0}}  # fmt: skip
    fast, slow = make(**options), make(method="tod", **options)
    assert fast.method == "response"
    theta, seeds = draw(fast, 4)
    x = slow.simulate(theta, seeds)
    # To the rounding of the output, and of the difference of two maps of 3362 uK.
    torch.testing.assert_close(fast.simulate(theta, seeds), x, rtol=2e-6, atol=1e-8)
    if not net:
        product = fast.response().maps(fast.gains(theta, seeds))
        torch.testing.assert_close(x, torch.from_numpy(product).float(), rtol=2e-6, atol=1e-8)


def test_output_is_proportional_to_gain_errors():
    simulator = make(parameters=["gain_rms"])
    x = simulator.simulate(torch.tensor([[1e-4], [3e-4]]), torch.tensor([5, 5]))
    torch.testing.assert_close(x[1], 3 * x[0], rtol=1e-5, atol=1e-8)


def test_simulations_have_the_exact_covariance():
    n, simulator = 300, make(parameters=["gain_rms", "correlation_time"], distribution="student",
                             dof=8.0)  # fmt: skip
    theta = torch.tensor([5e-4, 2.0], dtype=torch.float64)
    x = simulator.simulate(theta.expand(n, 2), torch.arange(n)).numpy().astype(float)
    variance = simulator.response().variance(simulator.gain_covariance(theta))
    # The mean of x^2 / variance over pixels, one number per map: independent and of mean 1.
    ratio = (x**2 / variance).mean(axis=(1, 2))
    error = ratio.std() / np.sqrt(n)
    assert abs(ratio.mean() - 1) < 5 * error  # 5 standard errors: a false-alarm rate of 6e-7
    assert error < 0.02
    slow = simulator.response().variance(simulator.gain_covariance(torch.tensor([5e-4, 3.0])))
    assert abs((x**2 / slow).mean() - 1) > 5 * error


@pytest.mark.parametrize("kind", KINDS)
def test_bits_do_not_depend_on_the_batch_or_the_process_image(kind):
    simulator = make(**KINDS[kind])
    theta, seeds = draw(simulator, 4)
    x = simulator.simulate(theta, seeds)
    assert torch.equal(simulator.simulate(theta[2:3], seeds[2:3])[0], x[2])
    copy = cloudpickle.loads(cloudpickle.dumps(simulator))
    assert not copy._responses
    assert torch.equal(copy.simulate(theta.flip(0), seeds.flip(0)), x.flip(0))


@pytest.mark.parametrize("kind", KINDS)
def test_other_seeds_are_other_maps(kind):
    simulator = make(**KINDS[kind])
    theta = simulator.parameters.design(1, 1).expand(2, -1)
    x = simulator.simulate(theta, torch.tensor([1, 2]))
    assert (x[0] - x[1]).std() > 0.3 * x[0].std()
    one, two = simulator.gains(theta, torch.tensor([1, 2]))
    assert abs(np.corrcoef(one.ravel(), two.ravel())[0, 1]) < 0.5


@pytest.mark.parametrize("strategy", ["planck", "litebird"])
@pytest.mark.parametrize("kind", ["tod", "dipole"])
@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_moves_the_maps(strategy, kind, name):
    simulator = make(strategy=strategy, **KINDS[kind])
    # White noise hides the rest in "tod" unless it is small against 3 mK x 1e-4.
    fiducial = [simulator.fixed[p] for p in NAMES]
    theta = torch.tensor([fiducial] * 2, dtype=torch.float64)
    theta[1, NAMES.index(name)] *= {"scan_angle": 1.03}.get(name, 1.5)
    x = simulator.simulate(theta, torch.tensor([3, 3]))
    assert (x[0] - x[1]).std() > 0.02 * x[0].std()
    correlation = torch.corrcoef(x.flatten(1))[0, 1]
    assert correlation > 0.3


def test_calibration_on_a_clean_dipole_leaves_nothing():
    options = {"sky": dipole_map(4), "parameters": ["gain_rms"], "calibration": "dipole",
               "net": 0.0}  # fmt: skip
    theta, seeds = torch.tensor([[0.05]]), torch.tensor([1])
    x = make(calibration_time=0.0, **options).simulate(theta, seeds)
    assert x.abs().max() < 1e-8
    # Gains that many rings share do not follow the drift.
    assert make(calibration_time=30.0, **options).simulate(theta, seeds).std() > 1


def test_calibration_follows_slow_drifts():
    simulator = make(calibration="dipole", parameters=["correlation_time"], net=0.0)
    theta = torch.tensor([[0.5], [60.0]]).repeat(10, 1)
    x = simulator.simulate(theta, torch.arange(20)).std(dim=(1, 2)).view(10, 2).mean(0)
    assert x[1] < 0.5 * x[0]


def test_estimated_gains_make_the_maps_nonlinear():
    simulator = make(calibration="dipole", parameters=["gain_rms"], net=0.0,
                     priors={"gain_rms": LogUniform(1e-12, 1.0)})  # fmt: skip
    theta = torch.tensor([[1e-12], [1e-3], [0.1]], dtype=torch.float64)
    x = simulator.simulate(theta, torch.tensor([4, 4, 4]))
    small, large = x[1:] - x[0]  # without what the CMB leaks
    assert (large - 100 * small).std() > 0.03 * large.std()
    assert torch.corrcoef(torch.stack([small.flatten(), large.flatten()]))[0, 1] > 0.9


def excess_kurtosis(n, **options):
    """Mean over pixels of the excess kurtosis at the fiducial theta."""
    simulator = make(calibration="dipole", parameters=["gain_rms"], **options)
    theta = torch.full((n, 1), simulator.fixed["gain_rms"])
    x = simulator.simulate(theta, torch.arange(n)).double()
    z = (x - x.mean(0)) / x.std(0)
    return float((z**4).mean()) - 3


def test_student_drifts_make_the_maps_non_gaussian():
    # 200 maps: the estimate scatters by about 0.05 for Gaussian maps of few modes.
    assert excess_kurtosis(200) > 0.4
    assert abs(excess_kurtosis(200, distribution="gaussian")) < 0.2


def test_unseen_pixels_are_zero_and_known():
    simulator = TodSimulator(8, parameters=["scan_angle"], frame="ecliptic")
    angle = 75.0
    mask = simulator.map_maker(angle).mask
    assert 0 < (~mask).sum() < 0.05 * mask.size
    x = simulator.simulate(torch.tensor([[angle]]), torch.tensor([1]))[0]
    assert not x[:, ~mask].any()
    assert (x[:, mask] != 0).all()
    assert simulator.map_maker().mask.all()


def test_versions_tell_settings_apart():
    others = [
        {"nside": 8}, {"strategy": "litebird"}, {"n_rings": 100}, {"samples": 100},
        {"calibration": "dipole"}, {"distribution": "student"}, {"net": 2.0}, {"alpha": 2.0},
        {"frame": "ecliptic"},
        {"detectors": (0.0, 45.0)}, {"sky": sky_map(4, 5)}, {"components": "TQU"},
        {"parameters": ["gain_rms"]}, {"priors": {"gain_rms": Uniform(0, 1)}},
        {"fixed": {"scan_angle": 80.0}}, {"method": "tod", "parameters": ["gain_rms"]},
        {"distribution": "student", "dof": 5.0},
        {"calibration": "dipole", "calibration_time": 2.0},
    ]  # fmt: skip
    versions = [make(**o).version for o in [{}, *others]]
    assert len(set(versions)) == len(versions)
    assert make().version == versions[0]


def test_presets_are_what_simulators_use():
    for name, preset in PRESETS.items():
        simulator = make(calibration=name)
        assert (simulator.net, simulator.distribution) == (preset.net, preset.distribution)
        assert simulator.fixed == {**preset.fiducial, "scan_angle": 85.0}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"nside": 12}, "nside: expected a power of two; got 12"),
        ({"strategy": "wmap"}, "Scan strategy"),
        ({"calibration": "planets"}, r"calibration: expected one of \['given', 'dipole'\]"),
        ({"calibration_time": -1}, "calibration_time: expected 0 to 366 days; got -1"),
        ({"components": "EB"}, "components: expected 'QU' or 'TQU'; got 'EB'"),
        ({"method": "fast"}, "TodSimulator method: expected one of"),
        ({"method": "response", "calibration": "dipole"}, "method: expected .* for 'dipole'"),
        ({"parameters": ["beam"]}, "parameters: expected distinct names"),
        ({"parameters": ["gain_rms"] * 2}, "parameters: expected distinct names"),
        (
            {"parameters": ["knee"]},
            r"have an effect; got \['knee'\] with net=0.0; fix: give noise",
        ),
        (
            {"parameters": ["correlation_time"], "fixed": {"gain_rms": 0.0}, "net": 1.0},
            r"got \['correlation_time'\] with net=1.0 and gain_rms=0",
        ),
        ({"parameters": ["scan_angle"], "fixed": {"gain_rms": 0.0}}, r"got \['scan_angle'\]"),
        ({"fixed": {"beam": 1.0}}, "TodSimulator fixed: expected names"),
        ({"parameters": ["gain_rms"], "fixed": {"gain_rms": 1.0}}, "names of .* that do not vary"),
        ({"priors": {"knee": Uniform(1, 2)}}, r"TodSimulator priors: expected names of \['gain"),
        ({"fixed": {"gain_rms": -1.0}}, "GainModel rms: expected 0 or more"),
        ({"fixed": {"scan_angle": 200.0}}, "scan_angle: expected degrees between 0 and 180"),
        ({"net": -1.0}, "NoiseModel net: expected 0 or more"),
        ({"dof": 1.5}, "GainModel dof: expected more than 2"),
        ({"detectors": ()}, "detectors: expected one or more finite offsets"),
        (
            {"calibration": "dipole", "sky": sky_map(4, 0) - dipole_map(4)},
            "sky: expected the solar dipole of 3.36 mK.*fix: add sky.dipole_map",
        ),
        ({"calibration": "dipole", "sky": 1e6 * sky_map(4, 0)}, r"got 1e\+06 times that dipole"),
    ],
)
def test_wrong_arguments(wrong, message):
    with pytest.raises(ConfigError, match=message):
        make(**wrong)


def test_wrong_skies():
    with pytest.raises(ShapeError, match=r"sky: expected shape \(3, 192\).*regrade"):
        make(sky=np.zeros((3, 768)))
    with pytest.raises(ShapeError, match="sky: expected no NaN"):
        make(sky=np.full((3, 192), healpy.UNSEEN))


@pytest.mark.parametrize(
    ("theta", "seeds"),
    [
        ([[1.0, 5.0, 85.0]], [1]), ([[1e-4, float("nan"), 85.0]], [1]), ([[1e-4]], [1]),
        ([[1e-4, 5.0, 85.0]], [1, 2]),
    ],
)  # fmt: skip
def test_theta_outside_the_priors_and_unpaired_seeds_are_refused(theta, seeds):
    with pytest.raises(ParameterError, match="expected"):
        make().simulate(torch.tensor(theta), torch.tensor(seeds))


WMAP = os.environ.get("SBITOOLS_WMAP")


@pytest.mark.skipif(not WMAP, reason="SBITOOLS_WMAP names no WMAP map (I, Q, U in mK, ring)")
def test_a_real_sky():
    # WMAP's dipole was subtracted, so the calibrator is added again.
    galaxy = regrade(healpy.read_map(WMAP, field=(0, 1, 2)), 16, ordering="ring", unit="mK")
    sky = galaxy + dipole_map(16)
    x = {}
    for name, seen in (("galaxy", sky), ("dipole", dipole_map(16))):
        simulator = TodSimulator(16, parameters=["gain_rms"], sky=seen)
        x[name] = simulator.simulate(torch.tensor([[5e-4]] * 8), torch.arange(8))
    added = (x["galaxy"] - x["dipole"]).square().mean((0, 1)).sqrt().numpy()
    theta, _ = healpy.pix2ang(16, np.arange(3072), nest=True)
    plane = np.abs(theta - np.pi / 2) < np.deg2rad(5)
    # What the Galaxy adds to the systematic lies along its plane.
    assert added[plane].mean() > 2 * added[~plane].mean()
    leaking = TodSimulator(16, parameters=["gain_rms"], sky=sky, calibration="dipole", net=0.0,
                           calibration_time=0.0)  # fmt: skip
    leak = leaking.simulate(torch.tensor([[1e-3]]), torch.tensor([1]))
    assert leak.std() > 0.01  # uK: the Galaxy resembles the dipole in some rings
