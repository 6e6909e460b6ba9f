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
# # From ten end-to-end simulations to as many sky maps as inference needs
#
# A satellite scans the sky in circles, for years, with detectors that are known almost, but not
# quite, well enough. What the imperfections do to its maps of polarisation is found with
# *end-to-end* simulations: sky, scan, detectors, noise, calibration, map-making. One of them can
# cost thousands of CPU hours, so there are ten, or a hundred. But a covariance of all pixels, a
# likelihood of the spectra or a neural posterior wants thousands.
#
# This tutorial takes ten maps and makes as many more as we like, measures how good they are, uses
# them for what they are needed for. The system is an
# idealised one in which the right answers are known, so that "how good" has an answer.

# %%
import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

import sbitools
from emulators.survey import ScatteringEmulator, TodSimulator
from emulators.survey.maps.assessment import Reference, assess
from emulators.survey.maps.covariance import limit_error, rival_covariances
from emulators.survey.maps.figures import minkowski_figure, pdf_figure, spectra_figure
from emulators.survey.maps.projection import mollweide
from emulators.survey.maps.spectra import band_deviation, band_shares
from emulators.survey.maps.statistics import measure, split_sets
from sbitools.errors import ConfigError
from sbitools.statistics import (
    angular_power,
    controlled_covariance,
    controlled_mean,
    effective_rank,
    expected_sample_error,
    hartlap_factor,
    inverse_covariance,
    relative_error,
    sample_covariance,
)

# %% [markdown]
# Everything is written to one folder, and simulations that are on disk are not made again. The
# full setting takes several minutes on one core. The small one, which our tests run, takes less
# than one and goes through every step with maps so few and coarse that not much can be seen.
# Where the text says what there is to see, it means the full setting; verdicts and numbers are
# those that your own run prints.

# %%
SMALL = os.environ.get("SBITOOLS_SMALL") == "1"
RUN = Path(os.environ.get("SBITOOLS_RUN", "runs")) / ("maps-small" if SMALL else "maps")
RUN.mkdir(parents=True, exist_ok=True)

NSIDE = 4 if SMALL else 16
INPUTS, PAIRS = 10, 10  # the expensive maps: to learn from, and to correct with
SETS, EMULATED = (16, 48) if SMALL else (100, 400)  # maps in a set; emulated maps
TRUE = 80 if SMALL else 1000  # for judging only
quiet = {"progress": False, "workers": 1}

# %% [markdown]
# ## 1. What a gain error does to Q and U
#
# A detector is pointed at the sky and returns a voltage. The *gain* turns volts into kelvins. Let
# it be wrong by a factor 1 + g while a circle is scanned. Then g times *everything* on this circle
# is added to the data, and the brightest thing there is the dipole of our own motion, 3.4 mK.
# Polarisation is the difference of detectors that look through polarisers at different angles:
# when their gains are wrong by different amounts, the unpolarised dipole no longer cancels, and
# what is left goes into Q and U along the circle. The result is stripes, where the satellite
# scanned, as bright as the dipole is there.
#
# `TodSimulator` simulates this: a year of a Planck-like scan, four polarised detectors, dipole and
# CMB, gain errors of rms $10^{-4}$ that are new in every ring. The output is the map with these
# errors minus the map without them. On a laptop it takes a fraction of a second. Pretend that it
# takes a week.

# %%
reference = TodSimulator(
    NSIDE, parameters=[], fixed={"gain_rms": 1e-4, "correlation_time": 1e-6}, method="tod"
)
inputs = sbitools.simulate(reference, INPUTS, RUN / "inputs", seed=1, **quiet)
maps = inputs.read(inputs.done).numpy()
print(f"{len(maps)} maps of Q and U, {maps.shape[2]} pixels each, rms {maps.std():.3f} uK")


# %%
def show(rows, title):
    """Q and U in uK, Mollweide's projection: one row for each named map (2, n_pixels)."""
    figure, axes = plt.subplots(
        len(rows), 2, figsize=(8, 2.4 * len(rows)), squeeze=False, layout="constrained"
    )
    reach = np.quantile(np.abs(list(rows.values())), 0.99)
    for pair, (name, one) in zip(axes, rows.items(), strict=True):
        for ax, stokes, values in zip(pair, "QU", one, strict=True):
            drawn = ax.imshow(
                mollweide(values), origin="lower", cmap="RdBu_r", vmin=-reach, vmax=reach
            )
            ax.set_title(f"{stokes}, {name}")
            ax.axis("off")
    figure.colorbar(drawn, ax=axes, shrink=0.7, label="uK")
    figure.suptitle(title)
    plt.show()


