# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The chain: from a few expensive simulations to a posterior you may believe
#
# You have a model of the Universe that exists only as a program. Put in the amount of matter
# $\Omega_\mathrm{m}$ and the clumpiness $\sigma_8$, wait, and out comes a box of matter, folded
# by gravity into filaments and voids. You also have one observed box, and you want to know which
# parameters it came from, and how sure you may be.
#
# There is no likelihood to write down. The box depends on the parameters through gravity *and*
# through the random ripples it started from, and you cannot integrate over all ripples. What you
# can do is simulate: draw parameters from a prior, run the program, and let a network learn
# which parameters go with which boxes. That is simulation-based inference, and it has one
# problem: it wants thousands of boxes, and yours take hours each.
#
# This tutorial walks the way around the problem, one link at a time:
#
# > a few **expensive** simulations → an **emulator** → very many **cheap** simulations →
# > a **posterior** → a **test** of that posterior against the expensive simulator.
#
# The last link is why this package exists. We will build a posterior that looks right in tests of
# its own and is wrong, see what gives it away, and then ask the same question of a good one.

# %%
import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

import sbitools
from emulators.methods.displacement.painting import density_contrast
from emulators.nbody import NBodyEmulator, NBodySimulator
from sbitools.observation import Coarsen, Noise, Observation, Smooth
from sbitools.statistics import cross_correlation, power_spectrum

# %% [markdown]
# Everything below is written to one folder. Run the notebook twice and the second time is quick:
# simulations that are on disk are not made again. The first time takes about a quarter of an
# hour on two cores. The small setting is the one that our tests run; it goes through every step
# in a minute but learns almost nothing. Where the text says what there is to see, it means the
# full setting; verdicts and numbers are those that your own run prints.

# %%
SMALL = os.environ.get("SBITOOLS_SMALL") == "1"
RUN = Path(os.environ.get("SBITOOLS_RUN", "runs")) / ("chain-small" if SMALL else "chain")
RUN.mkdir(parents=True, exist_ok=True)

CELLS, BOX = (16, 50.0) if SMALL else (32, 100.0)  # cells per side; side in Mpc/h
EXPENSIVE, CHEAP, TESTS = (8, 128, 32) if SMALL else (64, 2000, 300)

# %% [markdown]
# ## 1. The expensive simulator
#
# `NBodySimulator` draws Gaussian initial conditions, and moves particles under their own gravity
# until today. It is a small particle-mesh code: on a laptop a box takes a fraction of a second,
# so that you can play. Pretend that it takes an hour. Nothing below would change.
#
# Two things make it usable for inference. It says what its parameters are and what is known
# about them beforehand, and it takes its randomness from outside: one *seed* per simulation.
# Same parameters and same seed, same box, to the last bit.

# %%
reference = NBodySimulator(CELLS, BOX)
for parameter in reference.parameters:
    print(parameter.name, parameter.prior)

# %% [markdown]
# Here is one universe, with its initial ripples fixed by the seed, for three settings of the
# parameters. More matter, or clumpier matter, and gravity has more to work with. That is the
# signal we are after. Change the seed instead, and everything moves: that is the noise we have
# to see through.


