"""Keras's methods of layers on images that users call and replace: what is drawn for a batch, and each part's change.

A layer of kerax's own does all at once, compiled. One of which a method is replaced goes through them, as in Keras.
"""

from typing import Any

import jax
import jax.numpy as jnp

from kerax.core.seed_generator import next_key


def get_random_transformation(self, data: Any, training: Any = True, seed: Any = None) -> Any:
    """What is drawn for a batch, to be given to `transform_images` and its kin, which then transform alike.

    Args:
        data: Images, or a dictionary with them.
        training: Whether anything is drawn.
        seed: An integer or `SeedGenerator`. Default: the layer's own stream.
    """
    shape = jnp.shape(data["images"] if isinstance(data, dict) else data)
    key = None
    if training and self.is_random:
        key = self.next_key() if seed is None else next_key(seed)
    return {"key": key, "shape": shape if len(shape) == 4 else (1, *shape)}


def transform_images(self, images: Any, transformation: Any, training: Any = True) -> Any:
    """A batch of images, transformed."""
    return _transformed(self, "images", images, transformation, training)


def transform_labels(self, labels: Any, transformation: Any, training: Any = True) -> Any:
    """A batch of labels, transformed like its images: only layers that mix images change them."""
    return _transformed(self, "labels", labels, transformation, training) if self.mixes_labels else labels


def transform_bounding_boxes(self, bounding_boxes: Any, transformation: Any, training: Any = True) -> Any:
    """A batch of boxes and their labels in `bounding_box_format`, transformed like its images."""
    return _transformed(self, "bounding_boxes", bounding_boxes, transformation, training)


def transform_segmentation_masks(self, segmentation_masks: Any, transformation: Any, training: Any = True) -> Any:
    """A batch of segmentation masks, transformed like its images."""
    return _transformed(self, "segmentation_masks", segmentation_masks, transformation, training)


METHODS = {
    "images": transform_images,
    "bounding_boxes": transform_bounding_boxes,
    "labels": transform_labels,
    "segmentation_masks": transform_segmentation_masks,
}
"""What transforms each part, in Keras's order."""


def _transformed(layer, name: str, value: Any, transformation: Any, training: Any) -> Any:
    if not isinstance(transformation, dict) or not {"key", "shape"} <= transformation.keys():
        raise ValueError(
            f"{layer}: `transformation` must be what the layer's own `get_random_transformation` gave. "
            f"Got {transformation!r}. A class that draws something else has `{METHODS[name].__name__}` of its own too."
        )
    value = jax.tree.map(jnp.asarray, value)
    # What moves labels and boxes is drawn by the size of the images, whatever is in them.
    given = {"images": value} if name == "images" else {"images": jnp.zeros(transformation["shape"]), name: value}
    return layer.transform_parts(given, transformation["key"] if training else None)[name]


def are_replaced(layer) -> bool:
    """Whether a class or object has one of these methods of its own."""
    methods = [get_random_transformation, *METHODS.values()]
    return any(getattr(getattr(layer, method.__name__), "__func__", None) is not method for method in methods)


def call(layer, data: Any, training: Any) -> Any:
    """Images, or a dictionary of them and what belongs to them, each part by its method."""
    transformation = layer.get_random_transformation(data, training=training)
    given = data if isinstance(data, dict) else {"images": data}
    is_single, outputs = jnp.ndim(given["images"]) == 3, dict(given)
    for name, method in METHODS.items():
        if name in given:
            batch = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None] if is_single else jnp.asarray(leaf), given[name])
            changed = getattr(layer, method.__name__)(batch, transformation=transformation, training=training)
            outputs[name] = jax.tree.map(lambda leaf: leaf[0], changed) if is_single else changed
    return outputs if isinstance(data, dict) else outputs["images"]
