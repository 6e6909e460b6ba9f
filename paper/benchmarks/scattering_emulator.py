"""Emulated sky maps against reference maps, simpler estimators and Gaussian maps.

Two systems at Nside 16, both of a Planck-like scan: "linear", independent gain errors of every
ring, whose pixel covariance is exactly known; and "dipole", gains that drift with heavy tails and
are estimated from the dipole in 1/f noise. Emulators are fitted to 10 and to 100 maps, for many
independent sets of these. All rivals are measured on the same inputs and reference maps.

The whole run takes about an hour on one core. It can be made in slices (`--system`, `--inputs`,
`--sets`, `--first`), whose results are kept in the .json file and joined; a run without these
options, or with `--fresh`, begins anew.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _scattering import FULL, QUICK, SYSTEMS, System, prepare, run, say
from _table import RESULTS, Table

NAME = "scattering_emulator"
INPUTS = (10, 100)
SETS = {"linear": 20, "dipole": 8}
CLOSE = 3  # sets that are looked at closely
LIMITS = {10: 0.80, 100: 0.65}  # of the covariance error, from N inputs
COLUMNS = (
    "system", "inputs", "maps of", "EE in 1 band", "in 2", "BB in 1", "in 2 ", "covariance error",
    "PDF", "PDF, fixed", "excess kurtosis - reference's", "Minkowski", "scattering", "spread",
    "CPU s per map",
)  # fmt: skip
REQUIREMENT = (
    "linear: covariance error of endlessly many maps at most 0.80 from 10 inputs and 0.65 from "
    "100; EE and BB of 60 % of multipoles within one and 90 % within two bands; excess kurtosis "
    "within 0.1 of the reference's; Minkowski distance at most twice the floor. Dipole: closer "
    "than Gaussian maps with the exact covariance in PDF, Minkowski and scattering distance. "
    "At most 1 s per optimised map; 10 ms per generated one, at most 1.2 times as far from the "
    "reference (or from the noise floor)."
)
_NUMBERS = ("pdf", "pdf_fixed", "excess", "minkowski_rms", "scattering", "spread")


def main(argv: Sequence[str] | None = None) -> None:
    """Run what is asked for and write the table."""
    torch.set_num_threads(1)
    chosen = parse(argv)
    sizes = QUICK if chosen.quick else FULL
    if chosen.maps:
        if chosen.maps % sizes.size or chosen.maps < 2 * sizes.size:
            raise SystemExit(f"--maps: expected a multiple of {sizes.size}, two or more of it")
        sizes = replace(sizes, emulated=chosen.maps)
    settings = {"sizes": asdict(sizes), "sky": "WMAP W" if chosen.wmap else "CMB"}
    data = stored(chosen.out, settings, fresh=chosen.fresh or whole(chosen))
    for name in chosen.system or SYSTEMS:
        system = prepare(name, sizes, chosen.wmap)
        data["references"][name] = described(system)
        for n_inputs in chosen.inputs or INPUTS:
            runs = data["runs"].setdefault(f"{name} {n_inputs}", {})
            last = chosen.first + (chosen.sets or (2 if chosen.quick else SETS[name]))
            for index in range(chosen.first, last):
                made = run(system, n_inputs, index, sizes, index < CLOSE)
                runs[str(index)] = made.found
                say(f"{name}, {n_inputs} inputs, set {index + 1} of {last}: {line(made.found)}")
                if chosen.figures and index == 0:
                    from _scattering_figures import save

                    save(chosen.figures / f"{name}-{n_inputs}", system, made, sizes)
            table(data, chosen.quick).write(chosen.out)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Options; `out` exists afterwards."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the tables")
    parser.add_argument("--quick", action="store_true", help="smaller sizes: a smoke test")
    parser.add_argument("--wmap", type=Path, help="W band I, Q, U map in mK, for the foregrounds")
    parser.add_argument("--figures", type=Path, help="folder for figures")
    parser.add_argument("--system", action="append", choices=SYSTEMS, help="this one alone")
    parser.add_argument("--inputs", action="append", type=int, choices=INPUTS, help="this N alone")
    parser.add_argument("--sets", type=int, help=f"sets of inputs; {SETS} unless given")
    parser.add_argument("--first", type=int, default=0, help="number of the first set")
    parser.add_argument("--maps", type=int, help=f"per closely looked at set; {FULL.emulated}")
    parser.add_argument("--fresh", action="store_true", help="forget earlier slices")
    chosen = parser.parse_args(argv)
    chosen.out.mkdir(parents=True, exist_ok=True)
    return chosen


def whole(chosen: argparse.Namespace) -> bool:
    """Whether no part was asked for."""
    return not (chosen.system or chosen.inputs or chosen.sets or chosen.first)


def stored(out: Path, settings: Mapping[str, Any], fresh: bool) -> dict[str, Any]:
    """Results of earlier slices with the same settings, or empty ones."""
    path = out / f"{NAME}.json"
    if not fresh and path.is_file():
        data = json.loads(path.read_text(encoding="utf-8"))["data"]
        if data.get("settings") == json.loads(json.dumps(settings)):
            return data
        say(f"{path.name} is of other settings: begun anew")
    return {"settings": settings, "references": {}, "runs": {}}


def described(system: System) -> dict[str, Any]:
    """Noise floor and Gaussian rival, plain values."""
    gaussian = system.gaussian.to_dict()  # its covariance is the truth's by construction
    return {
        "floors": [floor.to_dict() for floor in system.floors],
        "gaussian": {k: v for k, v in gaussian.items() if not k.startswith("covariance")},
        "seconds_per_map": system.seconds,
        "reference_maps": len(system.reference.maps),
    }  # fmt: skip


def line(found: Mapping[str, Any]) -> str:
    """One run in a few words."""
    bands = found["bands"]["emulator"]
    text = f"EE {bands['EE'][0]:.2f}, BB {bands['BB'][0]:.2f} in one band"
    if "emulator" in found:
        text += f", covariance error {found['emulator']['covariance']:.2f}"
    return f"{text}; fit {found['fit_seconds']:.0f} s, {found['seconds_per_map']:.2f} s per map"


def table(data: dict[str, Any], quick: bool) -> Table:
    """All that is known so far."""
    out = Table(NAME, "Emulated sky maps, Nside 16, against reference maps", COLUMNS,
                REQUIREMENT, quick)  # fmt: skip
    verdicts: list[tuple[str, bool]] = []
    for key, runs in data["runs"].items():
        name, n = key.split()[0], int(key.split()[1])
        reference, close = data["references"][name], [r for r in runs.values() if "rivals" in r]
        floor = mean_of(reference["floors"])
        floor["excess"] = float(np.std([f["excess"] for f in reference["floors"]]))
        for who in ("emulator", "generated", "start", "inputs"):
            shares = bands(runs, who) if who != "generated" else [""] * 4
            out.add(name, n, who, *shares, *numbers(close, who))
        for rival in ("sample", "Ledoit-Wolf", "diagonal", "best taper"):
            out.add(name, n, rival, *[""] * 4, rival_error(close, rival), *[""] * 7)
        out.add(name, n, "Gaussian, exact covariance", *[""] * 4, *values(reference["gaussian"]))
        out.add(
            name,
            n,
            "reference (noise floor)",
            *[""] * 4,
            *values(floor),
        )
        out.notes += notes(key, runs, close, reference)
        verdicts += [
            (f"{key}: {text}", ok) for text, ok in judged(name, n, runs, close, reference)
        ]
    out.notes += [f"{'reached' if ok else 'NOT reached'}: {text}" for text, ok in verdicts]
    done = all(f"{s} {n}" in data["runs"] for s in SYSTEMS for n in INPUTS)
    out.passed = all(ok for _, ok in verdicts) if done and not quick else None
    out.notes += MEANING
    out.data = data
    return out


MEANING = [
    "maps of: the emulator, optimised; the same, generated by its network; its start alone, "
    "without scattering statistics; the inputs "
    "themselves; estimators of the covariance from the same inputs (the taper's width is the best "
    "one given the truth)",
    "bands: sigma / sqrt(inputs) of a single reference map's C_l; shares of l = 2 to 3 Nside - 1, "
    "means over sets; emulated means have their starts as control variates",
    "covariance error: |C - truth| / |truth| (Frobenius), of endlessly many maps for those that "
    "are made; mean and scatter over sets",
    "PDF: Wasserstein distance of pixels standardised by the maps' own (fixed: the reference's) "
    "mean and spread; Minkowski: rms shift of V0, V1, V2 of Q and U; scattering: rms shift of all "
    "coefficients, noise subtracted; both in sigma of one map; spread: sigma of coefficients "
    "over the reference's",
]


def bands(runs: Mapping[str, Any], who: str) -> list[float]:
    """Mean shares of EE and BB within one and two bands."""
    found = [r["bands"][who] for r in runs.values()]
    return [float(np.mean([f[s][i] for f in found])) for s in ("EE", "BB") for i in (0, 1)]


def numbers(close: Sequence[Mapping[str, Any]], who: str) -> list[object]:
    """The last columns, means over sets."""
    if not close or who not in close[0]:
        return [""] * 8
    errors = [r[who]["covariance"] for r in close]
    mean = mean_of([r[who] for r in close])
    key = {"emulator": "seconds_per_map", "generated": "generated_seconds"}.get(who)
    cost = float(np.mean([r[key] for r in close])) if key else ""
    return [spread(errors), *(mean[k] for k in _NUMBERS), cost]


def values(found: Mapping[str, Any]) -> list[object]:
    """The last columns of the reference and its Gaussian rival."""
    return [found.get("covariance", "0, exact"), *(found[k] for k in _NUMBERS), ""]


def rival_error(close: Sequence[Mapping[str, Any]], rival: str) -> str:
    """Mean and scatter of the covariance error of one estimator."""
    found = [v for r in close for k, v in r["rivals"].items() if k.startswith(rival)]
    return spread(found) if found else ""


def spread(found: Sequence[float]) -> str:
    """Mean and standard deviation over sets."""
    scatter = f" ± {np.std(found, ddof=1):.2g}" if len(found) > 1 else ""
    return f"{np.mean(found):.3f}{scatter}"


def mean_of(found: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Means of all plain numbers; of signed roots, the root of the mean square with its sign."""
    out = {}
    for k in (k for k, v in found[0].items() if isinstance(v, int | float)):
        x = np.array([f[k] for f in found])
        square = float(np.mean(np.sign(x) * x**2))
        rooted = k in ("covariance", "scattering")
        out[k] = float(np.copysign(abs(square) ** 0.5, square)) if rooted else float(x.mean())
    return out


