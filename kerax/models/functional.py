"""`Functional`: a model made of a graph of symbolic tensors."""

import inspect
import itertools
import operator
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from kerax.core import caching, masks, sparse
from kerax.core.configurable import captured_arguments, revive_arguments, serialize_arguments
from kerax.core.graph import Graph, assign_names
from kerax.core.layer import Layer
from kerax.core.lift import LIFTED, LiftedOp, lift
from kerax.core.registry import deserialize_keras_object, is_serialized, serialize_keras_object, to_snake_case
from kerax.core.seed_generator import SeedGenerator
from kerax.core.symbolic import KerasTensor, is_symbolic
from kerax.core.text import TEXT, Cut, Prepared, as_arrays
from kerax.core.tracking import Alias, unique
from kerax.layers.embedding import Embedding
from kerax.layers.input_layer import InputLayer
from kerax.models.model import Model
from kerax.models.sequential import Sequential
from kerax.models.shapes import fit_shape, fits_shape
from kerax.ops import nn
from kerax.saving import keras2


class Functional(Model):
    """A model that makes the calls between symbolic `inputs` and `outputs`.

    Args:
        inputs: One tensor, a list, tuple or dict.
        outputs: Tensors computed from them, in the same forms.
        name: Default: `"functional"`.

    Deviation from Keras 3.15: a `training` that was given to a layer while the graph was made holds in every call, as
    Keras's guide to transfer learning says; Keras itself replaces it where the model is called with `training`.

    Raises:
        ValueError: if the graph is not connected, or two layers have the same name.
    """

    keras_module = "keras.src.models.functional"
    graph, keys = Alias("kerax_graph"), Alias("kerax_keys")
    kerax_heads_paths = False

    def __init__(self, inputs, outputs, name: str | None = None, trainable=None, **kwargs):
        # Each layer casts its own inputs; integers for an `Embedding` stay what they are.
        super().__init__(name=name, trainable=True, autocast=False, **kwargs)
        self.kerax_graph = _with_inputs(Graph(inputs, outputs, owner=repr(self)))
        self.operations = self.kerax_graph.operations
        self.kerax_keys = assign_names(self.operations, self)
        names: list[str] = []
        for tensor in self.kerax_graph.flat_outputs:
            names.append(unique(tensor.operation.name, names))
        self.kerax_output_names = names
        takes_text = any(tensor.dtype == TEXT for tensor in self.inputs)
        self._cut: Any = None
        if takes_text:
            self._cut = Cut(self.inputs, self.kerax_graph.nodes, self.outputs, lambda op: isinstance(op, Model))
        self.built = True
        if trainable is not None:
            self.trainable = trainable
        self.kerax_claim_seeds()
        self._has_warned = False

    _untracked = Model._untracked | frozenset({"kerax_graph", "operations", "_cut"})
    kerax_locks = False

    @staticmethod
    def adopt(user_class: type) -> None:
        """Makes a subclass of `Model` that is given inputs and outputs one of `Functional`, which it stays."""
        # The class itself: an object of another one would have neither its registration nor its place in pickles.
        if not issubclass(user_class, Functional):
            bases = user_class.__bases__
            bases = bases if Model in bases else (*bases, Functional)
            user_class.__bases__ = tuple(Functional if base is Model else base for base in bases)

    def __reduce__(self):
        return _unpickled, (type(self),), self.__dict__

    def _children(self):
        found = [
            ((key,), op) for key, op in zip(self.kerax_keys, self.operations, strict=True) if isinstance(op, Layer)
        ]
        # Layers in attributes of a subclass that are not in the graph.
        known = set(map(id, self.operations))
        # Ops that draw from a stream of the user's move it on.
        calls = [
            (key, node) for key, op in zip(self.kerax_keys, self.operations, strict=True) for node in op.inbound_nodes
        ]
        found += [
            ((key, "seed_generator"), leaf)
            for key, node in calls
            if isinstance(node.operation, LiftedOp)
            for leaf in jax.tree.leaves((node.args, node.kwargs))
            if isinstance(leaf, SeedGenerator)
        ]
        return found + [(path, child) for path, child in super()._children() if id(child) not in known]

    @property
    def layers(self) -> list[Layer]:
        """The layers of the graph in order of computation, `InputLayer`s included."""
        return [operation for operation in self.operations if isinstance(operation, Layer)]

    @property
    def inputs(self) -> list[KerasTensor]:
        """The symbolic inputs, flat."""
        return self.kerax_graph.flat_inputs

    @property
    def outputs(self) -> list[KerasTensor]:
        """The symbolic outputs, flat."""
        return self.kerax_graph.flat_outputs

    @property
    def input(self) -> Any:
        """The symbolic inputs as given."""
        return self.kerax_graph.inputs

    @property
    def output(self) -> Any:
        """The symbolic outputs as given."""
        return self.kerax_graph.outputs

    @property
    def input_shape(self) -> Any:
        """The shapes of the inputs as given; the shape, if there is one input."""
        return _shapes(self.kerax_graph.inputs)

    @property
    def output_shape(self) -> Any:
        """The shapes of the outputs as given; the shape, if there is one output."""
        return _shapes(self.kerax_graph.outputs)

    def call(self, inputs, training=None, mask=None) -> Any:
        calls, starts = self.kerax_graph.calls, self.inputs
        if isinstance(inputs, Prepared):
            calls, starts, given = self._cut.compiled, self._cut.starts, inputs.values
        else:
            given = self._flatten(inputs if self._cut is None else as_arrays(inputs, self.kerax_graph.inputs))
        values = [self._fit(tensor, value) for tensor, value in zip(starts, given, strict=True)]
        if mask is not None:
            given = jax.tree.leaves(mask, is_leaf=lambda leaf: leaf is None)
            # Masks come by position; inputs without one keep their own.
            values[: len(given)] = map(masks.masked, values, given)
        known = dict(zip(starts, values, strict=True))
        for call in calls:  # `Graph.run` without a frame of its own between a model and its layers
            args, kwargs = call.arguments(known)
            call.note(call.operation(*args, **kwargs), known)
        outputs = jax.tree.map(known.__getitem__, self.kerax_graph.outputs)
        # As Keras: a list of one output is that output.
        return outputs[0] if isinstance(outputs, (list, tuple)) and len(outputs) == 1 else outputs

    def compute_output_spec(self, inputs, training=None, mask=None) -> Any:
        """Symbolic outputs for symbolic inputs: what each layer of the graph says, without recording a node."""
        values = self._flatten(inputs)
        pairs = list(zip(self.inputs, values, strict=True))
        if not all(
            value is None or (value.dtype == tensor.dtype and fits_shape(value.shape, tensor.shape))
            for tensor, value in pairs
        ):
            return super().compute_output_spec(inputs)  # which says what does not fit
        if all(value is not None and value.shape == tensor.shape for tensor, value in pairs):
            return jax.tree.map(lambda tensor: KerasTensor(tensor.shape, tensor.dtype), self.kerax_graph.outputs)
        return self.kerax_graph.run(
            values, lambda node, args, kwargs: node.operation.compute_output_spec(*args, **kwargs)
        )

    def _flatten(self, inputs) -> list:
        """The inputs in the order of the graph's: dicts by name, everything else by position."""
        expected, names = self.kerax_graph.inputs, [tensor.operation.name for tensor in self.inputs]
        if isinstance(inputs, dict):
            known = sorted(expected) if isinstance(expected, dict) else names
            missing = [name for name in known if name not in inputs]
            if missing:
                raise ValueError(f"{self}: inputs {missing} are missing. Got {sorted(inputs)}.")
            # More names than needed are allowed, as in Keras: a batch may be a dict of many columns.
            given = [inputs[name] for name in known]
        else:
            given = inputs
        leaves = sparse.leaves(given, _is_none)
        if len(leaves) != len(names):
            raise ValueError(f"{self}: expected {len(names)} inputs {names}. Got {len(leaves)}.")
        if isinstance(expected, dict) and isinstance(inputs, (list, tuple)) and len(expected) == len(names):
            # JAX sorts the keys of a dict; a list goes by the order in which the user wrote them.
            by_key = dict(zip(expected, leaves, strict=True))
            leaves = [by_key[key] for key in sorted(expected)]
        if (isinstance(expected, dict) or not isinstance(inputs, dict)) and _form(inputs) != _form(expected):
            self._warn_of_form(inputs)
        for tensor, value in zip(self.inputs, leaves, strict=True):
            if value is None and not tensor.operation.optional:
                raise ValueError(f"{self}: input {tensor.operation.name!r} is not optional. Got None.")
        return leaves

    def _warn_of_form(self, inputs):
        if not self._has_warned:  # once: a call of an array where a list is wanted is no mistake
            self._has_warned = True
            warnings.warn(
                f"The structure of `inputs` doesn't match the expected structure of {self}. Expected "
                f"{_described(self.kerax_graph.inputs)}, got {_described(inputs)}. They were taken by "
                f"{'name' if isinstance(inputs, dict) else 'position'}.",
                stacklevel=5,
            )

    def kerax_used_inputs(self, x, call=operator.call) -> Any:
        """`x` without the entries of a dict that the model has no input for, whatever they hold."""
        if self._cut is not None:
            return x if isinstance(x, Prepared) else self._on_host(x, call)
        if not isinstance(x, dict):
            return x
        form = self.kerax_graph.inputs
        names = form if isinstance(form, dict) else {tensor.operation.name for tensor in self.inputs}
        return {name: value for name, value in x.items() if name in names} or x

    def kerax_sparse_inputs(self, x) -> list:
        """The leaves of the inputs `x` whose `Input` is sparse."""
        if not any(tensor.sparse for tensor in self.inputs):
            return []
        return [value for tensor, value in zip(self.inputs, self._flatten(x), strict=True) if tensor.sparse]

    def kerax_looked_up(self, x) -> list[tuple[Layer, Any]]:
        """As that of `Model`."""
        tables = [node for node in self.kerax_graph.nodes if isinstance(node.operation, Embedding)]
        if not tables or isinstance(x, Prepared):
            return []
        values = {id(tensor): value for tensor, value in zip(self.inputs, self._flatten(x), strict=True)}
        read = [(node.operation, values.get(id(node.inputs[0]))) for node in tables]
        return [(table, value) for table, value in read if value is not None]

    def _on_host(self, inputs, call) -> Prepared:
        """What the layers that read text make of inputs, for `call` to go on with."""
        given = self._flatten(as_arrays(inputs, self.kerax_graph.inputs))
        pairs = zip(self.inputs, given, strict=True)
        # Numbers are left to the compiled part, as they are.
        known = {tensor: self._fit(tensor, value) if tensor.dtype == TEXT else value for tensor, value in pairs}
        for node, resumed in self._cut.on_host:
            args, kwargs = node.arguments(known)
            if resumed is None:
                node.note(call(node.operation, *args, **kwargs), known)
            else:
                known[resumed.prepared] = node.operation.kerax_used_inputs(*args, call)
        return Prepared(tuple(known[tensor] for tensor in self._cut.starts))

    def _fit(self, tensor: KerasTensor, value):
        """An input value with the rank and dtype of its symbolic tensor."""
        if value is None or not isinstance(tensor.operation, InputLayer):  # text that layers made numbers of
            return value
        if tensor.dtype == TEXT:
            return fit_shape(f"{self}: input {tensor.operation.name!r}", value, tensor.shape)
        if sparse.is_sparse(value):
            return value if tensor.sparse else sparse.to_dense(value)
        given = jnp.asarray(value)
        if caching.current() is not None:  # a part of a row, or one of another length
            return given
        value = fit_shape(f"{self}: input {tensor.operation.name!r}", given, tensor.shape)
        fitted = value if value.dtype == tensor.dtype else value.astype(tensor.dtype)
        if fitted is not given and (mask := masks.get_mask(given)) is not None:
            masks.set_mask(fitted, mask)
        return fitted

    # Config.

    def get_config(self) -> dict:
        """The graph in Keras's form: layers with their calls, and which tensors are inputs and outputs."""
        if not self.is_made_of_tensors(type(self)):
            return super().get_config()
        # A shared layer may have calls in other models.
        used = {id(node) for node in self.kerax_graph.nodes}
        history = {}
        layers = []
        for key, operation in zip(self.kerax_keys, self.operations, strict=True):
            nodes = [node for node in operation.inbound_nodes if id(node) in used]
            # An `InputLayer` has no call among the graph's.
            sources = nodes or operation.inbound_nodes[:1]
            for index, node in enumerate(sources):
                for position, tensor in enumerate(jax.tree.leaves(node.outputs)):
                    history[id(tensor)] = [key, index, position]
            layers.append((key, operation, nodes))

        def write(leaf):
            if not isinstance(leaf, KerasTensor):
                return serialize_keras_object(leaf)
            described = {"shape": list(leaf.shape), "dtype": leaf.dtype, "keras_history": history[id(leaf)]}
            return {"class_name": "__keras_tensor__", "config": described}

        written = []
        for key, operation, nodes in layers:
            is_op = isinstance(operation, LiftedOp)
            described = _describe_op(operation) if is_op else serialize_keras_object(operation)
            # The names of the graph, which are unique; a layer's own may have changed since.
            if is_op or "name" in described["config"]:  # not if a user's constructor takes none
                described["config"]["name"] = key
            calls = []
            for node in nodes:
                args, kwargs, options = _split_arguments(node) if is_op else (node.args, node.kwargs, {})
                args, kwargs, options = jax.tree.map(write, (list(args), kwargs, options), is_leaf=_is_none)
                calls.append({"args": args, "kwargs": kwargs})
                described["config"] |= options
            written.append({**described, "name": key, "inbound_nodes": calls})
        return {
            **_own_arguments(self),
            "name": self.name,
            "trainable": self.trainable,
            "layers": written,
            "input_layers": jax.tree.map(lambda tensor: history[id(tensor)], self.kerax_graph.inputs),
            "output_layers": jax.tree.map(lambda tensor: history[id(tensor)], self.kerax_graph.outputs),
        }

    @staticmethod
    def is_graph(config: dict) -> bool:
        """Whether a config is that of a graph."""
        return {"layers", "input_layers", "output_layers"} <= config.keys()

    @staticmethod
    def is_made_of_tensors(of_class: type) -> bool:
        """Whether a class's constructor takes inputs and outputs, not only arguments that it makes a graph of."""
        first = list(inspect.signature(of_class.__init__).parameters.values())[1:3]
        return [p.name for p in first] == ["inputs", "outputs"] or any(p.kind is p.VAR_POSITIONAL for p in first[:1])

    @staticmethod
    def from_graph(config: dict, custom_objects: dict | None, of_class: type) -> "Functional":
        """A model of a class that takes inputs and outputs, of the graph that a config describes."""
        config = keras2.with_calls(config)
        tensors: dict[tuple, KerasTensor] = {}
        operations, waiting = {}, []
        for entry in config["layers"]:
            operation = _revive_op(entry) if _is_op(entry) else deserialize_keras_object(entry, custom_objects)
            operations[entry["name"]] = operation
            if isinstance(operation, InputLayer):
                tensors[(entry["name"], 0, 0)] = operation.output
            options = {key: value for key, value in entry["config"].items() if key != "name"} if _is_op(entry) else {}
            waiting += [
                (entry["name"], index, call | {"kwargs": call["kwargs"] | options})
                for index, call in enumerate(entry["inbound_nodes"])
            ]
        while waiting:
            # Calls may be listed before what they need: they wait until it is there.
            ready = [
                (name, index, call)
                for name, index, call in waiting
                if (index == 0 or (name, index - 1, 0) in tensors)  # calls of a shared layer keep their order
                and all(history in tensors for history in _histories(call))
            ]
            if not ready:
                names = sorted({name for name, _, _ in waiting})
                raise ValueError(
                    f"The config of {config['name']!r} has calls whose inputs are never made, as there is a loop or "
                    f"they are missing: of {names}."
                )
            for name, index, call in ready:
                args = _fill(call["args"], tensors)
                outputs = operations[name](*args, **_fill(call["kwargs"], tensors))
                for position, tensor in enumerate(jax.tree.leaves(outputs)):
                    tensors[(name, index, position)] = tensor
            waiting = [item for item in waiting if item not in ready]
        for name, operation in operations.items():
            operation.name = name  # a layer that other models share may have got another name there
        try:
            inputs, outputs = (_pick(config[key], tensors) for key in ("input_layers", "output_layers"))
        except KeyError as error:
            raise ValueError(f"The config of {config['name']!r} has no tensor {error} for an end of it.") from None
        return _of_tensors(
            of_class, inputs, outputs, _beside_graph(config), config["name"], config.get("trainable", True)
        )