show({"simulated": maps[0]}, "Gain errors of one simulated year (Galactic coordinates)")

# %% [markdown]
# The stripes are the circles of the scan. They cross at the ecliptic poles, where the sky is seen
# most often. They fade where the dipole is zero, and differ from map to map. There is no
# isotropic spectrum that could describe this: pixels far apart are correlated because one circle
# went through both.
#
# ## 2. What ten maps know about their covariance
#
# The matrix of covariances between all pixels of Q and U says how these errors enter a
# likelihood. From N maps one can take the sample covariance. Here we can do what nobody can in
# practice, and compare with the exact answer: the maps are linear in the gain errors, so
# $C = \sigma_g^2 B^T B$ with $B$ the response of the maps to every single ring.

# %%
exact = reference.response().covariance(reference.fixed["gain_rms"] ** 2)
rank = effective_rank(exact)
print(f"{len(exact)} x {len(exact)} numbers; they act as about {rank:.0f} independent ones")
for n in (10, 100, 1000, 10000):
    print(f"{n:6d} maps: sample covariance wrong by {expected_sample_error(exact, n):.2f} |C|")

# %% [markdown]
# With ten maps the error is several times the matrix itself. Statisticians have remedies: shrink
# the matrix towards a multiple of unity (Ledoit & Wolf), or cut off correlations at large
# distances with a taper. We give the taper the best width *in view of the truth*, which is
# cheating in its favour.

# %%
rivals = rival_covariances(maps, exact)
errors = {name: relative_error(matrix, exact) for name, matrix in rivals.items()}
pd.Series(errors, name="relative error of the covariance").to_frame().round(3)

# %% [markdown]
# An error of 1 is what a matrix of zeros has. The remedies get there by throwing away nearly all
# correlations, the stripes with them: no general rule knows where this satellite went.
#
# ## 3. The emulator
#
# But we do know where it went. The emulator is told the *scan*: which circle goes through which
# pixels with which polarisation angle, how often a pixel is hit, and, where gains are calibrated
# in flight, how often. It is told neither what the sky looks like nor how the maps respond to
# gain errors. That it has to find in the ten maps: a smooth unknown sky that multiplies ring
# amplitudes, the powers of these amplitudes on all time scales, offsets, white noise, the spread
# of every pixel. Then it compares statistics of its maps with those of the ten, *scattering
# covariances* (how wavelet amplitudes of different scales and directions go together) and EE, BB
# and EB spectra, and moves each new map until they agree, as far as the difference is more than
# chance. Few numbers are learnt from each map; that is why ten are enough.

# %%
emulator = ScatteringEmulator.of(reference)
options = {"steps": 10, "generator_steps": 50} if SMALL else {}
history = emulator.fit(inputs, options, run_dir=RUN / "emulator", resume=True)
print(f"fitted to {len(maps)} maps in {history.seconds:.0f} s")

# %% [markdown]
# An emulator is a simulator: a seed in, a map out.

# %%
emulated = sbitools.simulate(emulator, EMULATED, RUN / "emulated", seed=2, **quiet)
new = emulated.read(emulated.done).numpy()
pictures = {"simulated 1": maps[0], "emulated 1": new[0], "simulated 2": maps[1]}
show(pictures | {"emulated 2": new[1]}, "Simulated and emulated maps")

# %% [markdown]
# Could you tell them apart? Pictures are a weak test. To do better we need many true maps, which
# in practice nobody has. They are used for judging, and for nothing else.

# %%
true_store = sbitools.simulate(reference, TRUE, RUN / "true", seed=3, **quiet)
truth = true_store.read(true_store.done).numpy()

# %% [markdown]
# **Covariance.** The sample covariance of M emulated maps is wrong for two reasons: because M is
# finite, and because the emulator is not perfect. The first we can make as small as we like. The
# second is what we want to know, and `limit_error` finds it: the error of the covariance of
# endlessly many emulated maps, without bias by the number there is.

