"""Several data products of one theta: an image and a spectrum, or a number that is known."""

import numpy as np
import pytest
import torch
from torch import nn

import sbitools
from sbitools import (
    FieldSpec,
    Parameter,
    ParameterSpace,
    Posterior,
    SimulationStore,
    priors,
    seeds,
)
from sbitools.errors import (
    CheckpointError,
    ConfigError,
    ObservationError,
    ShapeError,
    StoreError,
)
from sbitools.observation import Coarsen, Mask, Noise, Observation
from sbitools.store.access import as_store

SPACE = ParameterSpace(
    [Parameter("mean", priors.Uniform(-1.0, 1.0)), Parameter("slope", priors.Normal(0.0, 1.0))]
)
IMAGE = FieldSpec("image", ("x", "y"), (8, 8))
VECTOR = FieldSpec("spectrum", ("i",), (3,))
N = 300
QUICK = {
    "epochs": 2, "batch_size": 50, "channels": 4, "features": 4, "flow": "zuko_maf",
    "flow_transforms": 1, "flow_hidden": 8,
}  # fmt: skip


def simulated(n=N, seed=1, unit=1.0):
    theta = SPACE.design(n, seed)
    numbers = torch.from_numpy(seeds.simulation_seeds(seed, range(n)))
    image = theta.float()[:, 0, None, None] + seeds.normal(numbers, (8, 8))
    vector = theta.float()[:, 1:] * torch.arange(3) + seeds.normal(numbers + 1, (3,))
    return theta, image, vector * unit, numbers


def stores(folder, unit=1.0, **more):
    theta, image, vector, numbers = simulated(unit=unit, **more)
    return tuple(
        SimulationStore.from_arrays(folder / spec.name, theta, x, SPACE, spec, seeds=numbers)
        for spec, x in ((IMAGE, image), (VECTOR, vector))
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("products")


@pytest.fixture(scope="module")
def pair(folder):
    return stores(folder / "train")


@pytest.fixture(scope="module")
def trained(pair, folder):
    return sbitools.train(pair, run_dir=folder / "run", **QUICK)


def test_x_is_given_by_name_in_order_or_packed(trained):
    _, image, vector, _ = simulated(3, 2)
    asked = trained.sample({"spectrum": vector, "image": image}, 20, seed=1)
    assert torch.equal(asked, trained.sample((image, vector), 20, seed=1))
    assert torch.equal(asked, trained.sample((image.numpy(), vector.numpy()), 20, seed=1))
    packed = trained.output.pack([image, vector])
    assert torch.equal(asked, trained.sample(packed, 20, seed=1))
    one = trained.sample({"image": image[0], "spectrum": vector[0]}, 20, seed=1)
    torch.testing.assert_close(one, asked[0])
    torch.testing.assert_close(trained.sample(packed[0], 20, seed=1), asked[0])
    density = trained.log_prob(asked, (image, vector))
    assert density.shape == (3, 20)
    assert len(trained.summary((image[0], vector[0]), n=50)) == 2


def test_both_products_count(trained):
    """Two epochs teach little of the spectrum; rounding is a hundred times less."""
    _, image, vector, _ = simulated(3, 2)
    before = trained.sample((image, vector), 50, seed=1)
    for other in ((image + 1, vector), (image, vector + 1)):
        assert float((before - trained.sample(other, 50, seed=1)).abs().max()) > 1e-4


def test_units_change_nothing(trained, tmp_path):
    """A factor of a power of two, so that rounding is the same."""
    unit = 2.0**100
    other = sbitools.train(stores(tmp_path, unit), run_dir=tmp_path / "run", **QUICK)
    _, image, vector, _ = simulated(3, 2)
    asked = trained.sample((image, vector), 50, seed=1)
    torch.testing.assert_close(asked, other.sample((image, vector * unit), 50, seed=1))
    strange = trained.comparable(trained.output.pack([image, vector]))
    scaled = other.comparable(other.output.pack([image, vector * unit]))
    torch.testing.assert_close(strange, scaled)
    assert float(scaled.abs().max()) < 10


def test_a_checkpoint_holds_all_of_it(trained, tmp_path):
    again = Posterior.load(trained.save(tmp_path / "p"))
    _, image, vector, _ = simulated(2, 3)
    assert again.output == trained.output
    assert torch.equal(
        again.sample((image, vector), 5, seed=1), trained.sample((image, vector), 5, seed=1)
    )


def test_calibration_takes_the_same_pair(trained, pair, tmp_path):
    tests = stores(tmp_path, n=60, seed=5)
    result = sbitools.calibrate(
        trained, tests, n_draws=50, checks=("sbc", "recovery"), reference=tests, progress=False
    )
    assert {"sbc", "recovery"} <= set(result.checks["name"])
    with pytest.raises(StoreError, match="the training store"):
        sbitools.calibrate(trained, pair, n_draws=50, progress=False)
    with pytest.raises(StoreError, match="output of store"):
        sbitools.calibrate(trained, tests[::-1], n_draws=50, progress=False)


def test_each_product_has_its_own_observation_and_module(pair, tmp_path):
    with seeds.initial_weights(1):
        nets = {
            "image": nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), "spectrum": nn.Linear(3, 2),
        }  # fmt: skip
    seen = torch.tensor([True, True, False])
    options = {"epochs": 1, "flow": "zuko_maf", "flow_transforms": 1, "flow_hidden": 8}
    posterior = sbitools.train(
        pair, run_dir=tmp_path / "r", embedding=nets, **options,
        observe={"image": [Noise(0.5), Coarsen(2)], "spectrum": Mask(seen)},
    )  # fmt: skip
    assert [p.shape for p in posterior.observed.parts] == [(4, 4), (3,)]
    assert posterior.estimator.embedding.ones[1].seen.tolist() == seen.tolist()
    _, image, vector, numbers = simulated(40, 4)
    x = posterior.observe((image, vector), numbers)
    own, masked = posterior.observed.split(x)
    assert torch.equal(masked, vector * seen)
    # Means of 4 cells with noise of variance 1.25: 640 numbers give a variance to 6 %.
    assert abs(float((own - posterior.output.split(x.new_zeros(1, 67))[0].mean()).var()) / (
        1.25 / 4 + float(SPACE.design(40, 4)[:, 0].var())) - 1) < 0.3  # fmt: skip
    again = Posterior.load(posterior.save(tmp_path / "p"), embedding=nets)
    assert torch.equal(posterior.sample(x, 5, seed=1), again.sample(x, 5, seed=1))
    assert torch.equal(x, again.observe((image, vector), numbers))
    with pytest.raises(CheckpointError, match="the module that it was trained with"):
        Posterior.load(tmp_path / "p", embedding={"image": nets["image"]})


