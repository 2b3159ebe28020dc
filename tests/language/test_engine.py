"""Many requests in one engine: each gets what it would get alone, when it comes and whoever else is there."""

import threading

import jax
import numpy as np
import pytest

import kerax
from kerax import language
from kerax.language.requests import QueueFull
from kerax.models import slots
from tests.language import llama

LENGTH, CHUNK = 96, 16


@pytest.fixture(scope="module")
def model():
    kerax.utils.set_random_seed(0)
    model = language.create(llama.CONFIG | {"vocab_size": 60, "max_position_embeddings": LENGTH})
    model.set_weights([4 * weight if weight.ndim == 2 else weight for weight in model.get_weights()])
    return model


@pytest.fixture(scope="module")
def dispatches():
    return []


@pytest.fixture(scope="module")
def engine(model, dispatches):
    engine = language.Engine(model, slots=4, chunk=CHUNK, max_queue=20, note=dispatches.append)
    engine.prepare()
    yield engine
    engine.close()


def prompts(*lengths):
    return [np.random.default_rng(length).integers(0, 60, length) for length in lengths]


@pytest.mark.slow
def test_greedy_tokens_are_those_of_generate(engine, model):
    given = prompts(1, 5, 16, 17, 40, 70)
    requests = [engine.submit(prompt, 20) for prompt in given]
    for prompt, request in zip(given, requests, strict=True):
        assert request.result() == model.generate(prompt, 20).tolist()
        assert request.finish_reason == "length"


@pytest.mark.slow
def test_one_seed_draws_the_same_alone_in_a_batch_and_in_generate(engine, model):
    given = prompts(3, 20, 33, 8, 2)
    options = {"temperature": 0.9, "top_p": 0.9}
    alone = [engine.submit(prompt, 12, seed=7, **options).result() for prompt in given]
    others = [engine.submit(prompt, 30, temperature=2.0) for prompt in prompts(4, 50)]
    together = [engine.submit(prompt, 12, seed=7, **options) for prompt in given]
    assert [request.result() for request in together] == alone
    assert all(len(request.result()) == 30 for request in others)
    assert alone == [model.generate(prompt, 12, seed=7, **options).tolist() for prompt in given]
    assert engine.submit(given[0], 12, seed=8, **options).result() != alone[0]


@pytest.mark.medium
def test_log_probabilities_are_those_of_the_forward_pass(engine, model):
    (prompt,) = prompts(9)
    new = list(engine.submit(prompt, 6, num_top=3, temperature=1.0, seed=1))
    tokens = np.array([*prompt, *[one.token for one in new]])
    logits, _ = model.apply(model.variables_tree(), tokens[None], training=False)
    expected = np.asarray(jax.nn.log_softmax(logits[0, 8:-1]))
    np.testing.assert_allclose(
        [one.log_probability for one in new], expected[range(6), tokens[9:]], rtol=1e-4, atol=1e-5
    )
    best = np.argsort(-expected, axis=-1)[:, :3]
    assert [[token for token, _ in one.top] for one in new] == best.tolist()
    np.testing.assert_allclose(
        [[value for _, value in one.top] for one in new], np.take_along_axis(expected, best, 1), rtol=1e-4, atol=1e-5
    )


def test_penalties_and_bias_change_the_logits(engine, model):
    (prompt,) = prompts(6)
    bias = {5: 3.0, 6: -100.0}
    options = {"presence_penalty": 1.5, "frequency_penalty": 0.7, "repetition_penalty": 1.3}
    found = engine.submit(prompt, 12, logit_bias=bias, **options).result()
    tokens, new, variables = prompt.tolist(), [], model.variables_tree()
    for _ in range(12):
        padded = np.zeros((1, 32), int)
        padded[0, : len(tokens)] = tokens
        logits = np.asarray(_forward(model, variables, padded))[0, len(tokens) - 1].astype(float)
        seen = sorted(set(tokens))
        logits[seen] = np.where(logits[seen] > 0, logits[seen] / 1.3, logits[seen] * 1.3)
        counts = np.bincount(new, minlength=60)
        logits -= 1.5 * (counts > 0) + 0.7 * counts
        for token, value in bias.items():
            logits[token] += value
        new.append(int(logits.argmax()))
        tokens.append(new[-1])
    assert found == new != model.generate(prompt, 12).tolist()


