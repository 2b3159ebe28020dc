"""Imports only go down the floors of the house, and the modules form no cycle."""

import ast
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "kerax"
FLOORS = [
    {"config", "tree", "dtype_policies", "errors", "version"},
    {"core"},
    {"ops", "activations", "initializers", "regularizers", "constraints", "quantizers", "random"},
    {"layers", "losses", "metrics", "optimizers", "data", "distribution"},
    {"train", "callbacks", "checkpoint", "saving"},
    {"models"},
    {"cli", "utils", "visualization", "datasets", "applications", "backend", "distillation", "mixed_precision"}
    | {"preprocessing", "tuner", "wrappers", "__main__"},
]
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names}


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        yield ".".join(("kerax", *(part for part in parts if part != "__init__"))), path


def imports_of(path: Path, known: set[str]):
    """Modules of kerax that a file imports, at any depth of nesting."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "kerax")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "kerax":
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in known else node.module


def test_imports_only_go_down():
    known = {name for name, _ in modules()}
    wrong = []
    for name, path in modules():
        if name == "kerax":
            continue
        own = FLOOR[name.split(".")[1]]
        for imported in imports_of(path, known):
            if imported != "kerax" and FLOOR[imported.split(".")[1]] > own:
                wrong.append(f"{name} imports {imported}")
    assert wrong == []


def test_modules_form_no_cycle():
    known = {name for name, _ in modules()}
    graph = {name: {i for i in imports_of(path, known) if i != name} for name, path in modules() if name != "kerax"}
    done, running = set(), []

    def visit(name):
        if name in done or name not in graph:
            return
        assert name not in running, f"cycle: {' -> '.join([*running[running.index(name) :], name])}"
        running.append(name)
        for imported in sorted(graph[name]):
            visit(imported)
        done.add(running.pop())

    for name in graph:
        visit(name)


def test_importing_kerax_loads_none_of_the_slow_libraries():
    code = """
import sys, kerax
import kerax.layers, kerax.models, kerax.optimizers, kerax.callbacks, kerax.tuner
slow = ["orbax", "h5py", "rich", "matplotlib", "tensorflow", "pandas", "torch", "optuna"]
print([module for module in slow if module in sys.modules])
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_files_stay_readable():
    too_long = {
        str(path.relative_to(PACKAGE)): n for _, path in modules() if (n := len(path.read_text().splitlines())) > 600
    }
    assert too_long == {}
