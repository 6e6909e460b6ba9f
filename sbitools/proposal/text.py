"""A proposal as text: lines for a terminal, and a commented configuration that runs."""

from __future__ import annotations

import json
import textwrap
from typing import Any

from .fields import Looked
from .proposal import Proposal

__all__ = ["proposal_lines", "proposal_text"]

_WIDTH = 98


def proposal_lines(p: Proposal) -> list[str]:
    """What was seen and what is proposed, one line each."""
    lines = _field_lines("fields", p.x)
    lines += [] if p.source is None else _field_lines("sources", p.source)
    lines += [
        f"parameter {name}: uniform from {c.prior['low']:g} to {c.prior['high']:g}?"
        + (f" But {c.doubt}" if c.doubt else "")
        for name, c in p.priors.items()
    ]
    lines += [f"column {name} is left out: {why}" for name, why in p.left_out.items()]
    k = p.splits
    lines.append(
        f"split: {k.train} to learn from, {k.validation} to validate an emulator, {k.test} to test"
    )
    lines.append(k.sentence)
    lines.append(f"emulator: {p.why}")
    return [*lines, *(f"note: {text}" for text in p.warnings)]


def _field_lines(what: str, looked: Looked) -> list[str]:
    s = looked.seen
    axes = ", ".join(f"{a.name} {a.length} ({a.kind})" for a in looked.axes) or "none"
    unit = f" {looked.unit}" if looked.unit else ""
    return [
        f"{what}: {s.n} simulations of shape {s.shape[1:]}, {s.dtype}",
        f"axes: {axes}",
        f"values: {s.minimum:.4g} to {s.maximum:.4g}{unit}, mean {s.mean:.4g}, sd {s.std:.4g}"
        + (f", {100 * s.zeros:.3g} % exactly zero" if s.zeros else ""),
    ]


def proposal_text(p: Proposal, run_dir: str) -> str:
    """The configuration, in TOML."""
    f = p.files
    parts = [
        _comment(
            "Your own simulations: from files to a report. Written by `sbitools init`; run it "
            "with `sbitools run`, once what is marked TO CONFIRM is right."
        ),
        _values(system="own", run_dir=run_dir, seed=1, workers=2),
        "\n[settings]",
        _comment(
            "TO CONFIRM: the priors below are the ranges of the table, rounded outwards. A "
            "posterior is one for its prior: put in what the parameters were drawn from, then set "
            "this to true. Until then the report says so."
        ),
        _values(priors_confirmed=False),
    ]
    if f.theta is not None:
        parts.append(_values(theta=f.theta, theta_dataset=f.theta_dataset, index=p.index))
        parts += [_comment(_DESIGN[p.design]), _values(design=p.design)]
    parts += [
        _comment("Consecutive simulations that share a volume, so that they stay together."),
        _values(group_size=1),
        *_field("x", p.x),
        *([] if p.source is None else _field("source", p.source)),
    ]
    for heading, column in p.priors.items():
        parts.append("\n[[settings.parameters]]")
        if column.doubt:
            parts.append(_comment(f"TO CONFIRM: {column.doubt}."))
        name = p.names[heading]
        other = heading if heading != name else None
        unit = p.units.get(heading, "")
        parts.append(_values(name=name, column=other, unit=unit, prior=column.prior))
    if p.left_out:
        left = "; ".join(f"{name} ({why})" for name, why in p.left_out.items())
        parts.append(_comment(f"Columns that are no parameters: {left}."))
    parts += _learning(p)
    if f.observation is not None:
        parts += ["\n[observation]", _values(file=f.observation)]
    parts += ["\n[report]", _values(title="Posterior from simulations of our own")]
    return "\n".join(parts) + "\n"


def _learning(p: Proposal) -> list[str]:
    """Sections on what is learned from, and by what."""
    k = p.splits
    parts = [
        "\n[reference]",
        _comment(f"Which simulations are for what, at random. {k.sentence}."),
        _values(n_train=k.train, n_validation=k.validation or None, n_test=k.test),
        "\n[emulator]",
        _comment(
            '"auto": a method that suits the fields; the report says which and why. "none": the '
            f"posterior is trained on your simulations alone. Here: {p.why}."
        ),
        _values(method=p.method),
    ]
    if p.method != "none":
        parts += [
            "\n[emulated]",
            _comment("Simulations that the emulator makes, for the posterior to learn from."),
            _values(n_train=p.emulated),
        ]
    parts += ["\n[train]"] if p.training else []
    for name, value in p.training.items():
        parts += [_comment(_TRAINING[name]), _values(**{name: value})]
    return [
        *parts,
        "\n[repair]",
        _comment(
            'Corrections fitted to test simulations, each judged by others; "auto" tries all, and '
            "keeps the best if it helps."
        ),
        _values(method="auto"),
    ]


_TRAINING = {
    "patch": "Cells per side that the summary network merges first; finer ones take longer.",
    "epochs": "Passes over the simulations, some ten minutes on two cores; more may help.",
}
_DESIGN = {
    "random": 'TO CONFIRM: independent draws from the priors; else say "sobol", '
    '"latin_hypercube" or "imported": p-values are exact for independent draws alone.',
    "latin_hypercube": "Each column has one value in each of n equal parts of its range, which "
    "independent draws do not: p-values are approximate.",
}


def _field(name: str, looked: Looked) -> list[str]:
    """Section of one kind of fields."""
    reasons = " ".join(f"{a.name}: {a.reason}." for a in looked.axes)
    return [
        f"\n[settings.{name}]",
        _values(file=looked.file, dataset=looked.dataset, name=name),
        _comment(
            "TO CONFIRM: what each axis is: periodic, open, evolving (a line of sight), healpix "
            f"or channel. {reasons}"
        ),
        _values(shape=list(looked.shape), dims=[a.name for a in looked.axes],
                axes=[a.kind for a in looked.axes], dtype=looked.dtype, unit=looked.unit),
    ]  # fmt: skip


def _comment(text: str) -> str:
    return "\n".join(f"# {line}" for line in textwrap.wrap(text, _WIDTH - 2))


def _values(**values: Any) -> str:
    return "\n".join(
        f"{key} = {_toml(value)}" for key, value in values.items() if value is not None
    )


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {_toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    # Every JSON string, number and truth value is one of TOML.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
