"""The namespaces that only repeat what lies elsewhere."""

import numpy as np
import pytest

import kerax
from kerax import backend, layers


@pytest.mark.medium
def test_backend_names_do_what_they_say():
    assert backend.backend() == "jax" and backend.floatx() == "float32" and backend.epsilon() == 1e-7
    assert backend.image_data_format() == "channels_last"
    assert backend.is_keras_tensor(kerax.Input((2,))) and not backend.is_keras_tensor(np.ones(2))
    backend.clear_session()
    assert [backend.get_uid("a"), backend.get_uid("a"), backend.get_uid("b")] == [1, 2, 1]
    backend.clear_session()
    assert backend.get_uid("a") == 1


def test_mixed_precision_is_the_older_name_of_policies():
    try:
        kerax.mixed_precision.set_global_policy("mixed_bfloat16")
        assert kerax.mixed_precision.global_policy() == kerax.mixed_precision.Policy("mixed_bfloat16")
        assert layers.Dense(1).compute_dtype == "bfloat16"
    finally:
        kerax.utils.clear_session()
    assert layers.Dense(1).compute_dtype == "float32"


def test_versions():
    assert kerax.version() == kerax.__version__


def test_preprocessing_is_the_older_name_of_utils():
    assert kerax.preprocessing.image.img_to_array is kerax.utils.img_to_array
    assert kerax.preprocessing.sequence.pad_sequences is kerax.utils.pad_sequences
    assert kerax.preprocessing.text_dataset_from_directory is kerax.utils.text_dataset_from_directory


def test_unsafe_deserialization_cannot_be_enabled():
    with pytest.warns(UserWarning, match="runs no code from files"):
        kerax.config.enable_unsafe_deserialization()
