import sys

import numpy as np
import pytest

from kerax.callbacks import History


def recorded(**columns):
    history = History()
    history.history = columns
    history.epoch = list(range(max(map(len, columns.values()), default=0)))
    return history


def test_plot_has_an_axis_per_metric_with_its_twin():
    plt = pytest.importorskip("matplotlib.pyplot", reason="matplotlib is not installed")
    figure = recorded(
        loss=[3.0, 2.0, 1.0],
        val_loss=[3.5, 2.5, 2.0],
        acc=[0.1, 0.2, 0.3],
        late=[5.0],
        val_only=[1.0] * 3,
        table=[np.ones(2)] * 3,
        more=[1.0] * 3,
    ).plot()
    axes = {axis.get_title(): axis for axis in figure.axes}
    assert list(axes) == ["loss", "acc", "late", "val_only", "more"]
    lines = [(line.get_label(), line.get_xdata().tolist(), line.get_ydata().tolist()) for line in axes["loss"].lines]
    assert lines == [("training", [1, 2, 3], [3.0, 2.0, 1.0]), ("validation", [1, 2, 3], [3.5, 2.5, 2.0])]
    assert axes["late"].lines[0].get_xdata().tolist() == [3]
    assert all(axis.get_xlabel() == "epoch" for axis in figure.axes)
    assert [title for title, axis in axes.items() if axis.get_legend()] == ["loss"]
    plt.close(figure)


def test_plot_shows_a_figure_once_in_a_notebook(monkeypatch):
    plt = pytest.importorskip("matplotlib.pyplot", reason="matplotlib is not installed")
    figure = recorded(loss=[1.0]).plot()
    assert plt.fignum_exists(figure.number)
    plt.close(figure)
    monkeypatch.setattr(plt, "get_backend", lambda: "module://matplotlib_inline.backend_inline")
    assert not plt.fignum_exists(recorded(loss=[1.0]).plot().number)


def test_plot_says_what_is_missing(monkeypatch):
    with pytest.raises(ValueError, match="nothing to draw before the first epoch"):
        recorded().plot()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"History.plot needs matplotlib: pip install 'kerax\[notebook\]'"):
        recorded(loss=[1.0]).plot()


def test_html_is_a_table_of_epochs():
    shown = recorded(loss=[0.123456, 2.0], val=[0.5], **{"a<b": [1.0, 2.0]})._repr_html_()
    assert "<th>epoch</th><th>loss</th><th>val</th><th>a&lt;b</th>" in shown and "a<b" not in shown
    rows = [
        [cell.split("<")[0] for cell in row.split("style='text-align:right'>")[1:]] for row in shown.split("<tr>")[2:]
    ]
    assert rows == [["1", "0.1235", "", "1"], ["2", "2", "0.5", "2"]]


def test_html_of_a_long_training_is_short():
    shown = recorded(loss=[float(n) for n in range(500)])._repr_html_()
    assert shown.count("<tr>") == 22 and ">10<" in shown and ">11<" not in shown and ">491<" in shown and "…" in shown
    assert recorded()._repr_html_().count("<tr>") == 1
