"""Batches of many shapes as batches of few, and the warning that points to it."""

import warnings

import numpy as np
import pytest

import kerax
from kerax import layers
from kerax.data import RowDataset
from kerax.utils import PyDataset, pad_to_buckets
from tests.indexed import Indexed

RNG = np.random.default_rng(0)
LENGTHS = [3, 9, 5, 12, 1, 7, 16, 2]
TEXTS = [RNG.integers(1, 20, length) for length in LENGTHS]
BATCHES = [(RNG.integers(1, 20, (2, length)), np.array([[0.0], [1.0]])) for length in LENGTHS]


def make(steps=False):
    model = kerax.Sequential([layers.Embedding(20, 4, mask_zero=True), layers.SimpleRNN(3, return_sequences=steps)])
    model.add(layers.Dense(1))
    model.compile("sgd", "mse")
    return model


def test_sequences_meet_in_batches_of_their_length():
    batches = pad_to_buckets(TEXTS, np.arange(8), batch_size=2, lengths=(4, 16))
    assert [(x.shape, y.tolist()) for x, y in batches] == [((2, 4), [0, 4]), ((1, 4), [7])] + [
        ((2, 16), [1, 2]),
        ((2, 16), [3, 5]),
        ((1, 16), [6]),
    ]
    for x, y in batches:
        for row, label in zip(x, y, strict=True):
            np.testing.assert_array_equal(row[: LENGTHS[label]], TEXTS[label])
            assert not row[LENGTHS[label] :].any()
    orders = [[y.tolist() for _, y in pad_to_buckets(TEXTS, np.arange(8), 2, seed=seed)] for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]
    assert [x.shape for (x,) in pad_to_buckets([[1.5], [2, 3]], lengths=(2,))] == [(2, 2)]


@pytest.mark.medium
def test_results_are_those_of_the_batches_as_they_are():
    model = make()
    expected = [model.evaluate(iter([batch]), verbose=0) for batch in BATCHES]

    class Counted(Indexed, PyDataset):
        pass

    class Loader:
        def __len__(self):
            return len(BATCHES)

        def __iter__(self):
            return iter(BATCHES)

    indexed = Counted(BATCHES)
    sources = (indexed, Loader(), lambda: iter(BATCHES), iter(BATCHES), (batch for batch in BATCHES))
    for data in sources:
        padded = pad_to_buckets(data)
        assert model.evaluate(padded, verbose=0) == pytest.approx(np.mean(expected), rel=1e-5)
    assert pad_to_buckets(indexed).num_batches == len(pad_to_buckets(Loader())) == 8
    model.fit(pad_to_buckets(indexed), epochs=2, verbose=0)
    assert indexed.ends == 2
    rows = RowDataset(lambda numbers: (np.ones((len(numbers), 5)), numbers), 4, 2)
    assert pad_to_buckets(rows)[0][0].shape == (2, 8)


@pytest.mark.medium
def test_targets_of_each_step_and_weights():
    model = make(steps=True)
    steps = [(x, np.ones((*x.shape, 1))) for x, _ in BATCHES]
    losses = [(model.evaluate(iter([batch]), verbose=0), batch[0].size) for batch in steps]
    expected = np.average([loss for loss, _ in losses], weights=[size for _, size in losses])
    padded = list(pad_to_buckets(iter(steps), targets=True, lengths=(16,)))
    assert all(y.shape == (2, 16, 1) and weight.shape == (2, 16) for _, y, weight in padded)
    assert sum(weight.sum() for *_, weight in padded) == sum(x.size for x, _ in steps)
    total = sum((np.square(model.predict(x, verbose=0) - y)[..., 0] * w).sum() for x, y, w in padded)
    assert total / sum(x.size for x, _ in steps) == pytest.approx(expected, rel=1e-5)
    # Weights of rows and of steps go along.
    for weight in (np.array([1.0, 3.0]), np.array([[1.0, 1, 1], [3, 3, 3]])):
        _, _, found = next(pad_to_buckets(iter([(np.ones((2, 3)), np.ones((2, 3, 1)), weight)]), targets=True))
        assert found.tolist() == [[1, 1, 1, 0, 0, 0, 0, 0], [3, 3, 3, 0, 0, 0, 0, 0]]
    sequences = pad_to_buckets([[1, 2], [3]], [[5, 6], [7]], lengths=(3,), targets=True)
    x, y, weight = sequences[0]
    assert (x.tolist(), y.tolist()) == ([[1, 2, 0], [3, 0, 0]], [[5, 6, 0], [7, 0, 0]])
    assert weight.tolist() == [[1, 1, 0], [1, 0, 0]]


@pytest.mark.medium
def test_masks_are_inputs():
    tokens, mask = kerax.Input((None,), dtype="int32"), kerax.Input((None,), dtype="bool")
    hidden = layers.Embedding(20, 3)(tokens)
    model = kerax.Model([tokens, mask], layers.GlobalAveragePooling1D()(hidden, mask=mask))
    alone = [model.predict([text[None], np.ones((1, len(text)), bool)], verbose=0)[0] for text in TEXTS]
    batches = pad_to_buckets(TEXTS, np.arange(8), batch_size=3, mask=True)
    for x, rows in batches:
        np.testing.assert_allclose(model.predict(list(x), verbose=0), [alone[row] for row in rows], rtol=1e-5)
    x = next(pad_to_buckets(iter([{"a": np.ones((2, 3))}]), mask=True))
    assert x["a"].shape == (2, 8) and x["mask"].sum() == 6


def test_images_of_many_sizes():
    x, y, weight = next(
        pad_to_buckets(iter([(np.ones((2, 5, 9, 3)), np.ones((2, 5, 9)))]), axis=(1, 2), targets=True, value=-1)
    )
    assert x.shape == (2, 8, 16, 3) and y.shape == weight.shape == (2, 8, 16)
    assert weight.sum() == (x[..., 0] == 1).sum() == 2 * 45


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(x=TEXTS, lengths=(4, 8)), "length of 9 is above the largest"),
        (dict(x=TEXTS, lengths=(8, 4)), "must ascend"),
        (dict(x=TEXTS, y=[1]), "8 sequences need as many targets. Got 1"),
        (dict(x=iter(BATCHES), y=[1]), "batches carry their targets"),
        (dict(x=TEXTS, batch_size=0), "batch_size"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        pad_to_buckets(**arguments)


@pytest.mark.medium
def test_alike_batches_of_another_form_than_the_first():
    model = make()
    batches = [BATCHES[0], *[BATCHES[1]] * 3, BATCHES[0], *[BATCHES[2]] * 2]
    losses = [model.evaluate(*batch, verbose=0) for batch in batches]
    assert model.evaluate(iter(batches), verbose=0) == pytest.approx(np.mean(losses), rel=1e-5)
    assert len(model.fit(iter(batches), verbose=0).history["loss"]) == 1


@pytest.mark.medium
def test_many_shapes_in_one_run_are_said_once():
    model = make()
    with pytest.warns(UserWarning, match=r"Batches of 8 forms .*pad_to_buckets") as caught:
        model.fit(iter(BATCHES * 2), verbose=0)
    assert sum("pad_to_buckets" in str(warning.message) for warning in caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(pad_to_buckets(BATCHES.__iter__), verbose=0)
        model.fit(BATCHES[0][0], BATCHES[0][1], batch_size=1, epochs=9, verbose=0)
