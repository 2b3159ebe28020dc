import math

import numpy as np
import pytest

import kerax
from kerax import language
from kerax.language.data import Example
from kerax.language.scoring import DirectPreference, pairs
from tests.language import llama


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return language.load(llama.write(tmp_path_factory.mktemp("llama")))


def log_probabilities(ids):
    """Of each token but the first, by the formula."""
    logits = llama.logits(llama.tensors(), ids[:-1])
    logits -= np.log(np.sum(np.exp(logits), -1, keepdims=True))
    return logits[np.arange(len(ids) - 1), ids[1:]]


@pytest.mark.medium
def test_perplexity_is_that_of_the_formula(model):
    ids = np.random.default_rng(0).integers(0, 320, 23)
    whole = language.perplexity(model, ids)
    assert whole == pytest.approx(math.exp(-log_probabilities(ids).mean()), rel=1e-5)
    cut = [log_probabilities(ids[start : start + 9]) for start in (0, 8)] + [log_probabilities(ids[14:])[-6:]]
    assert language.perplexity(model, ids, length=8) == pytest.approx(math.exp(-np.concatenate(cut).mean()), rel=1e-5)
    ends = [log_probabilities(ids[: min(9, len(ids))])]
    ends += [log_probabilities(ids[end - 8 : end + 1])[-3:] for end in (11, 14, 17, 20)]
    ends += [log_probabilities(ids[22 - 8 : 23])[-2:]]
    found = language.perplexity(model, ids, length=8, stride=3, batch_size=2)
    assert found == pytest.approx(math.exp(-np.concatenate(ends).mean()), rel=1e-5)
    with pytest.raises(ValueError, match="`stride` must be at most `length`"):
        language.perplexity(model, ids, length=4, stride=5)
    with pytest.raises(ValueError, match="`num_tokens` must be an integer of at least 2"):
        language.perplexity(model, ids[:1])


def make_pairs(count=6, length=10):
    random = np.random.default_rng(3)
    prompts = random.integers(1, 320, (count, 4))

    def answers(size):
        return [
            Example(np.append(p, random.integers(1, 320, size)).astype("int32"), np.arange(4 + size) >= 4)
            for p in prompts
        ]

    chosen, rejected = answers(3), answers(5)
    return chosen, rejected, pairs(chosen, rejected, length)


@pytest.mark.medium
def test_the_logit_of_preference_is_that_of_the_paper(model):
    chosen, _, inputs = make_pairs()
    trained = DirectPreference(model, beta=0.3)
    inputs = trained.with_reference(inputs, batch_size=4)
    np.testing.assert_allclose(trained(inputs), np.zeros(6), atol=1e-5)  # nothing has changed yet
    expected = [log_probabilities(one.ids)[3:].sum() for one in chosen]
    np.testing.assert_allclose(inputs["reference"][:, 0], expected, rtol=1e-4)
    shifted = inputs | {"reference": inputs["reference"] + np.array([1.0, -2.0], "float32")}
    np.testing.assert_allclose(trained(shifted), np.full(6, 0.3 * (-1 - 2)), atol=1e-4)


@pytest.mark.slow
def test_training_prefers_what_was_chosen(tmp_path):
    model = language.load(llama.write(tmp_path))
    language.enable_lora(model, rank=4, targets=("query", "value", "up", "down"))
    trained = DirectPreference(model)
    inputs = trained.with_reference(make_pairs()[2])
    accuracy = kerax.metrics.BinaryAccuracy(threshold=0.0, name="accuracy")
    trained.compile(kerax.optimizers.Adam(0.01), kerax.losses.BinaryCrossentropy(from_logits=True), metrics=[accuracy])
    history = trained.fit(inputs, np.ones(6, "float32"), epochs=30, batch_size=3, verbose=0).history
    assert history["loss"][0] == pytest.approx(math.log(2), rel=0.2)
    assert history["loss"][-1] < 0.5 and history["accuracy"][-1] == 1
    assert len(model.trainable_weights) == 16


def test_pairs_that_cannot_be_compared_are_refused():
    chosen, rejected, _ = make_pairs()
    with pytest.raises(ValueError, match=r"needs an answer within length=3"):
        pairs(chosen, rejected, 3)
    with pytest.raises(ValueError, match=r"'chosen': \(6, 6\), 'rejected': \(5, 5\)"):
        pairs(chosen, rejected[1:], 9)
    with pytest.raises(ValueError, match="`beta` must be above 0"):
        DirectPreference(kerax.Sequential([kerax.layers.Dense(1)]), beta=0)
