"""Suggestions, and tracebacks without library frames."""

import jax.numpy as jnp
import numpy as np
import pytest

import kerax
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


TEXT = np.array([["a", "b"]])
BAD_INPUT = {
    "kernel larger than the input": [
        (lambda L: L.Conv1D(3, 5, name="here")(np.ones((1, 4, 2))), "the kernel is larger than the input"),
        (lambda L: L.DepthwiseConv2D(5, name="here")(np.ones((1, 4, 4, 2))), "the kernel is larger than the input"),
        (lambda L: L.MaxPooling2D(5, name="here")(np.ones((1, 4, 4, 2))), "the window is larger than the input"),
        (lambda L: L.Cropping1D(5, name="here")(np.ones((1, 4, 2))), "`cropping` leaves nothing of the input"),
    ],
    "mismatched shapes in a merge": [
        (lambda L: L.Add(name="here")([np.ones((2, 3)), np.ones((2, 4))]), r"Got shapes \(2, 3\), \(2, 4\)"),
        (lambda L: L.Concatenate(name="here")([np.ones((2, 3)), np.ones((3, 4))]), r"Got shapes \(2, 3\), \(3, 4\)"),
        (lambda L: L.Dot(1, name="here")([np.ones((2, 3)), np.ones((2, 4))]), r"Got shapes \(2, 3\), \(2, 4\)"),
    ],
    "wrong rank": [
        (lambda L: L.Conv2D(3, 2, name="here")(np.ones((1, 4, 4))), "expected an input with ndim=4, found ndim=3"),
        (lambda L: L.LSTM(3, name="here")(np.ones((1, 4))), "expected an input with ndim=3, found ndim=2"),
        (lambda L: L.MultiHeadAttention(2, 3, name="here")(np.ones(4), np.ones(4)), "at least 3. Got query"),
        (lambda L: L.BatchNormalization(axis=3, name="here")(np.ones((1, 4))), "`axis` is out of range"),
        (lambda L: L.Resizing(2, 2, name="here")(np.ones(4)), "images must have shape"),
    ],
    "negative sizes": [
        (lambda L: L.Dense(-1, name="here"), "`units` must be an integer of at least 1. Got units=-1"),
        (lambda L: L.Conv2D(3, -2, name="here"), "`kernel_size` must be an integer of at least 1"),
        (lambda L: L.MaxPooling2D(-1, name="here"), "`pool_size` must be an integer of at least 1"),
        (lambda L: L.ZeroPadding2D(-1, name="here"), "`padding` must be an integer of at least 0"),
        (lambda L: L.RepeatVector(-1, name="here"), "`n` must be an integer of at least 1"),
        (lambda L: L.Reshape((-2,), name="here"), "`target_shape` must hold sizes and at most one -1"),
        (lambda L: L.Embedding(-1, 2, name="here"), "`input_dim` must be an integer of at least 1"),
    ],
    "unknown vocabulary mode": [
        (lambda L: L.StringLookup(output_mode="words", name="here"), "`output_mode` must be one of"),
        (lambda L: L.IntegerLookup(output_mode="words", name="here"), "`output_mode` must be one of"),
        (lambda L: L.TextVectorization(output_mode="words", name="here"), "`output_mode` must be one of"),
        (lambda L: L.CategoryEncoding(2, output_mode="words", name="here"), "`output_mode` must be one of"),
    ],
    "adapt forgotten": [
        (lambda L: L.StringLookup(name="here")(["a"]), r"no vocabulary yet. Call `adapt\(data\)`"),
        (lambda L: L.IntegerLookup(name="here")([1]), r"no vocabulary yet. Call `adapt\(data\)`"),
        (lambda L: L.TextVectorization(name="here")(["a"]), r"no vocabulary yet. Call `adapt\(data\)`"),
        (lambda L: L.Discretization(num_bins=3, name="here")([1.0]), r"not known yet. Call `adapt\(data\)`"),
        (lambda L: L.Normalization(name="here")(np.ones((1, 2))), r"not known yet. Call `adapt\(data\)`"),
    ],
    "text where numbers are needed": [
        (
            lambda L: L.Dense(2, name="here")(TEXT),
            "must be numbers, not text.*Got dtype <U1, .*'a', 'b'.*`StringLookup`",
        ),
        (lambda L: L.Embedding(2, 2, name="here")(TEXT), "must be numbers, not text"),
        (lambda L: L.LSTM(2, name="here")(TEXT[None].astype(object)), "must be numbers, not text"),
        (lambda L: L.Normalization(name="here")(TEXT), "must be numbers, not text"),
        (lambda L: L.Rescaling(2, name="here")(TEXT), "must be numbers, not text"),
        (lambda L: L.Dense(2, name="here")(["a"]), r"expected 1 input\(s\), arrays, got 0"),
        (lambda L: kerax.Sequential([L.Dense(2, name="here")])(TEXT), "must be numbers, not text"),
        (lambda L: L.Discretization([1.0], name="here")(["a"]), "inputs must be numbers. Use `StringLookup`"),
        (lambda L: L.IntegerLookup(vocabulary=[1], name="here")(["a"]), "inputs must be integers. Use `StringLookup`"),
        (lambda L: L.CategoryEncoding(3, name="here")(["a"]), "inputs must be numbers. Use `StringLookup`"),
    ],
}


@pytest.mark.parametrize("mistake", BAD_INPUT)
def test_bad_input_names_the_layer(mistake):
    for call, message in BAD_INPUT[mistake]:
        with pytest.raises(ValueError, match=f"name=here>: .*{message}"):
            call(kerax.layers)


def test_layers_hand_text_on():
    texts = np.array(["b a", "a"])
    assert kerax.layers.Pipeline([kerax.layers.TextVectorization(vocabulary=["a", "b"])])(texts).tolist() == [
        [3, 2],
        [2, 0],
    ]
    assert kerax.layers.Identity()(texts) is texts
