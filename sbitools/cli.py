"""The command line: one TOML file, one command per stage of the chain.

Exit codes: 0 done, 1 a bug (with traceback), 2 something the user can mend (one message), 130
interrupted. Everything heavy is imported inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .commands.failures import path_error, print_error
from .errors import ConfigError, SbitoolsError
from .version import __version__

if TYPE_CHECKING:
    from .chain import Run

__all__ = ["app", "main"]

BUG, USER_ERROR, INTERRUPTED = 1, 2, 130

app = typer.Typer(
    name="sbitools", no_args_is_help=True, add_completion=True, rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="From a few expensive simulations to a calibrated posterior: simulate, fit an emulator, "
    "train, calibrate against the expensive simulator, report. Start with `sbitools demo`.",
)  # fmt: skip

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="TOML file of the run.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="KEY=VALUE", help="Override a field: train.epochs=3."),
]
Dataset = Annotated[
    str | None, typer.Option(help="Name of the array in an .npz or HDF5 file; default: x.")
]
Unit = Annotated[str | None, typer.Option(help="Unit of the values, to be checked.")]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sbitools {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def demo(
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of all results; default: demo-run, or demo-small-run."),
    ] = None,
    small: Annotated[bool, typer.Option("--small", help="A tiny setting, to see it run.")] = False,
    system: Annotated[str, typer.Option(help="Whose demo to run.")] = "nbody",
    overrides: Set = None,
    print_config: Annotated[bool, typer.Option(help="Print the TOML file and exit.")] = False,
) -> None:
    """Run the whole chain with a packaged configuration; run it again to resume."""
    from .commands.demo import demo_config, demo_text, folder_override

    changes = [*(overrides or ()), *([folder_override(out)] if out else [])]
    if print_config:
        typer.echo(demo_text(system, small, changes))
        return
    config = demo_config(system, small, changes)
    from .chain import STAGES, Run

    _stages(Run(config, progress=True), STAGES)


@app.command()
def init(
    x: Annotated[
        str, typer.Option("--x", help="Your fields, one row per simulation: an array file; a "
                          "folder or a pattern with * or {index} for one file each.")
    ],
    theta: Annotated[
        str | None, typer.Option(help="Table of parameters with named columns, row by row.")
    ] = None,
    observation: Annotated[str | None, typer.Option(help="Your data, as one simulation.")] = None,
    out: Annotated[Path, typer.Option(help="The configuration to write.")] = Path("run.toml"),
    parameters: Annotated[
        str | None, typer.Option(help="Columns that are parameters: A,B; default: all that vary.")
    ] = None,
    dataset: Dataset = None,
    theta_dataset: Annotated[str | None, typer.Option(help="Name of the table.")] = None,
    source: Annotated[
        str | None, typer.Option(help="Fields that yours follow from, as --x: initial conditions, "
                                 "coarse runs, masks.")
    ] = None,
    source_dataset: Annotated[str | None, typer.Option(help="Name of their array.")] = None,
) -> None:  # fmt: skip
    """Look at your own simulations and write a configuration that runs."""
    from .proposal import Files, propose
    from .proposal.write import write_proposal

    files = Files(x, theta, dataset, theta_dataset, observation, source, source_dataset)
    names = None if parameters is None else [name.strip() for name in parameters.split(",")]
    write_proposal(propose(files, names), out)


@app.command()
def simulate(
    config: ConfigFile,
    store: Annotated[
        list[str] | None,
        typer.Option(help="Only this store, e.g. reference/train; repeat for more."),
    ] = None,
    export_design: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write index, seed and theta (CSV or NPZ) of one "
                     "--store for a campaign that runs elsewhere, and simulate nothing."),
    ] = None,
    command: Annotated[
        str | None,
        typer.Option(metavar="COMMAND", help="Reference simulations by your own program, one "
                     "process each: 'program {theta_file} {seed} {output_file}'."),
    ] = None,
    overrides: Set = None,
) -> None:  # fmt: skip
    """Fill the stores: reference simulations, and emulated ones once an emulator is fitted."""
    from .chain.external import export_store_design

    run = _run(config, overrides)
    names = _known_stores(store)
    if export_design is not None and command is not None:
        raise ConfigError(
            "simulate", expected="either --export-design or --command", got="both",
            fix="a campaign runs elsewhere, or here",
        )  # fmt: skip
    if export_design is not None:
        if len(names) != 1:
            raise ConfigError(
                "--store",
                expected="one store whose design is written",
                got=f"{len(names)}",
                fix="add for example --store reference/test",
            )
        export_store_design(run, names[0], export_design)
        typer.echo(f"wrote {export_design}; bring the results back with `sbitools import`")
        return
    if command is not None:
        _by_command(run, names if store else None, command)
        return
    if store is None and run.record("emulator") is None:
        names = [name for name in names if name.startswith("reference")]
    _stages(run, names)


@app.command()
def fit(config: ConfigFile, overrides: Set = None) -> None:
    """Fit the emulator to the reference simulations and compare it with held-out ones."""
    run = _run(config, overrides)
    if run.emulation is None:
        raise ConfigError(
            "emulator.method", expected="an emulator to fit", got="'none'",
            fix="name a method in [emulator], or go on with `sbitools train`",
        )  # fmt: skip
    _stages(run, ["emulator", "validation"])


@app.command()
def train(config: ConfigFile, overrides: Set = None) -> None:
    """Train the posterior on emulated simulations."""
    _stages(_run(config, overrides), ["posterior", "choice"])


@app.command()
def calibrate(config: ConfigFile, overrides: Set = None) -> None:
    """Test the posterior on emulated and on reference simulations."""
    _stages(_run(config, overrides), ["calibration"])


@app.command()
def repair(config: ConfigFile, overrides: Set = None) -> None:
    """Mend the posterior with the reference's test simulations, and say what that was worth."""
    run = _run(config, overrides)
    if run.config.repair.method == "none":
        raise ConfigError(
            "repair.method", expected="auto, recalibrate, reweight or fine_tune", got="'none'",
            fix='add a table [repair] with method = "auto" to the file: the report reads it, too',
        )  # fmt: skip
    _stages(run, ["repair"])