# %%
found = limit_error(new, exact)
low, high = found.interval()
print(f"in the limit: {found.error:.2f}, one-sigma interval {low:.2f} to {high:.2f}")
print(f"best rival from the same maps: {min(errors.values()):.2f}")
worth = (1 + rank) / max(found.squared, found.squared_error)
print(f"a sample covariance as good as this takes about {worth:.0f} simulated maps")


# %% [markdown]
# **Spectra.** Ten maps know their mean spectrum to $\sigma/\sqrt{10}$, with $\sigma$ the scatter
# of a single map. That is the grey band (the lighter one is twice as wide); nobody can ask an
# emulator of ten maps to be better. Shown is by how much the mean of the emulated spectra is off.


# %%
def titled(figure, title):
    """A figure with a title."""
    figure.suptitle(title)
    return figure


spectra = {
    name: angular_power(some, ordering="nested")
    for name, some in {"inputs": maps, "emulated": new, "true": truth}.items()
}
deviations = {
    name: {
        s: band_deviation(spectra[name][s].mean(0), spectra["true"][s], INPUTS)
        for s in ("EE", "BB")
    }
    for name in ("inputs", "emulated")
}
for name, both in deviations.items():
    for s, deviation in both.items():
        one, two = band_shares(deviation)
        print(f"{name} {s}: {one:.0%} of multipoles within one band, {two:.0%} within two")
titled(spectra_figure(deviations, INPUTS), f"Mean spectra against {TRUE} true maps")

# %% [markdown]
# **Pixels and shapes.** Are the values of pixels distributed as they should be, and are the
# regions above a threshold as large (V0), as long in outline (V1) and as connected (V2, the
# Minkowski functionals)? Distances of finite sets of maps are never zero. So next to each there is
# the *noise floor*: the same distance for true maps in the place of the emulated ones.

