"""`ImageLayer`, the base of layers on images, and those that change the size: `Resizing`, `CenterCrop`."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from kerax import config
from kerax.core.configurable import reject_unknown
from kerax.core.layer import Layer
from kerax.core.seed_generator import generator_for
from kerax.core.tracking import descendants
from kerax.layers import image_hooks
from kerax.layers.bounding_boxes import check_format, clip_to_image_size, convert_format
from kerax.layers.options import check, check_choice, check_positive
from kerax.ops.image import RESIZE_METHODS, frame_of_aspect, resize, to_dtype, window_of_aspect


class ImageLayer(Layer):
    """A function of single images, applied to a batch with other random numbers for each image.

    A subclass writes `draw`, best a dictionary with Keras's names for what is drawn, and `transform_image`, and where
    labels move with the pixels `transform_mask` and `transform_boxes`; or Keras's methods for batches,
    `get_random_transformation` and `transform_images`, `transform_labels`, `transform_bounding_boxes` and
    `transform_segmentation_masks`. It then takes images, or a dictionary of `"images"`, `"labels"`, `"bounding_boxes"`
    (`{"boxes": (batch, boxes, 4), "labels": (batch, boxes)}`) and `"segmentation_masks"`, which it transforms alike.
    Images are `(batch, height, width, channels)` or without the batch axis, of any dtype, float or integer; the
    computation is in float32 and gives the layer's compute dtype.
    Random layers change nothing unless `training`, which is true outside of a model.

    Args:
        seed: Integer for a stream of the layer's own.
        bounding_box_format: `"xyxy"` and others; see `convert_format`.
        data_format: `"channels_last"` or `"channels_first"`.
    """

    is_random = True  # whether it draws numbers, and does so only while training
    runs_at_inference = False  # whether a random layer has something else to do then
    moves_boxes = False  # whether boxes go through `transform_boxes`
    refuses_boxes = False
    further_parts: tuple[str, ...] = ()  # what `transform_batch` changes beside images, masks and moved boxes
    channels: tuple[int, ...] | None = None  # the numbers of channels it can work on, if not all
    integers: Callable | None = None  # what keeps integer images integers, as `jnp.round`; `None`: they become floats

    def __init__(self, seed=None, bounding_box_format=None, data_format=None, **kwargs):
        super().__init__(**kwargs)
        if seed is not None and not self.is_random:  # a layer that draws nothing has no such argument
            reject_unknown(self, {"seed": seed}, "data_format", "bounding_box_format")
        if bounding_box_format is not None:
            check_format(self, "bounding_box_format", bounding_box_format)
        self.autocast = False  # boxes and labels keep their precision
        self.seed = seed
        self.seed_generator = generator_for(seed) if self.is_random else None
        self.bounding_box_format: Any = bounding_box_format  # `build` refuses boxes without
        self.data_format = config.standardize_data_format(data_format)

    def draw(self, key: Any, shape: Any) -> Any:
        """Random parameters for one image of `shape`."""

    def transform_image(self, image: Any, params: Any) -> Any:
        """One float32 image `(height, width, channels)`, transformed."""
        return image

    def transform_mask(self, mask: Any, params: Any) -> Any:
        """One float32 segmentation mask, transformed like its image."""
        return mask

    def transform_boxes(self, boxes: Any, params: Any, shape: Any) -> Any:
        """Boxes `(boxes, 4)` in pixels (`"xyxy"`) of one image of `shape`, transformed like it."""
        return boxes

    def transform_sample(self, sample: dict, params: Any) -> Any:
        """One image and what belongs to it, transformed. `params` is `None` when nothing was drawn."""
        shape = sample["images"].shape  # (height, width, channels), before it may change
        outputs = {**sample, "images": self.transform_image(sample["images"], params)}
        if "segmentation_masks" in sample:
            outputs["segmentation_masks"] = self.transform_mask(sample["segmentation_masks"], params)
        if "bounding_boxes" in sample and self.moves_boxes:
            boxes = self.transform_boxes(sample["bounding_boxes"]["boxes"], params, shape)
            moved = {"boxes": boxes, "labels": sample["bounding_boxes"]["labels"]}
            outputs["bounding_boxes"] = clip_to_image_size(moved, *outputs["images"].shape[:2])
        return outputs

    def draw_batch(self, key: Any, shape: Any) -> Any:
        """Random parameters for a batch of images of `shape`, each drawn with a key of its own."""
        return jax.vmap(lambda key: self.draw(key, shape[1:]))(jax.random.split(key, shape[0]))

    def transform_batch(self, batch: dict, params: Any) -> Any:
        """A batch of samples, transformed one by one, each by its row of `params`."""
        return jax.vmap(self.transform_sample)(batch, params)

    def keeps(self, name: str) -> bool:
        """Whether a part of the input, other than the images, always stays as it is."""
        if name == "segmentation_masks":
            changing = "transform_mask", "transform_sample", "transform_batch"
            return all(getattr(type(self), method) is getattr(ImageLayer, method) for method in changing)
        return name != "images" and name not in self.further_parts + ("bounding_boxes",) * self.moves_boxes

    def build(self, input_shape: Any) -> None:
        shapes = input_shape if isinstance(input_shape, dict) else {"images": input_shape}
        if len(shapes.get("images", ())) not in (3, 4):
            raise ValueError(
                f"{self}: images must have shape (batch, height, width, channels) or (height, width, channels), or "
                f"the input be a dictionary with such 'images'. Got shape {shapes.get('images', shapes)}."
            )
        count = shapes["images"][-1 if self.data_format == "channels_last" else -3]
        if self.channels is not None and count not in (None, *self.channels):
            raise ValueError(
                f"{self}: images must have {' or '.join(map(str, self.channels))} channels. "
                f"Got {count} in shape {shapes['images']} with data_format={self.data_format!r}."
            )
        if "bounding_boxes" in shapes and self.moves_boxes and self.bounding_box_format is None:
            raise ValueError(
                f"{self}: the input has 'bounding_boxes', so the layer needs `bounding_box_format`, such as 'xyxy'."
            )
        if "bounding_boxes" in shapes and self.refuses_boxes:
            raise ValueError(f"{self}: it cannot transform 'bounding_boxes'. Leave them out of the input.")
        for layer in descendants(self):
            if isinstance(layer, ImageLayer):
                layer.built = True  # those inside are never called themselves

    def call(self, data: Any, training: Any = True) -> Any:
        if image_hooks.are_replaced(self):
            return image_hooks.call(self, data, training)
        given = jax.tree.map(jnp.asarray, data if isinstance(data, dict) else {"images": data})
        outputs = self.transform_parts(given, key=self.next_key() if training and self.is_random else None)
        return outputs if isinstance(data, dict) else outputs["images"]

    get_random_transformation = image_hooks.get_random_transformation
    transform_images = image_hooks.transform_images
    transform_labels = image_hooks.transform_labels
    transform_bounding_boxes = image_hooks.transform_bounding_boxes
    transform_segmentation_masks = image_hooks.transform_segmentation_masks

    def transform_parts(self, given: dict, key: Any = None, params: Any = None) -> dict:
        """Images and what belongs to them, transformed, in their own layout, by `params` or what `key` draws."""
        outputs = dict(given)  # what the layer does not change, such as a name for each image, goes through
        if key is not None or params is not None or not self.is_random or self.runs_at_inference:
            batch, is_single = self._to_batch(given)
            outputs |= self._from_batch(_transform(self, batch, key, params), given, is_single)
        outputs["images"] = self._finish(outputs["images"], given["images"].dtype)
        return outputs

    def _finish(self, images, dtype):
        if self.integers is not None and jnp.issubdtype(dtype, jnp.integer):
            return to_dtype(self.integers(images), dtype)
        return to_dtype(images, self.compute_dtype)

    def _to_batch(self, given: dict) -> tuple[dict, bool]:
        """Everything with a batch axis, images and masks as floats with the channels last, boxes in pixels."""
        is_single = given["images"].ndim == 3  # (height, width, channels)
        batch = {name: part for name, part in given.items() if not self.keeps(name)}
        batch = jax.tree.map(lambda leaf: leaf[None], batch) if is_single else batch
        for name in ("images", "segmentation_masks"):
            if name in batch:
                pixels = batch[name].astype("float32")
                if pixels.ndim == 3:  # masks may come without channels
                    pixels = pixels[..., None]
                elif self.data_format == "channels_first":
                    pixels = jnp.moveaxis(pixels, 1, -1)
                batch[name] = pixels
        if "bounding_boxes" in batch and self.moves_boxes:
            size = batch["images"].shape[1:3]
            batch["bounding_boxes"] = convert_format(batch["bounding_boxes"], self.bounding_box_format, "xyxy", *size)
        return batch, is_single

    def _from_batch(self, batch: dict, given: dict, is_single: bool) -> dict:
        outputs = dict(batch)
        if "bounding_boxes" in batch and self.moves_boxes:
            size = batch["images"].shape[1:3]
            outputs["bounding_boxes"] = convert_format(batch["bounding_boxes"], "xyxy", self.bounding_box_format, *size)
        if is_single:
            outputs = jax.tree.map(lambda leaf: leaf[0], outputs)
        for name in ("images", "segmentation_masks"):
            if name in batch:
                if given[name].ndim < given["images"].ndim:
                    outputs[name] = outputs[name][..., 0]
                elif self.data_format == "channels_first":
                    outputs[name] = jnp.moveaxis(outputs[name], -1, -3)
        if "segmentation_masks" in batch:
            outputs["segmentation_masks"] = to_dtype(outputs["segmentation_masks"], given["segmentation_masks"].dtype)
        return outputs

    def get_config(self) -> dict:
        """The constructor's arguments, and the layout of images."""
        return super().get_config() | {"data_format": self.data_format}


