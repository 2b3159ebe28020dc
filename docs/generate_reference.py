"""A page of the reference for each public namespace, made while the documentation is built."""

import importlib
import inspect
import sys
import types
from pathlib import Path

import griffe
from mkdocs.structure.files import File, Files
from mkdocstrings import Inventory

sys.path.insert(0, str(Path(__file__).parent))
import docstrings
import examples
import groups

NAMES = """
layers models losses metrics optimizers optimizers.schedules callbacks ops activations initializers regularizers
constraints random data distribution checkpoint saving datasets utils visualization tuner distillation wrappers
applications preprocessing config dtype_policies mixed_precision quantizers tree export serve language
"""
# Helpers that a namespace imports, and others know under their own.
HIDDEN = frozenset(
    """Family Configurable lift unwrap suggest make_importable crossentropy_for accuracy_for kind_of_labels is_arrays
    next_key ArraySource BatchSource BatchSpec RowDataset Source sparse_reader validation_source local_path
    forget_dtype_policy forget_uids computed_for_gradient opaque_zero
    abs_max_quantize_grouped_with_zero_point""".split()
)
NAMESPACES = ("kerax", *(f"kerax.{name}" for name in NAMES.split()))


def public_names(module: types.ModuleType) -> list[str]:
    """The classes, functions and modules that a namespace offers, modules last."""
    names = [name for name in dir(module) if not name.startswith("_") and name not in HIDDEN]
    found = [(inspect.ismodule(value), name) for name in names if is_shown(value := getattr(module, name), module)]
    return [name for _, name in sorted(found, key=lambda pair: (pair[0], pair[1].lower()))]


def is_shown(value, module: types.ModuleType) -> bool:
    """Whether it is kerax's own, or a function of JAX's under Keras's name, and documented."""
    if inspect.ismodule(value):
        return value.__name__.startswith("kerax.datasets.") and module.__name__ == "kerax.datasets"
    home = getattr(value, "__module__", None) or ""
    return callable(value) and home.startswith(("kerax", "jax")) and bool(inspect.getdoc(value))


def entry(value, name: str, namespace: str) -> list[str]:
    """The lines for one thing under its public name, which its anchor is too.

    mkdocstrings reads what stands in the source; of what is made while kerax is loaded there is only the text.
    """
    public, home = f"{namespace}.{name}", getattr(value, "__module__", None) or value.__name__
    if is_in_source(public):
        return [f"::: {public}", ""]
    head = [f"### {name} {{#{public}}}", ""]
    other = getattr(value, "__name__", name)
    if other != name and getattr(importlib.import_module(namespace), other, None) is value:
        return [*head, f"Another name of [`{other}`](#{namespace}.{other}).", ""]
    text = inspect.getdoc(value) or ""
    text = docstrings.fence(text) if home.startswith("kerax") else text.split("\n\n")[0]
    return [*head, f"```python\n{name}{inspect.signature(value)}\n```", "", text, ""]


def is_in_source(public: str) -> bool:
    """Whether mkdocstrings finds a public name."""
    try:
        found = source[public.removeprefix("kerax.")]
        return found.final_target is not None if found.is_alias else True
    except (KeyError, griffe.AliasResolutionError, griffe.CyclicAliasError):
        return False


source = griffe.load("kerax", search_paths=["."], resolve_aliases=True, resolve_implicit=False)


def page_name(namespace: str) -> str:
    """Where the page of a namespace lies in `docs/`."""
    return f"reference/{namespace.rpartition('.')[2] if '.' in namespace else 'index'}.md"


def page(namespace: str) -> str:
    """The page of a namespace: what it is, and everything in it."""
    module = importlib.import_module(namespace)
    lines = [
        f"# {namespace}",
        "",
        inspect.getdoc(module) or "",
        "",
        f"Examples begin with:\n\n```python{examples.PRELUDE}```",
        "",
    ]
    known = examples.read()
    for title, names in groups.grouped(namespace, public_names(module), module):
        lines += [] if title is None else [f"## {title}", ""]
        for name in names:
            lines += entry(getattr(module, name), name, namespace)
            example = examples.example_of(known, namespace, name)
            if example is not None and ">>>" not in (inspect.getdoc(getattr(module, name)) or ""):
                lines += [examples.shown(example)]
    return "\n".join(lines)


def on_config(config):
    """Called by MkDocs: names the pages under `Reference` in the navigation."""
    pages = [{namespace: page_name(namespace)} for namespace in NAMESPACES]
    config.nav = [{"Reference": pages} if "Reference" in item else item for item in config.nav]


def on_files(files: Files, config):
    """Called by MkDocs: adds the pages to the files of `docs/`."""
    for namespace in NAMESPACES:
        files.append(File.generated(config, page_name(namespace), content=page(namespace)))


def on_post_build(config):
    """Called by MkDocs: adds to `objects.inv`, by which other sites link here, what mkdocstrings did not see."""
    path = Path(config.site_dir) / "objects.inv"
    with path.open("rb") as file:
        inventory = Inventory.parse_sphinx(file)
    for namespace in NAMESPACES:
        module = importlib.import_module(namespace)
        where = f"{page_name(namespace).removesuffix('index.md').removesuffix('.md')}/".replace("//", "/")
        for name in public_names(module):
            public, role = f"{namespace}.{name}", "class" if inspect.isclass(getattr(module, name)) else "function"
            if public not in inventory:
                inventory.register(public, "py", role, f"{where}#{public}")
    path.write_bytes(inventory.format_sphinx())
