"""What `keras.src.random` has beyond the public API."""

from kerax.core.seed_generator import next_key

draw_seed = next_key
