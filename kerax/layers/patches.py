"""Layers that put images together from patches."""

from typing import Any

from kerax import ops
from kerax.errors import check_choice
from kerax.layers.options import Spatial, check, sizes


class _ReconstructPatches(Spatial):
    """What the layers of both ranks share."""

    def __init__(
        self,
        size: Any,
        output_size: Any = None,
        strides: Any = None,
        padding: str = "valid",
        data_format: str | None = None,
        **kwargs,
    ):
        super().__init__(data_format, **kwargs)
        check_choice(self, "padding", padding, ("valid", "same"))
        needs = "`output_size` is needed with padding='same': patches do not tell how much of the last ones was filled"
        check(self, output_size is not None or padding == "valid", needs, output_size=output_size)
        self.size, self.padding = sizes(self, "size", size, self.rank), padding
        self.strides = None if strides is None else sizes(self, "strides", strides, self.rank)
        self.output_size = None if output_size is None else sizes(self, "output_size", output_size, self.rank)

    def call(self, inputs: Any) -> Any:
        return ops.image.reconstruct_patches(
            inputs, self.size, self.output_size, self.strides, self.padding, self.data_format
        )


class ReconstructPatches2D(_ReconstructPatches, rank=2):
    """Images from the patches that `ops.image.extract_patches` made of them; where patches overlap, their mean.

    Args:
        size: Height and width of a patch: a number, or two.
        output_size: Those of the images. Default, for the padding `"valid"` only: what the patches cover.
        strides: Default: `size`, so that patches do not overlap.
        padding: `"valid"` or `"same"`, as they were extracted.
        data_format: `"channels_last"` or `"channels_first"`.

    Input shape: `(batch, rows, columns, size * channels)`.
    Output shape: `(batch, height, width, channels)`.

    Raises:
        ValueError: for patches that are not those of such images.
    """


class ReconstructPatches3D(_ReconstructPatches, rank=3):
    """Volumes from the patches that `ops.image.extract_patches` made of them: as `ReconstructPatches2D`.

    Args:
        size: Depth, height and width of a patch: a number, or three.
        output_size: Those of the volumes. Default, for the padding `"valid"` only: what the patches cover.
        strides: Default: `size`.
        padding: `"valid"` or `"same"`.
        data_format: `"channels_last"` or `"channels_first"`.

    Input shape: `(batch, depth, rows, columns, size * channels)`.
    Output shape: `(batch, depth, height, width, channels)`.

    Raises:
        ValueError: for patches that are not those of such volumes.
    """
