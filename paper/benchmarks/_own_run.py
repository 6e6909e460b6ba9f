"""One set from its files to its numbers: two commands, the rivals, the exact posterior.

Everything that took time is kept in the folder of the set and found there by the next run. The
commands and the rivals are processes of their own, so that memory is theirs alone.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _own_sets import OwnSet, write_files
from _table import say

__all__ = ["Commands", "Ended", "confirm_priors", "run_set"]

_RUN = "run.toml"


@dataclass
class Ended:
    """What a command took, over all its attempts.

    Attributes:
        seconds: wall time.
        megabytes: largest resident memory of one of its processes, in 10^6 bytes.
    """

    seconds: float
    megabytes: float


class Commands:
    """Commands of one folder, each run once; what they took is in `commands.json`.

    Args:
        folder: where they run.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._file = folder, folder / "commands.json"
        self._known: dict[str, dict[str, Any]] = {}
        if self._file.is_file():
            self._known = json.loads(self._file.read_text(encoding="utf-8"))

    def __call__(self, name: str, command: Sequence[str]) -> Ended:
        """Run it unless it has ended well before; its output is in `NAME.log`.

        Raises:
            RuntimeError: if it fails, with the end of its output.
        """
        known = self._known.setdefault(name, {"seconds": 0.0, "megabytes": 0.0, "done": False})
        if not known["done"]:
            log, begun = self._folder / f"{name}.log", time.perf_counter()
            with log.open("ab") as out:
                process = subprocess.Popen(
                    command, cwd=self._folder, stdout=out, stderr=subprocess.STDOUT
                )
                _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            known["seconds"] += time.perf_counter() - begun
            known["megabytes"] = max(known["megabytes"], used.ru_maxrss * _UNIT / 1e6)
            known["done"] = process.returncode == 0
            self._file.write_text(json.dumps(self._known), encoding="utf-8")
            if process.returncode:
                end = log.read_text(encoding="utf-8", errors="replace")[-2000:]
                raise RuntimeError(f"{name} ended with {process.returncode}:\n{end}")
        return Ended(known["seconds"], known["megabytes"])


_UNIT = 1 if sys.platform == "darwin" else 1024


def confirm_priors(text: str, one: OwnSet) -> str:
    """The configuration with the priors that the simulator has drawn from, and confirmed.

    Raises:
        ValueError: if the configuration has other parameters.
    """
    found = [p["name"] for p in tomllib.loads(text)["settings"]["parameters"]]
    if found != list(one.priors):
        raise ValueError(f"expected parameters {list(one.priors)}; got {found}")
    for name, (low, high) in one.priors.items():
        pattern = rf'(name = "{name}"\n(?:.*\n)*?prior = )\{{.*\}}'
        prior = f'{{ kind = "uniform", low = {low}, high = {high} }}'
        text = re.sub(pattern, lambda match, new=prior: match.group(1) + new, text, count=1)
    return text.replace("priors_confirmed = false", "priors_confirmed = true")


def run_set(
    one: OwnSet, folder: Path, n: int, overrides: Sequence[str] = (), epochs: int | None = None
) -> dict[str, Ended]:
    """Files, `init`, `run` and the rivals; what each command took.

    Args:
        one: the set.
        folder: of the set; what is finished there is not run again.
        n: simulations, half of them for tests.
        overrides: `--set` of `sbitools run`.
        epochs: at most, for the rivals.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "params.csv").is_file():
        write_files(one, folder, n, seed=1)
    commands, ended = Commands(folder), {}
    program = str(Path(sys.executable).with_name("sbitools"))
    files = ["--x", "fields.npy", "--theta", "params.csv"]
    say(f"{one.key}: sbitools init")
    ended["init"] = commands("init", [program, "init", *files, "--out", _RUN])
    config = folder / _RUN
    text = config.read_text(encoding="utf-8")
    config.write_text(confirm_priors(text, one), encoding="utf-8")
    say(f"{one.key}: sbitools run")
    options = [part for value in overrides for part in ("--set", value)]
    ended["run"] = commands("run", [program, "run", _RUN, *options])
    say(f"{one.key}: emulator and test simulations")
    emulated = str(Path(__file__).with_name("_own_emulated.py"))
    ended["emulated"] = commands("emulated", [sys.executable, emulated, _RUN])
    say(f"{one.key}: rivals")
    rivals = str(Path(__file__).with_name("_own_rivals.py"))
    limit = [] if epochs is None else ["--epochs", str(epochs)]
    ended["rivals"] = commands("rivals", [sys.executable, rivals, ".", *limit])
    return ended