def _own_arguments(model: Functional) -> dict:
    """The arguments of a user's constructor beside those of the graph, JSON-able."""
    of_graph = ("inputs", "outputs", "name", "trainable")
    own = {name: value for name, value in captured_arguments(model).items() if name not in of_graph}
    return serialize_arguments(model, {name: value for name, value in own.items() if value is not None})


def _beside_graph(config: dict) -> dict:
    of_graph = ("layers", "input_layers", "output_layers", "name", "trainable")
    return revive_arguments({name: value for name, value in config.items() if name not in of_graph})


def _of_tensors(cls: type, inputs, outputs, own: dict, name: str, trainable: bool = True) -> Functional:
    parameters = inspect.signature(cls.__init__).parameters
    takes_name = "name" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    model = cls(inputs, outputs, **own, **({"name": name} if takes_name else {}))
    # Layers know by themselves whether they are trained: only a model frozen as a whole says so here.
    if not trainable:
        model.trainable = False
    return model


def _unpickled(cls: type) -> Functional:
    Functional.adopt(cls)  # in another process it may not have made a model yet
    return object.__new__(cls)


def _form(inputs) -> Any:
    """What of the structure of inputs counts: names, and whether there is a list around."""
    if isinstance(inputs, dict):
        return sorted(inputs)
    return [_form(item) for item in inputs] if isinstance(inputs, (list, tuple)) else None


