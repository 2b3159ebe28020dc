"""What `pyproject.toml` promises: extras, the version, and the `kerax` command."""

import importlib
import re
import sys
import tomllib
from pathlib import Path

import yaml

import kerax

ROOT = Path(__file__).parents[1]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = SETTINGS["project"]
FOR_DEVELOPERS = {"all", "dev", "docs", "test", "test-exports"}


def test_the_extra_all_holds_every_other_extra():
    extras = PROJECT["optional-dependencies"]
    (everything,) = extras["all"]
    named = re.fullmatch(r"kerax\[(.*)\]", everything)[1].split(",")
    assert sorted(named) == sorted(extras.keys() - FOR_DEVELOPERS)


def test_the_command_is_there():
    module, name = PROJECT["scripts"]["kerax"].split(":")
    assert callable(getattr(importlib.import_module(module), name))


def test_the_version_has_one_home():
    assert "version" in PROJECT["dynamic"] and "version" not in PROJECT
    home = (ROOT / SETTINGS["tool"]["hatch"]["version"]["path"]).read_text()
    assert re.search(r'^__version__ = "(.*)"$', home, flags=re.MULTILINE)[1] == kerax.__version__ == kerax.version()
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert kerax.__version__ in headings and headings[0] in ("Unreleased", kerax.__version__)


def test_the_workflow_runs_what_has_to_pass():
    steps = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]["run"]["steps"]
    assert [step["run"] for step in steps if "run" in step] == [".ci/run"]
    (pythons,) = [step["with"]["python-version"].split() for step in steps if "with" in step]
    assert min(pythons) == PROJECT["requires-python"].removeprefix(">=")


# What a notebook's `import` says, by the package that brings it.
BRINGS = {"PIL": "pillow", "onnx_ir": "onnx-ir"}


def required(extra):
    """The names of the packages of an extra, of extras in it too."""
    found = set()
    for wanted in PROJECT["optional-dependencies"][extra]:
        name, inner = re.match(r"([\w.-]+)(?:\[(.*?)\])?", wanted).groups()
        if name == "kerax":
            found |= set().union(*map(required, inner.split(",")))
        else:
            found.add(name)
    return found


def test_the_extra_notebook_brings_what_notebooks_import_and_a_front_end():
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "notebooks").glob("*.ipynb")]
    # A line of code, in JSON; a name that is no module's is a sentence's.
    lines = [
        line for text in texts for line in re.findall(r'^    "((?:import|from) [\w. ,]+)', text, flags=re.MULTILINE)
    ]
    imported = {re.split(r"[ .]", line)[1] for line in lines if "from scratch" not in line}
    always = {re.split(r"[\[<>=]", wanted)[0] for wanted in PROJECT["dependencies"]}
    always |= {"kerax", *sys.stdlib_module_names}
    assert {BRINGS.get(name, name) for name in imported - always} <= required("notebook")
    assert "jupyterlab" in required("notebook")
