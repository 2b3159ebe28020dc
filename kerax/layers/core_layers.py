"""Layers that hand on what they get: `Identity`, `Lambda`, `ActivityRegularization`."""

import inspect
from typing import Any, Self

from kerax import activations, regularizers
from kerax.core import lambdas, registry
from kerax.core.layer import Layer
from kerax.layers.options import PassesMasks


class Identity(PassesMasks):
    """The inputs."""

    hands_on_text = True

    def call(self, inputs: Any) -> Any:
        return inputs


class Lambda(Layer):
    """A function of the inputs as a layer.

    Args:
        function: Called with the inputs, and with `mask` and `training` if it takes them. One with a registered name is
            saved by that; a lambda as code, which `load_model` runs only if it is told that the file is trusted.
        output_shape: Kept for Keras's signature; kerax infers the shape.
        mask: The outputs' mask, or a function `(inputs, mask) -> mask`. Default: none.
        arguments: More keyword arguments of the function.
    """

    kerax_builds_in_call = True

    hands_on_text = True

    def __init__(self, function, output_shape=None, mask=None, arguments=None, **kwargs):
        super().__init__(**kwargs)
        self.function = activations.get(function) if isinstance(function, str) else function
        if not callable(self.function):
            raise TypeError(f"{self}: `function` must be callable. Got {function!r}.")
        self.mask, self._output_shape = mask, output_shape
        self.arguments = arguments or {}
        self.supports_masking = mask is not None
        # Asked once: a signature takes longer to read than many a function to run.
        taken = inspect.signature(self.function).parameters
        self._passed_on = [name for name in ("mask", "training") if name in taken]

    def call(self, inputs: Any, mask: Any = None, training: Any = None) -> Any:
        offered = {"mask": mask, "training": training}
        return self.function(inputs, **self.arguments, **{name: offered[name] for name in self._passed_on})

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The `mask` of the constructor."""
        return self.mask(inputs, mask) if callable(self.mask) else self.mask

    @classmethod
    def from_config(cls, config: dict, custom_objects: dict | None = None, safe_mode: bool | None = None) -> Self:
        """The layer of a config; code in one that is not of this process runs only with `safe_mode=False`."""
        with registry.safe_mode_scope(safe_mode is not False), registry.custom_object_scope(custom_objects or {}):
            return super().from_config(config)

    def get_config(self) -> dict:
        """The constructor's arguments; those that are `None` are left out, as in Keras's files."""
        config = super().get_config() | {"arguments": self.arguments}
        for name in ("function", "output_shape", "mask"):
            code: Any = config[name]
            if isinstance(code, lambdas.Code):
                parts = dict(zip(("code", "defaults", "closure"), code["config"]["value"], strict=True))
                config[name] = lambdas.Code(code.function, parts)
        return {
            name: value for name, value in config.items() if value is not None or name not in ("output_shape", "mask")
        }


class ActivityRegularization(PassesMasks):
    """The inputs, with a penalty on their size added to the loss, per sample of the batch.

    Args:
        l1: Factor of the sum of absolute values.
        l2: Factor of the sum of squares.
    """

    def __init__(self, l1=0.0, l2=0.0, **kwargs):
        # The base class adds the penalty, and divides it by the size of the batch.
        super().__init__(activity_regularizer=regularizers.L1L2(l1=l1, l2=l2), **kwargs)
        self.l1, self.l2 = l1, l2

    def call(self, inputs: Any) -> Any:
        return inputs
