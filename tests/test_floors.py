"""Imports only go down the floors of the house, and the modules form no cycle."""

import ast
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "kerax"
FLOORS = [
    {"config", "tree", "dtype_policies", "errors", "lazy", "places", "tracebacks", "version"},
    {"core"},
    {"ops", "activations", "initializers", "regularizers", "constraints", "quantizers", "random"},
    {"layers", "losses", "metrics", "optimizers", "data", "distribution"},
    {"train", "callbacks", "checkpoint", "saving", "plan", "export"},
    {"models"},
    {
        "cli",
        "serve",
        "utils",
        "visualization",
        "datasets",
        "applications",
        "backend",
        "distillation",
        "language",
        "mixed_precision",
        "legacy",
    }
    | {"preprocessing", "tuner", "wrappers", "__main__"},
    {"as_keras"},
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


def strings_of(path: Path):
    """The string constants of a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def classes_of(path: Path):
    """The names of the classes that a file defines."""
    return (node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef))


def test_nothing_reaches_up_by_a_name_in_a_string():
    known = {name for name, _ in modules()}
    in_core = [(name, path) for name, path in modules() if name.startswith("kerax.core")]
    higher = [path for name, path in modules() if name != "kerax" and FLOOR[name.split(".")[1]] > FLOOR["core"]]
    above = {name for path in higher for name in classes_of(path)}
    above -= {name for _, path in in_core for name in classes_of(path)}
    wrong = []
    for name, path in modules():
        own = FLOOR[name.split(".")[1]] if name != "kerax" else len(FLOORS)
        wrong += [(name, s) for s in strings_of(path) if s in known - {"kerax"} and FLOOR[s.split(".")[1]] > own]
    for name, path in in_core:
        wrong += [(name, string) for string in strings_of(path) if string in above]
        wrong += [(name, called) for called in ("import_module", "__import__") if called in path.read_text()]
    assert wrong == []


def test_a_layer_needs_nothing_but_core():
    code = """
from kerax.core.layer import Layer
import numpy as np

class Scale(Layer):
    def __init__(self, power=1, **kwargs):
        super().__init__(**kwargs)
        self.power = power

    def build(self, input_shape):
        self.scale = self.add_weight(shape=(input_shape[-1], 2), regularizer="l2")

    def call(self, inputs):
        return inputs @ self.scale.value**self.power

layer = Scale(2)
print(layer(np.ones((3, 4), "float32")).shape, Scale.from_config(layer.get_config()).power)
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "(3, 2) 2"


def test_importing_kerax_loads_none_of_the_slow_libraries():
    code = """
import sys, kerax
import kerax.layers, kerax.models, kerax.optimizers, kerax.callbacks, kerax.tuner, kerax.serve
slow = ["orbax", "h5py", "rich", "matplotlib", "tensorflow", "pandas", "torch", "optuna", "starlette", "uvicorn"]
print([module for module in slow if module in sys.modules])
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_files_stay_readable():
    too_long = {
        str(path.relative_to(PACKAGE)): n for _, path in modules() if (n := len(path.read_text().splitlines())) > 600
    }
    assert too_long == {}
