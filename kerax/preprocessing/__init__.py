"""Keras's older namespace of helpers for images, sequences and folders."""

from kerax.preprocessing import image, sequence
from kerax.utils import image_dataset_from_directory, text_dataset_from_directory, timeseries_dataset_from_array

__all__ = [
    "image",
    "image_dataset_from_directory",
    "sequence",
    "text_dataset_from_directory",
    "timeseries_dataset_from_array",
]
