"""Generation: equal to the plain loop over the whole model, whatever the way."""

import itertools
import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kerax
from kerax import layers

VOCABULARY = 11
PROMPTS = [[1, 2, 3], [4, 5, 6, 7, 8, 9, 10], [3]]


def weigh(model, seed=0, scale=0.5):
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        weight.assign(
            rng.normal(size=weight.shape, scale=scale).astype("float32") + (weight.shape[-1:] == weight.shape)
        )
    return model


def functional(depth=2, vocabulary=VOCABULARY, length=None):
    tokens = kerax.Input((length,), dtype="int32")
    hidden = layers.Embedding(vocabulary, 16)(tokens)
    for _ in range(depth):
        hidden = layers.DecoderBlock(4, 2, 4, 32, rotary=layers.RotaryEmbedding())(hidden)
    return kerax.Model(tokens, layers.Dense(vocabulary)(layers.RMSNormalization()(hidden)))


class Subclassed(kerax.Model):
    """A GPT with learned positions, as a user writes it."""

    def __init__(self):
        super().__init__()
        self.embed, self.places = layers.Embedding(VOCABULARY, 16), layers.PositionEmbedding(90)
        self.attention, self.norm = layers.MultiHeadAttention(2, 8), layers.LayerNormalization()
        self.head = layers.Dense(VOCABULARY)

    def call(self, tokens):
        hidden = self.embed(tokens)
        hidden = hidden + self.places(hidden)
        normed = self.norm(hidden)
        return self.head(hidden + self.attention(normed, normed, use_causal_mask=True))


def sequential():
    blocks = [layers.DecoderBlock(2, 1, 8, 16, rotary=layers.RotaryEmbedding(), sliding_window=4) for _ in range(2)]
    return kerax.Sequential([layers.Embedding(VOCABULARY, 16), *blocks, layers.Dense(VOCABULARY)])


MODELS: dict = {"functional": functional, "subclassed": Subclassed, "sequential": sequential}


@pytest.fixture(scope="module")
def model():
    return weigh(functional())


def following(model, prompt, count, length=90):
    """The likeliest tokens, each from all before it."""
    call = jax.jit(lambda tokens: model.apply(model.variables_tree(), tokens)[0])
    row = np.zeros((1, length), np.int32)
    row[0, : len(prompt)] = prompt
    for index in range(len(prompt), len(prompt) + count):
        row[0, index] = np.argmax(call(row)[0, index - 1])
    return row[0, len(prompt) : len(prompt) + count]


