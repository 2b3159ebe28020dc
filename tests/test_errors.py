"""Suggestions, and tracebacks without library frames."""

import signal
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

import kerax
from kerax import errors, tracebacks


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
    tracebacks.hide_library_frames(raised.value)
    assert frames_of(raised.value)[-1] == "user"


def test_an_error_without_user_code_keeps_the_frame_that_raised():
    with pytest.raises(TypeError) as raised:
        jnp.ones(3) + jnp.ones(4)
    tracebacks.hide_library_frames(raised.value)
    assert len(frames_of(raised.value)) == 2


def test_filtering_can_be_switched_off():
    tracebacks.disable_traceback_filtering()
    try:
        assert not tracebacks.is_traceback_filtering_enabled()
        with pytest.raises(TypeError) as raised:
            jnp.ones(3) + jnp.ones(4)
        before = frames_of(raised.value)
        tracebacks.hide_library_frames(raised.value)
        assert frames_of(raised.value) == before
    finally:
        tracebacks.enable_traceback_filtering()


PREPARED = """
import os, signal
import numpy as np
import kerax
from kerax import layers
model = kerax.Sequential([kerax.Input((3,)), layers.Dense(1)])
model.compile("sgd", "mse")
x, y = np.ones((8, 3)), np.ones((8, 1))

class Stop(kerax.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            os.kill(os.getpid(), signal.SIGINT)

class Broken(layers.Layer):
    def call(self, x):
        return x + np.ones(7)
"""
STATEMENTS = {
    "layers.Dense('a')": "ArgumentTypeError",
    "layers.Conv2D(3, 3).build((2, 3))": "found ndim=2",
    "layers.LSTM(3).build((2, 3))": "found ndim=2",
    "layers.Dense(2)(kerax.Input(()))": "ValueError",
    "model(np.ones((2, 4)))": "ValueError",
    "model.compile(loss='mes')": "did you mean",
    "model.fit(x, y[:3], verbose=0)": "ValueError",
    "model.predict(np.ones((2, 4)), verbose=0)": "ValueError",
    "model.train_on_batch(np.ones((2, 4)), y[:2])": "ValueError",
    "kerax.saving.load_model('nothing.keras')": "MissingFileError",
    "model.load_weights('nothing.weights.h5')": "MissingFileError",
    "kerax.ops.matmul(x, x)": "TypeError",
    "kerax.ops.concatenate([x, y[:3]], axis=1)": "TypeError",
    "kerax.losses.get('mse')(np.ones((2, 3)), np.ones((3, 3)))": "ValueError",
    "kerax.optimizers.Adam('fast')": "ValueError",
    "model.set_weights([np.ones(3)])": "ValueError",
    "Broken()(x)": "In the call of <Broken name=broken>",
}


@pytest.mark.slow
def test_what_is_printed_of_an_error_are_the_users_lines_and_the_message():
    """One process for all of them: each statement raises, and what Python would print is kept."""
    statements = [f"    lambda: {statement}," for statement in STATEMENTS]
    source = (
        "\n".join([PREPARED, "import sys, traceback", "for attempt in [", *statements, "]:"])
        + """
    try:
        attempt()
    except Exception as error:
        sys.excepthook(type(error), error, error.__traceback__)
        print("#####", file=sys.stderr)
"""
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True)
    shown = done.stderr.split("#####\n")
    assert done.returncode == 0 and len(shown) == len(STATEMENTS) + 1, done.stderr
    for (statement, expected), text in zip(STATEMENTS.items(), shown[:-1], strict=True):
        assert expected.lower() in text.lower(), statement
        assert text.count('File "') == text.count('File "<string>"') >= 1, text  # no line of kerax or JAX
        assert "JAX" not in text.splitlines()[-1] and not text.splitlines()[-1].startswith("-----"), text


def test_a_fault_of_the_library_keeps_its_last_line():
    with pytest.raises(AttributeError) as raised:
        kerax.tree.map_structure(lambda leaf: leaf.nothing, [1])
    before = frames_of(raised.value)
    tracebacks.show_users_frames(raised.value)
    assert frames_of(raised.value) == [before[0], "<lambda>"]
    with pytest.raises(AttributeError) as raised:
        kerax.tracebacks._link([object(), object()])
    tracebacks.show_users_frames(raised.value)
    assert frames_of(raised.value)[-1] == "_link"


def test_causes_lose_library_frames_too():
    def user():
        try:
            jnp.ones(3) + jnp.ones(4)
        except TypeError as error:
            raise RuntimeError("mine") from error

    with pytest.raises(RuntimeError) as raised:
        user()
    tracebacks.show_users_frames(raised.value)
    assert frames_of(raised.value.__cause__) == ["user"]


@pytest.mark.slow
def test_ctrl_c_is_one_line():
    source = PREPARED + "model.fit(x, y, epochs=9, verbose=0, callbacks=[Stop()])"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True)
    assert done.returncode == -signal.SIGINT
    assert done.stderr == "KeyboardInterrupt: stopped in epoch 3; the history has 2 epochs\n"


@pytest.mark.slow
def test_a_notebook_shows_the_users_lines_and_one_line_for_ctrl_c(tmp_path):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    sources = [PREPARED, "kerax.ops.matmul(x, x)", "model.fit(x, y, epochs=9, verbose=0, callbacks=[Stop()])", "1 / 0"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    metadata = {"metadata": {"path": str(tmp_path)}}
    client = nbclient.NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources=metadata, allow_errors=True
    )
    client.execute()
    product, interrupted, other = (cell.outputs[-1] for cell in notebook.cells[1:])
    text = "\n".join(product.traceback)
    assert product.ename == "TypeError" and "kerax/" not in text and "jax/" not in text and "matmul" in text
    assert interrupted.ename == "KeyboardInterrupt"
    assert "stopped in epoch 3; the history has 2 epochs" in "\n".join(interrupted.traceback)
    assert len(interrupted.traceback) == 1
    assert other.ename == "ZeroDivisionError"


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
