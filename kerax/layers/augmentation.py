"""Random movements of pixels: flips, and warps by an affine, projective or elastic map, another one for each image."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from kerax.layers.bounding_boxes import warp_boxes
from kerax.layers.image import ImageLayer, draw_factor, factor_range, is_chosen
from kerax.layers.options import check, check_choice, check_rate
from kerax.ops.image import FILL_MODES, INTERPOLATIONS, elastic_coordinates, homography, sample, warp

_IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)


class RandomFlip(ImageLayer):
    """Images mirrored, each with probability one half for each direction.

    Args:
        mode: `"horizontal"` (left and right change places), `"vertical"` or `"horizontal_and_vertical"`.
        seed: Integer for a stream of the layer's own.
        data_format: `"channels_last"` or `"channels_first"`.
    """

    moves_boxes = True

    def __init__(self, mode="horizontal_and_vertical", seed=None, data_format=None, **kwargs):
        super().__init__(seed=seed, data_format=data_format, **kwargs)
        check_choice(self, "mode", mode, ("horizontal", "vertical", "horizontal_and_vertical"))
        self.mode = mode

    def draw(self, key: Any, shape: Any) -> Any:
        allowed = jnp.array(["vertical" in self.mode, "horizontal" in self.mode])
        return jax.random.bernoulli(key, 0.5, (2,)) & allowed

    def transform_image(self, image: Any, params: Any) -> Any:
        # Both are computed and one is picked: under `vmap` a condition for each image is no branch anyway.
        image = jnp.where(params[0], image[::-1], image)
        return jnp.where(params[1], image[:, ::-1], image)

    def transform_mask(self, mask: Any, params: Any) -> Any:
        return self.transform_image(mask, params)

    def transform_boxes(self, boxes: Any, params: Any, shape: Any) -> Any:
        left, top, right, bottom = jnp.moveaxis(boxes, -1, 0)
        height, width = shape[:2]
        # Mirrored, the lower edge becomes the upper one.
        top, bottom = jnp.where(params[0], height - bottom, top), jnp.where(params[0], height - top, bottom)
        left, right = jnp.where(params[1], width - right, left), jnp.where(params[1], width - left, right)
        return jnp.stack([left, top, right, bottom], axis=-1)


class _Warp(ImageLayer):
    """Images whose pixels are looked up at other places.

    `draw` gives the 8 numbers of the map from outputs to inputs, as `ops.image.affine_transform` takes them, or what a
    subclass's own `transform_image` takes. Masks are warped with the nearest pixel, boxes become those around their
    warped corners.
    """

    moves_boxes = True
    fill_modes = tuple(mode for mode in FILL_MODES if mode != "mirror")

    def __init__(self, interpolation, fill_mode, fill_value, seed, data_format, **kwargs):
        super().__init__(seed=seed, data_format=data_format, **kwargs)
        check_choice(self, "interpolation", interpolation, INTERPOLATIONS)
        check_choice(self, "fill_mode", fill_mode, self.fill_modes)
        self.interpolation, self.fill_mode, self.fill_value = interpolation, fill_mode, fill_value

    def transform_image(self, image: Any, params: Any) -> Any:
        return warp(image, params, self.interpolation, self.fill_mode, self.fill_value)

    def transform_mask(self, mask: Any, params: Any) -> Any:
        return warp(mask, params, "nearest", self.fill_mode, self.fill_value)

    def transform_boxes(self, boxes: Any, params: Any, shape: Any) -> Any:
        return warp_boxes(boxes, params)


def _about_center(matrix, shape):
    """The 8 numbers of the linear map `((a0, a1), (b0, b1))` about the middle of an image."""
    # Pixels' centres are at whole numbers, so the middle of n of them is at (n - 1) / 2.
    (a0, a1), (b0, b1) = matrix
    y, x = (shape[0] - 1) / 2, (shape[1] - 1) / 2
    zero = jnp.zeros(())
    return jnp.stack([a0, a1, x - a0 * x - a1 * y, b0, b1, y - b0 * x - b1 * y, zero, zero])


class RandomRotation(_Warp):
    """Images turned about their middle.

    Args:
        factor: Largest turn in either direction as a fraction of a full circle, or the range; positive is
            counterclockwise. From -1 to 1.
        fill_mode: What is beyond the edges: `"reflect"`, `"constant"`, `"wrap"` or `"nearest"`.
        interpolation: `"bilinear"` or `"nearest"`.
        seed: Integer for a stream of the layer's own.
        fill_value: Value beyond the edges with `fill_mode="constant"`.
        data_format: `"channels_last"` or `"channels_first"`.
    """

    def __init__(
        self,
        factor,
        fill_mode="reflect",
        interpolation="bilinear",
        seed=None,
        fill_value=0.0,
        data_format=None,
        **kwargs,
    ):
        super().__init__(interpolation, fill_mode, fill_value, seed, data_format, **kwargs)
        self.factor = factor_range(self, "factor", factor, -1, 1)

    def draw(self, key: Any, shape: Any) -> Any:
        angle = 2 * math.pi * draw_factor(key, self.factor)
        cosine, sine = jnp.cos(angle), jnp.sin(angle)
        return _about_center(((cosine, -sine), (sine, cosine)), shape)


class RandomTranslation(_Warp):
    """Images moved.

    Args:
        height_factor: Largest move up or down as a fraction of the height, or the range; positive is down.
        width_factor: Likewise left or right; positive is to the right. Both from -1 to 1.
        fill_mode, interpolation, seed, fill_value, data_format: As in `RandomRotation`.
    """

    def __init__(
        self,
        height_factor,
        width_factor,
        fill_mode="reflect",
        interpolation="bilinear",
        seed=None,
        fill_value=0.0,
        data_format=None,
        **kwargs,
    ):
        super().__init__(interpolation, fill_mode, fill_value, seed, data_format, **kwargs)
        self.height_factor = factor_range(self, "height_factor", height_factor, -1, 1)
        self.width_factor = factor_range(self, "width_factor", width_factor, -1, 1)

    def draw(self, key: Any, shape: Any) -> Any:
        vertical, horizontal = jax.random.split(key)
        down = draw_factor(vertical, self.height_factor) * shape[0]
        right = draw_factor(horizontal, self.width_factor) * shape[1]
        # The map goes from outputs to inputs: where the image moves right, each pixel is found farther left.
        return jnp.array(_IDENTITY).at[jnp.array([2, 5])].set(-jnp.stack([right, down]))


class RandomZoom(_Warp):
    """Images made smaller or larger about their middle.

    Args:
        height_factor: Largest change as a fraction of the height, or the range; positive zooms out. Above -1, up to 1.
        width_factor: Likewise for the width. `None` keeps the proportions.
        fill_mode, interpolation, seed, fill_value, data_format: As in `RandomRotation`.
    """

    def __init__(
        self,
        height_factor,
        width_factor=None,
        fill_mode="reflect",
        interpolation="bilinear",
        seed=None,
        fill_value=0.0,
        data_format=None,
        **kwargs,
    ):
        super().__init__(interpolation, fill_mode, fill_value, seed, data_format, **kwargs)
        self.height_factor = self._range("height_factor", height_factor)
        self.width_factor = None if width_factor is None else self._range("width_factor", width_factor)

    def _range(self, name: str, factor) -> tuple[float, float]:
        bounds = factor_range(self, name, factor, -1, 1)
        # The whole range is taken too, its lower end moved to where something is left.
        leaves_some = bounds[0] > -1 or bounds == (-1.0, 1.0)
        check(self, leaves_some, f"`{name}` must be above -1, where nothing is left", **{name: factor})
        return max(bounds[0], -0.999), bounds[1]

    def draw(self, key: Any, shape: Any) -> Any:
        vertical, horizontal = jax.random.split(key)
        height = 1 + draw_factor(vertical, self.height_factor)  # above 1 zooms out: a pixel is found farther away
        width = height if self.width_factor is None else 1 + draw_factor(horizontal, self.width_factor)
        zero = jnp.zeros(())
        return _about_center(((width, zero), (zero, height)), shape)


class RandomShear(_Warp):
    """Images slanted, to either side.

    Boxes follow the pixels; in Keras 3.15 they are slanted to the other side.

    Args:
        x_factor: Largest slant of the columns, or the range: horizontal move for each row, from -1 to 1.
        y_factor: Largest slant of the rows, or the range: vertical move for each column, likewise.
        interpolation, fill_mode, fill_value, data_format, seed: As in `RandomRotation`.
    """

    def __init__(
        self,
        x_factor: Any = 0.0,
        y_factor: Any = 0.0,
        interpolation="bilinear",
        fill_mode="reflect",
        fill_value=0.0,
        data_format=None,
        seed=None,
        **kwargs,
    ):
        super().__init__(interpolation, fill_mode, fill_value, seed, data_format, **kwargs)
        self.x_factor = factor_range(self, "x_factor", x_factor, -1, 1)
        self.y_factor = factor_range(self, "y_factor", y_factor, -1, 1)

    def draw(self, key: Any, shape: Any) -> Any:
        horizontal, vertical, side = jax.random.split(key, 3)
        sign = jax.random.rademacher(side, (), "float32")
        x, y = sign * draw_factor(horizontal, self.x_factor), sign * draw_factor(vertical, self.y_factor)
        return jnp.array(_IDENTITY).at[jnp.array([1, 3])].set(jnp.stack([x, y]))


class RandomPerspective(_Warp):
    """Images as seen from another side: their corners are moved.

    Args:
        factor: Probability of a change, or the range it is drawn from; a number stands for `(0, number)`.
        scale: Width of the range, about 1, of what each coordinate of a corner is multiplied with, from 0 to 1.
        interpolation, fill_value, seed, data_format: As in `RandomRotation`; beyond the edges is `fill_value`.
    """

    def __init__(
        self, factor=1.0, scale=1.0, interpolation="bilinear", fill_value=0.0, seed=None, data_format=None, **kwargs
    ):
        super().__init__(interpolation, "constant", fill_value, seed, data_format, **kwargs)
        self.factor = factor_range(self, "factor", factor, 0, 1)
        check_rate(self, scale=scale)
        self.scale = scale

    def draw(self, key: Any, shape: Any) -> Any:
        choice, moves = jax.random.split(key)
        corners = jnp.array([[0.0, 0.0], [1, 0], [0, 1], [1, 1]]) * jnp.array([shape[1] - 1.0, shape[0] - 1.0])
        # The corner at the origin stays there, whatever it is multiplied with.
        moved = corners * (1 + self.scale * (jax.random.uniform(moves, (4, 2)) - 0.5))
        transform = homography(corners, moved)
        return jnp.where(is_chosen(choice, self.factor), transform, jnp.array(_IDENTITY))


class RandomElasticTransform(_Warp):
    """Images whose pixels are moved by smooth noise.

    Args:
        factor: Probability of a change, or the range it is drawn from; a number stands for `(0, number)`.
        scale: Strength, or the range it is drawn from, from 0 to 1; a number stands for `(0, number)`.
        interpolation, fill_mode, fill_value, seed, data_format: As in `RandomRotation`.
        value_range: Lowest and highest value of the images, to which the results are clipped.

    Bounding boxes are refused. Source: Simard et al. 2003, https://doi.org/10.1109/ICDAR.2003.1227801
    """

    moves_boxes = False
    refuses_boxes = True  # a box under smooth noise is no box

    def __init__(
        self,
        factor=1.0,
        scale=1.0,
        interpolation="bilinear",
        fill_mode="reflect",
        fill_value=0.0,
        value_range=(0, 255),
        seed=None,
        data_format=None,
        **kwargs,
    ):
        super().__init__(interpolation, fill_mode, fill_value, seed, data_format, **kwargs)
        self.factor = factor_range(self, "factor", factor, 0, 1)
        self.scale = factor_range(self, "scale", scale, 0, 1)
        self.value_range = value_range

    def draw(self, key: Any, shape: Any) -> Any:
        choice, strength, noise = jax.random.split(key, 3)
        # Strength 0 where the image is not chosen: every pixel then stays at its place.
        scale = jnp.where(is_chosen(choice, self.factor), draw_factor(strength, self.scale), 0)
        smoothing = 0.05 * min(shape[:2])
        sigma = jnp.maximum(smoothing * scale, 1e-3)
        return elastic_coordinates(noise, shape, 0.1 * max(shape[:2]) * scale, sigma, smoothing * self.scale[1])

    def transform_image(self, image: Any, params: Any) -> Any:
        order = INTERPOLATIONS.index(self.interpolation)
        return jnp.clip(sample(image, params, order, self.fill_mode, self.fill_value), *self.value_range)

    def transform_mask(self, mask: Any, params: Any) -> Any:
        return sample(mask, params, 0, self.fill_mode, self.fill_value)
