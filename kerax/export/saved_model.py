"""SavedModels, which TensorFlow and TensorFlow Serving read: StableHLO, called by an operation of TensorFlow's."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from kerax.export.endpoints import Endpoint
from kerax.export.errors import package
from kerax.export.rewriting import LINEAR_ALGEBRA, add_formulas, rewritten
from kerax.export.saved_model_text import rules
from kerax.export.stablehlo import PLATFORMS, exported, portable_artifact
from kerax.export.text import is_spec

_RULES = add_formulas({}, *LINEAR_ALGEBRA)


def write(endpoints: list[Endpoint], path: str, collections: dict[str, Sequence] | None = None, options=None) -> None:
    """Writes a folder with all endpoints: functions of the loaded object, and signatures of their names.

    The first one is also the signature `serving_default`.

    Args:
        collections: Further attributes of the loaded object: lists of kerax's variables.
        options: TensorFlow's `tf.saved_model.SaveOptions`.
    """
    tf = package("tensorflow")
    root: Any = tf.Module()
    known: dict[str, Any] = {}
    by_variable: dict[int, Any] = {}
    for endpoint in endpoints:
        for kind, arrays in endpoint.weights.items():
            for name, array in arrays.items():
                known.setdefault(name, tf.Variable(np.asarray(array), trainable=kind == "params", name=_ascii(name)))
        by_variable |= {id(variable): known[name] for name, variable in endpoint.variables}
    root.weights = list(known.values())
    for name, variables in (collections or {}).items():
        setattr(root, name, [by_variable[id(variable)] for variable in variables])
    signatures, tables = {}, []
    for endpoint in endpoints:
        function, signature = _functions(tf, endpoint, known, tables)
        setattr(root, endpoint.name, function)
        signatures[endpoint.name] = signature
    root.tables = tables
    signatures.setdefault("serving_default", signatures[endpoints[0].name])
    tf.saved_model.save(root, path, signatures=signatures, options=options)


def _ascii(path: str) -> str:
    """A path as a name of TensorFlow's."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "_./-") else "_" for c in path).lstrip("_/-") or "weight"


def _functions(tf: Any, endpoint: Endpoint, variables: dict, tables: list) -> tuple[Any, Any]:
    """An endpoint as a `tf.function` of its arguments, and as one of inputs by name to outputs by name."""
    xla = package("tensorflow.compiler.tf2xla.python.xla")  # not in `tf.raw_ops`
    program = exported(endpoint, holds_weights=False, change=lambda call: rewritten(call, _RULES))
    artifact = portable_artifact(program)
    paths = [path for kind in ("params", "state") for path in sorted(endpoint.weights[kind])]
    shapes = [tuple(size if isinstance(size, int) else None for size in aval.shape) for aval in program.out_avals]
    dtypes = [tf.as_dtype(np.dtype(aval.dtype)) for aval in program.out_avals]

    on_text = rules(tf, tables)

    def call(inputs: Sequence) -> list:
        inputs = endpoint.text.write(list(inputs), on_text, "tf_saved_model") if endpoint.text else inputs
        arguments = [*(variables[path] for path in paths), *inputs]
        outputs: Any = xla.call_module(
            tuple(arguments[index] for index in program.module_kept_var_idx),
            version=program.calling_convention_version,
            module=artifact,
            Sout=shapes,
            Tout=dtypes,
            platforms=[platform.upper() for platform in PLATFORMS],
            function_list=[],
            has_token_input_output=False,
            disabled_checks=[],
        )
        return [tf.ensure_shape(output, shape) for output, shape in zip(outputs, shapes, strict=True)]

    specs = [
        tf.TensorSpec([s if isinstance(s, int) else None for s in spec.shape], tf.as_dtype(spec.dtype), name=name)
        for spec, name in zip(endpoint.inputs, endpoint.input_names, strict=True)
    ]
    signature = jax.tree.unflatten(jax.tree.structure(endpoint.signature, is_leaf=is_spec), specs)
    form = jax.tree.structure(endpoint.output)

    @tf.function(input_signature=signature, autograph=False)
    def structured(*arguments):
        return jax.tree.unflatten(form, call(jax.tree.leaves(arguments)))

    def named(**inputs):
        outputs = call([inputs[name] for name in endpoint.input_names])
        return dict(zip(endpoint.output_names, outputs, strict=True))

    return structured, tf.function(named, autograph=False).get_concrete_function(**{spec.name: spec for spec in specs})


def run(path: str, endpoint: Endpoint, inputs: list) -> list:
    """What TensorFlow computes of the folder's signature."""
    tf = package("tensorflow")
    loaded = tf.saved_model.load(path)  # kept: a signature alone loses its variables
    given = {name: tf.constant(value) for name, value in zip(endpoint.input_names, inputs, strict=True)}
    found = loaded.signatures[endpoint.name](**given)
    return [np.asarray(found[name]) for name in endpoint.output_names]