@app.command()
def report(config: ConfigFile, overrides: Set = None) -> None:
    """Write the report, once more if it exists, from the artifacts on disk."""
    _stages(_run(config, overrides), ["report"], again=True)


@app.command()
def run(config: ConfigFile, overrides: Set = None) -> None:
    """Run every stage of the chain, from simulations to the report; run it again to resume."""
    from .chain import STAGES

    opened = _run(config, overrides)
    _stages(opened, STAGES)


@app.command()
def sample(
    config: ConfigFile,
    observation: Annotated[Path, typer.Option(help="Your field: a file of any format.")],
    out: Annotated[Path | None, typer.Option(help="Write the draws: .csv or .npz.")] = None,
    n: Annotated[int, typer.Option(min=1, help="Posterior draws.")] = 4000,
    seed: Annotated[int, typer.Option(min=0, help="Of the draws.")] = 0,
    simulated: Annotated[
        bool, typer.Option("--simulated", help="The file is a raw simulated field: apply the "
                           "observation model (noise, mask) to it first.")
    ] = False,
    as_trained: Annotated[
        bool, typer.Option("--as-trained", help="The posterior before any repair.")
    ] = False,
    dataset: Dataset = None,
    unit: Unit = None,
    overrides: Set = None,
) -> None:  # fmt: skip
    """Posterior draws and their summary for your own field; repaired, where the repair helps."""
    from .commands.sampling import sample_file

    run = _run(config, overrides)
    sample_file(
        run, observation, n=n, seed=seed, simulated=simulated, dataset=dataset, unit=unit, out=out,
        as_trained=as_trained,
    )  # fmt: skip


