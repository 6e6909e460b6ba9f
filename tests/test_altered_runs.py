"""Files of a finished run that were altered behind its records: noticed, or made again."""

import json
import random
import shutil
from pathlib import Path

import pytest

from sbitools import Posterior, SimulationStore
from sbitools.chain import STAGES, STORES, Run, finished_record, run_chain
from sbitools.chain.records import digest_path, read_record
from sbitools.cli import main
from sbitools.config import load_config
from sbitools.errors import ConfigError, SbitoolsError, StoreError

# Read by nothing once a stage is done: the states of trainings have their own hashes.
UNREAD = ("fit", ".lock", "running")


@pytest.fixture(scope="module")
def shared(finished, tmp_path_factory) -> Path:
    return private(finished, tmp_path_factory.mktemp("flips"))


@pytest.fixture
def copy(finished, tmp_path) -> Path:
    return private(finished, tmp_path)


def private(finished, folder) -> Path:
    """The configuration of a copy of the finished run."""
    shutil.copytree(finished.parent / "results", folder / "results")
    config = folder / "run.toml"
    config.write_text(finished.read_text().replace(str(finished.parent), str(folder)))
    return config


def view(path: Path) -> dict:
    """All that a reader of a store can see."""
    store = SimulationStore.open(path)
    out = {
        "theta": store.theta.numpy().tobytes(), "x": store.read(store.done).numpy().tobytes(),
        "seeds": store.seeds.tolist(), "groups": store.groups.tolist(),
        "states": store.states().tolist(), "manifest": store.manifest.to_dict(),
        "failures": [(f.index, f.seed, f.state, f.message) for f in store.failures()],
    }  # fmt: skip
    store.close()
    return out


def stage_of(file: Path, root: Path) -> str:
    parts = file.relative_to(root).parts
    if parts[0] == "stages":
        return next(name for name in STAGES if name.replace("/", "-") == file.stem)
    return "/".join(parts[:2]) if parts[0] in ("reference", "emulated") else parts[0]


def flip_attack(config: Path, n: int, seed: int) -> list[tuple[str, int, str]]:
    """Flip single bits in files of a run; those that change what is read, without an error."""
    run = Run(load_config(config))
    rng, silent = random.Random(seed), []  # noqa: S311
    files = [f for f in sorted(run.root.rglob("*")) if f.is_file() and f.stat().st_size
             and not set(UNREAD) & set(f.parts)]  # fmt: skip
    kinds = sorted({(stage_of(f, run.root), f.suffix, f.parent.name) for f in files})
    truth = {name: view(run.folder(name)) for name in STORES}
    records = {name: run.record(name) for name in STAGES}
    for i in range(n):  # every kind of file in turn
        kind = kinds[i % len(kinds)]
        file = rng.choice([f for f in files if (stage_of(f, run.root), f.suffix,
                                                f.parent.name) == kind])  # fmt: skip
        name, raw = kind[0], file.read_bytes()
        at = rng.randrange(len(raw))
        file.write_bytes(raw[:at] + bytes([raw[at] ^ (1 << rng.randrange(8))]) + raw[at + 1 :])
        try:
            finished_record(run, name)
            same = run.record(name) == records[name]
            if name in STORES:
                same &= view(run.folder(name)) == truth[name]
            elif kind[2] != "stages":
                same = False
            if not same:
                silent.append((str(file.relative_to(run.root)), at, "silent"))
        except SbitoolsError:
            pass
        except Exception as error:
            silent.append((str(file.relative_to(run.root)), at, repr(error)[:200]))
        finally:
            file.write_bytes(raw)
    assert finished_record(run, "report")
    return silent


def test_a_flipped_bit_is_never_silent(shared):
    assert flip_attack(shared, 150, seed=0) == []


@pytest.mark.slow
def test_two_thousand_flipped_bits(shared):
    assert flip_attack(shared, 2000, seed=1) == []


def parts(run, name):
    return sorted((run.folder(name) / "parts").iterdir())


def half_deleted(run):
    for part in parts(run, "emulated/train")[::2]:
        part.unlink()


def noise(run):
    part = parts(run, "emulated/train")[3]
    raw = bytearray(part.read_bytes())
    raw[-40:] = bytes(40)
    part.write_bytes(raw)


def stores_swapped(run):
    a, b = run.folder("emulated/train"), run.folder("emulated/test")
    a.rename(run.root / "t")
    b.rename(a)
    (run.root / "t").rename(b)


def other_weights(run):
    path = run.folder("posterior") / "checkpoint"
    posterior = Posterior.load(path)
    for p in posterior.estimator.parameters():
        p.data.add_(0.1)
    posterior.save(path)