def notes(
    key: str, runs: Mapping[str, Any], close: Sequence[Mapping[str, Any]],
    reference: Mapping[str, Any],
) -> list[str]:  # fmt: skip
    """Sizes, costs and chi squared."""
    fits = np.mean([r["fit_seconds"] for r in runs.values()])
    out = [f"{key}: {len(runs)} sets, {len(close)} of them closely; fit {fits:.0f} CPU s; "
           f"time-ordered reference path {reference['seconds_per_map']:.3f} CPU s per map; "
           f"{reference['reference_maps']} reference maps"]  # fmt: skip
    if close:
        maps = ", ".join(f"{r['maps']}" for r in close)
        errors = ", ".join(f"{r['emulator']['covariance_error']:.3f}" for r in close)
        out.append(f"{key}: {maps} emulations; standard errors of covariance errors {errors}")
        chi2 = close[0]["chi2"]
        out.append(
            f"{key}: reduced chi squared of reference maps with the covariance of "
            + "; ".join(
                f"{name} {v['mean']:.3g} ± {v['std']:.2g} ({v['rank']} modes, {v['inverse']})"
                for name, v in chi2.items()
            )
        )
    return out


def judged(
    name: str, n: int, runs: Mapping[str, Any], close: Sequence[Mapping[str, Any]],
    reference: Mapping[str, Any],
) -> list[tuple[str, bool]]:  # fmt: skip
    """Every requirement in words with its number, and whether it is met."""
    shares = bands(runs, "emulator")
    out = []
    if name == "linear":
        met = all(s >= limit for s, limit in zip(shares, (0.6, 0.9) * 2, strict=True))
        out.append((f"bands {', '.join(f'{s:.2f}' for s in shares)}", met))
    if not close:
        return out
    mine, floor = mean_of([r["emulator"] for r in close]), mean_of(reference["floors"])
    rival, cost = reference["gaussian"], float(np.mean([r["seconds_per_map"] for r in close]))
    out.append((f"{cost:.2f} s per map", cost <= 1))
    out += amortised(name, close, floor)
    if name == "linear":
        out += [
            (f"covariance error {mine['covariance']:.2f}", mine["covariance"] <= LIMITS[n]),
            (f"excess kurtosis {mine['excess']:+.3f} ± {mine['excess_error']:.3f} from the "
             "reference's", abs(mine["excess"]) <= 0.1),
            (f"Minkowski {mine['minkowski_rms'] / floor['minkowski_rms']:.2f} times the floor",
             mine["minkowski_rms"] <= 2 * floor["minkowski_rms"]),
        ]  # fmt: skip
        return out
    for word, k in (("PDF", "pdf"), ("Minkowski", "minkowski_rms"), ("scattering", "scattering")):
        out.append(
            (f"{word} {mine[k]:.3g} against the Gaussian's {rival[k]:.3g}", mine[k] < rival[k])
        )
    return out


def amortised(
    name: str, close: Sequence[Mapping[str, Any]], floor: Mapping[str, float]
) -> list[tuple[str, bool]]:
    """Cost of generated maps, and how much farther from the reference than optimised ones."""
    cost = float(np.mean([r["generated_seconds"] for r in close]))
    mine, other = (mean_of([r[k] for r in close]) for k in ("generated", "emulator"))
    out = [(f"generated: {1e3 * cost:.1f} ms per map", cost <= 0.01)]
    for word, k in (("Minkowski", "minkowski_rms"), ("scattering", "scattering")):
        limit = 1.2 * max(other[k], floor[k])
        text = f"generated: {word} {mine[k]:.3g}, optimised {other[k]:.3g}"
        out.append((text, mine[k] <= limit))
    return out


if __name__ == "__main__":
    main()
