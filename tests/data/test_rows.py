"""Data sets of rows: order, length, positions, and what `fit` does with them."""

import numpy as np
import pytest

import kerax
from kerax import layers
from kerax.data import RowDataset
from kerax.data.batches import BatchSource

X = np.arange(20, dtype="f").reshape(10, 2)
Y = X.sum(1, keepdims=True)


def rows(**options):
    return RowDataset(lambda numbers: (X[numbers], Y[numbers]), len(X), **({"batch_size": 4, "workers": 1} | options))


def test_batches_come_in_order_and_end():
    batches = list(rows())
    assert len(rows()) == len(batches) == 3
    np.testing.assert_array_equal(np.concatenate([x for x, _ in batches]), X)
    np.testing.assert_array_equal(rows()[-1][0], X[8:])
    with pytest.raises(IndexError):
        rows()[3]
    assert len(rows(batch_size=None)) == 10 and rows(batch_size=None)[3][0].shape == (2,)


@pytest.mark.medium
def test_views_of_the_same_rows():
    data = rows()
    np.testing.assert_array_equal(data.map(lambda x, y: (x * 2, y))[1][0], X[4:8] * 2)
    np.testing.assert_array_equal(data.take(2).skip(1)[0][0], X[4:8])
    assert len(data.take(2)) == 2 and len(data.skip(2)) == 1 and data.prefetch(3) is data
    np.testing.assert_array_equal(data.subset([7, 1])[0][0], X[[7, 1]])
    assert len(data.batch(3)) == 4
    calls = []
    cached = RowDataset(lambda numbers: calls.append(len(numbers)) or X[numbers], 10, 5, workers=1).skip(1).cache()
    for _ in range(2):
        np.testing.assert_array_equal(cached[0], X[5:])
    assert calls == [5]


def test_fit_draws_an_order_for_each_pass_and_gives_every_row_once():
    source = BatchSource(rows(shuffle=True))
    source.sample()
    seen = [np.concatenate([batch[0][:, 0] for batch, _ in source.epoch((1, epoch))]) for epoch in (0, 1, 0)]
    for order in seen:
        np.testing.assert_array_equal(np.sort(order), X[:, 0])
    assert not np.array_equal(seen[0], seen[1])
    np.testing.assert_array_equal(seen[0], seen[2])
    fixed = np.concatenate([batch[0][:, 0] for batch, _ in BatchSource(rows()).epoch((1, 0))])
    np.testing.assert_array_equal(fixed, X[:, 0])


def test_a_pass_goes_on_from_its_position():
    first, second = BatchSource(rows(shuffle=True)), BatchSource(rows(shuffle=True))
    whole = list(first.epoch((3, 0)))
    second.set_state(whole[0][1])
    rest = list(second.epoch((3, 0)))
    assert len(rest) == 2
    for (one, _), (other, _) in zip(whole[1:], rest, strict=True):
        np.testing.assert_array_equal(one[0], other[0])


@pytest.mark.medium
def test_rows_train_as_arrays_do():
    def make():
        model = kerax.Sequential([kerax.Input((2,)), layers.Dense(1, kernel_initializer="ones")])
        model.compile("sgd", "mse")
        return model

    ours, theirs = make(), make()
    first = ours.fit(rows(workers=2), epochs=2, verbose=0).history["loss"]
    second = theirs.fit(X, Y, batch_size=4, shuffle=False, epochs=2, verbose=0).history["loss"]
    np.testing.assert_allclose(first, second, rtol=1e-6)
    single = make().fit(rows(batch_size=None), batch_size=4, epochs=2, verbose=0).history["loss"]
    np.testing.assert_allclose(single, second, rtol=1e-6)
    np.testing.assert_allclose(ours.predict(rows(), verbose=0), ours.predict(X, verbose=0), rtol=1e-6)


def test_wrong_batch_sizes_are_refused():
    with pytest.raises(ValueError, match="`batch_size`"):
        rows(batch_size=0)