@pytest.mark.medium
@pytest.mark.parametrize("name", MODELS)
def test_greedy_is_the_plain_loop(name):
    made = MODELS[name]()
    made(np.zeros((1, 4), np.int32))
    weigh(made, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = made.generate(PROMPTS, 64)
    for prompt, row in zip(PROMPTS, found, strict=True):
        expected = following(made, prompt, 64)
        np.testing.assert_array_equal(row, expected)
        assert len(set(expected.tolist())) > 2  # else a model that says one thing would pass


@pytest.mark.medium
def test_one_prompt_and_arrays(model):
    expected = model.generate(PROMPTS, 8)
    np.testing.assert_array_equal(model.generate(PROMPTS[0], 8), expected[0])
    padded = np.full((3, 9), 5)
    for row, prompt in zip(padded, PROMPTS, strict=True):
        row[: len(prompt)] = prompt
    found = model.generate(padded, 8, lengths=[3, 7, 1])
    np.testing.assert_array_equal(found, expected)


@pytest.mark.medium
def test_stop_tokens_end_rows(model):
    whole = model.generate(PROMPTS, 20)
    stop = int(whole[0][3])
    for row, longer in zip(model.generate(PROMPTS, 20, stop_tokens=stop), whole, strict=True):
        ends = np.flatnonzero(longer == stop)
        np.testing.assert_array_equal(row, longer[: ends[0] + 1 if ends.size else 20])


def test_stop_strings_end_rows(model):
    whole = model.generate(PROMPTS, 20)

    def decode(tokens):
        return "".join(chr(97 + token) for token in tokens)

    string = decode(whole[1][4:6])
    found = model.generate(PROMPTS, 20, stop_strings=[string], tokenizer=decode, chunk_size=3)
    for row, longer in zip(found, whole, strict=True):
        text = decode(longer)
        end = text.find(string) + 2 if string in text else 20
        assert decode(row) == text[:end]


@pytest.mark.medium
def test_streaming_gives_the_same_in_parts(model):
    options = {"temperature": 1.0, "seed": 4, "return_log_probabilities": True}
    tokens, chances = model.generate(PROMPTS, 10, **options)
    parts = list(model.generate(PROMPTS, 10, stream=True, chunk_size=4, **options))
    assert [len(part[0][0]) for part in parts] == [4, 4, 2]
    for index in range(3):
        np.testing.assert_array_equal(np.concatenate([part[0][index] for part in parts]), tokens[index])
        np.testing.assert_allclose(np.concatenate([part[1][index] for part in parts]), chances[index], rtol=1e-5)


@pytest.mark.medium
def test_log_probabilities_are_the_models(model):
    (tokens,), (found,) = model.generate(
        [PROMPTS[1]], 6, temperature=0.8, top_k=3, seed=0, return_log_probabilities=True
    )
    row = np.concatenate([PROMPTS[1], tokens])[None]
    expected = jax.nn.log_softmax(model(row))[0, 6:-1]
    np.testing.assert_allclose(found, np.take_along_axis(np.asarray(expected), tokens[:, None], 1)[:, 0], atol=1e-4)


@pytest.mark.medium
def test_rows_do_not_depend_on_each_other(model):
    options = {"temperature": 1.0, "top_p": 0.9}
    together = model.generate(PROMPTS, 10, seed=[7, 8, 9], **options)
    for index, prompt in enumerate(PROMPTS):
        alone = model.generate([prompt], 10, seed=[7 + index], **options)
        np.testing.assert_array_equal(alone[0], together[index])
    assert not np.array_equal(model.generate(PROMPTS[0], 10, seed=1, **options), together[0])


@pytest.mark.medium
def test_draws_have_the_models_distribution(model):
    logits = np.asarray(model(np.array([PROMPTS[0]])))[0, -1]
    expected = np.exp(logits) / np.exp(logits).sum()
    found = model.generate([PROMPTS[0]] * 2000, 1, temperature=1.0, seed=0)
    counts = np.bincount(np.concatenate(found), minlength=VOCABULARY)
    assert chi_square(counts, expected) < 35  # 10 degrees of freedom: one in ten thousand is above


def chi_square(counts, chances):
    expected = chances * counts.sum()
    return np.sum((counts - expected) ** 2 / expected)


@pytest.mark.medium
def test_repetition_is_penalized(model):
    found = model.generate(PROMPTS[0], 7, repetition_penalty=1e6)
    assert len({*PROMPTS[0], *found.tolist()}) == 10 or len(set(found.tolist())) == 7


@pytest.mark.medium
@pytest.mark.parametrize("drafts", [1, 3])
def test_a_draft_changes_no_greedy_token(model, drafts):
    draft = weigh(functional(1), 5)
    found = model.generate(PROMPTS, 24, draft_model=draft, num_draft_tokens=drafts)
    np.testing.assert_array_equal(found, model.generate(PROMPTS, 24))
    # The model itself as its draft: all is accepted.
    np.testing.assert_array_equal(model.generate(PROMPTS, 24, draft_model=model, num_draft_tokens=drafts), found)


@pytest.mark.medium
def test_a_draft_changes_no_distribution():
    """Pairs of tokens, whose chances are known exactly."""
    model, draft = weigh(functional(1, 4), 1, 0.3), weigh(functional(1, 4), 2, 0.3)
    prompt = [1, 2]
    found = model.generate([prompt] * 4000, 3, temperature=0.9, top_k=3, draft_model=draft, num_draft_tokens=2, seed=3)
    rows = np.array([[*prompt, *rest] for rest in itertools.product(range(4), repeat=3)])
    logits = np.asarray(model(rows[:, :-1]))[:, 1:] / 0.9
    least = np.sort(logits, axis=-1)[..., 1:2]
    chances = np.where(logits >= least, np.exp(logits), 0)
    chances /= chances.sum(-1, keepdims=True)
    each = np.prod(np.take_along_axis(chances, rows[:, 2:, None], -1)[..., 0], axis=1)
    counts = np.bincount(np.array(found) @ [16, 4, 1], minlength=64)
    assert counts[each == 0].sum() == 0
    assert chi_square(counts[each > 0], each[each > 0]) < 62  # 26 degrees of freedom: one in ten thousand is above


@pytest.mark.medium
def test_a_draft_reports_log_probabilities_and_stops(model):
    draft = weigh(functional(1), 5)
    stop = int(model.generate(PROMPTS[0], 20)[5])
    options = {"stop_tokens": [stop], "return_log_probabilities": True}
    tokens, chances = model.generate(PROMPTS, 20, **options)
    found = model.generate(PROMPTS, 20, draft_model=draft, **options)
    for index in range(3):
        np.testing.assert_array_equal(found[0][index], tokens[index])
        np.testing.assert_allclose(found[1][index], chances[index], atol=1e-4)


@pytest.mark.medium
def test_enough_beams_find_the_likeliest_of_all():
    model = weigh(functional(1, 4), 3)
    prompt, stop = [1, 2], 3
    best, best_score = None, -np.inf
    rows = np.array([[*prompt, *rest] for rest in itertools.product(range(4), repeat=4)])
    chances = np.asarray(jax.nn.log_softmax(model(rows[:, :-1])))[:, 1:]
    for row, each in zip(rows[:, 2:], chances, strict=True):
        count = int(np.argmax(row == stop)) + 1 if stop in row else 4
        score = each[np.arange(count), row[:count]].sum() / count**0.7
        if score > best_score:
            best, best_score = row[:count], score
    found = model.generate([prompt, [0, 1, 0]], 4, num_beams=30, length_penalty=0.7, stop_tokens=stop)
    np.testing.assert_array_equal(found[0], best)


@pytest.mark.medium
def test_one_beam_in_all_is_greedy(model):
    np.testing.assert_array_equal(model.generate(PROMPTS, 6, num_beams=2, length_penalty=1.0)[0].shape, (6,))
    likeliest = model.generate(PROMPTS, 1, num_beams=4)
    np.testing.assert_array_equal(likeliest, model.generate(PROMPTS, 1))


@pytest.mark.medium
def test_lengths_do_not_recompile(model, monkeypatch):
    model.generate([[1] * 5, [2] * 9], 20)
    kept = len(model.kerax_compilation.programs)
    sizes = [pair[0][0]._cache_size() for pair in model.kerax_compilation.programs.values() if isinstance(pair, tuple)]
    for length, count in ((3, 19), (16, 10), (11, 17)):
        model.generate([[1] * length, [2] * 4], count)
    assert len(model.kerax_compilation.programs) == kept
    assert sizes == [
        pair[0][0]._cache_size() for pair in model.kerax_compilation.programs.values() if isinstance(pair, tuple)
    ]


@pytest.mark.medium
@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_smaller_caches(model, dtype):
    found = np.array(model.generate(PROMPTS, 12, cache_dtype=dtype))
    assert (found == np.array(model.generate(PROMPTS, 12))).mean() > 0.5


class Pooled(layers.Layer):
    """The mean of all positions so far, which it keeps in no cache."""

    def call(self, inputs):
        return jnp.cumsum(inputs, axis=1) / jnp.arange(1, inputs.shape[1] + 1, dtype="float32")[:, None]


@pytest.mark.medium
def test_a_model_without_caches_says_so_and_generates():
    model = kerax.Sequential([layers.Embedding(VOCABULARY, 8), Pooled(), layers.Dense(VOCABULARY)])
    model(np.zeros((1, 3), np.int32))
    weigh(model, scale=2.0)
    with pytest.warns(UserWarning, match="computed anew for each token"):
        found = model.generate(PROMPTS, 12)
    for prompt, row in zip(PROMPTS, found, strict=True):
        np.testing.assert_array_equal(row, following(model, prompt, 12))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.generate(PROMPTS[0], 3)  # it says so once


@pytest.mark.medium
def test_a_model_of_one_length_looks_at_the_last_tokens():
    tokens = kerax.Input((5,), dtype="int32")
    hidden = Pooled()(layers.Embedding(VOCABULARY, 8)(tokens))
    model = weigh(kerax.Model(tokens, layers.Dense(VOCABULARY)(hidden)), scale=1.0)
    with pytest.warns(UserWarning, match="computed anew"):
        found = model.generate([1, 2, 3], 8)
    row = [1, 2, 3]
    for _ in range(8):
        seen = row[-5:]
        logits = model(np.array([seen + [0] * (5 - len(seen))]))[0, len(seen) - 1]
        row.append(int(np.argmax(logits)))
    np.testing.assert_array_equal(found, row[3:])


LAYERS = {
    "stack": lambda: layers.Stack(layers.DecoderBlock(2, num_key_value_heads=1), 3),
    "lstm": lambda: layers.LSTM(8, return_sequences=True),
    "gru": lambda: layers.GRU(8, return_sequences=True),
    "stacked cells": lambda: layers.RNN([layers.LSTMCell(6), layers.GRUCell(8)], return_sequences=True),
    "stack of lstm": lambda: layers.Stack(layers.LSTM(8, return_sequences=True), 2),
}


@pytest.mark.medium
@pytest.mark.parametrize("name", [pytest.param(each, marks=pytest.mark.slow if " " in each else ()) for each in LAYERS])
def test_stacks_and_recurrent_layers_generate_with_a_cache(name):
    tokens = kerax.Input((None,), dtype="int32")
    hidden = LAYERS[name]()(layers.Embedding(VOCABULARY, 8)(tokens))
    model = weigh(kerax.Model(tokens, layers.Dense(VOCABULARY)(hidden)), scale=1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of a model without caches
        found = model.generate(PROMPTS, 12)
    for prompt, row in zip(PROMPTS, found, strict=True):
        np.testing.assert_array_equal(row, following(model, prompt, 12))
    # Parts of a row, one of them written a second time, equal the whole.
    row, cache, parts = np.array([[3, 1, 4, 1, 5, 2]]), model.init_cache(1, 8), []
    variables = model.variables_tree()
    for start, stop in ((0, 4), (3, 4), (4, 6)):
        positions = None if start == 0 else jnp.array([start])
        part, _, cache = model.apply(variables, row[:, start:stop], cache=cache, positions=positions)
        parts.append(part if start != 3 else part[:, :0])
    whole = np.asarray(model(row))
    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, atol=1e-5 * abs(whole).max())


@pytest.mark.medium
def test_a_draft_may_be_recurrent():
    tokens = kerax.Input((None,), dtype="int32")
    hidden = layers.GRU(8, return_sequences=True)(layers.Embedding(VOCABULARY, 8)(tokens))
    model = weigh(kerax.Model(tokens, layers.Dense(VOCABULARY)(hidden)), scale=1.0)
    np.testing.assert_array_equal(model.generate(PROMPTS[0], 9, draft_model=model), model.generate(PROMPTS[0], 9))


def test_attention_without_a_causal_mask_is_not_cached():
    tokens = kerax.Input((None,), dtype="int32")
    hidden = layers.EncoderBlock(2, 8)(layers.Embedding(VOCABULARY, 8)(tokens))
    model = kerax.Model(tokens, layers.Dense(VOCABULARY)(hidden))
    with pytest.warns(UserWarning, match="only causal attention"):
        model.generate([1, 2], 2)


BAD = {
    "a prompt must be a list of at least one token": ({"tokens": [[1], []]}),
    "`max_new_tokens` must be an integer of at least 1": {"max_new_tokens": 0},
    "`temperature` must be at least 0": {"temperature": -1.0},
    "`top_p` must be between 0 and 1": {"temperature": 1.0, "top_p": 1.5},
    "`top_k` must be an integer of at least 1": {"temperature": 1.0, "top_k": 0},
    "`min_p` must be between 0 and 1": {"temperature": 1.0, "min_p": -0.1},
    "`repetition_penalty` must be above 0": {"repetition_penalty": 0.0},
    "`temperature` is 0, which takes the likeliest": {"top_k": 4},
    "`stop_strings` needs `tokenizer`": {"stop_strings": ["a"]},
    "`num_beams` above 1 takes no `temperature`": {"num_beams": 2, "temperature": 1.0},
    "`draft_model` takes no `repetition_penalty`": {"repetition_penalty": 2.0, "draft_model": "x"},
    "`draft_model` must be a model": {"draft_model": "x"},
    "one number, or one for each of 1 prompts": {"temperature": [1.0, 2.0]},
    "`lengths` go beyond": {"tokens": np.ones((2, 3), int), "lengths": [3, 4]},
}


@pytest.mark.parametrize("message", BAD)
def test_bad_arguments(model, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        model.generate(**({"tokens": [1, 2]} | BAD[message]))


@pytest.mark.medium
def test_more_positions_than_there_are_vectors_for():
    model = Subclassed()
    with pytest.raises(ValueError, match="take 101 positions, but .* has vectors for 90"):
        model.generate([1], 100)
    assert len(model.generate([1] * 80, 10)) == 10  # just fits


def test_outputs_that_are_no_logits():
    tokens = kerax.Input((4,), dtype="int32")
    model = kerax.Model(tokens, layers.Flatten()(layers.Embedding(5, 2)(tokens)))
    with pytest.raises(ValueError, match="must make logits"):
        model.generate([1, 2], 2)
