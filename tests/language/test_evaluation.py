"""The adapter for `lm_eval`: its numbers are the model's; where the package is, tasks run."""

import importlib.util
import json
import sys
import types
from types import SimpleNamespace

import numpy as np
import pytest

from kerax import language
from tests.language import llama

has_package = importlib.util.find_spec("lm_eval") is not None


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return language.load(llama.write(tmp_path_factory.mktemp("llama")))


@pytest.fixture
def harness(model, tokenizer_folder, monkeypatch):
    if not has_package:  # what it asks of its base class is little: that it can be made
        module = types.ModuleType("lm_eval.api.model")
        module.LM = type("LM", (), {})
        for name in ("lm_eval", "lm_eval.api"):
            monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return language.harness_model(model, language.Tokenizer(tokenizer_folder), length=16, batch_size=4)


def asked(*each):
    return [SimpleNamespace(args=args) for args in each]


def log_probabilities(ids, start):
    logits = llama.logits(llama.tensors(), ids[:-1])
    logits -= np.log(np.sum(np.exp(logits), -1, keepdims=True))
    picked = logits[np.arange(len(ids) - 1), ids[1:]]
    return picked[start - 1 :].sum(), (logits.argmax(-1) == ids[1:])[start - 1 :].all()


@pytest.mark.medium
def test_continuations_have_the_probabilities_of_the_formula(harness):
    texts = [("the sea and", " the sun"), ("a man ", "sang"), ("", "the land")]
    found = harness.loglikelihood(asked(*texts))
    for (context, continuation), (score, is_likeliest) in zip(texts, found, strict=True):
        ids = [1, *harness.tokenizer.encode(context + continuation, add_special_tokens=False)]
        start = 1 + len(harness.tokenizer.encode(context.rstrip(), add_special_tokens=False))
        expected = log_probabilities(ids, start)
        assert score == pytest.approx(expected[0], abs=1e-4) and is_likeliest == expected[1]


@pytest.mark.medium
def test_what_the_model_writes_itself_is_the_likeliest(harness):
    (text,) = harness.generate_until(asked(("the sea", {"until": [], "max_gen_toks": 5})))
    ids = harness.tokenizer.encode("the sea", add_special_tokens=False)
    found = harness.options["model"].generate(ids, 5, stop_tokens=harness.tokenizer.stop_tokens)
    assert text == harness.tokenizer.decode(found)
    (until,) = harness.generate_until(asked(("the sea", {"until": [text[2:4]], "max_gen_toks": 5})))
    assert until == text[: text.index(text[2:4])]


@pytest.mark.medium
def test_each_token_of_a_long_text_counts_once(harness):
    text = "the sun and the sand of the sea and a man of the land sang all day long and he sang of the sun"
    ids = [1, *harness.tokenizer.encode(text, add_special_tokens=False)]
    assert len(ids) > 17
    expected, size = 0.0, 16
    for start in range(0, len(ids) - 1, size):
        end = min(start + size, len(ids) - 1)
        first = max(end - size, 0)
        expected += log_probabilities(ids[first : end + 1], start + 1 - first)[0]
    assert harness.loglikelihood_rolling(asked((text,)))[0] == pytest.approx(expected, abs=1e-3)


def test_the_package_is_named_where_it_is_missing(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    monkeypatch.setitem(sys.modules, "lm_eval.api.model", None)
    with pytest.raises(ImportError, match="pip install lm_eval"):
        language.harness_model(model, None)


@pytest.mark.slow
@pytest.mark.skipif(not has_package, reason="needs lm_eval")
def test_tasks_of_files_run(harness, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    lm_eval = pytest.importorskip("lm_eval")
    lines = [{"text": "the sea and", "choices": [" the sun", " a man"], "label": index % 2} for index in range(6)]
    (tmp_path / "lines.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    data = {"data_files": {"test": str(tmp_path / "lines.jsonl")}}
    shared = {"dataset_path": "json", "dataset_kwargs": data, "test_split": "test", "doc_to_text": "{{text}}"}
    tasks = [
        shared
        | {
            "task": "choices",
            "output_type": "multiple_choice",
            "doc_to_choice": "{{choices}}",
            "doc_to_target": "{{label}}",
            "metric_list": [{"metric": "acc"}],
        },
        shared
        | {
            "task": "text",
            "output_type": "loglikelihood_rolling",
            "doc_to_target": "{{text}}",
            "metric_list": [{"metric": "word_perplexity"}],
        },
        shared
        | {
            "task": "writing",
            "output_type": "generate_until",
            "doc_to_target": "{{choices[0]}}",
            "generation_kwargs": {"until": ["."], "max_gen_toks": 4},
            "metric_list": [{"metric": "exact_match"}],
        },
    ]
    results = lm_eval.simple_evaluate(model=harness, tasks=tasks, bootstrap_iters=0)["results"]
    assert results["choices"]["acc,none"] == 0.5  # the same choice each time
    assert results["text"]["word_perplexity,none"] > 1
    assert 0 <= results["writing"]["exact_match,none"] <= 1
