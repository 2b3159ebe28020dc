"""`Operation`: a function that can stand in a graph. A layer is one with weights, a `Function` is made of others."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax

from kerax import tree
from kerax.core import remat, symbolic
from kerax.core.configurable import Configurable
from kerax.core.graph import Graph
from kerax.core.registry import to_snake_case
from kerax.core.variable import unwrap

Tree = Any


class Operation(Configurable):
    """A function of arrays which, called on symbolic tensors, records itself in their graph.

    A subclass writes `call`, and `compute_output_spec` only where running `call` without values does not tell it.

    Args:
        name: Default: the class name in snake case.

    Raises:
        ValueError: if the name is not a string, or holds a `/`.
    """

    _remat: remat.RematMode | None = None
    named_in_graph = False  # whether a graph made its default name unique in it

    def __init__(self, name=None):
        self.auto_named = name is None
        self.name = check_name(self, name)
        self.inbound_nodes: list = []
        self._remat = remat.current_mode()

    def __call__(self, *args, **kwargs) -> Any:
        if symbolic.is_symbolic(args, kwargs):
            return self.symbolic_call(*args, **kwargs)
        # `jax.numpy` refuses variables.
        args, kwargs = jax.tree.map(unwrap, (args, kwargs))
        return self.rematerialized_call(self.call, *args, **kwargs)(*args, **kwargs)

    def call(self, *args, **kwargs) -> Any:
        """The computation."""
        raise NotImplementedError(f"{self} does not implement `call`.")

    def quantized_call(self, *args, **kwargs) -> Any:
        """The computation on quantized weights. Raises `NotImplementedError`: kerax's layers do it in `call`."""
        raise NotImplementedError(f"{self} has no quantized call. A quantized layer of kerax computes in `call`.")

    def quantize(self, mode=None, type_check: bool = True, config=None) -> None:
        """Raises `NotImplementedError`, as in Keras: this layer has no quantized form."""
        raise NotImplementedError(f"{self}: layers of the class {type(self).__name__} cannot be quantized.")

    def quantized_build(self, input_shape, mode) -> None:
        """Raises `NotImplementedError`: kerax's layers are quantized by `quantize`."""
        raise NotImplementedError(f"{self} has no quantized build.")

    def get_config(self) -> dict:
        """The constructor's arguments, JSON-able, with the name if it takes one."""
        parameters = inspect.signature(type(self).__init__).parameters
        takes_name = "name" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        return super().get_config() | ({"name": self.name} if takes_name else {})

    def symbolic_call(self, *args, **kwargs) -> Any:
        """Symbolic outputs for symbolic inputs, recorded in their graph."""
        outputs = self.compute_output_spec(*args, **kwargs)
        symbolic.Node(self, args, kwargs, outputs)
        return outputs

    def rematerialized_call(self, layer_call: Callable, *args, **kwargs) -> Callable:
        """`layer_call`, computed again for the gradient if the `RematScope` that this was made in says so."""
        inputs = next(iter((*args, *kwargs.values())), None)
        # Asked at each call: "larger_than" depends on the inputs.
        if self._remat is None or not remat.applies_to(self._remat, self, inputs):
            return layer_call
        return remat.remat(layer_call)

    def compute_output_spec(self, *args, **kwargs) -> Any:
        """Symbolic outputs for symbolic inputs, without recording a node."""
        return symbolic.inferred_tensors(functools.partial(Operation.__call__, self), args, kwargs)

    def _first_node(self, what: str) -> symbolic.Node:
        if not self.inbound_nodes:
            raise AttributeError(f"{self} was never called on a symbolic tensor, so it has no `{what}`.")
        return self.inbound_nodes[0]

    @property
    def input(self) -> Any:
        """The symbolic input of the first call."""
        inputs = self._first_node("input").inputs
        return inputs[0] if len(inputs) == 1 else inputs

    @property
    def output(self) -> Any:
        """The symbolic output of the first call."""
        return self._first_node("output").outputs

    def __repr__(self):
        return f"<{type(self).__name__} name={getattr(self, 'name', '?')}>"


def check_name(operation, name) -> str:
    """The name of an operation: the one given, or its class's. Raises `ValueError` for what cannot be a name."""
    if name is None:
        name = vars(type(operation)).get("default_name") or to_snake_case(type(operation).__name__)
    if not isinstance(name, str) or "/" in name:
        raise ValueError(f"{type(operation).__name__}: `name` must be a string without '/'. Got {name!r}.")
    return name


class Function(Operation):
    """The operations that lead from some symbolic tensors to others, as one operation without weights of its own.

    Args:
        inputs: Symbolic tensors as one tensor, a list, tuple or dict.
        outputs: Tensors computed from them, in the same forms.
        name: Default: `"function"`.

    Raises:
        ValueError: if `inputs` or `outputs` is empty, or an output needs something that is not among the inputs.
    """

    def __init__(self, inputs, outputs, name=None):
        super().__init__(name)
        for what, tensors in (("inputs", inputs), ("outputs", outputs)):
            if not jax.tree.leaves(tensors):
                raise ValueError(f"{self}: `{what}` must hold at least one symbolic tensor. Got {tensors!r}.")
        self._graph = Graph(inputs, outputs, owner=repr(self))

    @property
    def inputs(self) -> list[symbolic.KerasTensor]:
        """The symbolic inputs in flat order."""
        return self._graph.flat_inputs

    @property
    def outputs(self) -> list[symbolic.KerasTensor]:
        """The symbolic outputs in flat order."""
        return self._graph.flat_outputs

    @property
    def operations(self) -> list:
        """The operations of the graph, each after those it needs."""
        return list(self._graph.operations)

    def call(self, inputs: Tree) -> Tree:
        """The outputs for values of the inputs, in their forms. Raises `ValueError` for another form or rank."""
        given, expected = (jax.tree.structure(form) for form in (inputs, self._graph.inputs))
        if given != expected:
            raise ValueError(f"{self}: `inputs` must have the form {expected}. Got {given}.")
        for value, tensor in zip(jax.tree.leaves(inputs), self.inputs, strict=True):
            fits = all(want in (None, size) for want, size in zip(tensor.shape, value.shape, strict=False))
            if len(value.shape) != tensor.ndim or not fits:
                raise ValueError(f"{self}: input {tensor.name!r} must have shape {tensor.shape}. Got {value.shape}.")
        return self._graph.run(jax.tree.leaves(inputs))

    def compute_output_shape(self, input_shape: Tree) -> Tree:
        """The outputs' shapes for input shapes; `None` where unknown."""
        # Shapes come in the order of the inputs, whose dtypes are known.
        dtypes = iter([tensor.dtype for tensor in self.inputs])
        tensors = tree.map_shape_structure(lambda shape: symbolic.KerasTensor(shape, next(dtypes)), input_shape)
        return jax.tree.map(lambda tensor: tensor.shape, self.compute_output_spec(tensors))
