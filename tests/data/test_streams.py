"""What scripts written for `tf.data` do with the data sets of folders and series."""

import numpy as np
import pytest

import kerax
from kerax import layers
from kerax.data import Dataset, RowDataset

X = np.arange(20, dtype="f").reshape(10, 2)
Y = np.arange(10, dtype="int32")


def rows(**options):
    return RowDataset(lambda numbers: (X[numbers], Y[numbers]), 10, **({"batch_size": 4, "workers": 1} | options))


def labels(dataset):
    return [np.asarray(y).tolist() for _, y in dataset]


def test_methods_take_the_arguments_of_tf_data():
    data = rows().map(lambda x, y: (x * 2, y), num_parallel_calls=-1, deterministic=True).cache().prefetch(-1)
    assert isinstance(data, RowDataset) and labels(data) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    np.testing.assert_array_equal(next(iter(data))[0], 2 * X[:4])
    assert (
        labels(data.take(1)) == [[0, 1, 2, 3]]
        and labels(data.skip(2)) == [[8, 9]]
        and labels(data.take(-1)) == labels(data)
    )
    assert labels(data.unbatch().batch(5)) == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    assert labels(data.unbatch().batch(3, drop_remainder=True))[-1] == [6, 7, 8]
    assert data.apply(lambda d: d.take(1)).cardinality() == 1 and data.with_options(None) is not None
    assert data.reduce(0, lambda total, batch: total + batch[1].sum()) == 45


def test_elements_have_numpy_and_are_numpy():
    for x, y in rows().take(1):
        assert type(x.numpy()) is np.ndarray and type(x[0].numpy()) is np.ndarray
        assert y[2].numpy() == 2 and ["a", "b", "c"][y[2]] == "c" and int(y[1]) == 1
        assert x.shape == (4, 2) and float(np.mean(x)) == 3.5
    assert all(type(part) is np.ndarray for batch in rows().as_numpy_iterator() for part in batch)
    assert all(type(part) is np.ndarray for part in rows()[0])


@pytest.mark.parametrize("texts", [np.array(["one", "two"], object), np.array(["one", "two"])])
def test_batches_of_text_have_numpy_too(texts):
    data = Dataset(lambda _: iter([texts]))
    for batch in data:
        assert type(batch.numpy()) is np.ndarray and batch.numpy()[1] == "two"
        assert isinstance(batch[0], str) and batch.shape == (2,)
        assert np.asarray(kerax.layers.StringLookup(vocabulary=["two"])(batch)).tolist() == [0, 1]
    assert [type(text) for text in data.unbatch()] == [type(text) for text in texts]


def test_lengths_and_forms_are_known():
    data = rows()
    assert len(data) == data.cardinality().numpy() == 3
    x, y = data.element_spec
    assert (x.shape, x.dtype, y.shape, y.dtype) == ((None, 2), np.float32, (None,), np.int32)
    x, y = data.unbatch().element_spec
    assert (x.shape, y.shape) == ((2,), ())
    assert data.map(lambda x, y: (x, y, y)).filter(lambda *parts: True).element_spec[0].shape == (None, 2)
    known = {
        "repeat": (data.repeat(), -1),
        "twice": (data.repeat(2), 6),
        "never": (data.repeat(0), 0),
        "filter": (data.filter(lambda x, y: True), -2),
        "take": (data.repeat().take(5), 5),
        "skip": (data.repeat(2).skip(4), 2),
        "zip": (Dataset.zip((data, data.repeat())), 3),
        "concatenate": (data.concatenate(data), 6),
        "enumerate": (data.enumerate(), 3),
        "shard": (data.shard(2, 0), 2),
        "batch": (data.unbatch().repeat(3).batch(4), 8),
    }
    for name, (dataset, count) in known.items():
        assert dataset.cardinality() == count, name
        if count >= 0:
            assert len(dataset) == len(list(dataset)) == count, name
        else:
            with pytest.raises(TypeError, match="infinite" if count == -1 else "unknown"):
                len(dataset)


