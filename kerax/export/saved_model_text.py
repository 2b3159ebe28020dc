"""Operations on text, in TensorFlow."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np


def rules(tf: Any, resources: list) -> dict[str, Callable]:
    """TensorFlow's operations for the steps of `kerax.core.text.TextStep`.

    Args:
        resources: Takes the tables that are made, which the saved object must hold.
    """
    tables: dict[int, Any] = {}

    def table_of(table: dict[str, int], default: int) -> Any:
        # A function is traced more than once: for its signature, and when it is saved.
        if id(table) not in tables:
            with tf.init_scope():
                numbers = tf.constant(list(table.values()), tf.int64)
                pairs = tf.lookup.KeyValueTensorInitializer(tf.constant(list(table), tf.string), numbers)
                tables[id(table)] = tf.lookup.StaticHashTable(pairs, default)
            resources.append(tables[id(table)])
        return tables[id(table)]

    def translate(texts, lower: bool, removed: str):
        texts = tf.strings.lower(texts) if lower else texts  # of ASCII letters alone
        return tf.strings.regex_replace(texts, f"[{re.escape(removed)}]", "") if removed else texts

    def split(texts, by: str | None):
        if by is None:
            size = texts.shape[-1] if len(texts.shape) > 1 else 1
            return tf.RaggedTensor.from_tensor(tf.reshape(texts, [-1, size]))
        flat = tf.reshape(texts, [-1])
        return tf.strings.split(flat) if by == "whitespace" else tf.strings.unicode_split(flat, "UTF-8")

    def join(rows, widths: tuple):
        return tf.strings.ngrams(rows, widths, separator=" ")

    def bins_of(texts, bins: int, salt):
        if salt is None:
            return tf.strings.to_hash_bucket_fast(texts, bins)
        # Its attributes have signs.
        return tf.strings.to_hash_bucket_strong(texts, bins, np.array(salt, np.uint64).view(np.int64).tolist())

    def look_up(texts, table: dict[str, int], start: int, bins: int, salt):
        if isinstance(texts, tf.RaggedTensor):
            texts = texts.to_tensor("")  # the mask's token
            # The compiled part takes no axis of size 0, which texts without a word would give.
            texts = tf.pad(texts, [[0, 0], [0, tf.cast(tf.shape(texts)[1] == 0, tf.int32)]])
        indices = table_of(table, start if bins == 1 else -1).lookup(texts)
        return indices if bins < 2 else tf.where(indices == -1, bins_of(texts, bins, salt) + start, indices)

    def hashed(texts, bins: int, salt, mask):
        numbers = bins_of(texts, bins, salt)
        return numbers if mask is None else tf.where(texts == mask, tf.zeros_like(numbers), numbers + 1)

    def cross(features, bins: int):
        columns = [x if x.dtype == tf.string else tf.cast(x, tf.int64) for x in features]
        crossed = tf.sparse.cross_hashed([tf.reshape(column, [-1, 1]) for column in columns], bins)
        return tf.reshape(crossed.values, tf.shape(features[0]))

    def fit_length(indices, length: int):
        missing = [[0, 0]] * (len(indices.shape) - 1) + [[0, length]]
        return tf.pad(indices, missing)[..., :length]

    def encode(indices, mode: str, depth: int, weights, dtype: str):
        if mode == "int":
            return tf.cast(indices, tf.int32)
        if mode == "one_hot":
            is_column = len(indices.shape) > 1 and indices.shape[-1] == 1
            vectors = tf.one_hot(tf.squeeze(indices, -1) if is_column else indices, depth)
        else:
            sizes = tf.shape(indices)
            # Those that are to be left out meet beyond the last column, where they are not counted.
            kept = tf.where((indices < 0) | (indices >= depth), tf.constant(depth, tf.int64), indices)
            # Not where there are two axes already, of which the last may be empty.
            rows = kept if len(indices.shape) == 2 else tf.reshape(kept, [-1, sizes[-1]])
            vectors = tf.raw_ops.DenseBincount(
                input=rows,
                size=tf.constant(depth, tf.int64),
                weights=tf.constant([], tf.float32),
                binary_output=mode == "multi_hot",
            )
            vectors = tf.reshape(vectors, tf.concat([sizes[:-1], [depth]], 0))
        vectors = tf.cast(vectors, dtype)
        return vectors if weights is None else vectors * tf.constant(weights, dtype)

    named = (translate, split, join, look_up, cross, fit_length, encode)
    return {rule.__name__: rule for rule in named} | {"hash": hashed}