# %%
def show(fields, titles):
    """Boxes seen from the side: the mean over a quarter of their depth."""
    _, axes = plt.subplots(1, len(fields), figsize=(3.2 * len(fields), 3.4), squeeze=False)
    for ax, field, title in zip(axes[0], fields, titles, strict=True):
        slab = np.log10(np.clip(1 + np.asarray(field)[: len(field) // 4].mean(0), 0.05, None))
        ax.imshow(slab, cmap="magma", vmin=-0.8, vmax=1.0, extent=(0, BOX, 0, BOX))
        ax.set(title=title, xlabel="Mpc/h", yticks=[])
    plt.tight_layout()
    plt.show()


theta = torch.tensor([[0.2, 0.65], [0.3, 0.8], [0.4, 0.95]], dtype=torch.float64)
boxes = reference.simulate(theta, torch.tensor([7, 7, 7]))
show(boxes, [rf"$\Omega_m={a:.1f},\ \sigma_8={b:.2f}$" for a, b in theta.tolist()])

# %% [markdown]
# ## 2. A few expensive simulations
#
# `sbitools.simulate` runs a *campaign*: it draws parameters from the prior, gives every
# simulation its seed, spreads the work over processes and keeps the results in a *store*. Kill
# it at any moment and call it again, and it goes on where it was. A simulation that crashes is
# not dropped but recorded with its parameters and the reason, because a prior with silent holes
# in it is a different prior.
#
# The emulator will learn how particles move, so its lessons are simulations of *particles*:
# where each one starts and where it ends. They are made by the same simulator, with another
# output.

# %%
particles = NBodySimulator(CELLS, BOX, quantity="particles")
lessons = sbitools.simulate(particles, EXPENSIVE, RUN / "lessons", seed=1, progress=False)
print(lessons.counts())

# %% [markdown]
# We also set some expensive simulations aside now, **for the end**. They are drawn from the
# prior, with another seed, and nothing will be trained on them. They cost as much as the
# lessons; they are what the verdict rests on.

# %%
truth = sbitools.simulate(reference, TESTS, RUN / "truth", seed=2, progress=False)
print(truth.counts())

# %% [markdown]
# ## 3. An emulator that learns fields
#
# Most of what gravity does to a box is simple: matter drifts along the initial ripples. That
# first step, the Zel'dovich approximation, is a formula. The network starts from it and learns
# the rest, the collapse into filaments and halos, as a function of the cosmology. It never sees
# random numbers: the initial ripples *are* its input. So an emulator, too, is a simulator:
# parameters and a seed in, a box out.

# %%
emulator = NBodyEmulator(reference)
options = {"epochs": 1, "channels": (8, 16)} if SMALL else {}
history = emulator.fit(lessons, options, run_dir=RUN / "emulator", resume=True)
print(f"{len(history.epochs)} epochs in {history.seconds:.0f} s")

# %% [markdown]
# How good is it? Look first. The middle panel, second-order perturbation theory (2LPT), is what
# one gets from formulas alone, and is here as a yardstick. All three boxes start from the same
# ripples.


# %%
def perturbation_theory(theta, seeds):
    """The same universes by second-order Lagrangian perturbation theory, a cheap simulator."""
    moved = reference.perturbation_theory(theta, seeds)
    return density_contrast(moved[:, 0, :3], BOX)


rows = truth.done[:16]
theta, seeds, boxes = truth.theta[rows], truth.seeds[rows], truth.read(rows)
approximate = {
    "2LPT": perturbation_theory(theta, seeds),
    "emulator": emulator.simulate(theta, seeds),
}
show([approximate["2LPT"][0], approximate["emulator"][0], boxes[0]], ["2LPT", "emulator", "truth"])

# %% [markdown]
# Then measure, on cosmologies and ripples it has not seen. The *transfer function* compares
# amplitudes, scale by scale; the *cross-correlation* compares places: are the halos where they
# should be? Both are one for a perfect emulator. Small scales are to the right, and that is
# where approximations die first.

# %%
_, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2))
for name, fields in approximate.items():
    power, target = power_spectrum(fields, BOX), power_spectrum(boxes, BOX)
    left.plot(power.k, np.sqrt(power.power / target.power).mean(0), label=name)
    k, correlation = cross_correlation(fields, boxes, BOX)
    right.plot(k, correlation.mean(0), label=name)
left.set(xlabel="k [h/Mpc]", title="amplitude: transfer function")
right.set(xlabel="k [h/Mpc]", title="places: cross-correlation")
for ax in (left, right):
    ax.axhline(1, color="0.6", lw=0.8)
    ax.legend()
plt.show()

# %% [markdown]
# ## 4. Very many cheap simulations
#
# Because an emulator is a simulator, the same campaign makes emulated boxes, as many as we like.
# A second set, with its own seed, is for testing.

# %%
cheap = sbitools.simulate(emulator, CHEAP, RUN / "cheap", seed=3, progress=False)
cheap_tests = sbitools.simulate(emulator, TESTS, RUN / "cheap-tests", seed=4, progress=False)
print(cheap.counts(), cheap_tests.counts())

# %% [markdown]
# ## 5. What is observed
#
# No telescope sees every cell exactly. The *observation model* says what happens on the way:
# here the box is smoothed over a cell, averaged over blocks of two cells a side, and noise is
# added. It is one object, and the same one is used in training, where its noise is drawn anew at
# every step, in every test, and for your data.
#
# It is also a choice about trust. Smoothing takes away the scales where the emulator is worst.
# What the posterior cannot see, cannot mislead it, and cannot inform it either.

# %%
observe = Observation([Smooth(1.0), Coarsen(2), Noise(0.1)])
show(observe(boxes[:2], seeds[:2]), ["observed", "another one"])

# %% [markdown]
# ## 6. The posterior
#
# `sbitools.train` fits a conditional density: for a field $x$, which parameters are plausible? A
# network condenses the field to a few numbers, a normalizing flow turns these into a
# distribution. It is *amortised*: trained once, it answers for any field at once. Draws lie
# inside the prior by construction, so nothing is rejected and nothing can hang.
#
# A box has no preferred direction, so the network may see every box turned and mirrored
# (`symmetry="cube"`): 48 boxes for the price of one.

# %%
settings = {"symmetry": "cube", "channels": 8, "epochs": 3 if SMALL else 20, "seed": 5}
posterior = sbitools.train(
    cheap, observe=observe, run_dir=RUN / "posterior", resume=True, **settings
)

# %% [markdown]
# Now the moment the whole thing is for. We take one of the *expensive* simulations, observe it,
# and ask. The posterior has never seen a box of this kind.


# %%
def corner(draws, true_values, title):
    """Draws of two parameters with the truth."""
    _, ax = plt.subplots(figsize=(3.8, 3.4))
    ax.plot(*draws.T, ".", ms=1.5, alpha=0.3)
    ax.plot(*true_values, "*", ms=14, color="C1", label="truth")
    ax.set(xlim=(0.1, 0.5), ylim=(0.6, 1.0), xlabel=r"$\Omega_m$", ylabel=r"$\sigma_8$")
    ax.set_title(title)
    ax.legend()
    plt.show()


x = observe(boxes, seeds)
draws = posterior.sample(x, 2000, seed=6)  # one row of draws per box
corner(draws[0].numpy(), theta[0].numpy(), "an expensive box")

# %% [markdown]
# At the full setting the cloud is stretched along a curve: more matter and less clumpiness make
# similar boxes. This is physics, not a failure. But is the cloud *right*? Is it too narrow, too
# wide, in the wrong place? One box cannot tell. We need many, and a way to count.
#
# ## 7. Does it know how much it knows?
#
# If a posterior is right, then over many simulations the truth falls anywhere among its draws
# with equal probability. Rank the true value among the draws; the ranks must be uniform. Count
# how often the 68 % region holds the truth; it must be 68 %. These are simulation-based
# calibration and expected coverage, and `sbitools.calibrate` runs them, and more, on the same
# draws. First on emulated tests, the kind of box it was trained on:


# %%
def show_ranks(result):
    """Ranks of the truth, for each set of tests there is."""
    _, ax = plt.subplots(figsize=(5.5, 3.6))
    result.plot("sbc", ax=ax)
    plt.show()


own = sbitools.calibrate(
    posterior, cheap_tests, n_draws=200 if SMALL else 1000, seed=7, progress=False
)
print(own.verdict)

# %%
show_ranks(own)

# %% [markdown]
# Each line shows how far the ranks of one parameter are from uniform; the band is what chance
# allows. A line inside the band is what a training that has worked looks like; the printed verdict
# says whether yours did, by all the checks together.
#
# ## 8. Why that is not enough
#
# It is tempting to stop here. To see why one must not, let us do something foolish on purpose.
# We replace the emulator by 2LPT, which we know to be poor on small scales, and repeat
# everything: cheap simulations, posterior, calibration. Nothing in the code is different.

# %%
foolish = sbitools.FunctionSimulator(perturbation_theory, reference.parameters, reference.output)
foolish_boxes = sbitools.simulate(foolish, CHEAP, RUN / "2lpt", seed=8, progress=False)
foolish_tests = sbitools.simulate(foolish, TESTS, RUN / "2lpt-tests", seed=9, progress=False)
misled = sbitools.train(
    foolish_boxes, observe=observe, run_dir=RUN / "misled", resume=True, **settings
)

# %% [markdown]
# `calibrate` takes the expensive simulations we set aside as `reference`, and runs the same
# checks on both sets.

# %%
foolish_result = sbitools.calibrate(
    misled, foolish_tests, reference=truth, n_draws=200 if SMALL else 1000, seed=10, progress=False
)
print(foolish_result.verdict)

# %%
show_ranks(foolish_result)

# %% [markdown]
# Compare the two sets of lines. At the full setting, those of this posterior's own boxes look as
# those of the other posterior did. That is no surprise: it learnt the posterior *of 2LPT*, and was
# asked about 2LPT. The error of the simulator is in the training and in the test, and cancels. On
# the expensive boxes the lines leave the band: the posterior is confident, and in the wrong place.
# It takes the weaker clustering of 2LPT for granted and explains the stronger clustering of real
# boxes with other parameters. (At the small setting the posteriors are too wide to show it.)
#
# Self-consistency says that training worked. It says nothing about the simulator.

# %%
corner(misled.sample(x[:1], 2000, seed=6)[0].numpy(), theta[0].numpy(), "the same box, misled")

# %% [markdown]
# ## 9. The transfer check
#
# Now the same question for our emulator. This is the verdict to publish, with its effect sizes and
# the number of tests it rests on: "passed" with thirty tests says much less than with a thousand.

# %%
result = sbitools.calibrate(
    posterior,
    cheap_tests,
    reference=truth,
    n_draws=200 if SMALL else 1000,
    seed=7,
    progress=False,
)
print(result.verdict)

# %%
show_ranks(result)

# %% [markdown]
# The table has one row per check. Read it in this order:
#
# - **passed**: whether the check stayed inside what chance allows. The false-alarm rate is
#   shared among the checks, so a right posterior fails one of a set in a hundred cases.
# - **effect**: by how much it is off. With few tests a real error may pass unnoticed; with very
#   many a harmless one will be found. The effect tells them apart.
# - the rows of the set **transfer** compare the two sets of tests directly: does the bias
#   change, do errors grow relative to the stated ones?

# %%
result.checks[["set", "name", "passed", "p_value", "effect", "summary"]]

# %% [markdown]
# There are three outcomes, and each means something else:
#
# 1. **Both sets pass.** Within the power of your tests the posterior holds for the expensive
#    simulator. Use it, inside the prior, for data that the observation model describes.
# 2. **Emulated tests pass, reference tests fail.** The emulator is what misleads. More or better
#    lessons, a better network, or a coarser view (smooth more: see step 5) are the cures, and
#    the effect says how much is needed.
# 3. **Emulated tests fail.** The inference itself has not converged: train longer, or on more
#    boxes. The reference tests do not mean much until this is mended.
#
# ## 10. One report
#
# For others, and for yourself in a year, the result goes into one file that opens in any
# browser.

# %%
page = result.to_html(RUN / "calibration.html")
result.to_json(RUN / "calibration.json")
posterior.save(RUN / "posterior-checkpoint")
print(page.name, f"{page.stat().st_size / 1e6:.1f} MB")

# %% [markdown]
# ## Where to go from here
#
# - The whole chain in one command, with a fuller report: `sbitools demo`. All its settings are
#   in one TOML file; `sbitools demo --print-config` shows it.
# - **Your simulator** is a class with `parameters`, `output` and `simulate(theta, seeds)`; step
#   8 made one from a function in one line.
# - **Your simulations**, if they exist already: `sbitools.SimulationStore.from_arrays`, or
#   `sbitools import`.
# - **Your field**: `posterior.sample(field[None], 4000)`, or `sbitools sample --observation
#   FILE`; the field as it looks after the observation model (`--simulated` for a raw one). The
#   command uses the repaired posterior, where the run has a repair that helps.
# - **Your emulator**: `CONTRIBUTING.md` has a complete one in 150 lines.
#
# What the chain cannot tell you is whether the expensive simulator is right about the sky. That
# remains yours.
