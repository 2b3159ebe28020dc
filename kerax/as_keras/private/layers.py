"""Names of layers that Keras does not export."""

from collections.abc import Callable
from typing import Any

import jax

from kerax import ops
from kerax.as_keras.private.utils import DynamicBackend
from kerax.layers import GroupQueryAttention as GroupedQueryAttention
from kerax.layers import IntegerLookup, Layer, StringLookup
from kerax.layers.image import ImageLayer, factor_range

__all__ = ["BaseImagePreprocessingLayer", "DataLayer", "GroupedQueryAttention", "IndexLookup"]


class DataLayer(Layer):
    """Keras's base of layers for pipelines of data: `call` uses `self.backend`, random ones have a `generator`."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.backend = DynamicBackend()

    def convert_weight(self, weight: Any) -> Any:
        """The weight itself, which is of the only backend."""
        return weight


def IndexLookup(max_tokens, num_oov_indices, mask_token, oov_token, vocabulary_dtype, *args, **kwargs) -> Any:
    """Keras's base of lookups, which has no base of its own to stand for it here: the lookup for a dtype.

    Args: as those of `IntegerLookup`.
    """
    names = "vocabulary", "idf_weights", "invert", "output_mode", "sparse", "pad_to_max_tokens", "oov_method", "name"
    kwargs |= dict(zip((*names, "salt"), args))
    kwargs |= {"max_tokens": max_tokens, "num_oov_indices": num_oov_indices}
    kwargs |= {"mask_token": mask_token, "oov_token": oov_token}
    if vocabulary_dtype != "string":
        return IntegerLookup(vocabulary_dtype=vocabulary_dtype, **kwargs)
    kwargs.pop("oov_method", None)  # as Keras, which hashes text whatever it says
    return StringLookup(**kwargs)


class BaseImagePreprocessingLayer(ImageLayer):
    """Keras's base of layers on images: a subclass writes `get_random_transformation`, `transform_images` and kin.

    Args:
        factor: Strength, or its range, within `_FACTOR_BOUNDS`; only with `_USE_BASE_FACTOR`.
        bounding_box_format, data_format: As in `ImageLayer`.
    """

    _USE_BASE_FACTOR = True
    _FACTOR_BOUNDS = (-1, 1)

    def __init__(self, factor=None, bounding_box_format=None, data_format=None, **kwargs):
        super().__init__(bounding_box_format=bounding_box_format, data_format=data_format, **kwargs)
        if self._USE_BASE_FACTOR:
            self._set_factor(factor or 0.0)
        elif factor is not None:
            raise ValueError(f"{self}: it takes no `factor`. Got factor={factor}.")

    def _set_factor(self, factor: Any):
        self.factor = factor_range(self, "factor", factor, *self._FACTOR_BOUNDS)

    def _transform_value_range(self, images, original_range, target_range, dtype="float32"):
        (low, high), (new_low, new_high) = original_range, target_range
        if (low, high) == (new_low, new_high):
            return images
        return (ops.cast(images, dtype) - low) / (high - low) * (new_high - new_low) + new_low

    def transform_single_image(self, image: Any, transformation: Any, training: Any = True) -> Any:
        """One image, transformed."""
        return _single(self.transform_images, image, transformation, training)

    def transform_single_label(self, label: Any, transformation: Any, training: Any = True) -> Any:
        """The label of one image, transformed."""
        return _single(self.transform_labels, label, transformation, training)

    def transform_single_bounding_box(self, bounding_box: Any, transformation: Any, training: Any = True) -> Any:
        """The boxes of one image and their labels, transformed."""
        return _single(self.transform_bounding_boxes, bounding_box, transformation, training)

    def transform_single_segmentation_mask(
        self, segmentation_mask: Any, transformation: Any, training: Any = True
    ) -> Any:
        """The mask of one image, transformed."""
        return _single(self.transform_segmentation_masks, segmentation_mask, transformation, training)


def _single(transform: Callable, value, transformation, training) -> Any:
    """One part of one image through a method of batches."""
    batch = jax.tree.map(lambda leaf: ops.expand_dims(leaf, 0), value)
    return jax.tree.map(lambda leaf: leaf[0], transform(batch, transformation=transformation, training=training))
