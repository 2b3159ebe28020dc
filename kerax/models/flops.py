"""Floating-point operations of a model and of its layers, as XLA counts them, without running anything."""

import functools

import jax
from jax.core import eval_jaxpr

from kerax import tree
from kerax.core.layer import Layer
from kerax.core.symbolic import KerasTensor
from kerax.core.tracking import walk


def count_flops(layer: Layer, *args, batch_size: int = 1, **kwargs) -> int | None:
    """Operations of one call of a layer or model at inference, by the cost analysis of XLA.

    Args:
        layer: A built layer or model. Its weights are not touched, nor made.
        *args, **kwargs: Arguments of its call; arrays, specs or symbolic tensors.
        batch_size: Size of the first axis of symbolic tensors where it is not known.

    Returns: a multiplication and an addition count as two; `None` where a size other than the first is not known. The
        steps of a `scan`, as in recurrent layers, are counted each; what is in a loop without a known end, once.
    """
    leaves, treedef = jax.tree.flatten((args, kwargs))
    places = [index for index, leaf in enumerate(leaves) if isinstance(leaf, KerasTensor) or hasattr(leaf, "dtype")]
    specs = [_spec(leaves[place], batch_size) for place in places]
    if None in specs:
        return None

    def call(variables, tensors):
        filled = list(leaves)
        for place, tensor in zip(places, tensors, strict=True):
            filled[place] = tensor
        inner_args, inner_kwargs = jax.tree.unflatten(treedef, filled)
        return layer.apply(variables, *inner_args, **inner_kwargs)[0]

    return int(_flops(jax.make_jaxpr(call)(_variable_specs(layer), specs)))


def _flops(program) -> float:
    return _xla_flops(program) + _repeated_flops(program)


def _xla_flops(program) -> float:
    """XLA's count, in which the body of a loop counts once."""
    specs = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in program.in_avals]
    evaluate = functools.partial(eval_jaxpr, program.jaxpr, program.consts)
    return (jax.jit(evaluate).lower(*specs).cost_analysis() or {}).get("flops", 0.0)


def _repeated_flops(program) -> float:
    """What `_xla_flops` leaves out: all but one of the steps of each `scan`, at any depth."""
    total = 0.0
    for equation in program.eqns:
        if equation.primitive.name == "scan":
            body = equation.params["jaxpr"]
            total += equation.params["length"] * _flops(body) - _xla_flops(body)
            continue
        for value in equation.params.values():
            if hasattr(value, "consts"):
                total += _repeated_flops(value)
    return total


def _spec(tensor, batch_size: int) -> jax.ShapeDtypeStruct | None:
    shape = tuple(tensor.shape)
    if shape and shape[0] is None:
        shape = (batch_size, *shape[1:])
    return None if None in shape else jax.ShapeDtypeStruct(shape, tensor.dtype)


def _variable_specs(layer: Layer) -> dict:
    """The variables in the form that `apply` takes, as shapes and dtypes."""
    found: dict[str, list] = {"params": [], "state": []}
    for path, variable in walk(layer):
        spec = jax.ShapeDtypeStruct(variable.shape, variable.stored_dtype)
        found["params" if variable.is_parameter else "state"].append((path, spec))
    return {name: tree.nest(pairs) for name, pairs in found.items()}


def layer_flops(layer: Layer) -> int | None:
    """Operations per example of a layer in a graph, where it was called last; `None` outside of a graph."""
    if not layer.inbound_nodes or not layer.built:
        return None
    node = layer.inbound_nodes[-1]
    if not node.inputs:  # an input
        return 0
    return count_flops(layer, *node.args, **node.kwargs)


def model_flops(model) -> int | None:
    """Operations per example of a whole model; `None` if the form of its inputs is not known."""
    inputs = getattr(model, "input", None) if getattr(model, "inputs", None) else _built_inputs(model)
    return None if inputs is None else count_flops(model, inputs)


def _built_inputs(model):
    """Symbolic inputs of the one shape that a model was built for."""
    shapes = list((model.build_shapes or {}).values())
    if not model.built or len(shapes) != 1 or not isinstance(shapes[0], tuple):
        return None
    return KerasTensor((None, *shapes[0][1:]), model.compute_dtype)