def test_wrong_products_are_refused(trained):
    _, image, vector, _ = simulated(2, 3)
    for wrong in (
        {"image": image}, (image,), (image, vector, vector), {"image": image, "flux": vector},
    ):  # fmt: skip
        with pytest.raises(ObservationError, match=r"the products \['image', 'spectrum'\]"):
            trained.sample(wrong, 5)
    with pytest.raises(ObservationError, match="one row of each product"):
        trained.sample((image, vector[:1]), 5)
    with pytest.raises(ObservationError, match=r"\(image\).*shape \(8, 8\)"):
        trained.sample((vector, image), 5)
    with pytest.raises(ObservationError, match="finite values"):
        trained.sample((image, vector * torch.nan), 5)


def test_stores_of_other_theta_are_refused(pair, tmp_path):
    theta, image, vector, numbers = simulated()

    def beside(name, *, theta=theta, x=vector, space=SPACE, spec=VECTOR, numbers=numbers):
        return SimulationStore.from_arrays(tmp_path / name, theta, x, space, spec, seeds=numbers)

    moved = theta.clone()
    moved[7, 0] = 0.123
    with pytest.raises(StoreError, match=r"theta of store (.|\n)*in row 7"):
        as_store((pair[0], beside("theta", theta=moved)))
    with pytest.raises(StoreError, match=r"seeds of store (.|\n)*in row 0"):
        as_store((pair[0], beside("seeds", numbers=numbers + 1)))
    with pytest.raises(StoreError, match="300 simulations"):
        as_store((pair[0], beside("n", theta=theta[:9], x=vector[:9], numbers=numbers[:9])))
    other = ParameterSpace([SPACE[0], Parameter("slope", priors.Normal(0.0, 2.0))])
    with pytest.raises(StoreError, match="parameters of store"):
        as_store((pair[0], beside("space", space=other)))
    with pytest.raises(ShapeError, match="a name of its own"):
        as_store((pair[0], beside("name", x=image, spec=IMAGE)))
    with pytest.raises(StoreError, match="two or more"):
        as_store((pair[0],))


