"""Sequences of one length."""

from kerax.utils.sequence import pad_sequences

__all__ = ["pad_sequences"]