def _described(inputs) -> Any:
    return jax.tree.map(lambda leaf: tuple(getattr(leaf, "shape", ())), inputs, is_leaf=sparse.is_sparse)


def _shapes(tensors) -> Any:
    leaves = jax.tree.leaves(tensors)
    return leaves[0].shape if len(leaves) == 1 else jax.tree.map(lambda tensor: tensor.shape, tensors)


def _with_inputs(graph: Graph) -> Graph:
    """The graph with an `Input` of its own for each input that is computed from others."""
    if not any(tensor.node.inputs for tensor in graph.flat_inputs):
        return graph
    # A model may start in the midst of another one's graph.
    own = [_fresh_input(tensor) if tensor.node.inputs else tensor for tensor in graph.flat_inputs]
    outputs = graph.run(own, lambda node, args, kwargs: node.operation(*args, **kwargs))
    return Graph(jax.tree.unflatten(jax.tree.structure(graph.inputs), own), outputs, owner=graph.owner)


def _describe_op(operation: LiftedOp) -> dict:
    """Keras's description of an op: there each is a class in one of two modules."""
    class_name = "".join(part.capitalize() for part in operation.op_name.split("_"))
    module = "keras.src.ops.nn" if hasattr(nn, operation.op_name) else "keras.src.ops.numpy"
    return {"module": module, "class_name": class_name, "config": {}, "registered_name": class_name}