# %%
judge = Reference.of(truth, exact, SETS)
measured = [assess(new, judge), judge.floors(EMULATED // SETS)[0]]
columns = ["emulated", "noise floor"]
rows = {
    "pdf": "pixels: Wasserstein distance [sigma]",
    "excess": "pixels: kurtosis minus that of true maps",
    "minkowski_rms": "Minkowski: rms shift [sigma of one map]",
    "scattering": "scattering covariances: rms shift [sigma of one map]",
    "spread": "their scatter between maps, over the true one",
}
pd.DataFrame(
    {
        name: {text: m.to_dict()[key] for key, text in rows.items()}
        for name, m in zip(columns, measured, strict=True)
    }
).round(3)

# %%
again = EMULATED // SETS
sets = {
    "true": judge.sets[again:],
    "true again (noise floor)": judge.sets[:again],
    "emulated": [measure(part, judge.transform) for part in split_sets(new, SETS)],
}
titled(pdf_figure(sets), "Pixels, each in units of its own standard deviation")

# %%
titled(
    minkowski_figure(sets, "true"),
    "Minkowski functionals; thresholds in standard deviations of each map",
)

# %% [markdown]
# ## 4. What the maps are for
#
# **A covariance of spectra.** Most analyses compress maps to band powers, and need the inverse of
# their covariance. Ten maps do not have one: there are more bands than maps. And if there are
# somewhat more maps than bands, the inverse of the sample covariance is too large on average, by a
# factor that Hartlap, Simon & Schneider computed.


# %%
def bands(found):
    """Mean of EE and of BB in six bands of multipoles, (n, 12), in uK^2."""
    edges = np.geomspace(2, found["EE"].shape[1], 7).round().astype(int)
    return np.concatenate(
        [np.add.reduceat(found[s], edges[:-1], axis=1) / np.diff(edges) for s in ("EE", "BB")],
        axis=1,
    )


powers = {name: bands(some) for name, some in spectra.items()}
n_bands = powers["true"].shape[1]
try:
    hartlap_factor(INPUTS, n_bands)
except ConfigError as error:
    print(error)
print(f"Hartlap's factor of {EMULATED} emulated maps: {hartlap_factor(EMULATED, n_bands):.3f}")

# %% [markdown]
# With emulated maps the inverse exists. Is it right? For true maps that were used for nothing,
# $\chi^2$ per band must be one. It will not be exactly, because ten maps that happen to be loud
# make an emulator that is loud.

# %%
precision = inverse_covariance(sample_covariance(powers["emulated"]), EMULATED)
off = powers["true"] - powers["emulated"].mean(0)
chi2 = np.einsum("ni,ij,nj->n", off, precision, off) / n_bands
print(
    f"chi2 per band of {TRUE} true maps: {chi2.mean():.2f} +- {chi2.std() / len(chi2) ** 0.5:.2f}"
)
ratio = powers["emulated"].std(0, ddof=1) / powers["true"].std(0, ddof=1)
print(f"scatter of band powers, emulated over true: {ratio.min():.2f} to {ratio.max():.2f}")

# %% [markdown]
# **Without the emulator's bias.** An emulator of ten maps inherits their luck: a mean spectrum
# that is off by $\sigma/\sqrt{10}$. A few more true maps can take this out. If an emulated map
# shares its randomness with a true one, the two go up and down together, and what the true map has
# by chance can be seen in its partner and subtracted. These are control variates (CARPool). The
# result has the mean of the true maps *whatever the emulator does wrong*; a good emulator only
# makes it precise.
#
# What can they share? Whoever runs an end-to-end simulation knows which gain errors went into it.
# In the emulator, the first part of the white noise `latent` belongs to the ring amplitudes. So we
# put the gain errors there, divided by their rms: standard normal numbers, as all of `latent` must
# be, or partners would have another mean than other emulated maps. We take ten new true maps: with
# those that the emulator was fitted to, the two sides would depend on each other in another way
# as well.

# %%
pairs = sbitools.simulate(reference, PAIRS, RUN / "pairs", seed=4, **quiet)


def partner(theta, seeds):
    """Emulated maps that share their gain errors with the true maps of these seeds."""
    gains = reference.gains(theta, seeds) / reference.fixed["gain_rms"]
    latent = emulator.latent(theta, seeds + 1)
    n, detectors, rings = gains.shape
    amplitudes = latent[:, : emulator.module().rings.latent_sizes[0]]  # two numbers for each ring
    amplitudes.view(n, detectors, 2 * rings)[:, :, :rings] = torch.from_numpy(gains)
    return emulator.decode(theta, latent)


twins = partner(pairs.theta, pairs.seeds).numpy()
true_powers = bands(angular_power(pairs.read(pairs.done).numpy(), ordering="nested"))
twin_powers = bands(angular_power(twins, ordering="nested"))
together = [np.corrcoef(a, b)[0, 1] for a, b in zip(true_powers.T, twin_powers.T, strict=True)]
print(f"correlation of true and emulated band powers: median {np.median(together):.2f}")

# %%
mean = controlled_mean(true_powers, twin_powers, powers["emulated"], folds=5)
spread = controlled_covariance(true_powers, twin_powers, powers["emulated"])
gain, gain_spread = np.median(mean.reduction), np.median(np.diag(spread.reduction))
print(f"mean band powers: as good as {gain * PAIRS:.0f} true maps instead of {PAIRS}")
print(f"their variances: as good as {gain_spread * PAIRS:.0f}")
expected = powers["true"].mean(0)
_, ax = plt.subplots(figsize=(7, 3.4))
for shift, (name, value, error) in enumerate(
    [
        (f"{PAIRS} true maps", mean.plain, mean.plain_error),
        ("the same with control variates", mean.mean, mean.error),
        ("emulated maps alone", powers["emulated"].mean(0), 0 * mean.error),
    ]
):
    at = np.arange(n_bands) + 0.2 * (shift - 1)
    ax.errorbar(at, value / expected - 1, error / expected, fmt="o", ms=4, label=name)
ax.axhline(0, color="0.6", lw=0.8)
ax.set(
    xlabel="band: six of EE, then six of BB",
    ylabel="relative error",
    title=f"Mean band powers against those of {TRUE} true maps",
)
ax.legend()
plt.show()

# %% [markdown]
# With ten pairs the stated error bars are themselves known to a quarter or so. `folds` in the call
# are there because a coefficient that is fitted to the pairs it is applied to would bring the
# bias back.
#
# ## 5. Where to go on
#
# Here maps are linear in Gaussian gain errors, so that everything could be compared with exact
# answers. [05_gains_from_sky_maps](05_gains_from_sky_maps.ipynb) takes the emulator to a harder
# instrument, and uses it in the chain: parameters of the gain errors from a map, tested on true
# maps. The card (`emulators/survey/card.md`) says what was measured, and where it fails.
