"""Keras's methods of layers on images that users call and replace: what is drawn for a batch, and each part's change.

A layer of kerax's own does all at once, compiled. One of which a method is replaced goes through them, as in Keras.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kerax.core.host_arrays import GraphTensorGiven, is_graph_tensor
from kerax.core.seed_generator import next_key
from kerax.core.tensorflow_graphs import outside_of_graphs


@outside_of_graphs
def get_random_transformation(self, data: Any, training: Any = True, seed: Any = None) -> Any:
    """What is drawn for a batch, to be given to `transform_images` and its kin, which then transform alike.

    A dictionary with Keras's names for what the layer draws, with a row for each image, and `"input_shape"`, the shape
    of the images. One made by hand or by a subclass does as well; what has one row is for all images. Nothing is drawn
    unless `training`.

    Args:
        data: Images, or a dictionary with them.
        training: Whether anything is drawn.
        seed: An integer or `SeedGenerator`. Default: the layer's own stream.
    """
    images = data["images"] if isinstance(data, dict) else data
    _refuse_graphs(images)
    shape = np.shape(images)
    drawn: Any = {}
    if training and self.is_random:
        drawn = self.draw_batch(self.next_key() if seed is None else next_key(seed), _batch_shape(self, shape))
        drawn = jax.tree.map(lambda leaf: _to_user(self, leaf), drawn)
    return (drawn if isinstance(drawn, dict) else {"params": drawn}) | {"input_shape": shape}


def _refuse_graphs(value) -> None:
    if any(map(is_graph_tensor, jax.tree.leaves(value))):
        raise GraphTensorGiven("Tensors of a graph have no values before the graph runs.")


def _batch_shape(layer, shape) -> tuple[int, ...]:
    """The shape of images in any layout as `(batch, height, width, channels)`."""
    batch, *sizes = shape if len(shape) == 4 else (1, *shape)
    return (batch, *sizes) if layer.data_format == "channels_last" else (batch, *sizes[1:], sizes[0])


def _is_pixels(leaf) -> bool:
    return np.ndim(leaf) == 4


def _to_user(layer, leaf) -> Any:
    """What was drawn, as Keras has it: in the layout of the images, and seeds as numbers."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.key_data(leaf)
    return jnp.moveaxis(leaf, -1, 1) if _is_pixels(leaf) and layer.data_format == "channels_first" else leaf


def _from_user(layer, given: Any, drawn: Any) -> Any:
    """A value for the images of a batch, as `drawn`, the shape and dtype of what the layer would draw, has it."""
    size = drawn.shape[0]
    if jnp.issubdtype(drawn.dtype, jax.dtypes.prng_key):
        if np.shape(given)[:-1] == drawn.shape:
            return jax.random.wrap_key_data(jnp.asarray(given, "uint32"))
        return jax.random.split(next_key(given), drawn.shape)
    leaf = jnp.asarray(given)
    leaf = jnp.moveaxis(leaf, 1, -1) if _is_pixels(leaf) and layer.data_format == "channels_first" else leaf
    if leaf.ndim < len(drawn.shape):  # for all images
        return jnp.broadcast_to(leaf, (size, *leaf.shape))
    return jnp.broadcast_to(leaf, (size, *leaf.shape[1:])) if leaf.shape[0] == 1 else leaf


@outside_of_graphs
def transform_images(self, images: Any, transformation: Any, training: Any = True) -> Any:
    """A batch of images, transformed."""
    return _transformed(self, "images", images, transformation, training)


@outside_of_graphs
def transform_labels(self, labels: Any, transformation: Any, training: Any = True) -> Any:
    """A batch of labels, transformed like its images: only layers that mix images change them."""
    return _transformed(self, "labels", labels, transformation, training)


@outside_of_graphs
def transform_bounding_boxes(self, bounding_boxes: Any, transformation: Any, training: Any = True) -> Any:
    """A batch of boxes and their labels in `bounding_box_format`, transformed like its images."""
    return _transformed(self, "bounding_boxes", bounding_boxes, transformation, training)


@outside_of_graphs
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
    _refuse_graphs((value, transformation))
    if layer.keeps(name):
        return value
    value, is_single = _as_batch(name, jax.tree.map(jnp.asarray, value))
    shape = _images_shape(layer, name, value, transformation)
    # What moves labels and boxes is drawn by the size of the images, whatever is in them.
    given = {"images": value} if name == "images" else {"images": jnp.zeros(shape), name: value}
    params = _params(layer, name, transformation, _batch_shape(layer, shape)) if training and layer.is_random else None
    outputs = layer.transform_parts(given, params=params)[name]
    return jax.tree.map(lambda leaf, single: leaf[0] if single else leaf, outputs, is_single)


def _as_batch(name: str, value: Any) -> tuple[Any, Any]:
    """A value with a batch axis, and whether it, or each of its parts, had none: only images and boxes tell."""
    if name == "images":
        return (value[None], True) if value.ndim == 3 else (value, False)
    if name != "bounding_boxes":
        return value, False
    is_single = {part: leaf.ndim == (2 if part == "boxes" else 1) for part, leaf in value.items()}
    return {part: leaf[None] if is_single[part] else leaf for part, leaf in value.items()}, is_single


def _images_shape(layer, name: str, value: Any, transformation: Any) -> tuple[int, ...]:
    """The shape of the images that a batch of something belongs to."""
    if name == "images":
        return value.shape
    batch = jax.tree.leaves(value)[0].shape[0]
    named = transformation if isinstance(transformation, dict) else {}
    if "input_shape" in named:
        return (batch, *(int(size) for size in np.asarray(named["input_shape"])[-3:]))
    size = int(named.get("image_height", 1)), int(named.get("image_width", 1))
    if "image_height" not in named and name == "segmentation_masks":
        size = value.shape[-2:] if layer.data_format == "channels_first" or value.ndim == 3 else value.shape[1:3]
    return (batch, *size, 1) if layer.data_format == "channels_last" else (batch, 1, *size)


def _params(layer, name: str, transformation: Any, shape: tuple[int, ...]) -> Any:
    """What the layer draws for a batch of images of `shape`, as `transformation` has it; `None` for nothing drawn."""
    if transformation is None or (isinstance(transformation, dict) and transformation.keys() <= {"input_shape"}):
        return None
    expected = jax.eval_shape(lambda key: layer.draw_batch(key, shape), jax.random.key(0))
    given = transformation
    if isinstance(transformation, dict) and not isinstance(expected, dict):
        given = transformation.get("params")
    try:
        if isinstance(expected, dict):
            given = {key: transformation[key] for key in expected}
        return jax.tree.map(lambda drawn, leaf: _from_user(layer, leaf, drawn), expected, given)
    except (KeyError, TypeError, ValueError) as error:
        names = [*expected, "input_shape"] if isinstance(expected, dict) else ["params", "input_shape"]
        raise ValueError(
            f"{layer}: `transformation` must have what `get_random_transformation` of this layer gives: {names}. "
            f"Got {transformation!r}. A class that draws something else has `{METHODS[name].__name__}` of its own too."
        ) from error


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
