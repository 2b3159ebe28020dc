"""Changes of colours: of one number per image drawn at random, and of whole histograms.

`value_range` is the lowest and highest value that pixels can have, `(0, 255)` by default; results are clipped to it.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from kerax.layers.image import ImageLayer, draw_factor, factor_range, is_chosen
from kerax.layers.options import check, sizes, with_defaults
from kerax.ops.image import blur, grayscale, to_hsv, to_rgb

_SMOOTH = ((1 / 13, 1 / 13, 1 / 13), (1 / 13, 5 / 13, 1 / 13), (1 / 13, 1 / 13, 1 / 13))


class _Color(ImageLayer):
    """Images changed by a number drawn from `factor` for each: `adjust` works on values from 0 to 1.

    Numbers have the rank that Keras gives them: some are to be broadcast to the image, some are scalars.
    """

    bounds = (0, 1)  # of `factor`; a lower one below 0 says that a number stands for both directions

    def __init__(self, factor, value_range=(0, 255), data_format=None, seed=None, **kwargs):
        super().__init__(seed=seed, data_format=data_format, **kwargs)
        self.factor = factor_range(self, "factor", factor, *self.bounds)
        self.value_range = check_value_range(self, value_range)

    def draw(self, key: Any, shape: Any) -> Any:
        return {"factor": draw_factor(key, self.factor)}

    def adjust(self, image: Any, params: Any) -> Any:
        """One image with values from 0 to 1, changed."""
        raise NotImplementedError(f"{self} does not implement `adjust`.")

    def transform_image(self, image: Any, params: Any) -> Any:
        low, high = self.value_range
        adjusted = self.adjust((image - low) / (high - low), params)
        return jnp.clip(adjusted * (high - low) + low, low, high)


def check_value_range(layer: Any, value: Any) -> tuple[float, float]:
    """`value` as a pair. Raises `ValueError` unless it is two ascending numbers."""
    ascends = isinstance(value, (tuple, list)) and len(value) == 2 and value[0] < value[1]
    check(layer, ascends, "`value_range` must be (lowest, highest)", value_range=value)
    return float(value[0]), float(value[1])


class RandomBrightness(_Color):
    """Images with one number added, integers staying integers.

    Args:
        factor: Largest change in either direction as a fraction of the value range, or the range; from -1 to 1.
        value_range: Lowest and highest value of pixels.
        seed: Integer for a stream of the layer's own.
    """

    bounds = (-1, 1)
    integers = staticmethod(jnp.floor)

    def __init__(self, factor, value_range=(0, 255), seed=None, **kwargs):
        super().__init__(factor, value_range, seed=seed, **kwargs)

    def draw(self, key: Any, shape: Any) -> Any:
        low, high = self.value_range
        return {"rgb_delta": (draw_factor(key, self.factor) * (high - low)).reshape(1, 1, 1)}

    # The numbers are added as they are: integers scaled to 0 to 1 and back would not all come back whole.
    def transform_image(self, image: Any, params: Any) -> Any:
        return jnp.clip(image + params["rgb_delta"], *self.value_range)


class RandomContrast(_Color):
    """Images whose distance from the mean of each channel is multiplied.

    Args:
        factor: `(lower, upper)`, each from 0 to 1: the multiplier is drawn between `1 - lower` and `1 + upper`. A
            number stands for `(0, number)`, as in Keras 3.15, whose documentation says `(number, number)`.
        value_range: Lowest and highest value of pixels.
        seed: Integer for a stream of the layer's own.
    """

    def __init__(self, factor, value_range=(0, 255), seed=None, **kwargs):
        super().__init__(factor, value_range, seed=seed, **kwargs)
        if isinstance(factor, (tuple, list)):
            self.factor = tuple(factor)  # two distances from 1, not an interval

    def draw(self, key: Any, shape: Any) -> Any:
        lower, upper = self.factor
        return {"contrast_factor": draw_factor(key, (1 - lower, 1 + upper)).reshape(1, 1, 1)}

    def adjust(self, image: Any, params: Any) -> Any:
        mean = jnp.mean(image, axis=(0, 1))  # (channels,)
        return mean + params["contrast_factor"] * (image - mean)


class RandomSaturation(_Color):
    """Images with paler or stronger colours: the saturation is multiplied by `factor / (1 - factor)`.

    Args:
        factor: Range from -1 to 1; a number stands for `(-number, number)`. 0 and less is gray, 0.5 no change, 1 full.
        value_range: Lowest and highest value of pixels.
        data_format: `"channels_last"` or `"channels_first"`.
        seed: Integer for a stream of the layer's own.
    """

    bounds = (-1, 1)
    channels = (3,)

    __init__ = with_defaults(_Color.__init__)

    def draw(self, key: Any, shape: Any) -> Any:
        factor = draw_factor(key, self.factor)
        # At a factor of 1 the multiplier is infinite: the small number keeps 0 / 0 of gray pixels from being NaN.
        return {"factor": factor / (1 - factor + 1e-7)}

    def adjust(self, image: Any, params: Any) -> Any:
        hue, saturation, value = jnp.moveaxis(to_hsv(image), -1, 0)
        saturation = jnp.clip(saturation * params["factor"], 0, 1)
        return to_rgb(jnp.stack([hue, saturation, value], axis=-1))


class RandomHue(_Color):
    """Images with the circle of hues turned, to either side.

    Args:
        factor: Largest turn as a fraction of half a circle, or the range, from 0 to 1.
        value_range: Lowest and highest value of pixels.
        data_format: `"channels_last"` or `"channels_first"`.
        seed: Integer for a stream of the layer's own.
    """

    channels = (3,)

    __init__ = with_defaults(_Color.__init__)

    def draw(self, key: Any, shape: Any) -> Any:
        side, turn = jax.random.split(key)
        # Half a circle is the farthest that a hue can go.
        return {"factor": jax.random.rademacher(side, (), "float32") * draw_factor(turn, self.factor) / 2}

    def adjust(self, image: Any, params: Any) -> Any:
        hue, saturation, value = jnp.moveaxis(to_hsv(image), -1, 0)
        return to_rgb(jnp.stack([(hue + params["factor"]) % 1, saturation, value], axis=-1))


class RandomColorDegeneration(_Color):
    """Images mixed with their gray version.

    Args:
        factor: Range of the share of gray, from -1 to 1; a number stands for `(-number, number)`.
        value_range: Lowest and highest value of pixels.
        data_format: `"channels_last"` or `"channels_first"`.
        seed: Integer for a stream of the layer's own.
    """

    bounds = (-1, 1)
    channels = (1, 3)

    __init__ = with_defaults(_Color.__init__)

    def draw(self, key: Any, shape: Any) -> Any:
        return {"factor": draw_factor(key, self.factor).reshape(1, 1, 1)}

    def adjust(self, image: Any, params: Any) -> Any:
        return image + params["factor"] * (grayscale(image) - image)


class RandomPosterization(_Color):
    """Images with fewer bits per channel.

    Args:
        factor: Number of bits to keep, from 1 to 8: `(lower, upper)`, the upper bound excluded unless it is the
            lower one. A number stands for `(1, number)`.
        value_range: Lowest and highest value of pixels.
        data_format: `"channels_last"` or `"channels_first"`.
        seed: Integer for a stream of the layer's own.
    """

    bounds = (1, 8)

    def __init__(self, factor, value_range=(0, 255), data_format=None, seed=None, **kwargs):
        given = factor if isinstance(factor, (tuple, list)) else (1, factor)
        super().__init__(given, value_range, data_format, seed, **kwargs)

    def draw(self, key: Any, shape: Any) -> Any:
        # The number of bits that are shifted out: `floor` leaves the upper bound out unless it is the only number.
        return {"shift_factor": 8 - jnp.floor(draw_factor(key, self.factor)).astype("int32")}

    def adjust(self, image: Any, params: Any) -> Any:
        levels = jnp.clip(image * 255 + 1e-4, 0, 255).astype("int32")  # a whole number may come in a little lower
        shift = params["shift_factor"].astype("int32")
        return ((levels >> shift) << shift).astype(image.dtype) / 255


class RandomSharpness(_Color):
    """Images mixed with a smoothed version, or moved away from it.

    Args:
        factor: Range from 0 (smoothed) over 0.5 (no change) to 1 (as much sharper); a number stands for `(0, number)`.
        value_range: Lowest and highest value of pixels.
        data_format: `"channels_last"` or `"channels_first"`.
        seed: Integer for a stream of the layer's own.
    """

    __init__ = with_defaults(_Color.__init__)

    def adjust(self, image: Any, params: Any) -> Any:
        kernel = jnp.array(_SMOOTH, image.dtype)[..., None, None]
        numbers = ("HWNC", "HWIO", "HWNC")  # channels are the batch
        smooth = lax.conv_general_dilated(image[..., None], kernel, (1, 1), "SAME", dimension_numbers=numbers)[..., 0]
        return smooth + 2 * params["factor"] * (image - smooth)


class RandomInvert(_Color):
    """Images turned into their negatives.

    Args:
        factor: Probability, or the range it is drawn from; a number stands for `(0, number)`.
        value_range: Lowest and highest value of pixels.
        seed: Integer for a stream of the layer's own.
        data_format: `"channels_last"` or `"channels_first"`.
    """

    def __init__(self, factor=1.0, value_range=(0, 255), seed=None, data_format=None, **kwargs):
        super().__init__(factor, value_range, data_format, seed, **kwargs)

    def draw(self, key: Any, shape: Any) -> Any:
        return {"apply_inversion": is_chosen(key, self.factor)}

    def adjust(self, image: Any, params: Any) -> Any:
        return jnp.where(params["apply_inversion"], 1 - image, image)


class RandomGrayscale(ImageLayer):
    """Images made gray, with as many channels as before; integers stay integers.

    Args:
        factor: Probability, from 0 to 1.
        data_format: `"channels_last"` or `"channels_first"`.
        seed: Integer for a stream of the layer's own.
    """

    channels = (1, 3)
    integers = staticmethod(jnp.floor)

    def __init__(self, factor=0.5, data_format=None, seed=None, **kwargs):
        super().__init__(seed=seed, data_format=data_format, **kwargs)
        factor_range(self, "factor", (factor, factor), 0, 1)
        self.factor = factor

    def draw(self, key: Any, shape: Any) -> Any:
        return jax.random.bernoulli(key, self.factor)

    def transform_image(self, image: Any, params: Any) -> Any:
        return jnp.where(params, grayscale(image), image)


class RandomGaussianBlur(ImageLayer):
    """Images averaged under a Gaussian window.

    Keras 3.15 on JAX blurs `"channels_last"` images along the wrong axes; its `"channels_first"` results are equal.

    Args:
        factor: Probability, or the range it is drawn from; a number stands for `(0, number)`.
        kernel_size: Size of the window, or height and width, odd.
        sigma: Standard deviation in pixels, or the range it is drawn from; a number stands for `(0, number)`.
        value_range: Lowest and highest value of pixels.
        data_format: `"channels_last"` or `"channels_first"`.
        seed: Integer for a stream of the layer's own.
    """

    def __init__(
        self,
        factor=1.0,
        kernel_size: int | Sequence[int] = 3,
        sigma=1.0,
        value_range=(0, 255),
        data_format=None,
        seed=None,
        **kwargs,
    ):
        super().__init__(seed=seed, data_format=data_format, **kwargs)
        self.factor = factor_range(self, "factor", factor, 0, 1)
        self.kernel_size = sizes(self, "kernel_size", kernel_size, 2)
        is_odd = all(size % 2 for size in self.kernel_size)  # else the window would have no middle
        check(self, is_odd, "`kernel_size` must be odd", kernel_size=kernel_size)
        self.sigma = factor_range(self, "sigma", sigma, 0, float("inf"))
        self.value_range = check_value_range(self, value_range)

    def draw(self, key: Any, shape: Any) -> Any:
        choice, width = jax.random.split(key)
        # A width of 0 would divide by it; at 0.001 all weight is in the middle of the window.
        sigma = jnp.maximum(draw_factor(width, self.sigma), 1e-3)
        return {"should_apply_blur": is_chosen(choice, self.factor), "blur_factor": jnp.stack([sigma, sigma])}

    def transform_image(self, image: Any, params: Any) -> Any:
        blurred = jnp.clip(blur(image, self.kernel_size, params["blur_factor"]), *self.value_range)
        return jnp.where(params["should_apply_blur"], blurred, image)


class RandomErasing(ImageLayer):
    """Images with a random rectangle replaced by a value or by noise.

    Args:
        factor: Probability, or the range it is drawn from; a number stands for `(0, number)`.
        scale: Range of the squared share of the height, and of the width, that the rectangle covers.
        fill_value: What replaces it. `None`: normal noise, clipped to the value range.
        value_range: Lowest and highest value of pixels.
        seed: Integer for a stream of the layer's own.
        data_format: `"channels_last"` or `"channels_first"`.

    Source: Zhong et al. 2017, https://arxiv.org/abs/1708.04896
    """

    def __init__(
        self,
        factor=1.0,
        scale=(0.02, 0.33),
        fill_value=None,
        value_range=(0, 255),
        seed=None,
        data_format=None,
        **kwargs,
    ):
        super().__init__(seed=seed, data_format=data_format, **kwargs)
        self.factor = factor_range(self, "factor", factor, 0, 1)
        self.scale = factor_range(self, "scale", scale, 0, 1)
        self.fill_value = fill_value
        self.value_range = check_value_range(self, value_range)

    def draw(self, key: Any, shape: Any) -> Any:
        choice, rows, columns, place, noise = jax.random.split(key, 5)
        height, width = (jnp.sqrt(draw_factor(axis, self.scale)) for axis in (rows, columns))
        inside = rectangle(place, shape, height, width)
        fill = self.value_range[1] * jax.random.normal(noise, shape) if self.fill_value is None else self.fill_value
        fill = jnp.clip(fill, *self.value_range)
        return {"apply_erasing": is_chosen(choice, self.factor), "batch_masks": inside[..., None], "fill_value": fill}

    def transform_image(self, image: Any, params: Any) -> Any:
        return jnp.where(params["batch_masks"] & params["apply_erasing"], params["fill_value"], image)


def rectangle(key: Any, shape: Any, height: Any, width: Any) -> Any:
    """Mask of a rectangle at a random place inside an image; its sides are fractions of the image's."""
    inside = []  # of each axis, a vector: their outer product is the rectangle
    for axis, (size, share) in enumerate(zip(shape[:2], (height, width))):
        start = jax.random.uniform(jax.random.fold_in(key, axis)) * (1 - share) * size
        pixels = jnp.arange(size, dtype=start.dtype)
        inside.append((pixels > start) & (pixels < start + share * size))
    return inside[0][:, None] & inside[1]