_OPERANDS = ("x1", "x2", "y", "b", "other", "index")


def _split_arguments(node) -> tuple[list, dict, dict]:
    """The arguments of an op's call, and its options, which Keras keeps in the config: (args, kwargs, options)."""
    parameters = inspect.signature(node.operation.function).parameters.values()
    # Up to `*args`: what comes after has no place by position.
    names = [p.name for p in itertools.takewhile(lambda p: p.kind is p.POSITIONAL_OR_KEYWORD, parameters)]
    if len(node.args) > len(names):  # what goes to `*args` has no name
        return list(node.args), node.kwargs, {}
    args, kwargs, options = [], {}, {}
    for position, value in enumerate(node.args):
        name = names[position] if position < len(names) else ""
        if not options and (position == 0 or not name or name in _OPERANDS or is_symbolic(value)):
            args.append(value)
        else:  # what follows an option has no place by position any more
            (kwargs if name in _OPERANDS or is_symbolic(value) else options)[name] = value
    for name, value in node.kwargs.items():
        (kwargs if name in _OPERANDS or is_symbolic(value) else options)[name] = value
    return args, kwargs, options


def _is_none(leaf) -> bool:
    return leaf is None


def _is_op(entry: dict) -> bool:
    return ".ops" in (entry.get("module") or "")


