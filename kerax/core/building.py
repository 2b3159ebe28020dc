"""Building a layer whose `call` cannot be followed, or need not be: it says by itself what comes out."""

from typing import Any

import jax

from kerax import tree
from kerax.core import calling, symbolic
from kerax.core.seeds import make_seed
from kerax.core.tracking import are_built, attributes, descendants, paths_by_name, walk
from kerax.core.variable import Variable


def build_for(layer, args: tuple, kwargs: dict) -> None:
    """Builds a layer for the arguments of a call, and the layers inside as far as `call` can be followed."""
    if not layer.built:
        positional, named = calling.shape_arguments(layer.build, calling.bind(layer, args, kwargs))
        layer.build(*positional, **named)
    if not are_built(descendants(layer)):
        try_to_build(layer, args, kwargs)


def try_to_build(layer, args: tuple, kwargs: dict) -> None:
    """Builds what `call` builds, as far as it can be followed without values: the rest is built as it runs."""
    # Where unknown sizes do not do, 128 may: a `call` asks for multiples of powers of two.
    for size in (None, 128):

        def sized(leaf, size=size):
            if isinstance(leaf, symbolic.KerasTensor):
                return symbolic.KerasTensor(symbolic.sized(leaf.shape, lambda _: size), leaf.dtype)
            return leaf

        try:
            layer.kerax_build_from(*jax.tree.map(sized, args), **jax.tree.map(sized, kwargs))
            return
        except Exception:  # whatever a user's `call` does; the run itself will tell a mistake, at the true sizes
            pass


def claim_seeds(layer) -> None:
    """Gives every abstract variable without a seed one of this root's, by its path below it."""
    root, names = None, {}
    for path, variable in walk(layer):
        if variable.seed_and_path is None:
            if root is None:
                root, names = make_seed(), paths_by_name(layer)
            # One root for all and each path's hash: adding a layer changes no other's draw.
            variable.seed_and_path = (root, "/".join(path))
            variable.path = names[id(variable)]


def penalty(regularizer, outputs) -> Any:
    """The regularizer of a layer's outputs per row, as in Keras: it must not depend on the batch size."""
    if not outputs.ndim:
        return regularizer(outputs)
    return regularizer(outputs) / (outputs.shape[0] or 1)  # no rows, no penalty


def metrics_below(layer) -> list:
    """The metrics in attributes of a layer and of those inside."""
    # By what they have: the floor of layers is below that of metrics.
    found = [value for item in descendants(layer) for _, value in attributes(item) if hasattr(value, "update_state")]
    return list({id(metric): metric for metric in found}.values())


def metrics_variables_below(layer) -> list:
    """The variables of `metrics_below`."""
    return [variable for metric in layer.metrics for variable in metric.variables]


def spec_from_shapes(layer, args: tuple, kwargs: dict) -> Any:
    """Symbolic outputs of the shapes that the layer's own `compute_output_shape` says."""
    positional, named = calling.shape_arguments(layer.compute_output_shape, calling.bind(layer, args, kwargs))
    return tree.map_shape_structure(
        lambda shape: symbolic.KerasTensor(shape, layer.compute_dtype), layer.compute_output_shape(*positional, **named)
    )


def compute_output_shape(self, *shapes, **named_shapes) -> Any:
    """The outputs' shapes for input shapes; `None` where unknown."""

    def tensor(shape):
        return symbolic.KerasTensor(shape, self.compute_dtype)

    # Inputs are taken to be in the compute dtype: shapes do not tell.
    args = tuple(jax.tree.map(tensor, shape, is_leaf=symbolic.is_shape) for shape in shapes)
    kwargs = {}
    for name, shape in named_shapes.items():
        given, name = jax.tree.map(tensor, shape, is_leaf=symbolic.is_shape), name.removesuffix("_shape")
        if name in calling.signature_of(type(self).call).names:
            kwargs[name] = given
        else:  # `input_shape`, whatever the argument of `call` is called
            args = (*args, given)
    return jax.tree.map(lambda spec: symbolic.known_shape(spec.shape), symbolic.infer(self, args, kwargs))


def parameters_and_state(triples) -> dict:
    """(path, variable, value) as `{"params", "state"}` trees of values, by whether a variable was created trainable."""
    params, state = [], []
    for path, variable, value in triples:
        (params if variable.is_parameter else state).append((path, value))
    return {"params": tree.nest(params), "state": tree.nest(state)}


def as_spec(leaf) -> Any:
    """Shape and dtype of an array or a variable; anything else as it is."""
    is_array = isinstance(leaf, (jax.Array, Variable)) or hasattr(leaf, "__array__")
    if is_array and not isinstance(leaf, symbolic.KerasTensor):
        # As the call would convert it: float64 becomes float32.
        dtype = jax.dtypes.canonicalize_dtype(leaf.dtype)
        return jax.ShapeDtypeStruct(leaf.shape, dtype)
    return leaf