def other_emulator(run):
    emulator = run.emulator()
    emulator.network.weights += 0.1
    emulator.save(run.folder("emulator") / "checkpoint")


def edited(*place):
    def edit(run):
        file = run.root.joinpath(*place)
        if file.suffix == ".json":
            values = json.loads(file.read_text())
            file.write_text(json.dumps(values | {"note": 1}))
        else:
            file.write_bytes(file.read_bytes() + b"\0")

    return edit


ATTACKS = {
    "half deleted": (half_deleted, "emulated/train", "posterior"),
    "noise": (noise, "emulated/train", "posterior"),
    "stores swapped": (stores_swapped, "emulated/train", "calibration"),
    "other weights": (other_weights, "posterior", "calibration"),
    "other emulator": (other_emulator, "emulator", "emulated/test"),
    "result": (edited("calibration", "result.json"), "calibration", "report"),
    "examples": (edited("calibration", "examples.npz"), "calibration", "report"),
    "info": (edited("posterior", "info.json"), "posterior", "report"),
    "history": (edited("emulator", "history.json"), "emulator", "report"),
    "statistics": (edited("validation", "statistics.npz"), "validation", "report"),
    "report": (edited("report", "report.html"), "report", None),
    "lost result": (lambda run: (run.folder("calibration") / "result.json").unlink(),
                    "calibration", "report"),
    "lost checkpoint": (lambda run: shutil.rmtree(run.folder("posterior") / "checkpoint"),
                        "posterior", "calibration"),
}  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
def test_what_reads_an_altered_file_refuses_and_its_stage_makes_it_again(copy, name):
    attack, stage, reader = ATTACKS[name]
    attack(Run(load_config(copy)))
    if reader is not None:
        with pytest.raises(SbitoolsError, match="fix"):
            run_chain(Run(load_config(copy)), [reader], again=True)
    events = {}
    run = Run(load_config(copy))
    if name in ("noise", "stores swapped"):  # a store is not mended by guessing
        with pytest.raises(StoreError, match="fix"):
            run_chain(run, [stage])
        return
    run_chain(run, [stage], lambda s, event, record: events.update({s.name: event}))
    assert events[stage] == "done"
    assert finished_record(Run(load_config(copy)), stage)


def test_a_store_that_lost_parts_is_completed(copy):
    run = Run(load_config(copy))
    before = run.record("emulated/train")
    half_deleted(run)
    assert main(["train", str(copy)]) != 0
    assert main(["simulate", str(copy)]) == 0
    assert run.record("emulated/train").outputs == before.outputs


def test_another_simulator_behind_the_records(copy, monkeypatch):
    from tests.plugins import gaussian

    monkeypatch.setattr(gaussian.Line, "__call__", lambda self, theta, s: 100 + theta.float())
    with pytest.raises(StoreError, match="option function"):
        run_chain(Run(load_config(copy)), ["reference/test"])
    with pytest.raises(StoreError, match="option function"):
        run_chain(Run(load_config(copy)), ["emulator"], again=True)


def test_a_run_of_the_last_release_is_up_to_date(copy):
    """Its records have no hash, and of stores the hash of all files."""
    run = Run(load_config(copy))
    mapped = {}
    for name in STAGES:
        if (record := run.record(name)) is None:
            continue
        outputs = {k: v for k, v in record.outputs.items() if k not in ("info", "history")}
        if name in STORES:
            outputs["store"] = mapped[f"{name}: store"] = digest_path(run.folder(name), plain=True)
        inputs = {k: mapped.get(k, v) for k, v in record.inputs.items()
                  if not k.endswith((": info", ": history"))}  # fmt: skip
        values = json.loads(run.record_path(name).read_text())
        del values["sha256"]
        values |= {"outputs": outputs, "inputs": inputs}
        run.record_path(name).write_text(json.dumps(values))
    seen = {}
    run_chain(Run(load_config(copy)), STAGES, lambda s, e, r: seen.update({s.name: e}))
    assert set(seen.values()) == {"skip"}
    SimulationStore.open(run.folder("emulated/test")).compact()
    half_deleted(run)
    with pytest.raises(ConfigError, match="altered"):
        finished_record(Run(load_config(copy)), "emulated/train")
    assert read_record(run.record_path("report")).state == "done"


def test_parts_that_are_cut_otherwise_are_the_same_simulations(copy):
    run = Run(load_config(copy))
    store = run.store("emulated/test")
    start, stop = store.manifest.tasks()[0]
    x = store.read(range(start, stop))
    parts(run, "emulated/test")[0].unlink()
    store = run.store("emulated/test")
    for i in range(start, stop):
        store.add(i, x[i])
    assert finished_record(Run(load_config(copy)), "emulated/test")
