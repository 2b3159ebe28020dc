"""Suggestions, and tracebacks without library frames."""

import jax.numpy as jnp
import pytest

from kerax import errors


def frames_of(error):
    found, frame = [], error.__traceback__
    while frame is not None:
        found.append(frame.tb_frame.f_code.co_name)
        frame = frame.tb_next
    return found


def test_close_names_are_suggested():
    assert errors.suggest("rellu", ["relu", "gelu"]) == " Did you mean 'relu'?"
    assert errors.suggest("xyz", ["relu"]) == ""


def test_library_frames_below_user_code_are_hidden():
    def user():
        return jnp.ones(3) + jnp.ones(4)

    with pytest.raises(TypeError) as raised:
        user()
    errors.hide_library_frames(raised.value)
    assert frames_of(raised.value)[-1] == "user"


def test_an_error_without_user_code_keeps_the_frame_that_raised():
    with pytest.raises(TypeError) as raised:
        jnp.ones(3) + jnp.ones(4)
    errors.hide_library_frames(raised.value)
    assert len(frames_of(raised.value)) == 2


def test_filtering_can_be_switched_off():
    errors.disable_traceback_filtering()
    try:
        assert not errors.is_traceback_filtering_enabled()
        with pytest.raises(TypeError) as raised:
            jnp.ones(3) + jnp.ones(4)
        before = frames_of(raised.value)
        errors.hide_library_frames(raised.value)
        assert frames_of(raised.value) == before
    finally:
        errors.enable_traceback_filtering()
