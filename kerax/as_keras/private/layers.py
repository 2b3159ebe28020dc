"""Names of layers that Keras does not export."""

from kerax.layers import GroupQueryAttention as GroupedQueryAttention

__all__ = ["GroupedQueryAttention"]