def _revive_op(entry: dict):
    name = to_snake_case(entry["class_name"])
    if name not in LIFTED:
        raise ValueError(f"Unknown op {entry['class_name']!r} in the config of a model.")
    return lift(LIFTED[name], name)


def _is_history(value) -> bool:
    return (
        isinstance(value, (list, tuple)) and len(value) == 3 and isinstance(value[0], str) and isinstance(value[1], int)
    )


def _is_tensor(value) -> bool:
    return isinstance(value, dict) and value.get("class_name") == "__keras_tensor__"


def _histories(call: dict) -> list[tuple]:
    leaves = jax.tree.leaves(call, is_leaf=_is_tensor)
    return [tuple(leaf["config"]["keras_history"]) for leaf in leaves if _is_tensor(leaf)]


def _fill(structure, tensors: dict):
    def read(leaf):
        return tensors[tuple(leaf["config"]["keras_history"])] if _is_tensor(leaf) else deserialize_keras_object(leaf)

    return jax.tree.map(read, structure, is_leaf=lambda leaf: is_serialized(leaf) or leaf is None)


def _pick(structure, tensors: dict):
    return jax.tree.map(lambda leaf: tensors[tuple(leaf)], structure, is_leaf=_is_history)


def clone_model(model, input_tensors=None, clone_function=None, call_function=None, recursive=False) -> Any:
    """A model of the same structure with fresh weights.

    Args:
        model: A `Sequential`, functional, or any model with a config.
        input_tensors: Symbolic inputs to use in place of the model's own.
        clone_function: Function of a layer that returns the layer to use instead. Default: a fresh copy.
        call_function: Function of (layer, *args, **kwargs) that calls a layer of the clone.
        recursive: Whether a model among the layers is cloned by `clone_model` with the same functions, instead of by
            `clone_function`. A `Sequential` among them does without `call_function`.

    Raises:
        ValueError: if `call_function` is given for a `Sequential`, or any of the three for a model that is neither
            functional nor a `Sequential`; if `input_tensors` have another structure than the model's inputs.
    """
    if call_function is not None and isinstance(model, Sequential):
        raise ValueError(f"{model}: `call_function` is for functional models; a `Sequential` calls its layers itself.")
    given = {"input_tensors": input_tensors, "clone_function": clone_function, "call_function": call_function}
    names = [name for name, value in given.items() if value is not None]
    if names and not isinstance(model, (Functional, Sequential)):
        raise ValueError(
            f"clone_model: {names} are for functional models and `Sequential`s, whose layers are known. Got {model}, "
            "which is cloned by its `get_config` and `from_config`."
        )
    return _clone(model, input_tensors, clone_function, call_function, recursive, {})


