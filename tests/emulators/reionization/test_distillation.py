"""A network that learned where the sampler's steps end takes long ones."""

from __future__ import annotations

import pytest
import torch

from emulators.methods.diffusion import n_calls, sample
from emulators.methods.diffusion.loss import TargetLoss
from emulators.methods.diffusion.options import SHORT_STEPS
from emulators.reionization.distillation import StepBatches, Ways, distill
from emulators.reionization.emulator import ReionizationEmulator
from emulators.testing import check_emulator
from sbitools import simulate
from sbitools.errors import ConfigError, StoreError, TrainingError

from . import tiny

FEW = {"steps": 6, "batch_size": 4}
SETTINGS = {"n_ways": 12, "workers": 1, "progress": False}


@pytest.fixture(scope="module", params=["slice", "lightcone"])
def fitted(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    emulator = ReionizationEmulator(tiny.simulator(request.param))
    store = tiny.store(folder / "store", emulator.simulator, 12)
    emulator.fit(store, tiny.OPTIONS, run_dir=folder / "fit")
    return emulator


def ways_of(emulator, calls=3):
    options = emulator.options.model_copy(update={"sampler": "distilled", "sampler_steps": calls})
    return Ways(emulator, options)


def test_the_answers_lead_along_the_way_of_the_sampler(fitted):
    ways = ways_of(fitted)
    theta, seeds = fitted.parameters.design(3, 1), torch.tensor([4, 5, 6])
    answers, noise = ways.simulate(theta, seeds), ways.noise(seeds)
    assert answers.shape == (3, *ways.output.shape)
    last = ways.state(noise, answers, torch.full((3,), 2))
    # The last long step leads to its answer itself: the field at the end of all short ones.
    assert len(ways.fine) == 3 * SHORT_STEPS + 1
    assert ways.levels[-1] == 0
    if fitted.output.dims[-1] != "los":
        whole = fitted.sampling(sampler_steps=3 * SHORT_STEPS).simulate(theta, seeds)
        ended = fitted.transform.inverse(answers[:, -1])
        torch.testing.assert_close(ended, whole, rtol=0, atol=1e-3)
    # Before the last call the noise is that of its level, and the field is not yet there.
    assert not torch.allclose(last, answers[:, -1], atol=0.1)
    first = ways.state(noise, answers, torch.zeros(3))
    assert torch.equal(first, ways.levels[0] * noise)


def test_a_network_that_answered_right_would_make_the_same_fields(fitted):
    ways = ways_of(fitted)
    theta, seeds = fitted.parameters.design(2, 1), torch.tensor([4, 5])
    answers, noise = ways.simulate(theta, seeds), ways.noise(seeds)
    seen = []

    def denoise(x, sigma):
        seen.append(ways.state(noise, answers, torch.full((2,), len(seen))))
        torch.testing.assert_close(x, seen[-1], rtol=1e-5, atol=1e-4)
        return answers[:, len(seen) - 1]

    made = sample("distilled", denoise, noise, torch.tensor(ways.levels), ways.sky)
    assert torch.equal(made, answers[:, -1])
    assert len(seen) == n_calls("distilled", 3) == 3


def test_windows_of_a_cone_are_ways_of_cones_of_that_length(tmp_path):
    emulator = ReionizationEmulator(tiny.simulator("lightcone", n_los=8))
    store = tiny.store(tmp_path / "store", emulator.simulator, 8)
    emulator.fit(store, tiny.OPTIONS | {"window": 32}, run_dir=tmp_path / "fit")
    ways = ways_of(emulator)
    theta, seeds = emulator.parameters.design(2, 1), torch.tensor([4, 5])
    whole = emulator.sampling(sampler_steps=3 * SHORT_STEPS).simulate(theta, seeds)
    ended = emulator.transform.inverse(ways.simulate(theta, seeds)[:, -1])
    torch.testing.assert_close(ended, whole, rtol=0, atol=1e-3)


def test_every_call_is_learned_whatever_the_batch(fitted, tmp_path):
    options = fitted.options.model_copy(
        update={"sampler": "distilled", "sampler_steps": 5, "batch_size": 3, "steps": 20}
    )
    ways = Ways(fitted, options)
    store = simulate(ways, 8, tmp_path / "ways", seed=1, workers=1, progress=False)
    found = [sigma for _, _, sigma, *_ in StepBatches(store, ways, options).train(0)]
    times = torch.stack([(torch.cat(found) == s).sum() for s in torch.tensor(ways.levels[:-1])])
    # 60 of 5 kinds, three different ones in each batch: 12 ± 2 of each; four sigma.
    assert times.sum() == 60
    assert int((times - 12).abs().max()) <= 8


def test_distilled_emulators_are_emulators(fitted, tmp_path):
    few, history = distill(fitted, 3, FEW, run_dir=tmp_path / "few", **SETTINGS)
    assert history.epochs[-1]["step"] == 6
    assert (few.options.sampler, few.options.sampler_steps) == ("distilled", 3)
    assert few.version != fitted.version
    check_emulator(few, folder=tmp_path / "conformance")


def test_an_interrupted_run_is_taken_up(fitted, tmp_path, monkeypatch):
    def steps(**settings):
        few, _ = distill(fitted, 2, FEW, **SETTINGS, **settings)
        return few.module().state_dict()

    whole = steps(run_dir=tmp_path / "whole")
    calls, loss = 0, TargetLoss.__call__

    def until(self, module, batch, rng):
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return loss(self, module, batch, rng)

    monkeypatch.setattr(TargetLoss, "__call__", until)
    with pytest.raises(KeyboardInterrupt):
        steps(run_dir=tmp_path / "again")
    monkeypatch.undo()
    again = steps(run_dir=tmp_path / "again", resume=True)
    assert all(torch.equal(v, again[k]) for k, v in whole.items())
    with pytest.raises(StoreError, match="output of the store"):
        distill(fitted, 3, FEW, run_dir=tmp_path / "again", **SETTINGS)


def test_what_cannot_be_distilled(fitted, tmp_path):
    with pytest.raises(TrainingError, match="fitted"):
        distill(ReionizationEmulator(tiny.simulator()), run_dir=tmp_path)
    with pytest.raises(ConfigError, match=r"calls.*2 or more"):
        distill(fitted, 1, run_dir=tmp_path)
    with pytest.raises(ConfigError, match=r"n_ways.*4 or more"):
        distill(fitted, 2, run_dir=tmp_path, n_ways=3)
    for changed in ({"widths": (8,)}, {"epochs": 3}):
        with pytest.raises(ConfigError, match=next(iter(changed))):
            distill(fitted, 2, changed, run_dir=tmp_path)
    few, _ = distill(fitted, 2, FEW, run_dir=tmp_path / "few", **SETTINGS)
    with pytest.raises(ConfigError, match="distilled"):
        distill(few, 2, run_dir=tmp_path)
    with pytest.raises(ConfigError, match="distilled"):
        few.sampling(sampler="dpm3")
    with pytest.raises(ConfigError, match="distilled"):
        fitted.sampling(sampler="distilled")


def test_a_fit_cannot_begin_distilled(tmp_path):
    emulator = ReionizationEmulator(tiny.simulator())
    store = tiny.store(tmp_path / "store", emulator.simulator, 6)
    with pytest.raises(ConfigError, match="distilled"):
        emulator.fit(store, tiny.OPTIONS | {"sampler": "distilled"}, run_dir=tmp_path / "fit")


def test_other_schedules_have_long_steps_too(tmp_path):
    emulator = ReionizationEmulator(tiny.simulator())
    store = tiny.store(tmp_path / "store", emulator.simulator, 8)
    options = tiny.OPTIONS | {"noise_schedule": "flow"}
    emulator.fit(store, options, run_dir=tmp_path / "fit")
    few, _ = distill(emulator, 3, FEW, run_dir=tmp_path / "few", **SETTINGS | {"n_ways": 4})
    levels = few.options.levels()
    assert torch.equal(levels, few.options.make_schedule().levels(3 * SHORT_STEPS)[::SHORT_STEPS])
    drawn = few.simulate(few.parameters.design(2, 0), torch.tensor([1, 2]))
    assert bool(torch.isfinite(drawn).all())


@pytest.mark.slow
def test_few_calls_learn_to_make_the_same_fields(tmp_path):
    emulator = ReionizationEmulator(tiny.simulator())
    options = tiny.OPTIONS | {
        "steps": 300, "batch_size": 16, "widths": (16, 24), "checkpoint_seconds": 60.0,
        "ema_decay": 0.98, "sampler_steps": 18,
    }  # fmt: skip
    store = tiny.store(tmp_path / "store", emulator.simulator, 64)
    emulator.fit(store, options, run_dir=tmp_path / "fit")
    theta, seeds = emulator.parameters.design(32, 3), torch.arange(32)
    exact = emulator.simulate(theta, seeds)
    errors = []
    for steps in (1, 1500):
        few, _ = distill(
            emulator, 4, {"steps": steps, "learning_rate": 3e-3}, run_dir=tmp_path / f"{steps}",
            n_ways=512, workers=2, progress=False,
        )  # fmt: skip
        errors.append(float((few.simulate(theta, seeds) - exact).abs().mean()))
    # A denoiser's own long steps are far off; what was learned is at most half as far.
    assert errors[1] < 0.5 * errors[0]