class Solarization(_Color):
    """Images with a number added and all values from a threshold on turned into their negatives, while training.

    Args:
        addition_factor: Largest addition as a fraction of the value range, or the range, from 0 to 1.
        threshold_factor: Largest threshold as such a fraction, or the range, from 0 to 1. Keras 3.15 ignores the lower
            bounds of both.
        value_range: Lowest and highest value of pixels.
        seed: Integer for a stream of the layer's own.
    """

    def __init__(
        self, addition_factor: Any = 0.0, threshold_factor: Any = 0.0, value_range=(0, 255), seed=None, **kwargs
    ):
        super().__init__(addition_factor, value_range, seed=seed, **kwargs)
        self.addition_factor = factor_range(self, "addition_factor", addition_factor, 0, 1)
        self.threshold_factor = factor_range(self, "threshold_factor", threshold_factor, 0, 1)

    def draw(self, key: Any, shape: Any) -> Any:
        addition, threshold = jax.random.split(key)
        addition, threshold = (
            255 * draw_factor(key, factor).reshape(1, 1, 1)
            for key, factor in ((addition, self.addition_factor), (threshold, self.threshold_factor))
        )
        return {"additions": addition, "thresholds": threshold}  # where values go from 0 to 255

    def adjust(self, image: Any, params: Any) -> Any:
        image = jnp.clip(image + params["additions"] / 255, 0, 1)
        return jnp.where(image < params["thresholds"] / 255, image, 1 - image)


