"""What is printed reaches terminals of any encoding; what they cannot show does not end a training."""

import io
import sys

import numpy as np
import pytest

import kerax
from kerax.core.terminal import printable

X, Y = np.ones((4, 3), "float32"), np.zeros((4, 2), "float32")


def nested():
    inner = kerax.Sequential([kerax.Input((3,)), kerax.layers.Dense(2, name="λ")], name="inner")
    model = kerax.Sequential([kerax.Input((3,)), inner], name="größe")
    model.compile("sgd", "mse", metrics=[kerax.metrics.MeanSquaredError(name="fehler_größe")])
    return model


def restored(model, tmp_path):
    callback = kerax.callbacks.ModelCheckpoint(tmp_path / "größe.keras", verbose=1)
    model.fit(X, Y, verbose=2, callbacks=[callback])


def counted():
    for verbose in (1, 2):
        bar = kerax.utils.Progbar(2, verbose=verbose)
        bar.update(1, [("größe", 1.0)])
        bar.update(2, [("größe", 2.0)])


@pytest.mark.parametrize("encoding", ["ascii", "cp1251", "utf-8", None])
@pytest.mark.parametrize(
    ("show", "expected"),
    [
        (lambda _: nested().summary(expand_nested=True), "Total params"),
        (lambda _: nested().fit(X, Y, verbose=2), "fehler_gr"),
        (lambda _: nested().evaluate(X, Y, verbose=1), "fehler_gr"),
        (lambda path: restored(nested(), path), "saved to"),
        (lambda _: counted(), "2/2"),
    ],
    ids=["summary", "fit", "evaluate", "checkpoint", "bar"],
)
def test_any_encoding_will_do(show, expected, encoding, monkeypatch, tmp_path):
    raw, text = io.BytesIO(), io.StringIO()
    stream = text if encoding is None else io.TextIOWrapper(raw, encoding=encoding, write_through=True)
    monkeypatch.setattr(sys, "stdout", stream)
    show(tmp_path)
    shown = text.getvalue() if encoding is None else raw.getvalue().decode(encoding)
    monkeypatch.undo()
    assert expected in shown
    assert ("?" in shown.replace("/?", "").replace(" ?", "")) <= (encoding in ("ascii", "cp1251"))


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [("ascii", "2/2 ==.. - gr??e"), ("cp1252", "2/2 ==.. - größe"), ("utf-8", "2/2 ━━╌╌ - größe")],
)
def test_lines_become_plain_and_words_lose_what_is_missing(encoding, expected):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    assert printable("2/2 ━━╌╌ - größe", stream) == expected
