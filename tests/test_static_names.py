"""What packages hand out on first use, they declare to editors and type checkers too."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PIPED = {"capture_output": True, "text": True}


def declared(package: str) -> dict[str, str | None]:
    """The names that a package's stub imports, and the modules inside it that they are imported from."""
    stub = Path(importlib.import_module(package).__file__).with_suffix(".pyi")
    imports = [node for node in ast.parse(stub.read_text()).body if isinstance(node, ast.ImportFrom)]
    assert all(node.level == 1 for node in imports)
    return {alias.asname: node.module for node in imports for alias in node.names}


@pytest.mark.parametrize("package", ["kerax", "kerax.applications", "kerax.datasets", "kerax.tuner", "kerax.wrappers"])
def test_lazy_names_are_declared(package):
    module, static = importlib.import_module(package), declared(package)
    assert module.__all__ == list(static)
    assert set(static) <= set(dir(module))
    for name, home in static.items():
        source = importlib.import_module(f"{package}.{home or name}")
        value = source if home is None else getattr(source, name)
        assert getattr(module, name) is value, name


def test_a_bare_import_waits_for_nothing():
    code = "import sys, kerax; print({'jax', 'numpy', 'typing'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-S", "-c", f"import sys; sys.path.append({str(ROOT)!r}); {code}"], **PIPED)
    assert shown.stdout.strip() == "set()", shown.stderr


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
