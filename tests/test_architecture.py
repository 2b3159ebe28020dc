"""docs/architecture.md names files and functions: they exist, and the way of a batch and of a call is as drawn."""

import importlib
import re
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kerax
from kerax import layers

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
ARROWS = re.findall(r"^[\s│└▼]*([A-Za-z_.]+) +([a-z_]+(?:/[a-z_]+)*\.py)", PAGE, re.M)


def test_the_page_has_both_pictures():
    assert len(ARROWS) >= 18


@pytest.mark.parametrize(("name", "file"), ARROWS)
def test_every_arrow_is_a_function_of_its_file(name, file):
    module = importlib.import_module("kerax." + file.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
    found = module
    for part in name.split(".")[1:] if name.split(".")[0] == module.__name__.rpartition(".")[2] else name.split("."):
        found = getattr(found, part)
    code = getattr(found, "fget", None) or getattr(found, "__wrapped__", found)
    assert Path(code.__code__.co_filename) == ROOT / "kerax" / file


def entered(function, wanted):
    """The wanted functions in the order in which they are entered first."""
    order: list[tuple[str, str]] = []
    folder = str(ROOT / "kerax") + "/"

    def note(frame, event, _):
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(folder):
            step = code.co_qualname.split(".<locals>")[0], code.co_filename.removeprefix(folder)
            if step in wanted and step not in order:
                order.append(step)

    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(None)
    return order


def drawn(first, last):
    names = [(name.split(".", 1)[1] if name == "loop.fit" else name, file) for name, file in ARROWS]
    start = names.index(first)
    return names[start : names.index(last, start) + 1]


def test_a_batch_goes_as_drawn():
    way = drawn(("Model.fit", "models/model.py"), ("Program.__call__", "train/program.py"))
    model = kerax.Sequential([kerax.Input((4,)), layers.Dense(2)])
    model.compile("sgd", "mse")
    order = entered(lambda: model.fit(np.ones((64, 4), "float32"), np.ones((64, 2), "float32"), verbose=0), way)
    assert order == way
    assert len({file for _, file in way}) <= 9


def test_a_call_goes_as_drawn():
    way = drawn(("Layer.__call__", "core/layer.py"), ("product_form", "ops/products.py"))
    layer = layers.Dense(3)
    layer(jnp.ones((2, 5, 4)))
    order = entered(lambda: jax.make_jaxpr(layer)(jnp.ones((2, 5, 4))), way)
    assert set(order) == set(way) and order[0] == way[0]