_forward = jax.jit(lambda model, variables, tokens: model.apply(variables, tokens, training=False)[0], static_argnums=0)


def test_stop_tokens_end_a_request(engine, model):
    (prompt,) = prompts(5)
    expected = model.generate(prompt, 20).tolist()
    stop = next(token for at, token in enumerate(expected) if at > 3 and token not in expected[:at])
    request = engine.submit(prompt, 20, stop_tokens=[stop])
    assert request.result() == expected[: expected.index(stop) + 1]
    assert request.finish_reason == "stop"


def test_a_long_prompt_stalls_nobody_for_more_than_a_chunk(engine, dispatches):
    going = threading.Event()
    short = engine.submit(np.array([1, 2]), 90, tell=lambda news: going.set())
    going.wait(30)
    dispatches.clear()
    engine.submit(prompts(80)[0], 2).result()
    kinds = [each.kind for each in dispatches]
    first, last = kinds.index("prefill"), len(kinds) - 1 - kinds[::-1].index("prefill")
    assert kinds[first : last + 1] == ["prefill", "decode"] * 4 + ["prefill"]  # 79 tokens of 80, the last with a step
    assert [each.num_tokens for each in dispatches if each.kind == "prefill"] == [16, 16, 16, 16, 15]
    short.cancel()


@pytest.mark.medium
def test_short_prompts_share_a_chunk(model):
    found = []
    engine = language.Engine(model, slots=4, cache_length=48, chunk=32, note=found.append)
    engine.submit_all([engine.read(prompt, 2) for prompt in prompts(9, 10, 11)])
    engine.close()
    assert [each.kind for each in found[:4]] == ["prefill", "prefill", "decode", "prefill"]
    assert sum(each.num_tokens for each in found if each.kind == "decode") == 6


@pytest.mark.medium
def test_prompts_are_read_in_the_order_in_which_they_came(model):
    engine = language.Engine(model, slots=2, chunk=16)
    engine.prepare()
    short, first, second = (engine.read(prompt, 1) for prompt in prompts(1, 60, 61))
    engine._queue.extend([short, first])
    engine._turn()  # which ends the short one
    assert short.result() and engine.slots_in_use == 1
    engine._queue.append(second)  # into the slot before that of the first
    while (mine := engine._slots[1]) is not None:
        engine._turn()
        assert engine._slots[0].num_seen == 0 or not mine.num_left
    assert first.result() and engine._slots[0].request is second


def test_who_leaves_frees_the_slot(engine):
    begun = [threading.Event() for _ in range(4)]
    leaving = [engine.submit([3], 90, tell=lambda news, event=event: event.set()) for event in begun]
    assert all(event.wait(30) for event in begun)
    waiting = engine.submit([4], 3)
    for request in leaving:
        request.cancel()
    assert len(waiting.result()) == 3
    assert engine.submit([5], 2).result() and engine.slots_in_use == 0


def test_who_does_not_fit_into_the_queue_is_told(engine):
    too_many = [engine.read([1], 90) for _ in range(25)]  # 4 slots, 20 places
    with pytest.raises(QueueFull, match="waiting already"):
        engine.submit_all(too_many)
    assert engine.waiting == engine.slots_in_use == 0
    engine.submit_all(too_many[:24])
    for request in too_many:
        request.cancel()
    assert engine.submit([1], 1).result()


BAD = {
    "tokens": ({"tokens": []}, "at least one token"),
    "tokens beyond": ({"tokens": [60]}, "tokens below 60"),
    "max_new_tokens": ({"max_new_tokens": 0}, "integer of at least 1"),
    "too long": ({"max_new_tokens": 95}, r"at most 94.*2 tokens leaves of 96"),
    "temperature": ({"temperature": -1}, "number of at least 0"),
    "top_p": ({"top_p": 1.5}, "at most 1"),
    "top_k": ({"top_k": 1.5}, "`top_k` must be an integer"),
    "seed": ({"seed": "a"}, "`seed` must be an integer"),
    "bias": ({"logit_bias": {70: 1.0}}, "`logit_bias` must be an integer of at least 0 and at most 59"),
    "bias value": ({"logit_bias": {7: 101}}, "`logit_bias` must be a number"),
    "stops": ({"stop_tokens": range(17)}, "at most 16 tokens"),
    "num_top": ({"num_top": 21}, "at most 20"),
    "presence": ({"presence_penalty": True}, "`presence_penalty` must be a number"),
}


