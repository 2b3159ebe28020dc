"""Images whose values are spread over the whole range, while training and otherwise."""

from typing import Any

import jax
import jax.numpy as jnp

from kerax.layers.color import check_value_range
from kerax.layers.image import ImageLayer
from kerax.layers.options import check, check_positive, sizes


class AutoContrast(ImageLayer):
    """Images whose channels are stretched linearly over the value range; constant channels stay.

    Args:
        value_range: Lowest and highest value that pixels can have.
    """

    is_random = False

    def __init__(self, value_range=(0, 255), **kwargs):
        super().__init__(**kwargs)
        self.value_range = check_value_range(self, value_range)

    def transform_image(self, image: Any, params: Any) -> Any:
        low, high = self.value_range
        lowest, highest = image.min((0, 1)), image.max((0, 1))
        spread = jnp.where(highest > lowest, highest - lowest, 1)
        stretched = (image - lowest) / spread * (high - low) + low
        return jnp.where(highest > lowest, jnp.clip(stretched, low, high), image)


class Equalization(ImageLayer):
    """Images whose channels have about as many pixels of every value.

    Each image has its own histogram; Keras 3.15 takes one of the whole batch, and equalizes only while training, unlike
    what it documents.

    Args:
        value_range: Lowest and highest value that pixels can have.
        bins: Number of values that are told apart.
        data_format: `"channels_last"` or `"channels_first"`.
    """

    is_random = False

    def __init__(self, value_range=(0, 255), bins=256, data_format=None, **kwargs):
        super().__init__(data_format=data_format, **kwargs)
        self.value_range = check_value_range(self, value_range)
        check_positive(self, bins=bins)
        self.bins = bins

    def transform_image(self, image: Any, params: Any) -> Any:
        low, high = self.value_range
        levels = jnp.clip((image - low) / (high - low), 0, 1) * (self.bins - 1)
        indices = jnp.floor(levels + 1e-4).astype("int32")  # a whole number may come in a little lower
        equalized = jax.vmap(self._equalize, in_axes=-1, out_axes=-1)(indices)
        is_constant = indices.min((0, 1)) == indices.max((0, 1))
        return jnp.where(is_constant, image, equalized * (high - low) + low)

    def _equalize(self, indices):
        """Ranks from 0 to 1 of one channel's pixels, to 1/255."""
        # Without the lowest value's own pixels, so that it becomes 0 and the highest 1.
        below = jnp.cumsum(jnp.bincount(indices.reshape(-1), length=self.bins))
        lowest = below[indices.min()]
        ranks = (below - lowest) / jnp.maximum(indices.size - lowest, 1)
        return jnp.round(ranks[indices] * 255) / 255


class ContrastLimitedAdaptiveHistogramEqualization(ImageLayer):
    """Images equalized by the histograms of tiles, between whose centres is interpolated; integers stay integers.

    Args:
        value_range: Lowest and highest value that pixels can have.
        clip_limit: What a histogram's 256 bins may hold at most, in multiples of the mean; the rest is spread evenly.
        tile_grid_size: Number of tiles down and across.
        data_format: `"channels_last"` or `"channels_first"`.

    Source: Zuiderveld 1994, Contrast limited adaptive histogram equalization, in Graphics Gems IV
    """

    is_random = False
    integers = staticmethod(jnp.floor)

    def __init__(self, value_range=(0, 255), clip_limit=4.0, tile_grid_size=(8, 8), data_format=None, **kwargs):
        super().__init__(data_format=data_format, **kwargs)
        self.value_range = check_value_range(self, value_range)
        check(self, clip_limit > 0, "`clip_limit` must be above 0", clip_limit=clip_limit)
        self.clip_limit = clip_limit
        self.tile_grid_size = sizes(self, "tile_grid_size", tile_grid_size, 2)

    def transform_image(self, image: Any, params: Any) -> Any:
        low, high = self.value_range
        levels = jnp.clip((image - low) / (high - low), 0, 1) * 255
        equalized = jax.vmap(self._equalize, in_axes=-1, out_axes=-1)(levels)
        return equalized / 255 * (high - low) + low

    def _equalize(self, levels):
        """One channel with values from 0 to 255, equalized."""
        rows, columns = self.tile_grid_size
        height, width = levels.shape
        tile = -(-height // rows), -(-width // columns)  # rounded up: the last tiles are filled up by mirroring
        margins = [(0, count * size - given) for count, size, given in zip((rows, columns), tile, (height, width))]
        indices = jnp.pad(levels, margins, mode="symmetric").astype("int32")
        # (rows * tile height, columns * tile width) to (tiles, pixels of a tile).
        tiles = indices.reshape(rows, tile[0], columns, tile[1]).swapaxes(1, 2).reshape(rows * columns, -1)
        tables = jax.vmap(self._table)(tiles).reshape(rows, columns, 256)
        (above, below, down), (left, right, across) = (
            _neighbours(size, length, count) for size, length, count in zip(levels.shape, tile, (rows, columns))
        )
        pixels = indices[:height, :width]
        look_up = lambda row, column: tables[row[:, None], column[None, :], pixels]
        down, across = down[:, None], across[None, :]
        top = (1 - across) * look_up(above, left) + across * look_up(above, right)
        bottom = (1 - across) * look_up(below, left) + across * look_up(below, right)
        return (1 - down) * top + down * bottom

    def _table(self, pixels):
        """What the 256 values become in a tile."""
        counts = jnp.bincount(pixels, length=256).astype("float32")
        clipped = jnp.minimum(counts, self.clip_limit * pixels.size / 256)
        below = jnp.cumsum(clipped + (pixels.size - clipped.sum()) / 256)
        lowest = below[0]
        spread = below[-1] - lowest
        # A tile of one value only has no ranks: its pixels stay as they are.
        return jnp.where(spread > 0, (below - lowest) / jnp.where(spread > 0, spread, 1) * 255, jnp.arange(256.0))


def _neighbours(size: int, tile: int, count: int):
    """For each pixel of an axis the two tiles whose centres it lies between, and the share of the second."""
    position = jnp.arange(size) / tile - 0.5  # in tiles, from the centre of the first
    first = jnp.floor(position)
    share = position - first
    bounded = lambda index: jnp.clip(index, 0, count - 1).astype("int32")
    return bounded(first), bounded(first + 1), share
