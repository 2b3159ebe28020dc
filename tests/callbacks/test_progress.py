"""What the progress display draws: in a terminal, in a notebook and in a pipe, each a real one."""

import io
import itertools
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import numpy as np
import pytest

import kerax
from kerax.callbacks import html_tables, progress
from kerax.core import waiting

ROOT = Path(__file__).parents[2]
SCRIPT = """
import numpy as np
import kerax

x = np.random.default_rng(0).standard_normal((640, 8), dtype=np.float32)
model = kerax.Sequential([kerax.Input((8,)), kerax.layers.Dense(1)])
model.compile("sgd", "mse", metrics=["mae"])
history = model.fit(x, x[:, :1], batch_size=32, epochs=3, validation_split=0.5, CALLBACKS)
print("loss", *(f"{value:.4f}" for value in history.history["loss"]))
model.evaluate(x, x[:, :1])
model.predict(x).shape
"""


def environment(**changes):
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "FORCE_COLOR")}
    return kept | {"PYTHONPATH": str(ROOT), "TERM": "xterm"} | changes


def screen(text):
    """The lines that a terminal shows after a text with returns, erased lines and moves of the cursor."""
    lines, row, column = [""], 0, 0
    for piece in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", text):
        if piece == "\r":
            column = 0
        elif piece == "\n":
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        elif piece.startswith("\x1b"):
            if piece.endswith("A"):
                row -= int(piece[2:-1] or 1)
            elif piece.endswith("K"):
                lines[row] = ""
        else:
            lines[row] = lines[row][:column].ljust(column) + piece + lines[row][column + len(piece) :]
            column += len(piece)
    return [line.rstrip() for line in lines]


@pytest.mark.slow
def test_a_terminal_shows_a_full_bar_for_each_epoch():
    pty = pytest.importorskip("pty")
    main, side = pty.openpty()
    source = SCRIPT.replace("CALLBACKS", "")
    began = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, "-c", source], stdout=side, env=environment(COLUMNS="120"), close_fds=True
    )
    os.close(side)
    parts = []
    while True:
        try:
            part = os.read(main, 65536)
        except OSError:  # how Linux says that the other side is closed
            break
        if not part:
            break
        parts.append(part)
    os.close(main)
    assert child.wait() == 0
    seconds = time.perf_counter() - began
    text = b"".join(parts).decode()
    lines = [line for line in screen(text) if line]
    assert len(lines) == 6, lines
    losses = next(line for line in lines if line.startswith("loss")).split()[1:]
    for epoch, line in enumerate(lines[:3]):
        pattern = (
            rf"Epoch {epoch + 1}/3 10/10 ━{{20}} \S+ \S+/step - loss: \S+ - mae: \S+ - val_loss: \S+ - val_mae: \S+"
        )
        assert re.fullmatch(pattern, line), line
        assert f"loss: {losses[epoch]}" in line
    assert re.match(r"evaluate 20/20 ━{20} .*loss: ", lines[4]) and lines[5].startswith("predict 20/20 ━")
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h")  # the cursor is there again
    assert text.count("\x1b[2K") < 10 * seconds + 40


@pytest.mark.slow
def test_a_pipe_shows_a_line_for_each_epoch():
    source = SCRIPT.replace("CALLBACKS", "")
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, env=environment())
    lines = done.stdout.splitlines()
    assert len(lines) == 6 and "\x1b" not in done.stdout and "\r" not in done.stdout, done.stderr
    for epoch, line in enumerate(lines[:3]):
        assert re.fullmatch(rf"Epoch {epoch + 1}/3 - 10/10 - \S+ \S+/step - loss: \S+ - mae: \S+ .*val_mae: \S+", line)
    assert lines[4].startswith("evaluate - 20/20 - ") and lines[5].startswith("predict - 20/20 - ")


