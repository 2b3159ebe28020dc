"""Layers that hand on or wrap: `Identity`, `Lambda`, `Wrapper`, `TimeDistributed`."""

import inspect

import jax

from kerax import activations
from kerax.core.calling import signature_of
from kerax.core.layer import Layer
from kerax.layers.options import without


class Identity(Layer):
    """The inputs."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, inputs):
        return inputs


class Lambda(Layer):
    """A function of the inputs as a layer.

    Args:
        function: Called with the inputs, and with `mask` and `training` if it takes them. To be saved it must have a
            registered name; kerax saves and loads no code.
        output_shape: Kept for Keras's signature; kerax infers the shape.
        mask: The outputs' mask, or a function `(inputs, mask) -> mask`. Default: none.
        arguments: More keyword arguments of the function.
    """

    def __init__(self, function, output_shape=None, mask=None, arguments=None, **kwargs):
        super().__init__(**kwargs)
        self.function = activations.get(function) if isinstance(function, str) else function
        if not callable(self.function):
            raise TypeError(f"{self}: `function` must be callable. Got {function!r}.")
        self.mask = mask
        self.arguments = arguments or {}
        self.supports_masking = mask is not None
        taken = inspect.signature(self.function).parameters
        self._passed_on = [name for name in ("mask", "training") if name in taken]

    def call(self, inputs, mask=None, training=None):
        offered = {"mask": mask, "training": training}
        return self.function(inputs, **self.arguments, **{name: offered[name] for name in self._passed_on})

    def compute_mask(self, inputs, previous_mask=None):
        """The `mask` of the constructor."""
        return self.mask(inputs, previous_mask) if callable(self.mask) else self.mask

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return without(super().get_config(), "output_shape", "mask") | {"arguments": self.arguments}


class Wrapper(Layer):
    """A layer around another one, which is built and saved with it.

    Args:
        layer: The inner layer.

    Raises:
        TypeError: if `layer` is not a layer.
    """

    def __init__(self, layer, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(layer, Layer):
            raise TypeError(f"{self}: `layer` must be a layer. Got {layer!r}.")
        self.layer = layer

    def build(self, input_shape=None):
        if not self.layer.built:
            self.layer.build(input_shape)


class TimeDistributed(Wrapper):
    """A layer applied to every step of sequences, all steps at once.

    Deviation from Keras, which calls the layer once for every step: the steps are folded into the batch, so that a
    batch normalization takes its statistics over all of them.

    Args:
        layer: The layer for one step.

    Input shape: `(batch, steps, ...)`. Output shape: `(batch, steps, *output shape of the layer without its batch)`.

    Raises:
        ValueError: if the input has fewer than 3 axes, or the mask does not have its first 2.
    """

    def __init__(self, layer, **kwargs):
        super().__init__(layer, **kwargs)
        self.supports_masking = True

    def build(self, input_shape):
        if len(input_shape) < 3:
            raise ValueError(f"{self}: the input must have shape (batch, steps, ...). Got {input_shape}.")
        super().build((None, *input_shape[2:]))

    def call(self, inputs, training=None, mask=None):
        batch, steps = inputs.shape[:2]
        taken = signature_of(type(self.layer).call).names
        kwargs = {"training": training} if "training" in taken else {}
        if mask is not None and mask.shape[:2] != (batch, steps):
            raise ValueError(f"{self}: `mask` must have shape ({batch}, {steps}, ...). Got {mask.shape}.")
        if mask is not None and "mask" in taken and (mask.ndim > 2 or inputs.ndim == 3):
            kwargs["mask"] = mask.reshape(batch * steps, *mask.shape[2:])
        outputs = self.layer(inputs.reshape(batch * steps, *inputs.shape[2:]), **kwargs)
        return jax.tree.map(lambda leaf: leaf.reshape(batch, steps, *leaf.shape[1:]), outputs)