@functools.partial(jax.jit, static_argnums=0)
def _transform(layer: ImageLayer, batch: dict, key, params):
    """`draw_batch` and `transform_batch`, compiled, so that calls outside of a model are fast, too."""
    return layer.transform_batch(batch, params if key is None else layer.draw_batch(key, batch["images"].shape))


def factor_range(layer: Layer, name: str, value: Any, low: float, high: float) -> tuple[float, float]:
    """`value` as an ascending pair within `[low, high]`; a number stands for `(-number, number)`, or `(0, number)`.

    Raises:
        ValueError: if it is neither a number nor two, or out of bounds.
    """
    pair: Any = value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        # `min`, so that a negative number, which is out of bounds, reaches the check below.
        pair = (-abs(value), abs(value)) if low < 0 else (min(0, value), value)
    is_pair = isinstance(pair, (tuple, list)) and len(pair) == 2
    check(layer, is_pair, f"`{name}` must be a number or two numbers", **{name: value})
    is_within = all(low <= bound <= high for bound in pair)
    check(layer, is_within, f"`{name}` must be within [{low}, {high}]", **{name: value})
    lower, upper = sorted(float(bound) for bound in pair)
    return lower, upper


def draw_factor(key: Any, bounds: tuple[float, float]) -> Any:
    """A number spread evenly over `bounds`, exactly the bound if both are the same."""
    lower, upper = bounds
    return lower + (upper - lower) * jax.random.uniform(key)