def _clone(model, input_tensors, clone_function, call_function, recursive: bool, copies: dict[int, Any]) -> Any:
    def copy(layer):
        # A layer that is called twice, in whatever models, is copied once.
        if id(layer) not in copies:
            # Neither has weights: both can be shared.
            if isinstance(layer, (LiftedOp, InputLayer)):
                copies[id(layer)] = layer
            elif isinstance(layer, (Functional, Sequential)) and (recursive or clone_function is None):
                call = None if isinstance(layer, Sequential) else call_function
                copies[id(layer)] = _clone(layer, None, clone_function, call if recursive else None, recursive, copies)
            elif clone_function is not None:
                copies[id(layer)] = clone_function(layer)
            else:
                copies[id(layer)] = type(layer).from_config(layer.get_config())
        return copies[id(layer)]

    are_own_layers = input_tensors is None and clone_function is None and call_function is None
    if isinstance(model, Functional) and (Functional.is_made_of_tensors(type(model)) or not are_own_layers):
        clone = _clone_graph(model, input_tensors, call_function, copy)
    elif isinstance(model, Sequential) and (type(model) is Sequential or not are_own_layers):
        clone = _clone_stack(model, input_tensors, copy)
    else:
        clone = type(model).from_config(model.get_config())
    if not clone.compiled and (config := model.get_compile_config()) is not None:
        clone.compile_from_config(config)
    return clone