def test_options_name_products_that_there_are(pair, tmp_path):
    for options, match in (
        ({"embedding": {"flux": "mlp"}}, "names out of"),
        ({"embedding": {"image": "cnm"}}, "cnm"),
    ):
        with pytest.raises(ConfigError, match=match):
            sbitools.train(pair, run_dir=tmp_path / "r", **options)
    with pytest.raises(ConfigError, match="x is a single field"):
        sbitools.train(pair[0], run_dir=tmp_path / "r", embedding={"image": "cnn"})
    with pytest.raises(ObservationError, match="names out of"):
        sbitools.train(pair, run_dir=tmp_path / "r", observe={"flux": [Noise(1.0)]})
    with pytest.raises(ObservationError, match="steps of each product"):
        sbitools.train(pair, run_dir=tmp_path / "r", observe=[Noise(1.0)])


def test_a_simulation_counts_where_it_is_in_every_store(pair, tmp_path):
    theta, _, vector, numbers = simulated()
    vector[[3, 5]] = torch.nan
    holes = SimulationStore.from_arrays(
        tmp_path / "s", theta, vector, SPACE, VECTOR, seeds=numbers, nonfinite="fail"
    )
    both = as_store([pair[0], holes])
    assert both.counts()["failed"] == 2
    assert len(both.done) == N - 2
    x = both.read([0, 1])
    assert torch.equal(both.output.split(x)[1], vector[:2])
    with pytest.raises(StoreError, match="simulation 3"):
        both.read([3])
    assert len(np.unique(both.row_digests(both.done), axis=0)) == N - 2


def test_an_ensemble_and_the_three_stages_take_products(pair, tmp_path):
    quick = QUICK | {"epochs": 1, "pretrain_epochs": 1, "ensemble": 2}
    posterior = sbitools.train(pair, run_dir=tmp_path / "r", **quick)
    _, image, vector, _ = simulated(2, 3)
    assert posterior.sample((image, vector), 5, seed=1).shape == (2, 5, 2)


def test_a_single_number_is_a_product(pair, tmp_path):
    theta, _, _, numbers = simulated()
    known = torch.rand(N, generator=seeds.generator(2))
    store = SimulationStore.from_arrays(
        tmp_path / "s", theta, known, SPACE, FieldSpec("known", (), ()), seeds=numbers
    )
    posterior = sbitools.train((pair[0], store), run_dir=tmp_path / "r", **QUICK)
    _, image, _, _ = simulated(2, 3)
    both = posterior.sample((image, [0.5, 0.6]), 5, seed=1)
    one = posterior.sample({"image": image[0], "known": 0.5}, 5, seed=1)
    torch.testing.assert_close(one, both[0])


def test_fields_side_by_side_are_plain_values():
    both = FieldSpec.of_parts([IMAGE, VECTOR])
    assert (both.name, both.shape, both.dtype) == ("image+spectrum", (67,), "float64")
    assert FieldSpec.from_dict(both.to_dict()) == both
    observation = Observation.of({"spectrum": [Noise(1.0)]}).bind(both)
    again = Observation.from_dict(observation.to_dict())
    x, numbers = torch.zeros(2, 67, dtype=torch.float64), torch.arange(2)
    assert torch.equal(again(x, numbers), observation(x, numbers))
    assert not again(x, numbers)[:, :64].any()
    with pytest.raises(ShapeError, match="members of a set"):
        both.set_of(3)
    with pytest.raises(ShapeError, match="fields side by side"):
        FieldSpec.of_parts([FieldSpec("n", (), (), "int64")])


@pytest.mark.slow
def test_the_width_follows_a_known_exposure(tmp_path):
    """x ~ N(theta, 1 / exposure), a number that is known for each observation."""
    n, space = 10_000, ParameterSpace([Parameter("theta", priors.Uniform(-5.0, 5.0))])
    theta, numbers = space.design(n, 1), torch.from_numpy(seeds.simulation_seeds(1, range(n)))
    exposure = 30 ** torch.rand(n, generator=seeds.generator(2))
    x = theta.float()[:, 0] + seeds.normal(numbers, ()) / exposure.sqrt()
    both = [
        SimulationStore.from_arrays(
            tmp_path / name, theta, values, space, FieldSpec(name, (), ()), seeds=numbers
        )
        for name, values in (("flux", x), ("exposure", exposure))
    ]
    posterior = sbitools.train(both, run_dir=tmp_path / "r", members=2, emulate=False)
    known = torch.tensor([1.5, 4.0, 10.0, 25.0]).repeat_interleave(10)
    seen = torch.linspace(-3, 3, 10).repeat(4)
    draws = posterior.sample({"flux": seen, "exposure": known}, 2000, seed=1)[..., 0]
    width = (draws.std(1) * known.sqrt()).reshape(4, 10).mean(1)  # draws give it to 0.5 %
    assert float((width - 1).abs().max()) < 0.1, width
