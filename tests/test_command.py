"""Other programs as simulators: each simulation is right or failed, and nothing is left of it."""

import shlex
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from sbitools import CommandSimulator, FieldSpec, Parameter, ParameterSpace, priors
from sbitools.campaign.command import ProgramFailed
from sbitools.campaign.program import CannotRun
from sbitools.errors import CampaignError, SbitoolsError
from sbitools.identity import identity

SPACE = ParameterSpace([
    Parameter("a", priors.Normal(0, 1)), Parameter("b", priors.Uniform(1e-9, 2e-9)),
])  # fmt: skip
FIELD = FieldSpec("x", ("i",), (3,), "float64")
THETA = torch.tensor([[0.1, 1.5e-9], [-1 / 3, 1.25e-9]], dtype=torch.float64)
SEEDS = torch.tensor([3, (1 << 63) - 1])
ECHO = "sh -c 'echo {a} {b} {seed32} > \"{output_file}.txt\"'"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Programs run in a folder of the test, and leave nothing in that of temporary files."""
    (tmp_path / "temp files").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temp files"))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert not list((tmp_path / "temp files").glob("sbitools-*"))


def script(name, text, mode=0o755):
    path = Path(name)
    path.write_text(text)
    path.chmod(mode)
    return path


def alive(folder):
    found = []
    for file in folder.glob("*.child"):
        try:
            stat = Path(f"/proc/{file.stem}/stat").read_text()
        except OSError:
            continue
        if stat.rpartition(")")[2].split()[0] not in "ZX":
            found.append(int(file.stem))
    return found


def make(command, output=FIELD, space=SPACE, **options):
    return CommandSimulator(command, space, output, **options)


def expected(theta, seeds):
    small = [1 + int(s) % ((1 << 31) - 1) for s in seeds]
    return np.column_stack([theta, np.array(small, dtype=float)])


def test_values_and_seeds_arrive_with_all_their_digits():
    x = make(ECHO).simulate(THETA, SEEDS)
    assert x.dtype == torch.float64
    assert np.array_equal(x, expected(THETA, SEEDS))
    words = ["sh", "-c", 'echo "$0" 2 3 > "$1"', "{seed}", "{output_file}.csv"]
    x = make(words, FieldSpec("x", ("i",), (3,), "int64"), ParameterSpace([]))
    assert (
        x.simulate(torch.zeros(2, 0, dtype=torch.float64), SEEDS)[:, 0].tolist() == SEEDS.tolist()
    )


PROGRAM = """
import csv, json, sys
import numpy as np
theta, seed, out = sys.argv[1:]
if theta.endswith(".csv"):
    (row,) = csv.DictReader(open(theta))
elif theta.endswith(".json"):
    row = json.load(open(theta))
elif theta.endswith(".npz"):
    row = np.load(theta)
elif theta.endswith(".txt"):
    row = dict(zip("ab", np.loadtxt(theta)))
else:
    row = dict(zip("ab", np.load(theta)))
x = np.array([float(row["a"]), float(row["b"]), int(seed) % 1000])
if out.endswith(".npy"):
    np.save(out, x)
elif out.endswith(".npz"):
    np.savez(out, x=x, other=1)
else:
    import h5py
    with h5py.File(out, "w") as file:
        file["x"] = x