def is_chosen(key: Any, factor: Any) -> Any:
    """True with a probability that is itself spread evenly over `factor`."""
    probability, choice = jax.random.split(key)
    return jax.random.uniform(choice) < draw_factor(probability, factor)


class Resizing(ImageLayer):
    """Images of another size, while training and otherwise.

    Integer images stay integers, rounded. Boxes follow the pixels; in Keras 3.15 they ignore what is cut off or added.

    Args:
        height, width: Size of the outputs.
        interpolation: `"bilinear"`, `"nearest"`, `"bicubic"`, `"lanczos3"` or `"lanczos5"`; masks take the nearest.
        crop_to_aspect_ratio: Whether to keep proportions by cutting off what is too long.
        pad_to_aspect_ratio: Whether to keep proportions by filling up what is too short.
        fill_mode: `"constant"`. fill_value: What `pad_to_aspect_ratio` fills up with.
        antialias: Whether to widen the filter when making images smaller.
        data_format: `"channels_last"` or `"channels_first"`.

    Raises:
        ValueError: for a size below 1, an unknown option, or both proportions.
    """

    is_random = False
    moves_boxes = True
    integers = staticmethod(jnp.round)

    def __init__(
        self,
        height,
        width,
        interpolation="bilinear",
        crop_to_aspect_ratio=False,
        pad_to_aspect_ratio=False,
        fill_mode="constant",
        fill_value=0.0,
        antialias=False,
        data_format=None,
        **kwargs,
    ):
        super().__init__(data_format=data_format, **kwargs)
        check_positive(self, height=height, width=width)
        check_choice(self, "interpolation", interpolation, RESIZE_METHODS)
        check_choice(self, "fill_mode", fill_mode, ("constant",))
        if crop_to_aspect_ratio and pad_to_aspect_ratio:
            raise ValueError(f"{self}: set only one of `crop_to_aspect_ratio` and `pad_to_aspect_ratio`.")
        self.height, self.width = height, width
        self.interpolation, self.antialias = interpolation, antialias
        self.crop_to_aspect_ratio, self.pad_to_aspect_ratio = crop_to_aspect_ratio, pad_to_aspect_ratio
        self.fill_mode, self.fill_value = fill_mode, fill_value

    def _resize(self, image, interpolation, antialias):
        proportions = self.crop_to_aspect_ratio, self.pad_to_aspect_ratio, self.fill_mode, self.fill_value
        return resize(image, (self.height, self.width), interpolation, antialias, *proportions, "channels_last")

    def transform_image(self, image: Any, params: Any) -> Any:
        return self._resize(image, self.interpolation, self.antialias)

    def transform_mask(self, mask: Any, params: Any) -> Any:
        return self._resize(mask, "nearest", False)

    def transform_boxes(self, boxes: Any, params: Any, shape: Any) -> Any:
        height, width = shape[:2]
        top = left = 0
        if self.crop_to_aspect_ratio:
            top, left, height, width = window_of_aspect(height, width, self.height, self.width)
        if self.pad_to_aspect_ratio:
            # Margins are negative cuts: the boxes' origin moves out of the image.
            rows, columns = frame_of_aspect(height, width, self.height, self.width)
            top, left, height, width = -rows, -columns, height + 2 * rows, width + 2 * columns
        return _move_boxes(boxes, top, left, self.height / height, self.width / width)


