"""Layers around another one: `Wrapper`, `TimeDistributed`, `SpectralNormalization`."""

from typing import Any

import jax
import jax.numpy as jnp

from kerax import initializers, ops
from kerax.core import masks
from kerax.core.calling import signature_of
from kerax.core.layer import Layer
from kerax.core.variable import Variable
from kerax.layers.options import check_positive


class Wrapper(Layer):
    """A layer around another one, which is built and saved with it.

    Args:
        layer: The inner layer.

    Raises:
        ValueError: if `layer` is not a layer.
    """

    def __init__(self, layer, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(layer, Layer):
            raise ValueError(f"{self}: `layer` must be a layer. Got {layer!r}.")
        self.layer = layer

    def build(self, input_shape: Any = None) -> None:
        if not self.layer.built:
            self.layer.build(input_shape)


class TimeDistributed(Wrapper):
    """A layer applied to every step of sequences, all steps at once.

    Deviation from Keras, which calls the layer once for every step: the steps are folded into the batch, so that a
    batch normalization takes its statistics over all of them. Also unlike Keras 3 it passes masks on: those of the
    layer's outputs (an `Embedding(mask_zero=True)` has them), else the steps of which any part counts, so that neither
    the padding of words nor that of sentences does.

    Args:
        layer: The layer for one step.

    Input shape: `(batch, steps, ...)`. Output shape: `(batch, steps, *output shape of the layer without its batch)`.

    Raises:
        ValueError: if the input has fewer than 3 axes, or the mask does not have its first 2.
    """

    def __init__(self, layer, **kwargs):
        super().__init__(layer, **kwargs)
        self.supports_masking = True

    # The shape is not optional, as in Keras.
    def build(self, input_shape: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        if len(input_shape) < 3:
            raise ValueError(f"{self}: the input must have shape (batch, steps, ...). Got {input_shape}.")
        super().build((None, *input_shape[2:]))

    def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        batch, steps = inputs.shape[:2]
        taken = signature_of(type(self.layer).call).names
        kwargs = {"training": training} if "training" in taken else {}
        if mask is not None and mask.shape[:2] != (batch, steps):
            raise ValueError(f"{self}: `mask` must have shape ({batch}, {steps}, ...). Got {mask.shape}.")
        # (batch, steps, ...) to (batch * steps, ...), and back for every output.
        folded = inputs.reshape(batch * steps, *inputs.shape[2:])
        if mask is not None and (mask.ndim > 2 or (inputs.ndim == 3 and "mask" in taken)):
            # On the array: the layer takes it as its argument, or passes it on to its outputs.
            masks.set_mask(folded, mask.reshape(batch * steps, *mask.shape[2:]))
        outputs = self.layer(folded, **kwargs)
        return jax.tree.map(lambda leaf: leaf.reshape(batch, steps, *leaf.shape[1:]), outputs)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The layer's own mask `(batch, steps, ...)`; where it has none, the steps of which any part counts."""
        parts = None if mask is None or mask.ndim < 3 else _fold(mask)
        inner = self.layer.compute_mask(_fold(inputs), parts) if self.layer.supports_masking else None
        if inner is not None:
            return ops.reshape(inner, (*ops.shape(inputs)[:2], *ops.shape(inner)[1:]))
        return mask if mask is None or parts is None else ops.any(mask, axis=tuple(range(2, len(mask.shape))))


def _fold(array):
    """`(batch, steps, ...)` as `(batch * steps, ...)`, symbolic too."""
    return ops.reshape(array, (-1, *ops.shape(array)[2:]))


class SpectralNormalization(Wrapper):
    """A layer whose kernel is divided by its largest singular value while training.

    The singular value is estimated by power iteration from the vector that the last call ended with. As in Keras, an
    eager training call writes the divided kernel back; in a compiled step only the loss sees it.

    Args:
        layer: A layer with `kernel` or `embeddings`.
        power_iterations: Number of iterations per call, at least 1.

    Weights: the layer's, and `vector_u (1, size of the kernel's last axis)`, which is not trained.
    Source: Miyato et al. 2018, https://arxiv.org/abs/1802.05957

    Raises:
        ValueError: if the layer has neither weight.
    """

    def __init__(self, layer, power_iterations=1, **kwargs):
        super().__init__(layer, **kwargs)
        check_positive(self, power_iterations=power_iterations)
        self.power_iterations = power_iterations

    def build(self, input_shape: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().build(input_shape)
        self.input_spec = self.layer.input_spec
        kernel = getattr(self.layer, "kernel", getattr(self.layer, "embeddings", None))
        if kernel is None:
            raise ValueError(f"{self}: the layer must have `kernel` or `embeddings`. Got {self.layer!r}.")
        self.kernel: Variable = kernel
        shape, initializer = (1, self.kernel.shape[-1]), initializers.TruncatedNormal(stddev=0.02)
        self.vector_u = self.add_weight(shape, initializer, trainable=False, name="vector_u")

    def call(self, inputs: Any, training: Any = False) -> Any:
        if training:
            kernel = self.kernel.value
            matrix = kernel.reshape(-1, kernel.shape[-1])
            vector_u = vector_v = self.vector_u.value
            for _ in range(self.power_iterations):
                vector_v = _normalize(vector_u @ matrix.T)
                vector_u = _normalize(vector_v @ matrix)
            # Constants of the gradient: it does not go through the iteration.
            vector_u, vector_v = jax.lax.stop_gradient((vector_u, vector_v))
            sigma = (vector_v @ matrix @ vector_u.T).reshape(())
            is_zero = jnp.all(kernel == 0)  # a kernel of zeros has no direction, and would be divided by 0
            self.vector_u.assign(jnp.where(is_zero, self.vector_u.value, vector_u))
            self.kernel.assign(kernel / jnp.where(is_zero, 1, sigma))
        # After the assignment: the layer reads the divided kernel, also inside the scope of a compiled step.
        return self.layer(inputs).astype(self.compute_dtype)


def _normalize(vector):
    return vector * jax.lax.rsqrt(jnp.maximum(jnp.sum(jnp.square(vector)), 1e-12))
