"""The examples of the reference: there is one for nearly every public name, and each gives what the pages show."""

import importlib
import importlib.util
import inspect
import re
import types
from pathlib import Path

import pytest

import kerax

DOCS = Path(__file__).parents[1] / "docs"


def load(name, **names):
    """A module of the documentation's; those that only a build of the pages has stand for nothing."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    vars(module).update(names)
    spec.loader.exec_module(module)
    return module


examples = load("examples")
FOUND = examples.read()
# Each of these makes a large model, as its own tests do: they are shown, one of them is run.
LARGE = {"kerax.applications": {"MobileNet"}}


def public_names():
    """`{namespace: names}`, as the pages have them."""
    source = (DOCS / "generate_reference.py").read_text(encoding="utf-8")
    wanted = re.search(r"^# Helpers.*?(?=^def entry)", source, flags=re.MULTILINE | re.DOTALL)[0]
    names = {"inspect": inspect, "types": types, "NAMES": re.search(r'NAMES = """(.*?)"""', source, re.DOTALL)[1]}
    exec(wanted, names)
    return {space: names["public_names"](importlib.import_module(space)) for space in names["NAMESPACES"]}


@pytest.mark.slow
@pytest.mark.parametrize("namespace", FOUND)
def test_examples_run(namespace, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(kerax.config, "_flash_attention", None)  # which two of the examples set
    pytest.importorskip("matplotlib").use("agg")
    failed = []
    for name, code in FOUND[namespace].items():
        if not examples.is_run(code) or name not in LARGE.get(namespace, {name}):
            continue
        try:
            examples.run(code)
        except Exception as error:
            failed.append(f"{name}: {type(error).__name__}: {error}")
    kerax.config.enable_interactive_logging()
    assert not failed


def test_nearly_every_public_name_has_an_example():
    names = [(space, name) for space, found in public_names().items() for name in found]
    missing = [pair for pair in names if examples.example_of(FOUND, *pair) is None]
    assert len(names) > 1000 and len(missing) <= 0.05 * len(names), missing
    # Named by what makes one where nobody makes it by its name.
    elsewhere = """KerasTensor Metric OptaxOptimizer OptimizerState History Dataset LearningRateSearch Int4DTypePolicy
    GPTQDTypePolicy AWQDTypePolicy DistillationLoss Decoder Encoder""".split()
    for space, found in FOUND.items():
        wanted = {name: code for name, code in found.items() if name not in elsewhere}
        assert [name for name, code in wanted.items() if not re.search(rf"\b{name}\b", code)] == [], space
        assert not any(code.removeprefix("~").startswith("help(") for code in found.values())
    for space, found in FOUND.items():  # no example of something that is not there
        assert [name for name in found if not hasattr(importlib.import_module(space), name)] == []


def test_what_an_example_gives_is_shown():
    block = examples.shown(FOUND["kerax.ops"]["cumsum"])
    assert block.startswith("```python\nops.cumsum(np.array([1.0, 2.0, 4.0]))\n# Array([1., 3., 7.]")
    assert examples.shown('~kerax.saving.push_to_hub(model, "me")') == (
        '```python\nkerax.saving.push_to_hub(model, "me")\n```\n'
    )