def _clone_graph(model: Functional, input_tensors, call_function, copy: Callable) -> Functional:
    def call(node, args, kwargs):
        operation = copy(node.operation)
        # `call_function` is about layers; an op is called as it is.
        if call_function is None or isinstance(operation, LiftedOp):
            return operation(*args, **kwargs)
        return call_function(operation, *args, **kwargs)

    if input_tensors is None:
        given = [_fresh_input(tensor) for tensor in model.inputs]
    else:
        given = jax.tree.leaves(input_tensors)
        _check_symbolic(given)
        several = len(given) > 1
        if len(given) != len(model.inputs) or (several and _form(input_tensors) != _form(model.input)):
            raise ValueError(f"clone_model: expected input_tensors of the form {model.input}. Got {input_tensors}.")
    outputs = model.kerax_graph.run(given, call)
    inputs = jax.tree.unflatten(jax.tree.structure(model.kerax_graph.inputs), given)
    if not Functional.is_made_of_tensors(type(model)):  # its constructor would make another graph
        return Functional(inputs, outputs, name=model.name)
    return _of_tensors(type(model), inputs, outputs, _beside_graph(model.get_config()), model.name)


def _clone_stack(model: Sequential, input_tensors, copy: Callable) -> Sequential:
    clone = Sequential(name=model.name)
    if input_tensors is not None:
        given = jax.tree.leaves(input_tensors)
        _check_symbolic(given)
        if len(given) != 1:
            raise ValueError(f"clone_model: a `Sequential` has one input. Got {len(given)} input_tensors.")
        clone.add(given[0] if isinstance(given[0].operation, InputLayer) else _fresh_input(given[0]))
    elif model.input_layer is not None:
        clone.add(_fresh_input(model.input_layer.output))
    for layer in model.layers:
        clone.add(copy(layer))
    if not model.trainable:
        clone.trainable = False
    return clone


def _check_symbolic(tensors: list):
    if wrong := [tensor for tensor in tensors if not is_symbolic(tensor)]:
        raise ValueError(f"clone_model: `input_tensors` must be symbolic tensors, such as `Input(shape)`. Got {wrong}.")


def _fresh_input(tensor: KerasTensor) -> KerasTensor:
    source = tensor.operation
    if not isinstance(source, InputLayer):
        return InputLayer(batch_shape=tensor.shape, dtype=tensor.dtype).output
    name = None if source.auto_named else source.name
    return InputLayer(batch_shape=tensor.shape, dtype=tensor.dtype, optional=source.optional, name=name).output