@pytest.mark.slow
def test_a_notebook_keeps_one_table_as_html_and_as_text(tmp_path):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    curves = "callbacks=[kerax.callbacks.ProgbarLogger(curves=True)]"
    cells = [nbformat.v4.new_code_cell(SCRIPT.replace("CALLBACKS", option)) for option in ("", curves)]
    fit, again = (
        nbformat.v4.new_code_cell("model.fit(x, x[:, :1], epochs=4)"),
        nbformat.v4.new_code_cell("model.history"),
    )
    cells += [fit, again]
    notebook = nbformat.v4.new_notebook(cells=cells)
    metadata = {"metadata": {"path": str(tmp_path)}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3", resources=metadata).execute()
    for cell, has_curves in zip(notebook.cells[:2], (False, True), strict=True):
        shown = [output.data for output in cell.outputs if output.output_type == "display_data"]
        assert len(shown) == 3  # of fit, evaluate and predict, each updated in place
        page, text = shown[0]["text/html"], shown[0]["text/plain"]
        losses = next(output.text for output in cell.outputs if output.output_type == "stream").split()[1:4]
        assert page.count("<tr>") == 4 and "<progress" not in page and "widget" not in page
        assert [f"Epoch {epoch}/3 - " in text for epoch in (1, 2, 3)] == [True] * 3
        assert all(loss in page and loss in text for loss in losses)
        assert page.count("<svg") == (2 if has_curves else 0) and page.count("<polyline") == (4 if has_curves else 0)
        assert "\x1b" not in page + text and "<script" not in page
        assert "<th>loss</th>" in shown[1]["text/html"] and "<th>epoch</th>" not in shown[1]["text/html"]
        assert "<th>time</th>" in shown[2]["text/html"] and "/step" in shown[2]["text/html"]
    table, result = fit.outputs[0].data["text/html"], fit.outputs[-1].data["text/html"]
    assert table.count("<tr>") == 5 and "<table" not in result and "4 epochs" in result  # numbers are there once
    assert again.outputs[0].data["text/html"].count("<tr>") == 5


def wait_until(is_so, seconds=20):
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class Notebook:
    """IPython's `display`, with a clock of its own."""

    def __init__(self, monkeypatch):
        display = pytest.importorskip("IPython.display")
        self.now, self.drawn = 100.0, []
        monkeypatch.setattr(display, "display", self.display)
        monkeypatch.setattr(progress, "_surroundings", lambda: "notebook")
        monkeypatch.setattr(time, "time", lambda: self.now)

    def display(self, view, display_id):
        self.update(view)
        return self

    def update(self, view):
        self.drawn.append((self.now, view._repr_html_(), repr(view)))


def display_of(epochs, steps, **options):
    logger = kerax.callbacks.ProgbarLogger(1, **options)
    logger.set_params({"epochs": epochs, "steps": steps})
    return logger


@pytest.mark.medium
def test_a_notebook_is_redrawn_at_most_twice_a_second(monkeypatch):
    notebook = Notebook(monkeypatch)
    logger = display_of(epochs=200, steps=4)
    logger.on_train_begin()
    for epoch in range(200):
        logger.on_epoch_begin(epoch)
        for step in range(4):
            notebook.now += 0.01
            logger.on_progress(step + 1, {"loss": 1.0})
        logger.on_epoch_end(epoch, {"loss": 1.0 / (epoch + 1)})
    logger.on_train_end()
    logger.close()
    times = [now for now, _, _ in notebook.drawn]
    assert len(times) <= 2 + 8 / 0.5 and all(b - a >= 0.5 for a, b in itertools.pairwise(times[:-1]))
    _, page, text = notebook.drawn[-1]
    assert page.count("<tr>") == 1 + html_tables.MOST_ROWS + 1 and "…" in page  # the first and the last epochs
    assert "<td style='text-align:right'>200</td>" in page and "Epoch 200/200 - 40ms 10ms/step - loss: 0.0050" in text
    count = len(notebook.drawn)
    logger.close()
    assert len(notebook.drawn) == count


def test_what_is_shown_while_a_notebook_compiles_trains_and_is_interrupted(monkeypatch):
    notebook = Notebook(monkeypatch)
    logger = display_of(epochs=2, steps=10, curves=True)
    logger.on_train_begin()
    notebook.now += 0.6
    logger.on_epoch_begin(0)
    assert "Epoch 1/2 <progress value='0' max='10'></progress> 0/10" in notebook.drawn[-1][1]
    with waiting.waits_for(waiting.COMPILING):
        notebook.now += 2
        wait_until(lambda: "compiling 2s" in notebook.drawn[-1][1])
    wait_until(lambda: "compiling" not in notebook.drawn[-1][1])
    notebook.now += 0.6
    logger.on_progress(3, {"loss<": 0.25})
    assert "<progress value='3' max='10'></progress> 3/10 ETA 6s 867ms/step" in notebook.drawn[-1][1]
    assert "<th>loss&lt;</th>" in notebook.drawn[-1][1]
    notebook.now += 0.1
    logger.on_epoch_end(0, {"loss<": 0.5})
    logger.close()  # as after an error
    assert notebook.drawn[-1][1].endswith("1 of 2 epochs") and "0.5000" in notebook.drawn[-1][1]
    assert "<svg" not in notebook.drawn[-1][1]  # one epoch makes no curve


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


def test_a_terminal_says_that_it_compiles_and_when_it_will_be_done(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(progress, "_surroundings", lambda: "bar")
    logger = display_of(epochs=1, steps=10)
    logger.on_train_begin()
    logger.on_epoch_begin(0)
    with waiting.waits_for(waiting.COMPILING):
        wait_until(lambda: "compiling 2s" in stream.getvalue())
    assert re.search(r"Epoch 1/1 0/10 \S+ compiling 1s", stream.getvalue())
    now = time.time()
    jax.monitoring.record_event_time_span("/jax/core/compile/backend_compile_duration", now - 1.9, now)
    logger.on_progress(2, {"loss": 1.0})
    drawn = screen(stream.getvalue())[-1]
    found = re.search(r"2/10 \S+ ETA (\S+) (\S+)ms/step - loss: 1.0000", drawn)
    assert found and float(found[2]) < 600, drawn  # without the 1.9 s that were spent on compiling
    logger.on_epoch_end(0, {"loss": 0.5})
    logger.on_train_end()
    logger.close()
    count = len(stream.getvalue())
    time.sleep(1.2)
    assert len(stream.getvalue()) == count  # nobody draws any more
    assert "ETA" not in screen(stream.getvalue())[-2] and "compiling" not in screen(stream.getvalue())[-2]


def terminal(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(progress, "_surroundings", lambda: "bar")
    return stream


def test_an_evaluation_that_computes_long_is_not_said_to_compile(monkeypatch):
    shown = terminal(monkeypatch)
    before = threading.active_count()
    for what, begin, end in (
        ("evaluate", "on_test_begin", "on_test_end"),
        ("predict", "on_predict_begin", "on_predict_end"),
    ):
        logger = kerax.callbacks.ProgbarLogger(1, what)
        logger.set_params({"steps": 10})
        getattr(logger, begin)()
        time.sleep(1.3)
        getattr(logger, end)({})
        wait_until(lambda: threading.active_count() == before)  # also if nobody calls `close`
        assert re.search(rf"{what} 0/10 \S+ 1s", shown.getvalue())
    assert "compiling" not in shown.getvalue()


class Slow(kerax.layers.Layer):
    """Takes a while for each batch, on the host."""

    def call(self, inputs):
        def sleep(x):
            time.sleep(0.12)
            return x

        return jax.pure_callback(sleep, jax.ShapeDtypeStruct(inputs.shape, inputs.dtype), inputs)


def batches(count):
    for _ in range(count):
        yield np.ones((4, 2), np.float32), np.ones((4, 2), np.float32)


@pytest.mark.slow
def test_evaluations_predictions_and_validations_say_when_they_will_be_done(monkeypatch):
    shown = terminal(monkeypatch)
    model = kerax.Sequential([kerax.Input((2,)), Slow()])
    model.compile(loss="mse", metrics=["mae"])
    model.evaluate(batches(30), steps=30, verbose=1)
    assert re.search(r"evaluate [1-9]\d?/30 \S+ ETA \d+\S*s \S+/step - loss: 0.0000", shown.getvalue())
    model.predict((x for x, _ in batches(30)), steps=30, verbose=1)
    assert re.search(r"predict [1-9]\d?/30 \S+ ETA \d+\S*s \S+/step", shown.getvalue())
    logger = display_of(epochs=1, steps=10)
    logger.on_train_begin()
    logger.on_epoch_begin(0)
    evaluation = kerax.callbacks.CallbackList([logger], model=model, epochs=1, steps=10)
    model.evaluate(batches(30), steps=30, callbacks=evaluation)
    logger.close()
    assert re.search(r"Epoch 1/1 [1-9]\d?/30 \S+ ETA \d+\S*s \S+/step - validation", shown.getvalue())


def test_what_a_slow_source_holds_up_is_not_said_to_compile(monkeypatch):
    def late():
        yield from batches(2)
        time.sleep(2.5)
        yield from batches(1)

    stream = terminal(monkeypatch)
    model = kerax.Sequential([kerax.Input((2,)), kerax.layers.Dense(2)])
    model.compile("sgd", "mse")
    logger = display_of(epochs=1, steps=3)
    model.evaluate(late(), steps=3, callbacks=[logger], verbose=0)
    shown = stream.getvalue()
    assert (
        re.search(r"[12]/3 \S+ waiting for data [12]s", shown)
        and "compiling" not in shown.partition("waiting for data")[2]
    ), shown


def test_curves_leave_out_what_is_no_number():
    history = {
        "loss": [3.0, float("nan"), 1.0],
        "val_loss": [2.0, 2.5],
        "confusion": [[1, 2]] * 3,
        "val_only": [1, 1, 1],
    }
    page = html_tables.curves(history, [1, 2, 3])
    assert page.count("<svg") == 2 and page.count("<polyline") == 3 and "1 to 3" in page
    (loss,) = re.findall(rf"points='([^']+)' fill='none' stroke='{html_tables.TRAINING}'", page)[:1]
    assert len(loss.split()) == 2
    (validation,) = re.findall(rf"points='([^']+)' fill='none' stroke='{html_tables.VALIDATION}'", page)
    assert validation.split()[0].startswith("115.0,") and validation.split()[1].startswith("224.0,")
    assert html_tables.curves({"loss": [1.0]}, [1]) == "" and html_tables.curves({}, [1, 2]) == ""


DIVERGES = """
import numpy as np
import kerax

model = kerax.Sequential([kerax.Input((1,)), kerax.layers.Dense(1)])
model.compile(kerax.optimizers.SGD(1e30), "mse")
x = np.ones((64, 1), np.float32)
for attempt in range(2):
    model.fit(x, 5 * x, epochs=2, verbose=2)
"""


@pytest.mark.medium
def test_a_loss_that_is_not_finite_is_warned_of_each_time_with_the_place_of_the_call(tmp_path):
    script = tmp_path / "diverges.py"
    script.write_text(DIVERGES)
    done = subprocess.run([sys.executable, script], text=True, env=environment(), stdout=-1, stderr=subprocess.STDOUT)
    found = re.findall(r"diverges\.py:(\d+): UserWarning: fit: after epoch (\d) the loss is (?:inf|nan)", done.stdout)
    assert found == [("9", "1"), ("9", "2")] * 2, done.stdout
    quiet = subprocess.run([sys.executable, "-W", "ignore", script], capture_output=True, text=True, env=environment())
    assert "TerminateOnNaN" not in quiet.stdout + quiet.stderr
