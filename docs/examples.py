"""The examples of the reference: read from `examples.txt`, run, and shown with what they give."""

import ast
import contextlib
import importlib
import io
import os
import re
import tempfile
import textwrap
from pathlib import Path
from typing import Any

PRELUDE = """
import jax
import jax.numpy as jnp
import numpy as np
import kerax
from kerax import layers, ops
x, y = np.ones((8, 3), "float32"), np.ones((8, 1), "float32")
model = kerax.Sequential([kerax.Input((3,)), layers.Dense(1)])
model.compile("sgd", "mse")
"""
_MOST_LINES = 12


def read() -> dict[str, dict[str, str]]:
    """`{namespace: {name: code}}`."""
    found: dict[str, dict[str, str]] = {}
    text = (Path(__file__).parent / "examples.txt").read_text(encoding="utf-8")
    for namespace, body in re.findall(r"^\[(.+)\]\n((?:(?!\[).*\n?)*)", text, flags=re.MULTILINE):
        found[namespace] = {}
        # A name begins a line; what is indented, and empty lines between, belong to it.
        for head, code in re.findall(r"^(\w[\w ]*):((?:.*\n)(?:(?:    .*)?\n)*)", body, flags=re.MULTILINE):
            lines = code.strip()
            plain = textwrap.dedent(code.strip("\n")) if "\n" in lines else lines.replace("; ", "\n")
            found[namespace] |= {name: plain.strip().replace("NAME", name) for name in head.split()}
    return found


def is_run(code: str) -> bool:
    """Whether an example is run; one that needs a network, or does not end, is only shown."""
    return not code.startswith("~")


def run(code: str, names: dict[str, Any] | None = None) -> tuple[str, Any]:
    """What an example prints, and the value of its last expression."""
    names = prepared() if names is None else names
    tree = ast.parse(code)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, "example", "exec"), names)
        value = None if last is None else eval(compile(ast.Expression(last.value), "example", "eval"), names)  # pyright: ignore[reportAttributeAccessIssue]
    return printed.getvalue(), value


def prepared() -> dict[str, Any]:
    """The names that all examples know."""
    names: dict[str, Any] = {}
    exec(PRELUDE, names)
    return names


def shown(code: str) -> str:
    """An example as a block of Markdown, with what it gives. It is run in a folder of its own."""
    if not is_run(code):
        return f"```python\n{code[1:].strip()}\n```\n"
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            printed, value = run(code)
        finally:
            os.chdir(before)
    result = printed + ("" if value is None else repr(value))
    lines = re.sub(r" at 0x[0-9a-f]+", "", result).splitlines()
    lines = [*lines[:_MOST_LINES], "..."] if len(lines) > _MOST_LINES else lines
    answer = "\n".join(f"# {line}" for line in lines)
    return f"```python\n{code}\n{answer}\n```\n" if answer else f"```python\n{code}\n```\n"


def example_of(found: dict[str, dict[str, str]], namespace: str, name: str) -> str | None:
    """The example of a public name: its own, or that of the same thing under another name of the namespace."""
    known = found.get(namespace, {})
    if name in known:
        return known[name]
    thing = getattr(importlib.import_module(namespace), name)
    for home, examples in {namespace: known, **found}.items():
        module = importlib.import_module(home)
        same = next((other for other in examples if getattr(module, other, None) is thing), None)
        if same is not None:
            return re.sub(rf"\b{same}\b", name, examples[same]) if home == namespace else examples[same]
    return None