@pytest.mark.parametrize(("given", "message"), BAD.values(), ids=BAD)
def test_what_does_not_fit_is_refused_by_name(engine, given, message):
    with pytest.raises(ValueError, match=message):
        engine.submit(**{"tokens": [1, 2]} | given)


def test_unknown_arguments_are_refused(engine):
    with pytest.raises(TypeError, match="Did you mean 'temperature'"):
        engine.submit([1], 2, temprature=1.0)


def test_models_that_cannot_are_refused(model):
    pooled = kerax.Sequential([kerax.layers.Embedding(9, 4), kerax.layers.GlobalAveragePooling1D()])
    pooled.build((None, None))
    with pytest.raises(ValueError, match="logits"):
        language.Engine(pooled)
    with pytest.raises(ValueError, match="`slots`"):
        language.Engine(model, slots=0)
    gpt2 = language.create(
        {"model_type": "gpt2", "n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 32, "vocab_size": 9}
    )
    with pytest.raises(ValueError, match="vectors for 32 positions"):
        language.Engine(gpt2, cache_length=64)
    assert language.Engine(gpt2).cache_length == 32


@pytest.mark.medium
def test_nothing_is_compiled_for_requests(model):
    engine = language.Engine(model, slots=2, cache_length=48, chunk=16)
    engine.prepare()
    before = engine.num_programs
    assert before == 3  # a chunk, the entry, the step
    for options in ({}, {"temperature": 1.0, "top_k": 3}, {"num_top": 2, "frequency_penalty": 1}, {"min_p": 0.1}):
        requests = [engine.submit(prompt, 3, **options) for prompt in prompts(2, 30)]
        assert all(len(request.result()) == 3 for request in requests)
    assert engine.num_programs == before


@pytest.mark.medium
def test_a_program_that_fails_is_told_and_the_next_request_is_answered(model, monkeypatch):
    engine = language.Engine(model, slots=2, cache_length=48, chunk=16)
    engine.prepare()
    runs = engine._run_decode

    def fail(*args):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(engine, "_run_decode", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        engine.submit([1, 2, 3], 4).result()
    monkeypatch.setattr(engine, "_run_decode", runs)
    assert engine.submit([1, 2, 3], 4).result() == model.generate([1, 2, 3], 4).tolist()
    last = engine.submit([1, 2], 20)
    engine.close()
    assert len(last.result()) == 20
    with pytest.raises(RuntimeError, match="closed"):
        engine.submit([1], 1)


def test_programs_that_cannot_be_compiled_are_told_to_all_that_wait(model, monkeypatch):
    engine = language.Engine(model, slots=1, cache_length=48, chunk=16)

    def fail():
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(engine, "_run_all", fail)
    requests = [engine.read([1], 2) for _ in range(3)]
    engine.submit_all(requests)
    for request in requests:
        with pytest.raises(RuntimeError, match="no such kernel"):
            request.result()
    engine.close()


def test_whoever_fails_to_take_its_tokens_is_given_up_alone(engine):
    def fail(news):
        raise ValueError("not mine")

    others = [engine.submit([1, 2], 30), engine.submit([1, 2], 30, tell=fail), engine.submit([1, 2], 30)]
    assert others[0].result() == others[2].result()
    assert others[1].is_cancelled


@pytest.mark.slow
def test_the_cache_is_renewed_where_it_lies():
    model = language.create(llama.CONFIG | {"hidden_size": 64})
    engine = language.Engine(model, slots=8, cache_length=2048, chunk=16)
    memory = engine._empty_memory()
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(memory.cache))
    rows = slots.Rows(np.zeros(8, np.int32), np.zeros(8, np.int32), np.ones(8, bool))
    variables = model.variables_tree()
    for program, given in (
        (engine._decode, (rows, engine._settings, np.int32(1), np.bool_(False))),
        (engine._prefill, (np.zeros((1, 16), np.int32), np.int32(0), np.int32(0))),
    ):
        needed = program.lower(variables, memory, *given).compile().memory_analysis()
        assert needed.alias_size_in_bytes >= size
        assert needed.temp_size_in_bytes < size / 2  # a slot and scores, but no other cache
