"""Attention on TPUs by JAX's own Pallas kernel, which holds no scores in main memory."""

import functools
import importlib
from typing import Any

import jax
import jax.numpy as jnp

from kerax import config
from kerax.core import placement
from kerax.ops import long_attention

_LANES = 128
_SHORT = 512  # positions from which on the kernel is used


def is_target() -> bool:
    """Whether programs are traced for a TPU."""
    return config.target_platform() == "tpu"


def has_attention(query, key, value) -> bool:
    """Whether the kernel takes such `(batch, positions, heads, features)`: whole blocks of them, of known sizes."""
    arrays = query, key, value
    are_known = all(isinstance(size, int) for array in arrays for size in array.shape)
    if not is_target() or query.ndim != 4 or not are_known or config.is_flash_attention_enabled() is False:
        return False
    lengths = query.shape[1], key.shape[1]
    fits = all(length >= _SHORT and length % _LANES == 0 for length in lengths)
    return fits and query.shape[-1] == key.shape[-1] == value.shape[-1] and query.shape[2] % key.shape[2] == 0


def attend(query, key, value, scale, is_causal, sliding_window, key_mask=None, cap=None, interpret=False):
    """`softmax(query @ key.T * scale) @ value` for `(batch, positions, heads, features)`.

    Args:
        is_causal, sliding_window, cap: As in `kerax.ops.attention.attend`.
        key_mask: Whether a key counts, `(batch or 1, keys)`.
        interpret: Whether the kernel runs as plain operations, on any platform.
    """
    batch, num_queries, num_heads, _ = query.shape
    kernel = _kernel(num_heads, num_queries, key.shape[1], is_causal, sliding_window, cap, interpret)
    ids: Any = importlib.import_module(f"{_PACKAGE}_kernel").SegmentIds
    counted = jnp.broadcast_to(True if key_mask is None else key_mask, (batch, key.shape[1]))

    def rows(query, key, value, counted):
        def row(query, key, value, counted):
            # A key that does not count is of another segment than all queries.
            segments = ids(jnp.ones(num_queries, jnp.int32), counted.astype(jnp.int32))
            return kernel(query, key, value, segment_ids=None if key_mask is None else segments)

        # (batch, heads, positions, features)
        query, key, value = jnp.swapaxes(query, 1, 2), jnp.swapaxes(key, 1, 2), jnp.swapaxes(value, 1, 2)
        return jnp.swapaxes(jax.vmap(row)(query, key, value, counted), 1, 2)

    outputs = _on_each_device(rows, query * scale, key, value, counted)
    if key_mask is None:
        return outputs
    return long_attention.mean_where_none(outputs, value, counted, is_causal, sliding_window)


_PACKAGE = "jax.experimental.pallas.ops.tpu.splash_attention.splash_attention"


@functools.lru_cache(maxsize=64)
def _kernel(num_heads, num_queries, num_keys, is_causal, sliding_window, cap, interpret) -> Any:
    """The kernel for these sizes; what it makes of the mask is made once."""
    kernels, masks = (importlib.import_module(f"{_PACKAGE}_{name}") for name in ("kernel", "mask"))
    shape = num_queries, num_keys
    if sliding_window is not None:
        mask = masks.LocalMask(shape, (sliding_window - 1, 0 if is_causal else sliding_window - 1), 0)
    else:
        mask = masks.CausalMask(shape) if is_causal else masks.FullMask(shape)
    rows, columns = _largest_block(num_queries), _largest_block(num_keys)
    sizes = kernels.BlockSizes(
        block_q=rows,
        block_kv=columns,
        block_kv_compute=columns,
        block_q_dkv=rows,
        block_kv_dkv=columns,
        block_kv_dkv_compute=columns,
        block_q_dq=rows,
        block_kv_dq=columns,
    )
    options = {"block_sizes": sizes, "head_shards": 1, "q_seq_shards": 1, "attn_logits_soft_cap": cap}
    with jax.ensure_compile_time_eval():
        return kernels.make_splash_mha(masks.MultiHeadMask([mask] * num_heads), interpret=interpret, **options)


def _largest_block(length: int) -> int:
    return next(size for size in (1024, 512, 256, 128) if length % size == 0)


def _on_each_device(function, query, key, value, counted):
    """The function of a device's own rows and heads: XLA cannot cut a kernel into parts."""
    distribution = placement.active()
    if distribution is None or not placement.is_spread():
        return function(query, key, value, counted)
    mesh = distribution.device_mesh.backend_mesh
    # Of queries' and keys' heads there may be different numbers, which do not divide alike.
    heads = "heads" if query.shape[2] == key.shape[2] else None
    layout = distribution.get_logical_layout(query.shape, ("batch", None, heads, None))
    spec = jax.P(*layout.axes)
    return jax.shard_map(
        function, mesh=mesh, in_specs=(spec, spec, spec, jax.P(layout.axes[0])), out_specs=spec, check_vma=False
    )(query, key, value, counted)
