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
# # Your own simulations: from a folder of files to a report
#
# The other tutorials use simulators that come with the package. This one starts from what most
# people have: a folder with arrays and a table of parameters, made by a program that knows nothing
# of us. Two commands make a report of it, `sbitools init` and `sbitools run`. They are typed in a
# terminal; here, `command([...])` is the same as typing `sbitools ...`.

# %%
import json
import os
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import HTML, Code

from sbitools.cli import main as command

SMALL = os.environ.get("SBITOOLS_SMALL") == "1"
RUN = Path(os.environ.get("SBITOOLS_RUN", "runs")) / ("own-small" if SMALL else "own")
RUN.mkdir(parents=True, exist_ok=True)
N = 160 if SMALL else 512

# %% [markdown]
# ## 1. Somebody's simulations
#
# A survey measures 24 band powers of a spectrum with an amplitude, a slope and a bend. The power
# in each band scatters like chi-square, more where there are few modes. This script is all that
# is known of the simulator: it imports nothing of ours, and it writes what scripts write.

# %%
SCRIPT = """
import sys
import numpy as np

n, folder = int(sys.argv[1]), sys.argv[2]
rng = np.random.default_rng(4)
k = np.geomspace(0.02, 0.5, 24)
modes = np.maximum(6, (k / 0.02) ** 2).astype(int)
theta = rng.uniform([0.5, -2.0, 0.0], [2.0, -1.0, 0.5], (n, 3))
amplitude, slope, bend = theta.T[:, :, None]
power = amplitude * (k / 0.1) ** (slope + bend * np.log(k / 0.1))
power = power * rng.chisquare(modes, (n, len(k))) / modes
np.save(f"{folder}/power.npy", power[:-1])
np.save(f"{folder}/data.npy", power[-1])
rows = "\\n".join(f"{i},{a},{b},{c}" for i, (a, b, c) in enumerate(theta[:-1]))
open(f"{folder}/parameters.csv", "w").write("run,amplitude,slope,bend\\n" + rows + "\\n")
print("the data were made with", theta[-1])
"""
(RUN / "simulate.py").write_text(SCRIPT)
made = subprocess.run(
    [sys.executable, RUN / "simulate.py", str(N + 1), str(RUN)], check=True, capture_output=True
)
print(made.stdout.decode())
sorted(path.name for path in RUN.iterdir())

# %% [markdown]
# ## 2. `sbitools init`
#
# It reads the files, says what it sees, and writes a configuration. It never guesses in silence:
# what it cannot know is marked TO CONFIRM. Which columns are parameters (the one that numbers the
# rows is not), what prior they may have been drawn from, what the axes are, how many simulations
# to keep for tests and what so many tests can see.

# %%
config = RUN / "run.toml"
config.unlink(missing_ok=True)
files = ["--x", RUN / "power.npy", "--theta", RUN / "parameters.csv"]
command(["init", *map(str, files), "--observation", str(RUN / "data.npy"), "--out", str(config)])

# %%
Code(config.read_text(), language="toml")

# %% [markdown]
# The bounds are right, the draws were independent: we confirm it. As long as nobody does, the
# report begins with a reminder. Everything else in the file can be changed, too; `--set
# key=value` changes it for one command, as we do here to keep the small version of this notebook
# short.

# %%
text = config.read_text().replace("priors_confirmed = false", "priors_confirmed = true")
config.write_text(text)
short = ["emulated.n_train=400", "emulated.n_test=60", "calibrate.n_draws=100", "train.epochs=2",
         "train.emulate=false", "emulator.epochs=3", "repair.method=none"]  # fmt: skip
changes = [part for change in short if SMALL for part in ("--set", change)]
changes += ["--set", f"run_dir={json.dumps(str(RUN / 'results'))}"]

# %% [markdown]
# ## 3. `sbitools run`
#
# Every stage of the chain: the simulations are split and stored, an emulator learns from the
# first part of them and is compared with some that it has not seen, a posterior learns from many
# emulated spectra, and is tested on the simulations that were kept. Kill it and run it again: it
# goes on where it was.

# %%
command(["run", str(config), *changes])

# %% [markdown]
# ## 4. Was the emulator worth it?
#
# The chain also trains a posterior on the simulations alone, and one on emulated spectra first and
# the simulations after. All are scored on the tests, by the log density that they give the truth,
# and the best is kept. So the emulator can only help.

# %%
worth = json.loads((RUN / "results" / "choice" / "result.json").read_text())
print(worth["summary"])
pd.DataFrame(worth["scores"])

# %% [markdown]
# ## 5. The posterior of the data
#
# The configuration names the observation, so its posterior is in the report, and the draws beside
# it. Other data of the same kind take a second: `sbitools sample run.toml --observation FILE`.

# %%
draws = pd.read_csv(RUN / "results" / "observation" / "draws.csv")
figure, axes = plt.subplots(1, 3, figsize=(9, 2.6), layout="constrained")
for axis, name in zip(axes, draws.columns, strict=True):
    axis.hist(draws[name], bins=40, histtype="step")
    axis.set(xlabel=name, yticks=[])
draws.describe().loc[["mean", "std"]]

# %%
command(["sample", str(config), *changes, "--observation", str(RUN / "data.npy"), "--n", "1000"])

# %% [markdown]
# ## 6. The report
#
# One HTML file with the verdict first: does the posterior hold on simulations that it has not
# seen? It opens in any browser and needs nothing else.

# %%
report = RUN / "results" / "report" / "report.html"
verdicts = json.loads((report.parent / "report.json").read_text())["verdicts"]
for verdict in verdicts:
    print(f"{verdict['title']}\n  {verdict['text']}\n")
HTML(f'<a href="{report}">{report.name}</a>, {report.stat().st_size / 1e6:.1f} MB')

# %% [markdown]
# ## What else
#
# - **Fields instead of vectors**: planes, cubes, time series, HEALPix maps, in .npy, .npz, HDF5,
#   netCDF, FITS or text, as one file or one per simulation (`--x 'sims/run_{index}.npy'`).
# - **No emulator**: `method = "none"` in `[emulator]`. A fast simulator needs none.
# - **No files yet, but a program**: `sbitools simulate run.toml --command './sim {theta_file}
#   {seed} {output_file}'`.
# - **An observation model**: `[[observe]]` adds noise, masks, smoothing, at every step.
