"""Random movements of pixels: flips, and warps by an affine, projective or elastic map, another one for each image."""

from typing import Any

import jax
import jax.numpy as jnp

from kerax.layers.bounding_boxes import warp_boxes
from kerax.layers.image import ImageLayer, draw_factor, factor_range, is_chosen
from kerax.layers.options import check, check_choice, check_rate
from kerax.ops.image import FILL_MODES, INTERPOLATIONS, elastic_coordinates, homography, sample, warp

_IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)


class RandomFlip(ImageLayer):
    """Images mirrored, each with probability one half for each direction; in Keras 3.15 in both or in neither.

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
        flips = jax.random.bernoulli(key, 0.5, (2,))
        if self.mode == "horizontal_and_vertical":
            return {"flips": flips}
        return {"flips": flips[int(self.mode == "horizontal")].reshape(1, 1, 1)}

    def _directions(self, params):
        """Whether up and down, and left and right change places; one number speaks for both."""
        allowed = jnp.array(["vertical" in self.mode, "horizontal" in self.mode])
        return params["flips"].reshape(-1).astype(bool) & allowed

    def transform_image(self, image: Any, params: Any) -> Any:
        vertical, horizontal = self._directions(params)
        # Both are computed and one is picked: under `vmap` a condition for each image is no branch anyway.
        image = jnp.where(vertical, image[::-1], image)
        return jnp.where(horizontal, image[:, ::-1], image)

    def transform_mask(self, mask: Any, params: Any) -> Any:
        return self.transform_image(mask, params)

    def transform_boxes(self, boxes: Any, params: Any, shape: Any) -> Any:
        left, top, right, bottom = jnp.moveaxis(boxes, -1, 0)
        vertical, horizontal = self._directions(params)
        height, width = shape[:2]
        # Mirrored, the lower edge becomes the upper one.
        top, bottom = jnp.where(vertical, height - bottom, top), jnp.where(vertical, height - top, bottom)
        left, right = jnp.where(horizontal, width - right, left), jnp.where(horizontal, width - left, right)
        return jnp.stack([left, top, right, bottom], axis=-1)


class _Warp(ImageLayer):
    """Images whose pixels are looked up at other places.

    `map_of` makes what `draw` gives into the 8 numbers of the map from outputs to inputs, as
    `ops.image.affine_transform` takes them. Masks are warped with the nearest pixel, boxes become those around their
    warped corners.
    """

    moves_boxes = True
    fill_modes = tuple(mode for mode in FILL_MODES if mode != "mirror")

    def __init__(self, interpolation, fill_mode, fill_value, seed, data_format, **kwargs):
        super().__init__(seed=seed, data_format=data_format, **kwargs)
        check_choice(self, "interpolation", interpolation, INTERPOLATIONS)
        check_choice(self, "fill_mode", fill_mode, self.fill_modes)
        self.interpolation, self.fill_mode, self.fill_value = interpolation, fill_mode, fill_value

    def map_of(self, params: Any, shape: Any) -> Any:
        """The 8 numbers of the map of one image of `shape`."""
        raise NotImplementedError(f"{self} does not implement `map_of`.")

    def transform_image(self, image: Any, params: Any) -> Any:
        transform = self.map_of(params, image.shape)
        return warp(image, transform, self.interpolation, self.fill_mode, self.fill_value)

    def transform_mask(self, mask: Any, params: Any) -> Any:
        return warp(mask, self.map_of(params, mask.shape), "nearest", self.fill_mode, self.fill_value)

    def transform_boxes(self, boxes: Any, params: Any, shape: Any) -> Any:
        return warp_boxes(boxes, self.map_of(params, shape))


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
        return {"angle": 360 * draw_factor(key, self.factor)}  # degrees

    def map_of(self, params: Any, shape: Any) -> Any:
        angle = jnp.deg2rad(params["angle"].reshape(()))
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
        return {"translations": jnp.stack([right, down])}  # pixels

    def map_of(self, params: Any, shape: Any) -> Any:
        # The map goes from outputs to inputs: where the image moves right, each pixel is found farther left.
        return jnp.array(_IDENTITY).at[jnp.array([2, 5])].set(-params["translations"])


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
        return {"height_zoom": height[None], "width_zoom": width[None]}

    def map_of(self, params: Any, shape: Any) -> Any:
        height, width, zero = params["height_zoom"].reshape(()), params["width_zoom"].reshape(()), jnp.zeros(())
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
        return {"shear_factor": jnp.stack([x, y])}

    def map_of(self, params: Any, shape: Any) -> Any:
        return jnp.array(_IDENTITY).at[jnp.array([1, 3])].set(params["shear_factor"])


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
        is_changed = is_chosen(choice, self.factor)
        return {"apply_perspective": is_changed, "start_points": corners, "end_points": moved}

    def map_of(self, params: Any, shape: Any) -> Any:
        transform = homography(params["start_points"], params["end_points"])
        return jnp.where(params["apply_perspective"], transform, jnp.array(_IDENTITY))


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
        is_changed, strength = is_chosen(choice, self.factor), draw_factor(strength, self.scale)
        return {"apply_transform": is_changed, "distortion_factor": strength, "seed": noise}

    def _coordinates(self, params, shape):
        # Strength 0 where the image is not chosen: every pixel then stays at its place.
        scale = jnp.where(params["apply_transform"], params["distortion_factor"], 0)
        smoothing = 0.05 * min(shape[:2])
        sigma, largest = jnp.maximum(smoothing * scale, 1e-3), smoothing * self.scale[1]
        return elastic_coordinates(params["seed"], shape, 0.1 * max(shape[:2]) * scale, sigma, largest)

    def transform_image(self, image: Any, params: Any) -> Any:
        order, places = INTERPOLATIONS.index(self.interpolation), self._coordinates(params, image.shape)
        return jnp.clip(sample(image, places, order, self.fill_mode, self.fill_value), *self.value_range)

    def transform_mask(self, mask: Any, params: Any) -> Any:
        return sample(mask, self._coordinates(params, mask.shape), 0, self.fill_mode, self.fill_value)
