"""The design's import rules and habits, checked on the syntax of the sources."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = sorted((ROOT / "sbitools").rglob("*.py")) + sorted((ROOT / "emulators").rglob("*.py"))
OTHERS = [p for d in ("tests", "paper", "tutorials") for p in sorted((ROOT / d).rglob("*.py"))]
LONGEST_FILE = 400

# Serialisers that run code when they read: none is imported. cloudpickle, which carries a function
# to a worker process and never to disk, is allowed where workers are started, and nowhere else.
UNSAFE_MODULES = {"pickle", "_pickle", "dill", "joblib", "shelve", "marshal"}
CARRIES_FUNCTIONS = "sbitools.campaign"
UNSAFE_CALLS = {"torch.load", "torch.save", "numpy.random.seed", "np.random.seed",
                "importlib.import_module", "eval", "exec"}  # fmt: skip

# Layers of torch initialise from the global generator: one place seeds it, and puts it back.
SEEDS_THE_GLOBAL_STATE = "sbitools.seeds"
GLOBAL_STATE = {"torch.manual_seed", "torch.default_generator.manual_seed",
                "torch.random.fork_rng", "torch.random.manual_seed"}  # fmt: skip

# package: what it must not import, not even late or for types, because it lies below.
LAYERS = {
    "sbitools.version": ("sbitools",),
    "sbitools.errors": ("sbitools",),
    "sbitools.seeds": ("sbitools.parameters", "sbitools.simulator", "sbitools.store"),
    "sbitools.parameter": ("sbitools.parameters", "sbitools.simulator", "sbitools.store"),
    "sbitools.priors": ("sbitools.parameter", "sbitools.parameters", "sbitools.simulator"),
    "sbitools.gate": ("sbitools.simulator", "sbitools.store", "sbitools.config"),
    "sbitools.disk": ("sbitools.simulator", "sbitools.store", "sbitools.config"),
    "sbitools.display": ("sbitools.simulator", "sbitools.store", "sbitools.chain"),
    "sbitools.networks": ("sbitools.store", "sbitools.training", "sbitools.inference"),
    "sbitools.statistics": ("sbitools.inference", "sbitools.calibration", "sbitools.report"),
    "sbitools.formats": ("sbitools.store", "sbitools.campaign", "sbitools.training"),
    "sbitools.store": ("sbitools.campaign", "sbitools.training", "sbitools.inference"),
    "sbitools.campaign": ("sbitools.training", "sbitools.inference", "sbitools.chain"),
    "sbitools.training": ("sbitools.inference", "sbitools.calibration", "sbitools.report"),
    "sbitools.densities": ("sbitools.inference", "sbitools.calibration", "sbitools.chain"),
    "sbitools.embeddings": ("sbitools.inference", "sbitools.calibration", "sbitools.chain"),
    "sbitools.results": ("sbitools.inference", "sbitools.calibration", "sbitools.repairs",
                         "sbitools.report", "sbitools.chain", "sbitools.cli"),
    "sbitools.inference": ("sbitools.calibration", "sbitools.repairs", "sbitools.report",
                           "sbitools.chain", "sbitools.cli"),
    "sbitools.inference.methods": ("sbitools.inference",),
    "sbitools.inference.train": ("sbitools.inference.npe", "sbitools.inference.likelihood",
                                 "sbitools.inference.ratio", "sbitools.inference.vector_field",
                                 "sbitools.inference.discrete", "sbitools.inference.ensemble",
                                 "sbitools.densities"),
    "sbitools.bridge": ("sbitools.training", "sbitools.calibration", "sbitools.repairs",
                        "sbitools.report", "sbitools.chain", "sbitools.cli"),
    "sbitools.calibration": ("sbitools.inference", "sbitools.training", "sbitools.networks",
                             "sbitools.embeddings", "sbitools.repairs", "sbitools.chain",
                             "sbitools.cli"),
    "sbitools.repairs": ("sbitools.report", "sbitools.chain", "sbitools.cli"),
    "sbitools.report": ("sbitools.inference", "sbitools.training", "sbitools.chain.stages",
                        "sbitools.chain.chain", "sbitools.commands", "sbitools.cli"),
    "sbitools.chain": ("sbitools.commands", "sbitools.cli"),
    "emulators": ("sbitools.inference", "sbitools.calibration", "sbitools.report",
                  "sbitools.cli"),
}  # fmt: skip


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in LIBRARY}


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def run_time_nodes(node: ast.AST, *, inside_functions: bool) -> Iterator[ast.AST]:
    """All nodes that run: without TYPE_CHECKING blocks and, if asked, without function bodies."""
    for child in ast.iter_child_nodes(node):
        function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if is_type_checking(child) or (function and not inside_functions):
            continue
        yield child
        yield from run_time_nodes(child, inside_functions=inside_functions)


def absolute(name: str, node: ast.ImportFrom) -> str:
    """What module `name` imports from, with its full name."""
    base = node.module or ""
    if not node.level:
        return base
    package = name if MODULES[name].name == "__init__.py" else name.rpartition(".")[0]
    above = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ".".join([*above, base] if base else above)


def imports(name: str, *, inside_functions: bool = True) -> set[str]:
    """Absolute names that module `name` imports when it runs."""
    found = set()
    for node in run_time_nodes(tree_of(MODULES[name]), inside_functions=inside_functions):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = absolute(name, node)
            found.add(base)
            found |= {f"{base}.{alias.name}" for alias in node.names} & set(MODULES)
    return found


def files_imported(name: str) -> set[str]:
    """Our files that module `name` imports: when it is loaded, later, or for its types alone.

    A name out of a package counts for the package's __init__, and a module out of it for itself.
    """
    found = set()
    for node in ast.walk(tree_of(MODULES[name])):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = absolute(name, node)
            names = {f"{base}.{alias.name}" for alias in node.names}
            found |= names & set(MODULES) | ({base} if names - set(MODULES) else set())
    if by_text(name):
        found |= {m for m in MODULES if m.startswith(name + ".")}
    return found & set(MODULES)


def by_text(name: str) -> bool:
    """Whether module `name` imports what a text says."""
    texts = {"import_module", "__import__"}
    return any(getattr(node, "id", getattr(node, "attr", None)) in texts
               for node in ast.walk(tree_of(MODULES[name])))  # fmt: skip


def belongs(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def test_sources_are_found():
    assert len(LIBRARY) > 20
    assert {"sbitools.store", "sbitools.seeds", "emulators.nbody"} <= set(MODULES)
    assert "sbitools.errors" in imports("sbitools.seeds")


def test_sbitools_never_imports_emulators():
    guilty = [m for m in MODULES if belongs(m, "sbitools")
              and any(belongs(i, "emulators") for i in imports(m))]  # fmt: skip
    assert not guilty, "systems are found through the entry-point group sbitools.systems"


def test_only_inference_touches_density_estimators():
    rooms = {"zuko": ("sbitools.inference",), "nflows": ("sbitools.inference",),
             "sbi": ("sbitools.inference", "sbitools.bridge")}  # fmt: skip
    guilty = [f"{m} imports {library}" for m in MODULES for library, allowed in rooms.items()
              if not any(belongs(m, room) for room in allowed)
              and library in {i.partition(".")[0] for i in imports(m)}]  # fmt: skip
    assert not guilty


def test_sbi_is_imported_inside_functions():
    early = {m: imports(m, inside_functions=False) for m in MODULES}
    guilty = [m for m, found in early.items() if "sbi" in {i.partition(".")[0] for i in found}]
    assert not guilty, "it takes two seconds, and few need it"


@pytest.mark.parametrize("package", LAYERS)
def test_layers(package):
    above = LAYERS[package]
    assert {package, *above} <= set(MODULES), "a name that nothing has forbids nothing"
    guilty = [f"{m} imports {i}" for m in MODULES if belongs(m, package)
              for i in files_imported(m)
              if any(belongs(i, a) for a in above) and not belongs(i, package)]  # fmt: skip
    assert not guilty


def test_no_import_circles():
    graph = {module: files_imported(module) - {module} for module in MODULES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as cycle:
        pytest.fail(f"import circle: {' <- '.join(cycle.args[1])}")


def test_no_import_hides_in_a_text():
    guilty = [m for m, path in MODULES.items() if path.name != "__init__.py" and by_text(m)]
    assert not guilty, "a package's __init__ may load its own files by name, and no other does"


def test_nothing_unsafe_is_read_or_written():
    guilty = []
    for module, path in MODULES.items():
        top = {i.partition(".")[0] for i in imports(module)}
        guilty += [f"{module} imports {i}" for i in top & UNSAFE_MODULES]
        if "cloudpickle" in top and not belongs(module, CARRIES_FUNCTIONS):
            guilty.append(f"{module} imports cloudpickle")
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                opens = any(k.arg == "allow_pickle" and ast.unparse(k.value) != "False"
                            for k in node.keywords)  # fmt: skip
                seeds = called in GLOBAL_STATE and module != SEEDS_THE_GLOBAL_STATE
                if called in UNSAFE_CALLS or seeds or opens:
                    guilty.append(f"{module}:{node.lineno} {called}")
    assert not guilty


def test_stages_have_the_names_that_the_report_reads():
    from sbitools.chain import STAGES
    from sbitools.chain.names import NAMES

    assert tuple(STAGES) == NAMES


def test_one_version():
    from sbitools.version import __version__

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == __version__
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_files_are_short():
    sizes = {p.relative_to(ROOT): len(p.read_text(encoding="utf-8").splitlines())
             for p in LIBRARY + OTHERS}  # fmt: skip
    assert not {str(p): n for p, n in sizes.items() if n > LONGEST_FILE}


def test_modules_state_their_idea_and_their_names():
    guilty = []
    for module, path in MODULES.items():
        tree = tree_of(path)
        if not ast.get_docstring(tree):
            guilty.append(f"{module}: no docstring")
        private = path.stem.startswith("_")
        assigned = {t.id for n in tree.body if isinstance(n, ast.Assign)
                    for t in n.targets if isinstance(t, ast.Name)}  # fmt: skip
        if not private and "__all__" not in assigned:
            guilty.append(f"{module}: no __all__")
    assert not guilty


def test_no_machine_paths_and_no_unfinished_notes():
    folders = "|".join(["work", "tmp", "home", "root", "mnt", "Users"])
    machine = re.compile(rf"""(?<![\w.$}}/-])/(?:{folders})/""")
    unfinished = re.compile(r"\b(?:TODO|FIXME|XXX)\b")
    suffixes = {".py", ".md", ".toml", ".cff", ".bib", ".txt", ".html", ".ipynb"}
    texts = [p for d in ("sbitools", "emulators", "tests", "paper", "tutorials")
             for p in sorted((ROOT / d).rglob("*")) if p.suffix in suffixes]  # fmt: skip
    texts += [p for p in ROOT.iterdir() if p.is_file() and p.suffix in suffixes]
    guilty = [f"{p.relative_to(ROOT)}:{number}" for p in texts if p != Path(__file__)
              for number, line in enumerate(p.read_text(encoding="utf-8").splitlines(), 1)
              if machine.search(line) or unfinished.search(line)]  # fmt: skip
    assert not guilty


def test_the_command_line_starts_without_heavy_imports():
    heavy = ("torch", "sbi", "matplotlib", "xarray", "pandas", "scipy", "h5py", "numba")
    script = f"import sys, sbitools.cli; print(*[m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True,
                          check=True, timeout=60)  # fmt: skip
    assert done.stdout.split() == [], "import these inside the functions that use them"