class RandomColorJitter(ImageLayer):
    """Brightness, contrast, saturation and hue of images changed, one after the other.

    Args:
        value_range: Lowest and highest value of pixels.
        brightness_factor, contrast_factor, saturation_factor, hue_factor: As `factor` of `RandomBrightness`,
            `RandomContrast`, `RandomSaturation` and `RandomHue`. `None` leaves that one out.
        seed: Integer for a stream of the layer's own.
        data_format: `"channels_last"` or `"channels_first"`.
    """

    def __init__(
        self,
        value_range=(0, 255),
        brightness_factor=None,
        contrast_factor=None,
        saturation_factor=None,
        hue_factor=None,
        seed=None,
        data_format=None,
        **kwargs,
    ):
        super().__init__(seed=seed, data_format=data_format, **kwargs)
        self.value_range = check_value_range(self, value_range)
        parts = RandomBrightness, RandomContrast, RandomSaturation, RandomHue
        factors = brightness_factor, contrast_factor, saturation_factor, hue_factor
        given = [(part, factor) for part, factor in zip(parts, factors, strict=True) if factor is not None]
        self.steps = [part(factor, value_range=value_range) for part, factor in given]

    def draw(self, key: Any, shape: Any) -> Any:
        # A key for each: the four would otherwise draw the same number. One alone draws what its layer would.
        keys = [key, *(jax.random.fold_in(key, number) for number in range(1, len(self.steps)))]
        return [step.draw(key, shape) for key, step in zip(keys, self.steps)]

    def transform_sample(self, sample: dict, params: Any) -> Any:
        for step, drawn in zip(self.steps, params, strict=True):
            sample = step.transform_sample(sample, drawn)
        return sample