def _move_boxes(boxes, top, left, scale_y=1, scale_x=1):
    """Boxes as seen from another origin, and scaled."""
    shift = jnp.stack([jnp.asarray(value, boxes.dtype) for value in (left, top, left, top)])
    return (boxes - shift) * jnp.asarray([scale_x, scale_y, scale_x, scale_y], boxes.dtype)


class _Crop(ImageLayer):
    """Windows of `(height, width)`; images that are too small are resized to it, keeping proportions."""

    moves_boxes = True

    def __init__(self, height, width, **kwargs):
        super().__init__(**kwargs)
        check_positive(self, height=height, width=width)
        self.height, self.width = height, width

    def corner(self, params: Any, shape: Any) -> Any:
        """Row and column where the window starts, or `None` to resize instead."""
        return params

    def _cut(self, image, params, interpolation):
        corner = self.corner(params, image.shape)
        if corner is None:  # sizes are known while compiling: this is decided once for all images of a batch
            size = (self.height, self.width)
            return resize(image, size, interpolation, crop_to_aspect_ratio=True, data_format="channels_last")
        return jax.lax.dynamic_slice(image, (*corner, 0), (self.height, self.width, image.shape[-1]))

    def transform_image(self, image: Any, params: Any) -> Any:
        return self._cut(image, params, "bilinear")

    def transform_mask(self, mask: Any, params: Any) -> Any:
        return self._cut(mask, params, "nearest")

    def transform_boxes(self, boxes: Any, params: Any, shape: Any) -> Any:
        corner = self.corner(params, shape)
        if corner is not None:
            return _move_boxes(boxes, *corner)
        top, left, height, width = window_of_aspect(shape[0], shape[1], self.height, self.width)
        return _move_boxes(boxes, top, left, self.height / height, self.width / width)


class CenterCrop(_Crop):
    """The middle of images; images smaller than that are resized, keeping proportions, and then cut.

    Args:
        height, width: Size of the outputs.
        data_format: `"channels_last"` or `"channels_first"`.
    """

    is_random = False

    def __init__(self, height, width, data_format=None, **kwargs):
        super().__init__(height, width, data_format=data_format, **kwargs)

    def corner(self, params: Any, shape: Any) -> Any:
        if shape[0] < self.height or shape[1] < self.width:
            return None
        return (shape[0] - self.height) // 2, (shape[1] - self.width) // 2


class RandomCrop(_Crop):
    """Windows at random places, other ones for each image; too small images are resized, keeping proportions.

    When not training, all images are resized and cut in the middle. This is what Keras documents; Keras 3.15 leaves
    them as they are, and takes one place for all images of a batch.

    Args:
        height, width: Size of the outputs.
        seed: Integer for a stream of the layer's own.
        data_format: `"channels_last"` or `"channels_first"`.
    """

    runs_at_inference = True

    def __init__(self, height, width, seed=None, data_format=None, name=None, **kwargs):
        super().__init__(height, width, seed=seed, data_format=data_format, name=name, **kwargs)

    def draw(self, key: Any, shape: Any) -> Any:
        rows, columns = shape[0] - self.height, shape[1] - self.width  # how far the window can move
        if rows < 0 or columns < 0:
            return None
        return tuple(jax.random.randint(key, (2,), 0, jnp.array([rows + 1, columns + 1])))
