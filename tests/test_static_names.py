"""What packages hand out on first use, they declare to editors and type checkers too."""

import ast
import importlib
import inspect
import subprocess
import sys

import pytest

import kerax


def declared(package: str) -> dict[str, str]:
    """The names under `if TYPE_CHECKING` of a package, and the modules that they are imported from."""
    tree = ast.parse(inspect.getsource(importlib.import_module(package)))
    blocks = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    imports = [node for block in blocks for node in block.body]
    return {alias.asname: node.module for node in imports for alias in node.names}


@pytest.mark.parametrize("package", ["kerax", "kerax.applications", "kerax.datasets", "kerax.tuner", "kerax.wrappers"])
def test_lazy_names_are_declared(package):
    module, static = importlib.import_module(package), declared(package)
    lazy = [*kerax._MODULES, *kerax._NAMES] if package == "kerax" else module.__all__
    eager = set(vars(module)) if package == "kerax.tuner" else set()
    assert sorted(static) == sorted(set(lazy) - eager)
    for name, home in static.items():
        source = importlib.import_module(home)
        value = getattr(source, name) if hasattr(source, name) else importlib.import_module(f"{home}.{name}")
        assert getattr(module, name) is value, name


NAMES = """
import kerax
from kerax import layers

reveal_type(kerax.layers.Dense(3))
reveal_type(kerax.Model)
reveal_type(kerax.ops.conv)
reveal_type(kerax.optimizers.Adam)
reveal_type(layers.Conv2D)
kerax.layerz
kerax.optimizers.Adam(1e-3, clipnorm=1.0, name="adam")
kerax.optimizers.Adam(1e-3, clipnrm=1.0)
kerax.Sequential().compile(kerax.optimizers.Muon(exclude_layers=["head"]), loss={"a": "mse"}, jit_compile=False)
"""


@pytest.mark.slow
def test_pyright_finds_the_classes(tmp_path):
    pytest.importorskip("pyright")
    (tmp_path / "names.py").write_text(NAMES)
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, str(tmp_path / "names.py")]
    shown = subprocess.run(command, capture_output=True, text=True).stdout
    for found in ('"Dense"', '"type[Model]"', '"type[Adam]"', '"type[Conv2D]"', '"(inputs', '"layerz" is not a known'):
        assert found in shown, shown
    assert 'No parameter named "clipnrm"' in shown, shown
    assert shown.count("error:") == 2, shown