def test_streams_of_batches():
    data = rows()
    assert labels(data.filter(lambda x, y: len(y) == 4)) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert labels(data.unbatch().filter(lambda x, y: y % 2 == 0).batch(3)) == [[0, 2, 4], [6, 8]]
    assert labels(data.repeat(2).skip(2).take(2)) == [[8, 9], [0, 1, 2, 3]]
    assert labels(data.take(1).concatenate(data.skip(2))) == [[0, 1, 2, 3], [8, 9]]
    assert [(int(i), y[0]) for i, (_, y) in data.enumerate(start=5)] == [(5, 0), (6, 4), (7, 8)]
    assert [
        (a.tolist(), b["c"][1].tolist()) for a, b in Dataset.zip((data.map(lambda x, y: y), {"c": data})).skip(2)
    ] == [([8, 9], [8, 9])]
    assert labels(data.shard(2, 1)) == [[4, 5, 6, 7]]
    assert labels(data.filter(lambda x, y: True).unbatch().batch(10)) == [list(range(10))]
    seen = []
    cached = data.filter(lambda x, y: seen.append(0) or True).cache()
    assert labels(cached) == labels(cached) and len(seen) == 3


def test_shuffling_loses_nothing_and_draws_anew():
    single = rows(batch_size=None)
    for data in (single.filter(lambda x, y: True).shuffle(4, seed=1), single.repeat(1).shuffle(100, seed=1)):
        first, second = labels(data), labels(data)
        assert sorted(first) == sorted(second) == list(range(10)) and first != second
    fixed = single.repeat(1).shuffle(4, seed=1, reshuffle_each_iteration=False)
    assert labels(fixed) == labels(fixed) != list(range(10))
    by_number = single.shuffle(4, seed=1).batch(5)
    assert isinstance(by_number, RowDataset) and by_number.shuffles
    order = np.concatenate(labels(by_number)).tolist()
    assert sorted(order) == list(range(10)) != order
    # What is made of a data set that shuffles is shuffled anew in each pass too.
    stream = rows(shuffle=True).filter(lambda x, y: True)
    assert labels(stream) != labels(stream)


def test_single_rows_are_mapped_without_an_axis():
    data = rows(batch_size=None).map(lambda x, y: (x.reshape(2, 1), y))
    assert data[3][0].shape == (2, 1) and data.batch(4)[0][0].shape == (4, 2, 1)


@pytest.mark.medium
def test_fit_takes_every_stream():
    model = kerax.Sequential([kerax.Input((2,)), layers.Dense(1, kernel_initializer="ones")])
    model.compile("sgd", "mse")
    data = rows().map(lambda x, y: (x, y[:, None]))
    expected = model.evaluate(data, verbose=0)
    for stream in (data.filter(lambda x, y: True), data.repeat(1), data.unbatch().filter(lambda x, y: True).batch(4)):
        assert model.evaluate(stream, verbose=0) == pytest.approx(expected)
    assert model.predict(data.repeat().map(lambda x, y: x), steps=4, verbose=0).shape == (14, 1)
    history = model.fit(data.repeat(), steps_per_epoch=2, epochs=2, validation_data=data.take(1), verbose=0)
    assert len(history.history["val_loss"]) == 2


def test_series_and_folders_have_the_methods(tmp_path):
    windows = kerax.utils.timeseries_dataset_from_array(np.arange(10.0), np.arange(10.0), 3, batch_size=4)
    assert [x.shape for x, _ in windows.filter(lambda x, y: len(y) == 4)] == [(4, 3), (4, 3)]
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.txt").write_text(f"{name} text")
    texts = kerax.utils.text_dataset_from_directory(tmp_path, batch_size=1, shuffle=False, verbose=False)
    assert [x[0] for x in texts.map(lambda x, y: x).repeat(2)] == ["a text", "b text"] * 2
    vectorize = layers.TextVectorization()
    vectorize.adapt(texts.map(lambda x, y: x))
    assert [x.tolist() for x, _ in texts.map(lambda x, y: (vectorize(x), y))] == [[[4, 2]], [[3, 2]]]
    assert list(texts.unbatch().map(lambda x, y: x)) == ["a text", "b text"]
