"""Layers for sequences of symbols: `Embedding` and `Masking`."""

import jax.numpy as jnp

from kerax.core.layer import Layer
from kerax.layers.options import add_weight, check_positive, check_unsupported, set_weight_options, without


class Embedding(Layer):
    """Rows of a table, picked by integers.

    Args:
        input_dim: Number of rows: the largest integer plus 1.
        output_dim: Size of a row.
        embeddings_initializer, embeddings_regularizer, embeddings_constraint: Options of the table.
        mask_zero: Whether 0 marks padding, which the outputs' mask then says.
        weights: Initial table.
        lora_rank, lora_alpha, quantization_config: Not supported; must be `None`.

    Weights: `embeddings (input_dim, output_dim)`.
    Input shape: any, integers in `[0, input_dim)`; others give NaN.
    Output shape: `(*input_shape, output_dim)`, in the layer's compute dtype.
    """

    def __init__(
        self,
        input_dim,
        output_dim,
        embeddings_initializer="uniform",
        embeddings_regularizer=None,
        embeddings_constraint=None,
        mask_zero=False,
        weights=None,
        lora_rank=None,
        lora_alpha=None,
        quantization_config=None,
        **kwargs,
    ):
        kwargs.pop("input_length", None)  # older files of Keras have it
        super().__init__(**kwargs)
        check_positive(self, input_dim=input_dim, output_dim=output_dim)
        check_unsupported(self, lora_rank=lora_rank, lora_alpha=lora_alpha, quantization_config=quantization_config)
        self.input_dim, self.output_dim, self.mask_zero = input_dim, output_dim, mask_zero
        set_weight_options(
            self,
            embeddings_initializer=embeddings_initializer,
            embeddings_regularizer=embeddings_regularizer,
            embeddings_constraint=embeddings_constraint,
        )
        self.supports_masking = mask_zero
        self.autocast = False  # rows are cast after they are picked, not the whole table
        if weights is not None:
            self.build()
            self.set_weights(weights if isinstance(weights, list) else [weights])

    def build(self, input_shape=None):
        self.embeddings = add_weight(self, "embeddings", (self.input_dim, self.output_dim))

    def call(self, inputs):
        rows = jnp.take(self.embeddings.value, inputs.astype("int32"), axis=0)
        return rows.astype(self.compute_dtype)

    def compute_mask(self, inputs, previous_mask=None):
        """True where an integer is not 0, with `mask_zero`."""
        return inputs != 0 if self.mask_zero else None

    def get_config(self) -> dict:
        """The constructor's arguments but `weights`."""
        config = super().get_config()
        config.pop("weights")
        return without(config, "lora_rank", "lora_alpha")


class Masking(Layer):
    """Inputs with a mask: steps whose features all equal `mask_value` are padding, and set to 0.

    Args:
        mask_value: What marks padding.

    Input shape: `(batch, steps, features)`.
    """

    def __init__(self, mask_value=0.0, **kwargs):
        super().__init__(**kwargs)
        self.mask_value = mask_value
        self.supports_masking = True

    def call(self, inputs):
        return jnp.where(self._is_kept(inputs)[..., None], inputs, 0)

    def compute_mask(self, inputs, previous_mask=None):
        """True where a step is not padding."""
        return self._is_kept(inputs)

    def _is_kept(self, inputs):
        return jnp.any(inputs != self.mask_value, axis=-1)
