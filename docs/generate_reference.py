"""A page of the reference for each public namespace, made while the documentation is built."""

import importlib
import inspect
import types

import griffe
import mkdocs_gen_files

NAMESPACES = (
    "kerax",
    *(f"kerax.{name}" for name in ("layers", "models", "losses", "metrics", "optimizers", "optimizers.schedules")),
    *(f"kerax.{name}" for name in ("callbacks", "ops", "activations", "initializers", "regularizers", "constraints")),
    *(f"kerax.{name}" for name in ("random", "data", "distribution", "checkpoint", "saving", "datasets", "utils")),
    *(f"kerax.{name}" for name in ("visualization", "tuner", "distillation", "wrappers", "applications")),
    *(
        f"kerax.{name}"
        for name in ("preprocessing", "config", "dtype_policies", "mixed_precision", "quantizers", "tree")
    ),
)


def public_names(module: types.ModuleType) -> list[str]:
    """The classes, functions and modules that a namespace offers, modules last."""
    names = [name for name in dir(module) if not name.startswith("_")]
    found = [(inspect.ismodule(value), name) for name in names if is_shown(value := getattr(module, name), module)]
    return [name for _, name in sorted(found, key=lambda pair: (pair[0], pair[1].lower()))]


def is_shown(value, module: types.ModuleType) -> bool:
    """Whether it is kerax's own, or a function of JAX's under Keras's name, and documented."""
    if inspect.ismodule(value):
        return value.__name__.startswith("kerax.datasets.") and module.__name__ == "kerax.datasets"
    home = getattr(value, "__module__", None) or ""
    return callable(value) and home.startswith(("kerax", "jax")) and bool(inspect.getdoc(value))


def first_paragraph(module: types.ModuleType) -> str:
    return (inspect.getdoc(module) or "").strip()


def entry(value, name: str) -> list[str]:
    """The lines for one thing: where mkdocstrings finds it, or for one that is made while kerax is loaded, its text."""
    home = value.__name__ if inspect.ismodule(value) else f"{value.__module__}.{getattr(value, '__name__', name)}"
    try:
        source[home.removeprefix("kerax.")]
    except KeyError:
        text = inspect.getdoc(value) if home.startswith("kerax") else inspect.getdoc(value).split("\n\n")[0]
        return [f"## {name}", "", f"```python\n{name}{inspect.signature(value)}\n```", "", "```text", text, "```", ""]
    return [f"::: {home}", ""]


source = griffe.load("kerax", search_paths=["."], resolve_aliases=False)
navigation = mkdocs_gen_files.Nav()
for namespace in sorted(NAMESPACES, key=lambda name: name != "kerax"):
    module = importlib.import_module(namespace)
    lines = [f"# {namespace}", "", first_paragraph(module), ""]
    for name in public_names(module):
        lines += entry(getattr(module, name), name)
    page = f"{namespace.removeprefix('kerax').strip('.') or 'index'}.md".replace("optimizers.schedules", "schedules")
    navigation[namespace] = page
    with mkdocs_gen_files.open(f"reference/{page}", "w") as file:
        file.write("\n".join(lines))

with mkdocs_gen_files.open("reference/SUMMARY.md", "w") as file:
    file.writelines(navigation.build_literate_nav())
