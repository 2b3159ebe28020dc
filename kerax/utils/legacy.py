"""`kerax.legacy.saving` under Keras's older name."""

from kerax.legacy.saving import deserialize_keras_object as deserialize_keras_object
from kerax.legacy.saving import serialize_keras_object as serialize_keras_object