"""


@pytest.mark.parametrize(("theta", "out"), [
    ("", ""), (".json", ".npz"), (".npz", ".h5"), (".txt", ".npy"), (".npy", ".npy"),
])  # fmt: skip
def test_files_of_every_kind(theta, out):
    script("my sim's.py", PROGRAM)
    command = [
        sys.executable,
        "my sim's.py",
        "{theta_file}" + theta,
        "{seed}",
        "{output_file}" + out,
    ]
    simulator = make(command)
    x = simulator.simulate(THETA[:1], SEEDS[1:])
    assert np.array_equal(x, [[0.1, 1.5e-9, (1 << 63) % 1000 - 1]])
    assert shlex.split(simulator.command) == command
    assert "file my sim's.py" in identity(simulator)


def test_a_source_field_comes_beside():
    script(
        "two.py",
        "import sys, numpy as np\n"
        "np.savez(sys.argv[2], x=np.ones(3), source=np.full(2, float(sys.argv[1])))\n",
    )
    source = FieldSpec("s", ("j",), (2,), "float64")
    command = f"{sys.executable} two.py {{a}} {{output_file}}"
    space = ParameterSpace([SPACE[0]])
    simulator = make(command + ".npz", space=space, source=source)
    x, s = simulator.simulate(THETA[:1, :1], SEEDS[:1])
    assert (x.tolist(), s.tolist()) == ([[1.0, 1.0, 1.0]], [[0.1, 0.1]])
    assert make(command, space=space, source=source).simulate(THETA[:1, :1], SEEDS[:1])[0].any()
    with pytest.raises(CampaignError, match="npz"):
        make(command + ".npy", space=space, source=source)


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("", "a program and its arguments"), ([], "a program"), (3, "a program"),
        ("sh 'x", "quoted"), ("sh {theta_file}", "{output_file}"),
        ("sh {a} {output_file}", "b"), ("sh {theta_file} {out}", "{seed32}"),
        ("sh {theta_file} {output_file} {", "twice"), ("sh {} {output_file}", "out of"),
        ("sh {theta_file}.yaml {output_file}", "one suffix"),
        ("sh {theta_file} {output_file}.fits", "one suffix"),
        ("sh {theta_file}.csv {theta_file}.json {output_file}", "one suffix"),
        ("sh {theta_file} {index} {output_file}", "{seed}"),
        ("no-such-program {theta_file} {output_file}", "no such program"),
        ("./absent.sh {theta_file} {output_file}", "no such program"),
        ("./plain.sh {theta_file} {output_file}", "chmod"),
        ("plain.sh {theta_file} {output_file}", "./plain.sh"),
        ("./temp {theta_file} {output_file}", "a folder"),
        (["sh", 3, "{output_file}"], "text"), ("sh \0 {output_file}", "NUL"),
    ],
)  # fmt: skip
def test_commands_that_cannot_be_used(command, text):
    script("plain.sh", "#!/bin/sh\n", 0o644)
    Path("temp").mkdir()
    with pytest.raises(CampaignError) as caught:
        make(command)
    assert text in str(caught.value)
    assert caught.value.fix


def test_odd_names_of_parameters():
    space = ParameterSpace([Parameter(n, priors.Normal(0, 1)) for n in ("seed", "σ_8", "class")])
    theta = torch.tensor([[1.5, 2.5, 3.5]], dtype=torch.float64)
    deed = 'tail -n 1 "$0" > "$1/t" && mv "$1/t" "$2"'
    command = ["sh", "-c", deed, "{theta_file}", "{folder}", "{output_file}.csv"]
    assert make(command, space=space).simulate(theta, SEEDS[:1]).tolist() == theta.tolist()
    named = ["sh", "-c", 'echo {σ_8} {class} ${{#}} > "{output_file}.txt"', "{theta_file}"]
    assert make(named, space=space).simulate(theta, SEEDS[:1]).tolist() == [[2.5, 3.5, 0.0]]
    with pytest.raises(CampaignError, match="rename"):
        make("sh {seed} {theta_file} {output_file}", space=space)


@pytest.mark.parametrize(
    ("deed", "text"),
    [
        ("exit 3", "exit code 3"), ("kill -9 $$", "signal 9"), ("exit 0", "wrote no {output_f"),
        ("echo 1 > \"$1.tmp\"", "output.txt.tmp"), ("echo 1 2 > \"$1\"", "shape (2,)"),
        ("echo one 2 3 > \"$1\"", "one"), (": > \"$1\"", "shape (0,)"), ("mkdir \"$1\"", "fold"),
        ("ln -s /absent \"$1\"", "o such file"), ("echo no luck >&2; exit 1", "no luck"),
        ("echo told; exit 1", "told"), ("mkfifo \"$1\"", "{folder}/output.txt"),
        ("head -c 1100000 /dev/zero | tr '\\0' ' ' > \"$1\"", "1100000 bytes"),
        ("rm -rf \"$2\"; exit 2", "exit code 2"),
        ("printf '\\377\\000\\033' >&2; exit 4", "exit code 4"),
        ("mkdir \"$2/a\"; : > \"$2/a/b\"; chmod 0 \"$2/a\"; chmod 500 \"$2\"; exit 5", "code 5"),
    ],
)  # fmt: skip
def test_a_failure_says_what_happened(deed, text):
    command = ["sh", "-c", deed, "{theta_file}", "{output_file}.txt", "{folder}"]
    with pytest.raises(ProgramFailed) as caught:
        make(command).simulate(THETA, SEEDS)
    assert text in caught.value.got
    assert "sbitools-" not in caught.value.got  # the folder's name differs from run to run


@pytest.mark.parametrize(
    ("array", "text"),
    [(np.ones(3, "float32"), "float64"), (np.ones(4), "shape"), (np.ones((1, 3)), "shape"),
     (np.array(["a", "b", "c"]), "numbers"), (np.ones(3, "complex128"), "float64"),
     (np.ones((1000, 300)), "shape"), (np.array(1.0), "shape")],
)  # fmt: skip
def test_results_of_another_shape_or_dtype(array, text):
    np.save("wrong.npy", array)
    with pytest.raises(ProgramFailed, match=text):
        make("sh -c 'cp wrong.npy \"$0\"' {output_file} {theta_file}").simulate(THETA, SEEDS)


@pytest.mark.parametrize(("shape", "dtype", "written", "right"), [
    ((), "float32", "7", 7.0), ((2, 2), "float64", "1 2\\n3,4\\n", [[1, 2], [3, 4]]),
    ((2,), "uint8", "# n\\n1\\n2\\n", [1, 2]), ((2, 2), "float64", "1 2 3 4", None),
    ((2,), "uint8", "1 300", None), ((2,), "int32", "1 2.5", None), ((2,), "float32", "1 nan", 0),
    ((1,), "float32", "1e99", 0), ((2,), "int64", "1 1e99", None),
    ((2, 2), "float64", "1 2\\n3\\n4", None), ((2,), "int32", "1 nan", None),
])  # fmt: skip
def test_results_as_text(shape, dtype, written, right):
    spec = FieldSpec("x", tuple("ij"[: len(shape)]), shape, dtype)
    command = ["sh", "-c", f"printf '{written}' > \"$0\"", "{output_file}.txt", "{theta_file}"]
    if right is None:
        with pytest.raises(ProgramFailed, match=r"x in|text of numbers"):
            make(command, spec).simulate(THETA, SEEDS)
        return
    x = make(command, spec).simulate(THETA[:1], SEEDS[:1])
    assert str(x.dtype).endswith(dtype)
    assert right == 0 or x[0].tolist() == right  # NaN arrives; a store records it as failed


def test_nothing_hangs_and_nothing_is_left(here):
    told = "echo $$ > $$.child; "
    child = "(echo > $(sh -c 'echo $PPID').child; exec sleep 100) & sleep 0.1; "
    write = 'echo 1 2 3 > "$1"'
    loud = "head -c 9000000 /dev/zero | tr '\\0' 'e' >&2; head -c 9000000 /dev/zero; "

    def run(deed, limit=30.0):
        command = ["sh", "-c", told + deed, "{theta_file}", "{output_file}.txt"]
        begin = time.monotonic()
        try:
            return make(command, time_limit=limit).simulate(THETA[:1], SEEDS[:1])
        finally:
            assert time.monotonic() - begin < limit + 15
            time.sleep(0.05)
            assert not alive(here)

    assert run(child + write).tolist() == [[1, 2, 3]]  # sleep holds stderr open
    assert run(loud + write).tolist() == [[1, 2, 3]]
    assert run("exec 1>&- 2>&-; sleep 0.2; " + write).tolist() == [[1, 2, 3]]
    assert run('read x; [ -z "$x" ] && ' + write).tolist() == [[1, 2, 3]]  # no stdin
    with pytest.raises(ProgramFailed) as caught:
        run(loud + "exit 1")
    assert 2000 < len(str(caught.value)) < 4000
    for deed in ("sleep 100", "trap '' TERM INT HUP; sleep 100 & wait", child + "wait",
                 "exec 1>&- 2>&-; sleep 100", "yes >&2"):  # fmt: skip
        with pytest.raises(ProgramFailed, match=r"time limit of 0\.7 s"):
            run("echo begun >&2; " + deed, limit=0.7)


def test_a_home_is_a_path_too(monkeypatch, here):
    monkeypatch.setenv("HOME", str(here))
    script("sim.sh", 'echo $1 $2 1 > "$3"\n')
    simulator = make(["sh", "~/sim.sh", "{a}", "{b}", "{output_file}.txt"])
    assert "file ~/sim.sh" in identity(simulator)
    script("sim", '#!/bin/sh\necho $1 $2 1 > "$3"\n')
    assert make("~/sim {a} {b} {output_file}.txt").simulate(THETA, SEEDS)[:, 2].tolist() == [1, 1]
    assert simulator.simulate(THETA, SEEDS)[:, 0].tolist() == THETA[:, 0].tolist()


def test_what_cannot_be_started_is_no_failed_simulation(monkeypatch, here):
    script("no-line", "echo 1 2 3\n")
    script("absent-interpreter", "#!/absent/python\n")
    Path("elsewhere").mkdir()
    for name in ("no-line", "absent-interpreter"):
        with pytest.raises(CannotRun, match="#!"):
            make(f"./{name} {{theta_file}} {{output_file}}").simulate(THETA, SEEDS)
    simulator = make(ECHO)
    monkeypatch.setattr(tempfile, "tempdir", str(here / "absent"))
    with pytest.raises(CannotRun, match="path that can be used"):
        simulator.simulate(THETA, SEEDS)


def test_the_program_is_part_of_the_identity():
    script("sim.sh", "echo $1 $2 1 > $3\n")
    Path("options.ini").write_text("a = 1\n")
    command = "sh sim.sh {a} {b} {output_file}.txt --options=options.ini"
    first = identity(make(command))
    assert set(first) == {"class", "command", "file sim.sh", "file options.ini"}
    Path("options.ini").write_text("a = 2\n")
    assert identity(make(command)) != first
    assert identity(make(command, version="2"))["version"] == "2"
    assert "file sim.sh" not in identity(make(command, version="2"))
    script("sim", "#!/bin/sh\necho $1 $2 1 > $3\n")
    assert "program ./sim" in identity(make("./sim {a} {b} {output_file}.txt"))
    assert set(identity(make("sh -c 'sh sim.sh 1' {theta_file} {output_file}"))) == {
        "class", "command", "file sim.sh"
    }  # fmt: skip
    Path("pkg").mkdir()
    script("pkg/__main__.py", "")
    assert "file pkg/__main__.py" in identity(make("python3 -m pkg {theta_file} {output_file}"))


def test_theta_and_seeds_are_checked():
    for theta, s in (
        (THETA[0], SEEDS),
        (THETA[:, :1], SEEDS),
        (THETA, SEEDS[:1]),
        (THETA, -SEEDS),
    ):
        with pytest.raises(SbitoolsError):
            make(ECHO).simulate(theta, s)
    assert make(ECHO).simulate(THETA[:0], SEEDS[:0]).shape == (0, 3)
