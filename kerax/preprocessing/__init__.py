"""Keras's older namespace of helpers for images, sequences and folders."""

from kerax.preprocessing import image as image
from kerax.preprocessing import sequence as sequence
from kerax.utils import image_dataset_from_directory as image_dataset_from_directory
from kerax.utils import text_dataset_from_directory as text_dataset_from_directory
from kerax.utils import timeseries_dataset_from_array as timeseries_dataset_from_array
