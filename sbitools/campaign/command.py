"""A simulator that is another program: one process for each simulation."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sbitools.disk.files import typed
from sbitools.errors import CampaignError, SbitoolsError, ShapeError
from sbitools.gate.plain import real, text, whole
from sbitools.parameters import ParameterSpace, as_space
from sbitools.seeds import check_seeds
from sbitools.simulator import FieldSpec, as_spec
from sbitools.store.layout import Layout

from .codefiles import CodeFiles, find_program
from .program import CannotRun, Ending, run_program
from .result import read_result
from .scratch import no_folder, scratch_folder
from .template import Template

__all__ = ["STOPPING_SECONDS", "CommandSimulator", "ProgramFailed"]

STOPPING_SECONDS = 10.0  # to stop a program and to read what it left
_LINE = 300  # characters of the last line it printed
_PARTS = 1000  # of a store: programs are slow, and what a kill costs is one part in each worker


class ProgramFailed(CampaignError):
    """A program gave no result for one simulation; `got` says how, with what it printed last."""


class CommandSimulator:
    """Simulations by another program, one process for each; no shell is between.

    The command's placeholders are filled anew for each simulation:

    - ``{theta_file}``: its parameters in a file, ``.csv`` (names, then one row); or
      ``{theta_file}.json``, ``.txt`` (names behind ``#``), ``.npz``, ``.npy``.
    - ``{NAME}``: the value of the parameter NAME, with all digits; a category as its code.
    - ``{seed}``: its seed, below 2^63; ``{seed32}``: 1 + seed mod (2^31 - 1), for programs whose
      seeds have 32 bits.
    - ``{output_file}``: where the program writes its result, ``.npy``; or ``{output_file}.npz``,
      ``.h5`` (one array, or one called x), ``.txt``, ``.csv``, ``.dat`` (numbers). With a source
      field ``.npz``, or ``{output_file}.h5``, with x and source.
    - ``{folder}``: an empty folder of this simulation, removed afterwards.

    Programs run where this object was made, with the environment of the campaign. A program that
    ends with another code than 0, takes too long, writes nothing, or something of another shape or
    dtype than `output`, has failed: a campaign records that with what it printed last on stderr.
    Whatever it left running in its process group is killed.

    Args:
        command: the program and its arguments, one text or a list of words.
        parameters: its parameter space.
        output: what one result is, without batch axis.
        source: an input field that the program writes beside x.
        group_size: simulations that belong together; each is a process of its own.
        version: stands for the content of the program's files: to be changed whenever the same
            theta and seed give another x. Without, the files that the command names count.
        time_limit: seconds for one simulation; a campaign's holds as well.

    Attributes:
        command: the command as it can be typed.

    Raises:
        CampaignError: for a command that cannot be used, or a program that is not there.
        SbitoolsError: for arguments of another kind.

    Example:
        >>> from sbitools import CommandSimulator, FieldSpec, Parameter, ParameterSpace, priors
        >>> simulator = CommandSimulator(
        ...     "sh -c 'echo {mu} > {output_file}.txt'",
        ...     ParameterSpace([Parameter("mu", priors.Normal(0.0, 1.0))]),
        ...     FieldSpec("x", ("i",), (1,)))
        >>> simulator.simulate(torch.tensor([[0.25]]).double(), torch.tensor([1]))
        tensor([[0.2500]])
    """

    version: str = ""

    def __init__(
        self,
        command: str | Sequence[str],
        parameters: ParameterSpace,
        output: FieldSpec,
        *,
        source: FieldSpec | None = None,
        group_size: int = 1,
        version: str = "",
        time_limit: float | None = None,
    ) -> None:
        self.parameters, self.output = as_space(parameters), as_spec(output, "output")
        self.source = None if source is None else as_spec(source, "source")
        self.group_size = whole(group_size, "group_size", least=1)
        self.version = text(version, "version of the simulator")
        self.time_limit = None if time_limit is None else real(time_limit, "time_limit", above=0)
        self._template = Template(command, self.parameters.names, self.source is not None)
        self.command, words = self._template.text, self._template.words
        with typed(Path()):
            self._cwd = Path.cwd()
        self._program = find_program(words[0], self._cwd)
        self._files = CodeFiles(self._program, words, self._cwd)

    @property
    def identity(self) -> dict[str, str]:
        """See `sbitools.identity`: the command, and the sha256 of the files it names."""
        if self.version:
            return {"command": self.command, "version": self.version}
        return {"command": self.command} | self._files.digests()

    def within(self, seconds: float | None) -> CommandSimulator:
        """The same one with a time limit for each simulation, if its own is not shorter."""
        limits = [limit for limit in (seconds, self.time_limit) if limit is not None]
        out = copy.copy(self)
        out.time_limit = min(limits, default=None)
        return out

    def task_size(self, n: int, size: int) -> int:
        """Simulations in one part file, for a campaign of `n` that would take `size`."""
        group = self.group_size
        return min(size, -(-max(n // _PARTS, 1) // group) * group)

    def simulate(self, theta: Tensor, seeds: Tensor) -> Any:
        """Run the program for each row; see `sbitools.simulator.Simulator`.

        Raises:
            ProgramFailed: if it gives no result for one of them.
            CannotRun: if it cannot be started, or is another since the campaign began.
            ShapeError: for theta and seeds of another shape.
        """
        rows = torch.as_tensor(theta, dtype=torch.float64)
        if rows.ndim != 2 or rows.shape[1] != len(self.parameters):
            raise ShapeError(
                "theta", expected=f"shape (batch, {len(self.parameters)})",
                got=f"shape {tuple(rows.shape)}", fix="one row for each simulation",
            )  # fmt: skip
        numbers = check_seeds(seeds, len(rows)).tolist()
        made = [self._one(row, s) for row, s in zip(rows.tolist(), numbers, strict=True)]
        fields = Layout(self.parameters, self.output, self.source).fields
        out = [torch.from_numpy(_stacked([m[k] for m in made], spec))
               for k, spec in fields.items()]  # fmt: skip
        return out[0] if self.source is None else tuple(out)

    def _one(self, row: list[float], seed: int) -> dict[str, np.ndarray]:
        with scratch_folder() as folder:
            try:
                words, result = self._template.fill(folder, row, seed)
            except OSError as error:
                raise no_folder(folder, error) from error
            self._check_files()
            words = [os.path.expanduser(w) if w.startswith("~/") else w for w in words]  # noqa: PTH111
            ending = run_program([self._program, *words[1:]], self._cwd, self.time_limit)
            self._check_files()
            self._check(ending, folder)
            return self._read(result, ending, folder)

    def _check_files(self) -> None:
        if changed := self._files.changed():
            raise CannotRun(
                f"{', '.join(changed)} of the command", expected="the content that it had when "
                "the campaign began", got="another, or none", fix="put it back and run again; "
                "a corrected program needs a store of its own, and what a program writes a place "
                "in {folder}",
            )  # fmt: skip

    def _check(self, ending: Ending, folder: Path) -> None:
        if ending.code == 0:
            return
        if ending.code is None:
            how = f"no result within the time limit of {self.time_limit:g} s"
        elif ending.code < 0:
            how = f"the program was ended by signal {-ending.code}"
        else:
            how = f"the program ended with exit code {ending.code}"
        raise self._failed(how, ending, folder)

    def _read(self, file: Path, ending: Ending, folder: Path) -> dict[str, np.ndarray]:
        """The fields in a result, checked."""
        fields = Layout(self.parameters, self.output, self.source).fields
        if not os.path.lexists(file):
            others = sorted(p.name for p in folder.iterdir() if not p.name.startswith("theta."))
            found = f"; it left {', '.join(others[:5])}" if others else ""
            raise self._failed(f"the program wrote no {{output_file}}{found}", ending, folder)
        try:
            return read_result(file, fields)
        except SbitoolsError as error:
            raise self._failed(str(error), ending, folder) from error

    def _failed(self, how: str, ending: Ending, folder: Path) -> ProgramFailed:
        lines = ending.printed.splitlines()
        told = f"{how}, saying: {lines[-1].strip()[:_LINE]}" if lines else how
        if len(lines) > 1 or len(ending.printed) > _LINE:  # what is read first comes last
            told = f"{ending.printed}\n{told}"
        return ProgramFailed(
            f"program {self._template.words[0]!r}", expected="a result in {output_file}",
            got=told.replace(str(folder), "{folder}"),  # its name differs from run to run
            fix="run it by hand for this theta and seed, or read its messages",
        )  # fmt: skip


def _stacked(rows: list[np.ndarray], spec: FieldSpec) -> np.ndarray:
    return np.stack(rows) if rows else np.zeros((0, *spec.shape), spec.dtype)
