"""Windows of series, and data sets in two parts."""

import numpy as np
import pytest

import kerax
from kerax import layers, utils

SERIES = np.arange(30, dtype="f")


def all_of(dataset):
    batches = list(dataset)
    if isinstance(batches[0], tuple):
        return [np.concatenate(parts) for parts in zip(*batches, strict=True)]
    return np.concatenate(batches)


@pytest.mark.parametrize(
    "options",
    [
        {"sequence_length": 4},
        {"sequence_length": 4, "sequence_stride": 3},
        {"sequence_length": 4, "sampling_rate": 2},
        {"sequence_length": 3, "start_index": 5, "end_index": 20},
        {"sequence_length": 3, "seed": 3, "shuffle": True},
        {"sequence_length": 1, "batch_size": 7},
    ],
)
def test_windows_are_those_of_keras(options):
    grain = pytest.importorskip("grain", reason="grain is not installed")
    from keras.src.utils import timeseries_dataset_utils

    timeseries_dataset_utils.grain = grain
    targets = SERIES * 10
    ours = utils.timeseries_dataset_from_array(SERIES, targets, **options)
    x, y = all_of(ours)
    quiet = {name: value for name, value in options.items() if name not in ("shuffle", "seed")}
    theirs = timeseries_dataset_utils.timeseries_dataset_from_array(SERIES, targets, **quiet, format="grain")
    expected = [np.concatenate([np.asarray(part) for part in parts]) for parts in zip(*theirs, strict=True)]
    order = np.argsort(x[:, 0])  # a shuffled one has the same windows
    assert options.get("shuffle", False) != np.array_equal(order, np.arange(len(x)))
    np.testing.assert_array_equal(x[order], expected[0])
    np.testing.assert_array_equal(y[order], expected[1])
    assert len(ours) == -(-len(x) // options.get("batch_size", 128))


def test_windows_by_hand():
    dataset = utils.timeseries_dataset_from_array(SERIES[:6], None, 3, sampling_rate=2)
    np.testing.assert_array_equal(all_of(dataset), [[0, 2, 4], [1, 3, 5]])
    frames = utils.timeseries_dataset_from_array(np.zeros((6, 2, 5)), np.arange(4), 3, batch_size=None)
    assert len(frames) == 4 and frames[0][0].shape == (3, 2, 5)


@pytest.mark.medium
def test_a_model_trains_on_windows():
    data = utils.timeseries_dataset_from_array(SERIES / 30, (SERIES[4:] / 30)[:, None], 4, batch_size=8, shuffle=True)
    model = kerax.Sequential([kerax.Input((4,)), layers.Dense(1)])
    model.compile(kerax.optimizers.Adam(0.05), "mse")
    assert model.fit(data, epochs=60, verbose=0).history["loss"][-1] < 1e-3


@pytest.mark.parametrize(
    "options, name",
    [
        ({"sequence_length": 0}, "sequence_length"),
        ({"sequence_stride": 0}, "sequence_stride"),
        ({"sampling_rate": 30}, "sampling_rate"),
        ({"start_index": -1}, "start_index"),
        ({"start_index": 9, "end_index": 9}, "end_index"),
        ({"format": "torch"}, "format"),
    ],
)
def test_wrong_windows_are_named(options, name):
    with pytest.raises(ValueError, match=f"`{name}`"):
        utils.timeseries_dataset_from_array(SERIES, None, **({"sequence_length": 2} | options))
    with pytest.raises(ValueError, match="hold no window"):
        utils.timeseries_dataset_from_array(SERIES, None, 20, sampling_rate=3)


def test_arrays_are_split_by_number_and_by_fraction():
    x, y = np.arange(10.0).reshape(10, 1), np.arange(10)
    for sizes, counts in (
        ({"left_size": 0.8}, (8, 2)),
        ({"right_size": 3}, (7, 3)),
        ({"left_size": 0.25, "right_size": 5}, (2, 5)),
    ):
        left, right = utils.split_dataset((x, y), **sizes)
        assert (len(left), len(right)) == counts
        np.testing.assert_array_equal(all_of(left.batch(4))[1], y[: counts[0]])
        np.testing.assert_array_equal(all_of(right.batch(4))[1], y[10 - counts[1] :])
    left, right = utils.split_dataset({"x": x}, 0.5, shuffle=True, seed=1)
    again, _ = utils.split_dataset({"x": x}, 0.5, shuffle=True, seed=1)
    both = np.concatenate([left.batch(9)[0]["x"], right.batch(9)[0]["x"]])
    np.testing.assert_array_equal(np.sort(both, 0), x)
    np.testing.assert_array_equal(left.batch(9)[0]["x"], again.batch(9)[0]["x"])
    assert not np.array_equal(both, x)


def test_all_kinds_of_data_sets_are_split():
    torch_data = pytest.importorskip("torch.utils.data", reason="PyTorch is not installed")
    import torch

    tensors = torch_data.TensorDataset(torch.arange(6.0), torch.arange(6))
    series = utils.timeseries_dataset_from_array(SERIES, None, 2, batch_size=10)
    for dataset, left_count in ((tensors, 4), ([(np.float32(i), i) for i in range(6)], 4), (SERIES[:6], 4)):
        left, right = utils.split_dataset(dataset, left_count)
        assert (len(left), len(right)) == (4, 2)
        first = left.batch(4)[0]
        np.testing.assert_array_equal(first[0] if isinstance(first, tuple) else first, [0, 1, 2, 3])
    left, right = utils.split_dataset(series, 0.5)
    assert left.batch_size == 10 and left[0].shape == (10, 2) and len(right.rows) == 15
    left, _ = utils.split_dataset((i * 2 for i in range(6)), 2)
    assert left.batch(2)[0].tolist() == [0, 2]


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ((SERIES,), ValueError, "pass `left_size`"),
        ((SERIES, 0), ValueError, "`left_size` must be from 1 to 29"),
        ((SERIES, 1.5), ValueError, "`left_size` must be a fraction"),
        ((SERIES, None, "a"), TypeError, "`right_size`"),
        ((SERIES, 20, 20), ValueError, "overlap"),
        ((SERIES, 0.001), ValueError, "empty"),
        (((SERIES, SERIES[:3]), 2), ValueError, "one length"),
        ((3, 2), TypeError, "expected arrays or a data set"),
        ((np.zeros(0), 2), ValueError, "is empty"),
    ],
)
def test_wrong_splits_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        utils.split_dataset(*arguments)
