"""What `keras.src.ops` has beyond the public API."""

from kerax import random as random
