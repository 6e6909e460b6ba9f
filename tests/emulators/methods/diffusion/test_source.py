"""Fields that follow from a source: on their grid, on a coarser one, a mask; what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from emulators.emulator import Emulator
from emulators.methods.diffusion.batches import WhiteBatches
from emulators.methods.diffusion.drawing import draw, follows
from emulators.methods.diffusion.emulator import DiffusionEmulator
from emulators.methods.diffusion.layout import Layout
from emulators.methods.diffusion.method import method
from emulators.methods.diffusion.source import Source, refined
from emulators.testing import check_emulator
from sbitools import FieldSpec, SimulationStore
from sbitools.emulation import Task
from sbitools.errors import ConfigError, ShapeError, StoreError

from .small import OPTIONS, PLANE, SPACE, gaussian, store, wavenumber

QUICK = {"network": False}
K = wavenumber((16, 16))
K.flat[0] = 0

FINE = FieldSpec("initial", ("y", "x"), (16, 16))
COARSE = FieldSpec("coarse", ("y", "x"), (8, 8), "float64")
MASK = FieldSpec("mask", ("y", "x"), (16, 16), "uint8")


def smooth(s):
    return np.fft.ifft2(np.fft.fft2(s) * np.exp(-0.5 * (0.4 * K) ** 2)).real


def following(theta, s, seed):
    """x = theta times the smoothed source, and noise."""
    noise = np.random.default_rng(seed).standard_normal(s.shape)
    return np.asarray(theta)[:, :1, None] * smooth(s) + 0.3 * noise


def masked(theta, s, seed):
    return (smooth(s) > -0.1) * (3 + gaussian(theta, s.shape[1:], seed))


def blocks(s):
    return s.reshape(len(s), 8, 2, 8, 2).mean((2, 4))


KINDS = {
    "the same grid": (FINE, following, lambda s: s),
    "means of blocks": (COARSE, following, blocks),
    "every other cell": (COARSE, following, lambda s: s[:, ::2, ::2]),
    "a mask": (MASK, masked, lambda s: smooth(s) > -0.1),
}  # fmt: skip


def made(n, seed, simulate=following, given=lambda s: s):
    theta = SPACE.design(n, seed)
    white = np.random.default_rng(seed).standard_normal((n, 16, 16))
    return theta, white, simulate(theta, white, seed + 100), given(white)


def kept(path, theta, x, source, spec, output=PLANE):
    return SimulationStore.from_arrays(
        path, theta, torch.from_numpy(x.astype(output.dtype)), SPACE, output, source=spec,
        source_x=torch.from_numpy(source.astype(spec.dtype)),
    )  # fmt: skip


def fitted(path, n=64, kind="the same grid", options=QUICK):
    spec, simulate, given = KINDS[kind]
    theta, _, x, source = made(n, 0, simulate, given)
    emulator = DiffusionEmulator(SPACE, PLANE, spec)
    emulator.fit(kept(path / "store", theta, x, source, spec), options, run_dir=path / "fit")
    return emulator


def correlation(a, b, modes):
    a, b = np.fft.fft2(a)[:, modes], np.fft.fft2(b)[:, modes]
    return (a * b.conj()).real.sum() / np.sqrt((abs(a) ** 2).sum() * (abs(b) ** 2).sum())


def power(x, modes):
    return (np.abs(np.fft.fft2(x)[:, modes]) ** 2).mean()


def told(kind):
    """Share of the power of each mode of a white source that is known."""
    if kind == "every other cell":
        return np.full((16, 16), 0.25)
    along = np.cos(np.pi * np.fft.fftfreq(16)) ** 2 if kind == "means of blocks" else np.ones(16)
    return along[:, None] * along


@pytest.mark.parametrize("kind", KINDS)
def test_fields_follow_from_their_source_as_simulations_do(kind, tmp_path):
    emulator = fitted(tmp_path, kind=kind)
    assert emulator.config()["whitening"]["source"]["points"] == (kind == "every other cell")
    spec, simulate, given = KINDS[kind]
    theta, white, x, source = made(200, 7, simulate, given)
    again = simulate(theta, white, 1)
    source = torch.from_numpy(source.astype(spec.dtype))
    fields, beside = emulator.simulate(theta, torch.arange(200), source)
    assert torch.equal(beside, source)
    fields = fields.double().numpy()
    for low, high in ((0.5, 2.5), (2.5, 4.5), (4.5, 8.5)):
        modes = (low < K) & (high > K)
        size = abs(np.log(power(fields, modes) / power(x, modes)))
        assert size < (0.08 if spec.shape == (16, 16) else 0.12)  # chance in 64 planes: 0.04
        signal = np.abs(np.fft.fft2(again)) ** 2 * told(kind)
        known = signal[:, modes].sum() / (np.abs(np.fft.fft2(again)) ** 2)[:, modes].sum()
        expected = known * correlation(x, again, modes)
        assert abs(correlation(x, fields, modes) - expected) < 0.05
    if kind == "a mask":
        np.testing.assert_array_equal(fields == 0, source.numpy() == 0)


def test_the_network_learns_what_does_not_follow_on_a_straight_line(tmp_path):
    """A source that says where noise is strong: nothing of x is linear in it."""
    theta, white, _, _ = made(64, 0)
    where = smooth(white) > 0
    x = np.where(where, 1.0, 0.2) * np.random.default_rng(5).standard_normal(where.shape)
    emulator = DiffusionEmulator(SPACE, PLANE, MASK)
    options = OPTIONS | {"steps": 60, "batch_size": 8, "widths": (16,), "warmup_steps": 10}
    emulator.fit(
        kept(tmp_path / "store", theta, x, where, MASK), options | {"checkpoint_seconds": 1e9},
        run_dir=tmp_path / "fit",
    )  # fmt: skip
    assert emulator.learned
    source = where[:16].astype(np.uint8)
    fields = emulator.simulate(theta[:16], torch.arange(16), source)[0].numpy()
    assert fields[where[:16]].std() > 1.3 * fields[~where[:16]].std()  # 5 in simulations


def test_what_is_promised_of_emulators_with_a_network(tmp_path):
    emulator = fitted(tmp_path, 20, "means of blocks", OPTIONS)
    emulator.learned = True  # also where so few steps are better left out
    store = SimulationStore.open(tmp_path / "store")
    check_emulator(emulator, store, OPTIONS, folder=tmp_path / "check")
    again = DiffusionEmulator.load(tmp_path / "check" / "checkpoint")
    assert again.version == emulator.version
    assert again.sampling(sampler="heun").draw_source(store.theta[:2], torch.arange(2)).any()


@pytest.mark.parametrize(
    ("shape", "dims", "axes"), [((12, 15), ("y", "los"), ("open", "evolving")),
    ((4, 6, 5), ("z", "y", "x"), None), ((37,), ("t",), ("open",)),
])  # fmt: skip
def test_sources_of_any_shape(shape, dims, axes, tmp_path):
    """Two channels, one of counts that a third says nothing of, on open axes as well."""
    kinds = None if axes is None else ("channel", *axes)
    spec = FieldSpec("s", ("channel", *dims), (3, *shape), "int32", axes=kinds)
    output = FieldSpec("x", dims, shape, axes=axes)
    theta = SPACE.design(32, 0)
    source = np.random.default_rng(0).poisson(3.0, (32, 3, *shape))
    source[:, 1] = 7  # which is the same everywhere
    x = source[:, 0] + 0.1 * np.random.default_rng(1).standard_normal((32, *shape))
    emulator = DiffusionEmulator(SPACE, output, spec)
    told = kept(tmp_path / "store", theta, x, source, spec, output)
    emulator.fit(told, OPTIONS | {"widths": None, "patch": None}, run_dir=tmp_path / "fit")
    emulator.learned = False
    fields = emulator.simulate(theta, torch.arange(32), source)[0].numpy()
    assert np.corrcoef(fields.ravel(), source[:, 0].ravel())[0, 1] > 0.9
    emulator.learned = True
    output.check(emulator.simulate(theta[:2], torch.arange(2))[0], 2)


REFUSED = {
    "other cells": (FieldSpec("s", ("y", "x"), (16, 12)), "whole fraction"),
    "finer": (FieldSpec("s", ("y", "x"), (32, 32)), "whole fraction"),
    "an axis less": (FieldSpec("s", ("x",), (16,)), "axes of space"),
    "numbers": (FieldSpec("s", ("channel",), (16,), axes=("channel",)), "are parameters"),
    "HEALPix": (FieldSpec("s", ("pixel_nested",), (48,)), "axes of space"),
    "complex": (FieldSpec("s", ("y", "x"), (16, 16), "complex64"), "two channels"),
    "another order": (FieldSpec("s", ("x", "y"), (16, 16)), "transpose"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_sources_that_it_cannot_follow_are_refused_with_what_to_do(name):
    source, message = REFUSED[name]
    fit = method.suits(Task(SPACE, PLANE, 256, source))
    assert fit.rank is None
    assert message in fit.why
    with pytest.raises(ConfigError, match="diffusion emulator"):
        DiffusionEmulator(SPACE, PLANE, source)
    assert method.suits(Task(SPACE, PLANE, 256, COARSE)).rank == 1


def test_stores_and_fields_without_the_source_are_refused(tmp_path):
    theta, _, x, source = made(20, 0)
    none = store(tmp_path / "none", x, theta, PLANE)
    emulator = DiffusionEmulator(SPACE, PLANE, FINE)
    with pytest.raises(StoreError, match="keeps these sources"):
        emulator.fit(none, QUICK, run_dir=tmp_path / "no")
    emulator.fit(kept(tmp_path / "s", theta, x, source, FINE), QUICK, run_dir=tmp_path / "fit")
    seeds = torch.arange(20)
    holes = np.where(K > 7, np.nan, source).astype(np.float32)
    for wrong, message in (
        (source[:3], r"shape \(20, 16, 16\)"), (source[:, ::2], "shape"), (holes, "finite"),
        (source + 1j, "dtype float32"),
    ):  # fmt: skip
        with pytest.raises(ShapeError, match=message):
            emulator.simulate(theta, seeds, wrong)
    with pytest.raises(ShapeError, match="x follows from"):
        emulator.decode(theta, emulator.latent(theta, seeds))
    drawing_none = type("DrawingNone", (DiffusionEmulator,), {"draw_source": Emulator.draw_source})
    with pytest.raises(ShapeError, match="x follows from"):
        drawing_none.load(emulator.save(tmp_path / "c")).simulate(theta, seeds)
    plain = DiffusionEmulator(SPACE, PLANE)
    plain.fit(none, QUICK, run_dir=tmp_path / "plain")
    with pytest.raises(ShapeError, match="leave it out"):
        plain.simulate(theta, seeds, source.astype(np.float32))


def test_sources_that_depend_on_theta_are_not_drawn(tmp_path):
    theta = SPACE.design(64, 0)
    source = gaussian(theta, (16, 16), 1)
    x = following(theta, source, 2)
    emulator = DiffusionEmulator(SPACE, PLANE, FINE)
    emulator.fit(kept(tmp_path / "s", theta, x, source, FINE), QUICK, run_dir=tmp_path / "fit")
    again = DiffusionEmulator.load(emulator.save(tmp_path / "c"))
    with pytest.raises(ConfigError, match=r"depend on theta.*leave the source out"):
        again.simulate(theta, torch.arange(64))
    given = source.astype(np.float32)
    assert again.simulate(theta, torch.arange(64), given)[0].shape == (64, 16, 16)


def test_independent_sources_raise_no_alarm():
    alarms = sum(
        follows(made(64, seed)[3], made(64, seed)[0], SPACE, Layout(FINE)) for seed in range(40)
    )
    assert alarms == 0  # 0.04 are expected


def test_drawn_sources_are_those_of_simulations_moved_around():
    sources = torch.arange(5 * 16.0).reshape(5, 4, 4)
    seeds = torch.arange(400)
    plain, moved = draw(sources, seeds, []), draw(sources, seeds, [1])
    assert torch.equal(plain[7:9], draw(sources, seeds[7:9], []))
    assert {float(s[0, 0]) for s in plain} == {0.0, 16.0, 32.0, 48.0, 64.0}
    assert len({float(s[0, 0]) for s in moved}) == 20
    assert torch.equal(moved.sort(2).values, plain)
    assert torch.equal(sources, torch.arange(5 * 16.0).reshape(5, 4, 4))


@pytest.mark.parametrize("points", [False, True])
def test_a_coarse_source_keeps_its_place(points):
    at = np.arange(24) + 0.0
    centres = np.arange(8) * 3 + (0 if points else 1)

    def waves(c):
        return np.cos(2 * np.pi * 3 * c / 24 + 0.4) + 2

    fine = refined(waves(centres)[None].repeat(4, 0), (8, 24), (True, True), points)
    np.testing.assert_allclose(fine, waves(at)[None].repeat(8, 0), atol=1e-12)

    def ends(c):
        return np.cos(np.pi * 2 * (c + 0.5) / 24) - 1

    fine = refined(ends(centres), (24,), (False,), points)
    np.testing.assert_allclose(fine, ends(at), atol=0.2 if points else 1e-12)


@pytest.mark.parametrize("symmetries", [("shift",), ("shift", "flip", "turn")])
def test_source_and_field_are_moved_together(symmetries, tmp_path):
    theta, _, x, source = made(20, 0, given=blocks)
    told = kept(tmp_path / "store", theta, x, source, COARSE)
    maps = Source.candidates(source, Layout(COARSE), (16, 16))
    assert [m.points for m, _ in maps] == [False, True]
    cells = torch.arange(256.0).reshape(1, 16, 16)
    for given, _ in maps:
        batches = WhiteBatches(
            told, lambda row: torch.cat([cells + row, cells + row]), torch.zeros(20, 2),
            Layout(PLANE), symmetries, batch_size=8, steps=20, validation_fraction=0.3, seed=1,
            source=given,
        )  # fmt: skip
        firsts = []
        for field, _, beside in batches.train(0):
            assert torch.equal(field, beside)
            firsts += (field.amin((2, 3), keepdim=True) == field).nonzero()[:, 2:].tolist()
        # By whole coarse cells; of mirrored blocks the first cell is the last one.
        odd = any(i % 2 for where in firsts for i in where)
        assert odd == ("flip" in symmetries and not given.points)
        assert len({tuple(where) for where in firsts}) > 30


@pytest.mark.parametrize("says", ["nothing", "all"])
def test_a_source_that_says_nothing_or_all(says, tmp_path):
    theta, white, x, source = made(32, 0)
    if says == "nothing":
        source = np.ones_like(source)
    else:
        x = smooth(white)
    emulator = DiffusionEmulator(SPACE, PLANE, FINE)
    emulator.fit(kept(tmp_path / "s", theta, x, source, FINE), QUICK, run_dir=tmp_path / "fit")
    fields, _ = emulator.simulate(theta, torch.arange(32), source)
    assert abs(np.log(float(fields.std() / x.std()))) < 0.1
    assert (np.corrcoef(fields.numpy().ravel(), x.ravel())[0, 1] > 0.99) == (says == "all")
    assert emulator.simulate(theta[:0], torch.arange(0))[0].shape == (0, 16, 16)
