import json

import numpy as np
import pytest

from kerax import language
from kerax.language import Tokenizer
from kerax.language.data import Example, encode_example, pack, read_examples
from tests.language import llama

CHAT = [
    {"role": "user", "content": "the sea"},
    {"role": "assistant", "content": "the sand"},
    {"role": "user", "content": "and"},
    {"role": "assistant", "content": "the sun"},
]


def example(*ids, answer=1):
    return Example(np.array(ids, "int32"), np.arange(len(ids)) >= answer)


def answers(found, made):
    return [made.decode(found.ids[place], skip_special_tokens=False) for place in runs(found.is_answer)]


def runs(mask):
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(int), [0]])))
    return [slice(*pair) for pair in edges.reshape(-1, 2)]


def test_json_lines_are_read_and_mistakes_named(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "é"}\n\n{"text": "b"}\n', encoding="utf-8")
    assert list(read_examples(path)) == [{"text": "é"}, {"text": "b"}]
    assert list(read_examples(iter([{"text": "c"}]))) == [{"text": "c"}]
    path.write_text('{"text": "a"}\n{"text"\n')
    with pytest.raises(ValueError, match=r"a.jsonl, line 2: no JSON"):
        list(read_examples(path))
    path.write_text("[1]\n")
    with pytest.raises(ValueError, match=r"line 1: expected an object. Got list"):
        list(read_examples(path))
    with pytest.raises(ValueError, match=r"expected a file '\*.jsonl' or '\*.parquet'"):
        list(read_examples("a.txt"))


def test_of_a_chat_only_what_the_assistant_says_counts(tokenizer_folder):
    made = Tokenizer(tokenizer_folder)
    found = encode_example({"messages": CHAT}, made)
    assert answers(found, made) == ["the sand</s>\n", "the sun</s>\n"]
    assert found.ids.tolist() == made.apply_chat_template(CHAT, add_generation_prompt=False)
    made.chat_template = "{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}"
    with pytest.raises(ValueError, match="the chat template changes what message 1 follows on"):
        encode_example({"messages": CHAT}, made)


def test_prompt_and_completion_end_as_they_should(tokenizer_folder):
    made = Tokenizer(tokenizer_folder)
    found = encode_example({"prompt": "the sea and", "completion": " the sun"}, made)
    assert answers(found, made) == [" the sun</s>"] and found.ids[0] == 1
    assert answers(encode_example({"text": "the sun"}, made), made) == ["the sun</s>"]
    chat = encode_example({"prompt": CHAT[:1], "completion": CHAT[1:2]}, made)
    assert answers(chat, made) == ["the sand</s>\n"]
    with pytest.raises(ValueError, match=r"expected \{'messages'.*Got \['question'\]"):
        encode_example({"question": "a"}, made)


def test_rows_are_full_and_each_token_predicts_the_next_of_its_example():
    given = [example(1, 2, 3), example(*range(10, 18), answer=4), example(5, 6), example(7, 8, 9, answer=2)]
    x, y, weight = pack(given, length=7, pad_id=99)
    assert x["token_ids"].tolist() == [[10, 11, 12, 13, 14, 15, 16], [1, 2, 7, 8, 5, 99, 99]]
    assert y.tolist() == [[11, 12, 13, 14, 15, 16, 17], [2, 3, 8, 9, 6, 99, 99]]
    assert x["segment_ids"].tolist() == [[1] * 7, [1, 1, 2, 2, 3, 0, 0]]
    assert x["positions"].tolist() == [list(range(7)), [0, 1, 0, 1, 0, 0, 0]]
    assert weight.tolist() == [[0, 0, 0, 1, 1, 1, 1], [1, 1, 0, 1, 1, 0, 0]]


def test_long_examples_are_cut_dropped_or_refused():
    given = [example(*range(9)), example(1, 2)]
    assert pack(given, 4)[1].tolist() == [[1, 2, 3, 4], [2, 0, 0, 0]]
    assert pack(given, 4, too_long="drop")[1].tolist() == [[2, 0, 0, 0]]
    with pytest.raises(ValueError, match="example 0 has 9 tokens; length=4 allows 5"):
        pack(given, 4, too_long="raise")
    with pytest.raises(ValueError, match="`too_long` must be"):
        pack(given, 4, too_long="keep")
    with pytest.raises(ValueError, match="no example with an answer that fits"):
        pack([example(*range(9), answer=6)], 4)


@pytest.mark.medium
def test_a_packed_row_has_the_losses_of_its_examples(tmp_path):
    model = language.load(llama.write(tmp_path))
    random = np.random.default_rng(0)
    given = [example(*random.integers(1, 320, size), answer=2) for size in (4, 9, 6, 3)]
    loss = {"reduction": "mean_with_sample_weight", "from_logits": True}
    model.compile(loss={"class_name": "SparseCategoricalCrossentropy", "config": loss})
    packed = model.evaluate(*pack(given, 9)[:2], sample_weight=pack(given, 9)[2], verbose=0)
    each, count = 0.0, 0
    for one in given:
        logits = llama.logits(llama.tensors(), one.ids[:-1])
        logits -= np.log(np.sum(np.exp(logits), -1, keepdims=True))
        each -= np.sum(logits[np.arange(len(logits)), one.ids[1:]] * one.is_answer[1:])
        count += one.is_answer[1:].sum()
    assert len(pack(given, 9)[1]) == 3
    np.testing.assert_allclose(packed, each / count, rtol=1e-5)


def test_parquet_is_read_where_pandas_is(tmp_path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    pandas.DataFrame([{"text": "a"}, {"text": "b"}]).to_parquet(tmp_path / "a.parquet")
    assert list(read_examples(tmp_path / "a.parquet")) == [{"text": "a"}, {"text": "b"}]
    assert [json.dumps(each) for each in read_examples(tmp_path / "a.parquet")] == ['{"text": "a"}', '{"text": "b"}']
