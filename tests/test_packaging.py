"""What `pyproject.toml` promises: extras, and the `kerax` command."""

import importlib
import re
import tomllib
from pathlib import Path

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
FOR_DEVELOPERS = {"all", "dev", "docs", "test"}


def test_the_extra_all_holds_every_other_extra():
    extras = PROJECT["optional-dependencies"]
    (everything,) = extras["all"]
    named = re.fullmatch(r"kerax\[(.*)\]", everything)[1].split(",")
    assert sorted(named) == sorted(extras.keys() - FOR_DEVELOPERS)


def test_the_command_is_there():
    module, name = PROJECT["scripts"]["kerax"].split(":")
    assert callable(getattr(importlib.import_module(module), name))