@app.command(name="import")
def import_(
    config: ConfigFile,
    store: Annotated[str, typer.Option(help="Which store, e.g. reference/train.")],
    x: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Fields (n, ...): file, folder or pattern.")
    ] = None,
    theta: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Parameter table with named columns: CSV, text, .npz."),
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Result files of a campaign that runs elsewhere, "
                     "named by index; see `simulate --export-design`. Repeat as more come."),
    ] = None,
    source: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Source fields, if the store keeps them.")
    ] = None,
    dataset: Dataset = None,
    unit: Unit = None,
    nonfinite: Annotated[
        Literal["error", "fail"],
        typer.Option(help="error: refuse NaN and Inf; fail: record them as failed."),
    ] = "error",
    overrides: Set = None,
) -> None:  # fmt: skip
    """Bring existing simulations into a store."""
    from .chain.external import import_arrays, import_results

    run = _run(config, overrides)
    (store,) = _known_stores([store])
    if results is not None and x is None and theta is None:
        typer.echo(import_results(run, store, results, unit=unit, nonfinite=nonfinite))
    elif results is None and x is not None and theta is not None:
        typer.echo(import_arrays(
            run, store, x, theta, source=source, dataset=dataset, unit=unit, nonfinite=nonfinite
        ))  # fmt: skip
    else:
        raise ConfigError(
            "import", expected="either --x and --theta, or --results", got="another combination",
            fix="see `sbitools import --help`",
        )  # fmt: skip


def _run(path: Path, overrides: Sequence[str] | None) -> Run:
    from .config import load_config

    config = load_config(path, overrides or ())
    from .chain import Run

    return Run(config, progress=True)


def _stages(run: Run, names: Any, again: bool = False) -> None:
    from .chain import run_chain
    from .commands.console import announce, conclude

    if not again:
        run.check()
    run_chain(run, names, announce, again)
    if "report" in names:
        conclude(run)


def _by_command(run: Run, names: Sequence[str] | None, command: str) -> None:
    from .chain import STORES
    from .chain.commanded import simulate_by_command
    from .commands.console import announce

    run.check()
    wanted = names or [name for name in STORES if name.startswith("reference/")]
    simulate_by_command(run, wanted, command, announce)


def _known_stores(wanted: Sequence[str] | None) -> list[str]:
    from .chain import STORES

    for name in wanted or ():
        if name not in STORES:
            raise ConfigError(
                "--store", expected=f"one of {', '.join(STORES)}", got=repr(name),
                fix="correct the name",
            )  # fmt: skip
    return list(wanted or STORES)


@app.command()
def info(
    path: Annotated[Path, typer.Argument(help="A run, a store, a checkpoint, a file of fields.")],
) -> None:
    """Say what is in a folder or a file."""
    from .commands.info import info_lines

    typer.echo("\n".join(info_lines(path)))


@app.command()
def systems() -> None:
    """List what is installed: systems, methods of emulation, summary networks."""
    from .commands.info import systems_lines

    typer.echo("\n".join(systems_lines()))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; see the module's text."""
    try:
        code = app(args=list(arguments) if arguments is not None else None, standalone_mode=False)
    except KeyboardInterrupt:  # a stopped campaign is one, besides being a CampaignError
        return _interrupted()
    except SbitoolsError as error:
        print_error(error)
        return USER_ERROR
    except OSError as error:
        if (mendable := path_error(error)) is None:
            return _bug()
        print_error(mendable)
        return USER_ERROR
    except Exception as error:
        # The parser's own errors are recognised by their shape: typer may bring its own click.
        if hasattr(error, "exit_code") and hasattr(error, "show"):
            error.show()  # pyright: ignore[reportAttributeAccessIssue]
            return USER_ERROR
        if type(error).__name__ == "Abort":
            return _interrupted()
        return _bug()
    if code == INTERRUPTED:  # typer catches Ctrl-C itself
        return _interrupted()
    return code if isinstance(code, int) else 0


def _bug() -> int:
    traceback.print_exc()
    typer.echo("\nThis is a bug in sbitools, please report it with the lines above.", err=True)
    return BUG


def _interrupted() -> int:
    typer.echo("\ninterrupted; nothing finished is lost, run the same command again", err=True)
    return INTERRUPTED
