"""Layers for sequences of symbols: `Embedding`, `ReversibleEmbedding` and `Masking`."""

from typing import Any

import jax.numpy as jnp

from kerax import ops
from kerax.core import masks
from kerax.layers.options import PassesMasks, check, check_positive, leave_out, weight_options
from kerax.ops.arrays import check_indices
from kerax.quantizers.compressible import Compressible, Stored

_TIED, _UNTIED = "...a,ba->...b", "...a,ab->...b"  # logits of a table of rows, and of one of columns


class Embedding(Compressible):
    """Rows of a table, picked by integers.

    Args:
        input_dim: Number of rows: the largest integer plus 1.
        output_dim: Size of a row.
        embeddings_initializer, embeddings_regularizer, embeddings_constraint: Options of the table.
        mask_zero: Whether 0 marks padding, which the outputs' mask then says.
        weights: Initial table.
        lora_rank: Rank of a trained update of the then frozen table. `None`: the table itself is trained.
        lora_alpha: The update is scaled by `lora_alpha / lora_rank`. Default: `lora_rank`. (Keras ignores it here.)
        quantization_config: How the table is quantized, as `quantize` sets it: with a quantized `dtype` only.

    Weights: `embeddings (input_dim, output_dim)`; with LoRA `lora_embeddings_a (input_dim, rank)`,
        `lora_embeddings_b (rank, output_dim)`.
    Input shape: any, integers in `[0, input_dim)`; others are a `ValueError` in eager calls, and give NaN in programs.
    Output shape: `(*input_shape, output_dim)`, in the layer's compute dtype.
    """

    embeddings = Stored()
    _embeddings = Stored()

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        embeddings_initializer: Any = "uniform",
        embeddings_regularizer=None,
        embeddings_constraint=None,
        mask_zero: bool = False,
        weights=None,
        lora_rank: int | None = None,
        lora_alpha: float | None = None,
        quantization_config=None,
        **kwargs,
    ):
        kwargs.pop("input_length", None)  # older files of Keras have it
        super().__init__(lora_rank, lora_alpha, quantization_config, **kwargs)
        check_positive(self, input_dim=input_dim, output_dim=output_dim)
        self.input_dim, self.output_dim, self.mask_zero = input_dim, output_dim, mask_zero
        options = embeddings_initializer, embeddings_regularizer, embeddings_constraint
        self.embeddings_initializer, self.embeddings_regularizer, self.embeddings_constraint = weight_options(*options)
        self.supports_masking = mask_zero
        self.represent("embeddings", _TIED, layout="table")
        self.autocast = False  # `call` casts the picked rows, not the table
        self.start_with(weights)

    def start_with(self, weights: Any) -> None:
        """Builds the layer with a given table, or with a list of all its weights; not for `None`."""
        if weights is not None:
            self.build()
            self.set_weights(weights if isinstance(weights, list) else [weights])

    def build(self, input_shape: Any = None) -> None:
        options = self.embeddings_initializer, self.embeddings_regularizer, self.embeddings_constraint
        self.add_stored("embeddings", (self.input_dim, self.output_dim), *options)
        self.finish_build()

    def call(self, inputs: Any) -> Any:
        # Floats are taken too, as in Keras. Rows are cast after they are picked: else the whole table would be copied.
        check_indices(self, "a table", inputs, self.input_dim)
        rows = inputs.astype("int32")
        return self.representations["embeddings"].take(rows).astype(self.compute_dtype)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """True where an integer is not 0, with `mask_zero`."""
        return ops.not_equal(inputs, 0) if self.mask_zero else None

    def get_config(self) -> dict:
        """The constructor's arguments but `weights`."""
        return {"activity_regularizer": None} | leave_out(super().get_config(), "weights")


class ReversibleEmbedding(Embedding):
    """Rows of a table picked by integers, and in reverse the products of vectors with all rows: logits.

    Args:
        input_dim, output_dim, embeddings_initializer, embeddings_regularizer, embeddings_constraint, mask_zero: As in
            `Embedding`, as are its further arguments.
        tie_weights: Whether both directions use one table.
        reverse_dtype: Dtype of the products. Default: the compute dtype.
        logit_soft_cap: Largest size of a logit: they become `cap * tanh(logits / cap)`. Default: none.

    Call arguments: `inputs`; `reverse`, whether they are vectors `(..., output_dim)`.
    Weights: `embeddings (input_dim, output_dim)`, without `tie_weights` also `reverse_embeddings (output_dim,
        input_dim)`, and those of LoRA.
    Output shape: `(*input_shape, output_dim)`, in reverse `(..., input_dim)`.
    Source: Press & Wolf 2016, https://arxiv.org/abs/1608.05859
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        tie_weights: bool = True,
        embeddings_initializer: Any = "uniform",
        embeddings_regularizer=None,
        embeddings_constraint=None,
        mask_zero: bool = False,
        reverse_dtype: str | None = None,
        logit_soft_cap: float | None = None,
        **kwargs,
    ):
        options = embeddings_initializer, embeddings_regularizer, embeddings_constraint
        weights = kwargs.pop("weights", None)  # how many there are is known at the end only
        super().__init__(input_dim, output_dim, *options, mask_zero, **kwargs)
        is_above = logit_soft_cap is None or logit_soft_cap > 0
        check(self, is_above, "`logit_soft_cap` must be above 0", logit_soft_cap=logit_soft_cap)
        self.tie_weights, self.reverse_dtype, self.logit_soft_cap = tie_weights, reverse_dtype, logit_soft_cap
        if not tie_weights:
            self.represent("reverse_embeddings", _UNTIED, layout="reverse")
        self.start_with(weights)

    def build(self, input_shape: Any = None) -> None:
        super().build(input_shape)
        if not self.tie_weights:
            shape = self.output_dim, self.input_dim
            self.add_stored("reverse_embeddings", shape, self.embeddings_initializer, None, None)

    def call(self, inputs: Any, reverse: bool = False) -> Any:
        if not reverse:
            rows = super().call(inputs)
            # Here, not in `compute_mask`, which does not know the direction.
            masks.set_mask(rows, inputs != 0 if self.mask_zero else None)
            return rows
        if inputs.shape[-1] != self.output_dim:
            raise ValueError(
                f"{self}: in reverse, inputs must have shape (..., {self.output_dim}). Got {inputs.shape}."
            )
        dtype = self.reverse_dtype or self.compute_dtype
        table = self.representations["embeddings" if self.tie_weights else "reverse_embeddings"]
        logits = table.project(inputs.astype(dtype)).astype(dtype)
        return logits if self.logit_soft_cap is None else self.logit_soft_cap * jnp.tanh(logits / self.logit_soft_cap)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """True where an integer is not 0, with `mask_zero`. Of arrays `call`, which knows the direction, sets it."""
        return super().compute_mask(inputs) if jnp.issubdtype(inputs.dtype, jnp.integer) else None


class Masking(PassesMasks):
    """Inputs with a mask: steps whose features all equal `mask_value` are padding, and set to 0.

    Args:
        mask_value: What marks padding.

    Input shape: `(batch, steps, features)`.
    """

    def __init__(self, mask_value=0.0, **kwargs):
        super().__init__(**kwargs)
        self.mask_value = mask_value

    def call(self, inputs: Any) -> Any:
        return jnp.where(self._is_kept(inputs)[..., None], inputs, 0)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """True where a step is not padding."""
        return self._is_kept(inputs)

    def _is_kept(self, inputs):
        return ops.any(ops.not_equal(inputs, self.mask_value), axis=-1)
