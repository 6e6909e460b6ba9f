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
# # The 21cm signal: a diffusion model of 21cmFAST, and what it is good for
#
# Hydrogen between the first galaxies glows at 21 cm until their light ionises it. How bright,
# and in which pattern, says how efficient the galaxies were (zeta) and how heavy a halo must be
# to host one (T_vir). 21cmFAST simulates that; here a diffusion model learns its fields, makes
# thousands of new ones, a posterior is trained on those, and is then tested on true ones.
#
# Nothing has to be compiled: a small set of 21cmFAST planes and the weights of the emulator come
# with the package. With the extra `reionization` installed, everything below works on your own
# simulations.

# %%
import os
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

import sbitools
from emulators.reionization import shipped
from emulators.reionization.statistics import distances, measure
from emulators.reionization.validation import compare
from sbitools.observation import Noise, Observation, Smooth

# %%
SMALL = os.environ.get("SBITOOLS_SMALL") == "1"
RUN = Path(os.environ.get("SBITOOLS_RUN", "runs")) / ("21cm-small" if SMALL else "21cm")
RUN.mkdir(parents=True, exist_ok=True)
BOX = 128.0  # Mpc


def reference(kind, n):
    """Shipped simulations of 21cmFAST, as a store; it is made once."""
    path = RUN / f"true-{kind}"
    return sbitools.SimulationStore.open(path) if path.exists() else shipped.store(kind, path, n)


# %% [markdown]
# ## 1. True and emulated planes
#
# Planes of 64 x 64 cells and 128 Mpc, at redshift 9. In each row, the first picture is
# 21cmFAST's, the others are emulated at the same parameters from different seeds: other skies of
# the same universe.

# %%
emulator = shipped.emulator()
held_out = reference("validation", 8 if SMALL else 32)
brightest = held_out.read(held_out.done)[:, 0].flatten(1).std(1).argsort(descending=True)[:3]
figure, axes = plt.subplots(3, 5, figsize=(10, 6.4), layout="constrained")
for row, index in zip(axes, brightest.tolist(), strict=True):
    theta = held_out.theta[[index]]
    drawn = emulator.simulate(theta.expand(4, -1), torch.arange(4))
    true = held_out.read([index])[0, 0]
    for ax, field in zip(row, [true, *drawn], strict=True):
        shown = ax.imshow(field, vmin=0, vmax=40, cmap="magma")
        ax.set(xticks=[], yticks=[])
    row[0].set_ylabel(f"zeta {theta[0, 0]:.0f}, log T_vir {theta[0, 1]:.2f}")
axes[0, 0].set_title("21cmFAST")
axes[0, 2].set_title("emulated")
figure.colorbar(shown, ax=axes, label="brightness temperature [mK]", shrink=0.6)
plt.show()

# %% [markdown]
# Pictures do not decide. These are cubes the emulator has not seen, one plane each; the second
# column is 21cmFAST against itself: planes across another axis of the same cubes.

# %%
found = compare(emulator, held_out)
pd.DataFrame(found["errors"]).T.round(4)

# %%
figure, ax = plt.subplots(figsize=(5.5, 3.4), layout="constrained")
ratio = found["curves"]["power over reference"]["emulator"]
floor = found["noise_floor"]["power over reference"]
ax.fill_between(found["k"], 1 - floor, 1 + floor, color="0.8", label="21cmFAST against itself")
ax.plot(found["k"], ratio, "o-", label="emulated")
ax.axhline(1, color="0.5", lw=0.8)
ax.set(xscale="log", xlabel="k [1/Mpc]", ylabel="P(k) over true P(k)", ylim=(0.5, 1.5))
ax.legend()
plt.show()

# %% [markdown]
# ## 2. How few calls of the network are enough?
#
# A plane is made by following an equation from noise to a field, a call of the network at each
# step. From the same noise, with more and with fewer steps:

# %%
theta = held_out.theta[held_out.done].repeat(1 if SMALL else 2, 1)
seeds = torch.arange(len(theta))
exact = measure(emulator.sampling(sampler="heun", sampler_steps=50).simulate(theta, seeds), BOX)
rows = {}
for sampler, steps in [("dpm3", 8), ("dpm3", 18), ("dpm2", 18), ("heun", 9)]:
    begun = time.process_time()
    other = emulator.sampling(sampler=sampler, sampler_steps=steps)
    off = distances(measure(other.simulate(theta, seeds), BOX), exact)
    rows[f"{sampler}, {steps} steps"] = [
        np.abs(off.power).max(), off.mean, off.ionised, (time.process_time() - begun) / len(theta)
    ]  # fmt: skip
columns = ["largest ln P(k) ratio", "mean [mK]", "ionised share", "CPU s per plane"]
pd.DataFrame(rows, index=columns).T.round(4)

# %% [markdown]
# ## 3. A posterior from emulated planes alone
#
# What an instrument sees is smoother and noisy. Noise belongs to the observation, not to the
# simulation: it is drawn anew whenever a field is looked at. (For the noise and foregrounds of
# SKA1-Low see `emulators.reionization.instrument`.)

# %%
CHEAP, TESTS = (128, 40) if SMALL else (4096, 320)
cheap = sbitools.simulate(emulator, CHEAP, RUN / "cheap", seed=2, progress=False)
cheap_tests = sbitools.simulate(emulator, TESTS, RUN / "cheap-tests", seed=3, progress=False)
true_tests = reference("test", TESTS if SMALL else None)

observe = Observation([Smooth(1.0), Noise(2.0)])
settings = {"epochs": 3, "channels": 4} if SMALL else {"epochs": 25, "channels": 8}
posterior = sbitools.train(
    cheap, observe=observe, run_dir=RUN / "posterior", resume=True, symmetry="cube",
    batch_size=64, learning_rate=2e-3, seed=4, **settings,
)  # fmt: skip
result = sbitools.calibrate(
    posterior, cheap_tests, reference=true_tests, n_draws=100 if SMALL else 1000, seed=5,
    progress=False,
)  # fmt: skip
result.to_html(RUN / "calibration.html")
print(result.verdict)

# %%
result.checks[["set", "name", "passed", "effect", "summary"]]

# %% [markdown]
# The verdict has two halves: whether the posterior is right about *emulated* planes, and whether
# it is right about *21cmFAST's*. Only the second one is about the universe. Where it fails, the
# true simulations there are can mend the posterior, and are judged by others than those they
# were fitted to:

# %%
repaired = sbitools.repair(
    posterior, true_tests, method="recalibrate", folds=2 if SMALL else 5,
    indices=true_tests.done[:200], n_draws=100 if SMALL else 500, run_dir=RUN / "repair", seed=6,
)  # fmt: skip
{k: v for k, v in repaired.info["repair"].items() if isinstance(v, str | float | int | bool)}

# %% [markdown]
# ## Where to go from here
#
# - `pip install sbitools[reionization]` (after `apt-get install build-essential libgsl-dev
#   libfftw3-dev`) for your own simulations: `ReionizationSimulator` makes planes, cubes and
#   light cones, with or without spin temperature, of up to six parameters.
# - The [card](../emulators/reionization/card.md) says how good the emulator is, and where it is
#   not.
