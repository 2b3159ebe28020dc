"""`Sequential`: layers one after the other."""

import operator
from typing import Any, cast

import jax

from kerax.core import caching, calling, masks
from kerax.core.graph import assign_names
from kerax.core.layer import Layer
from kerax.core.registry import deserialize_keras_object, serialize_keras_object
from kerax.core.symbolic import KerasTensor, is_shape
from kerax.core.text import TEXT, Prepared, as_text, reads_text
from kerax.layers.core_layers import Lambda
from kerax.layers.embedding import Embedding
from kerax.layers.input_layer import InputLayer
from kerax.models.model import Model
from kerax.models.shapes import fit_shape


class Sequential(Model):
    """A model that hands its input through a list of layers.

    Args:
        layers: Layers, optionally an `Input` first. Without one, the model is built by its first data.
        trainable: Whether the optimizer updates the weights.
        name: Default: `"sequential"`.
    """

    _untracked = Model._untracked | frozenset({"_stack", "input_layer", "_tensor"})
    kerax_locks = False

    def __init__(self, layers=None, trainable: bool = True, name: str | None = None):
        super().__init__(trainable=trainable, name=name, autocast=False)
        self._stack: list[Layer] = []
        self.input_layer: InputLayer | None = None
        self._tensor: KerasTensor | None = None  # the symbolic output so far
        self._is_inferred = False  # whether the input is that of the first data, which later data may differ from
        if isinstance(layers, Layer):
            raise ValueError(f"{self}: expected a list of layers. Got {layers!r}. Write Sequential([layer]).")
        for layer in layers or []:
            self.add(layer)

    def add(self, layer, rebuild: bool = True) -> None:
        """Appends a layer, or sets the input when given an `Input`.

        Raises:
            ValueError: if it is not a layer, an input comes late, or a name is taken.
        """
        # `Input` returns a tensor; its layer is what counts.
        if isinstance(layer, KerasTensor):
            layer = layer.operation
        if isinstance(layer, InputLayer):
            if self._stack or self.input_layer is not None:
                raise ValueError(
                    f"{self}: an `Input` must come first, and once. There are {len(self._stack)} layers already."
                )
            self.input_layer, self._tensor = layer, layer.output
            return
        if not isinstance(layer, Layer):
            if not callable(layer):
                raise ValueError(f"{self}: only layers can be added. Got {layer!r}.")
            layer = Lambda(layer)
        layer.kerax_require_init()
        if not self._stack and self.input_layer is None:
            start = getattr(layer, "input", None) if isinstance(layer, Model) and hasattr(layer, "outputs") else None
            if layer.first_input_shape is not None:
                self.add(InputLayer(batch_shape=layer.first_input_shape))
            elif isinstance(start, KerasTensor):  # a model that knows its own input
                self.add(InputLayer(batch_shape=start.shape, dtype=start.dtype))
        # Unique among the layers before it: a shared counter would name them by what else the process made.
        assign_names([*self._stack, layer], self)
        self._stack.append(layer)
        self.kerax_compilation.forget()
        if self._tensor is not None:
            self._tensor = layer(self._tensor)
            self.built = True
            self.kerax_claim_seeds()

    def pop(self, rebuild: bool = True) -> Layer:
        """Removes and returns the last layer. Raises `ValueError` if there is none."""
        if not self._stack:
            raise ValueError(f"{self}: there is no layer to pop.")
        layer = self._stack.pop()
        self.kerax_compilation.forget()
        if self._tensor is not None:
            # The call is taken back, so that the layer can be added elsewhere.
            self._tensor = layer.inbound_nodes.pop().inputs[0]
        self.built = bool(self._stack) and self.built
        return layer

    def _children(self):
        return [((layer.name,), layer) for layer in self._stack]

    def kerax_looked_up(self, x) -> list[tuple[Layer, Any]]:
        """As that of `Model`."""
        (x,) = x if isinstance(x, (list, tuple)) and len(x) == 1 else (x,)
        return [(layer, x) for layer in self._stack[:1] if isinstance(layer, Embedding)]

    @property
    def layers(self) -> list[Layer]:
        """The layers in order, without the input."""
        return list(self._stack)

    def build(self, input_shape=None) -> None:
        """Builds every layer for an input shape (batch size or `None` first), needed if there is no `Input`."""
        self._require_layers()
        if input_shape is None:
            if self._tensor is None:
                raise ValueError(f"{self}: `build` needs `input_shape`, for there is no `Input`.")
            return
        for layer in self._stack:
            if calling.required_arguments(layer) > 1:
                raise ValueError(f"{self}: layers are called with one argument here. `call` of {layer} needs more.")
        if not is_shape(input_shape):
            super().build(input_shape)  # several inputs, which the first layer takes
        elif self._tensor is None:
            self.add_input(tuple(input_shape))
            self._is_inferred = self._tensor is not None
        elif not self._is_inferred:
            self._fit(KerasTensor(input_shape))
        self.built = True

    def _require_layers(self):
        if not self._stack and self.input_layer is None:
            raise ValueError(f"{self}: there are no layers yet. Add some by `add`.")

    def add_input(self, shape: tuple, dtype: str | None = None) -> None:
        """Sets the input of a model that has layers but no `Input`."""
        errors: list[Exception] = []
        dtype = dtype or self.compute_dtype
        # Any batch size, whatever that of the first data; that one only for layers which do with no other. Layers that
        # read text say no to anything else.
        for batch, kind in dict.fromkeys(((None, dtype), (shape[0], dtype), (None, TEXT))):
            first = InputLayer(batch_shape=(batch, *shape[1:]), dtype=kind)
            tensor = first.output
            try:
                for layer in self._stack:
                    tensor = layer(tensor)
            except (NotImplementedError, jax.errors.JAXTypeError):
                return  # a `call` that wants values: its layers are built as it runs
            except Exception as error:
                errors.append(error)
                continue
            self.input_layer, self._tensor = first, tensor
            self.kerax_claim_seeds()
            return
        raise errors[0]

    def call(self, inputs, training=None, mask=None) -> Any:
        self._require_layers()
        start = 0
        if isinstance(inputs, Prepared):
            (inputs,), start = inputs.values, inputs.start
        else:
            inputs = masks.masked(self._fit(as_text(inputs) if reads_text(inputs) else inputs), mask)
        for layer in self._stack[start:]:
            inputs = layer(inputs)
        return inputs

    def kerax_used_inputs(self, x, call=operator.call) -> Any:
        """What the model's steps get of the inputs `x`: of text, what the layers that read it make of it."""
        if not reads_text(x):
            return x
        self._require_layers()
        x = as_text(x)
        if self.input_layer is None:
            self.add_input((None, *x.shape[1:]), TEXT)
        x, start = self._fit(x), 0
        for layer in self._stack:
            if isinstance(layer, Model):  # which goes on in the compiled part
                x = layer.kerax_used_inputs(x, call)
                break
            if not reads_text(x):
                break
            x, start = call(layer, x), start + 1
        return Prepared((x,), start)

    def kerax_sparse_inputs(self, x) -> list:
        """The inputs `x`, if the `Input` is sparse."""
        is_sparse = self.input_layer is not None and self.input_layer.sparse
        return list(x) if is_sparse and isinstance(x, (list, tuple)) else [x] if is_sparse else []

    def compute_output_spec(self, inputs, training=None, mask=None) -> Any:
        """Symbolic outputs for symbolic inputs: what each layer says, without recording a node."""
        inputs = self._fit(inputs)
        for layer in self._stack:
            inputs = layer.compute_output_spec(inputs)
        return inputs

    def _fit(self, inputs):
        """The input in the rank of the `Input`. What does not fit is told before the first layer does in its terms.

        A list of one array is that array, as in Keras, once the input is known.
        """
        if self.input_layer is None:
            return inputs
        if isinstance(inputs, dict):
            raise ValueError(
                f"{self}: expected one array. Got a dict of {sorted(map(str, inputs))}. Pass what is in it, or make a "
                "functional model, which takes inputs by name."
            )
        if isinstance(inputs, (list, tuple)) and len(inputs) == 1:
            (inputs,) = inputs
        # In a call with a cache: a part of a row, or one of another length.
        if self._is_inferred or not hasattr(inputs, "shape") or caching.current() is not None:
            return inputs
        return fit_shape(f"{self}: the input", inputs, self.input_layer.batch_shape)

    @property
    def inputs(self) -> list[KerasTensor]:
        """The symbolic input, in a list."""
        return [self.input]

    @property
    def outputs(self) -> list[KerasTensor]:
        """The symbolic output, in a list."""
        return [self.output]

    @property
    def input(self) -> KerasTensor:
        """The symbolic input."""
        self._require_tensor()
        return cast(InputLayer, self.input_layer).output

    @property
    def output(self) -> KerasTensor:
        """The symbolic output."""
        self._require_tensor()
        return cast(KerasTensor, self._tensor)

    @property
    def input_shape(self) -> Any:
        """Shape of the input."""
        return self.input.shape

    @property
    def output_shape(self) -> Any:
        """Shape of the output."""
        return jax.tree.map(lambda tensor: tensor.shape, self.output)

    def _require_tensor(self):
        if self._tensor is None:
            # So that `hasattr` answers.
            raise AttributeError(f"{self}: not built yet. Start it with an `Input`, call `build`, or call it on data.")

    def get_config(self) -> dict:
        """Name and layers, the input first."""
        # The input first, as Keras writes it: who loads it builds the model from that.
        layers = ([self.input_layer] if self.input_layer is not None else []) + self._stack
        return {
            "name": self.name,
            "trainable": self.trainable,
            "dtype": serialize_keras_object(self.dtype_policy),
            "layers": [serialize_keras_object(layer) for layer in layers],
        }

    def get_build_config(self) -> Any:
        """The input shape, if known."""
        return {"input_shape": self.input_layer.batch_shape} if self.input_layer is not None else None

    @classmethod
    def from_config(cls, config: dict, custom_objects: dict | None = None) -> "Sequential":
        """The model that `get_config` described. Raises `ValueError` if name or layers are missing."""
        if not {"name", "layers"} <= config.keys():
            raise ValueError(f"{cls.__name__}: a config must have 'name' and 'layers'. Got {sorted(config)}.")
        layers = [deserialize_keras_object(layer, custom_objects) for layer in config["layers"]]
        return cls(layers, trainable=config.get("trainable", True), name=config.get("name"))
