import json
import shutil

import numpy as np
import pytest

from kerax.language import Tokenizer, tokenizer

CHAT = [{"role": "user", "content": "the sea"}, {"role": "assistant", "content": "the sand"}]


def test_text_comes_back_and_special_tokens_are_known(tokenizer_folder):
    made = Tokenizer(tokenizer_folder)
    ids = made.encode("the sun and the sea")
    assert ids[0] == 1 and made.encode("the sun and the sea", add_special_tokens=False) == ids[1:]
    assert made.decode(ids) == "the sun and the sea" and made.decode([2], skip_special_tokens=False) == "</s>"
    assert (made.pad_id, made.stop_tokens, made.token_id("</s>"), made.token_id("none")) == (0, [2, 4], 2, None)
    assert made.special_tokens == {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    assert max(ids) < made.vocabulary_size


@pytest.mark.parametrize("padding", ["right", "left"])
def test_a_batch_is_filled_up_on_the_side_asked_for(tokenizer_folder, padding):
    made = Tokenizer(tokenizer_folder)
    ids, mask = made.encode_batch(["the sun", "a"], length=12, padding=padding)
    assert ids.shape == mask.shape == (2, 12) and ids.dtype == np.int32 and mask.dtype == bool
    for row, text in zip(range(2), ("the sun", "a"), strict=True):
        assert ids[row][mask[row]].tolist() == made.encode(text)
    assert mask[1][0] == (padding == "right") and (ids[~mask] == 0).all()
    assert made.decode_batch(ids) == ["the sun", "a"]
    with pytest.raises(ValueError, match=r"a text has \d+ tokens. Got length=2"):
        made.encode_batch(["the sun and the sea"], length=2)
    with pytest.raises(ValueError, match="`padding` must be 'right' or 'left'. Got 'middle'"):
        made.encode_batch(["a"], padding="middle")


def test_a_chat_is_written_as_the_template_says(tokenizer_folder):
    made = Tokenizer(tokenizer_folder)
    text = made.apply_chat_template(CHAT[:1], tokenize=False)
    assert text == "<|user|>the sea</s>\n<|assistant|>"
    ids = made.apply_chat_template(CHAT, add_generation_prompt=False)
    assert ids[0] == 3 and made.decode(ids, skip_special_tokens=False) == f"{text}the sand</s>\n"


@pytest.mark.parametrize(
    "template, message",
    [
        ("{{ raise_exception('roles must alternate') }}", "TemplateError: roles must alternate"),
        ("{{ messages[9].content }}", "the template failed: UndefinedError"),
        ("{% if %}", "TemplateSyntaxError"),
        ("{{ ''.__class__.__mro__ }}", "SecurityError"),
        ("{{ messages.append(1) }}", "SecurityError"),
    ],
)
def test_a_template_that_fails_says_so_and_reaches_nothing(tokenizer_folder, template, message):
    made = Tokenizer(tokenizer_folder)
    made.chat_template = template
    with pytest.raises(ValueError, match=message):
        made.apply_chat_template(CHAT)


def test_templates_have_what_others_give_them():
    values = {"messages": [{"a": "é"}, {"a": "<"}], "bos_token": "<s>"}
    template = (
        "{{ bos_token }}{% for m in messages %}{% if loop.last %}{% break %}{% endif %}{{ m | tojson }}{% endfor %}"
    )
    assert tokenizer.render(template, values) == '<s>{"a": "é"}'
    assert tokenizer.render("{{ strftime_now('%Y') }}", {}).isdigit()


def test_saved_and_read_again_it_is_the_same(tokenizer_folder, tmp_path):
    made = Tokenizer(tokenizer_folder)
    made.save(tmp_path / "model")
    again = Tokenizer(tmp_path / "model")
    assert again.apply_chat_template(CHAT) == made.apply_chat_template(CHAT)
    assert again.special_tokens == made.special_tokens and again.pad_id == made.pad_id
    assert (tmp_path / "model" / "tokenizer.json").read_text() == (tokenizer_folder / "tokenizer.json").read_text()


def test_what_is_missing_or_wrong_is_said(tokenizer_folder, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"no tokenizer.json; where `transformers` is"):
        Tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=r"tokenizer.json' cannot be read"):
        Tokenizer(tmp_path)
    shutil.copy(tokenizer_folder / "tokenizer.json", tmp_path)
    with pytest.raises(ValueError, match="the tokenizer has no chat template"):
        Tokenizer(tmp_path).apply_chat_template(CHAT)
    several = [{"name": "tools", "template": "t"}, {"name": "default", "template": "d"}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": several}))
    assert Tokenizer(tmp_path).apply_chat_template(CHAT, tokenize=False) == "d"
    monkeypatch.setitem(__import__("sys").modules, "tokenizers", None)
    with pytest.raises(ImportError, match=r"text needs tokenizers: pip install 'kerax\[text\]'"):
        Tokenizer(tmp_path)


@pytest.mark.slow
def test_ids_and_chats_are_those_of_transformers(tokenizer_folder):
    theirs = pytest.importorskip("transformers").AutoTokenizer.from_pretrained(tokenizer_folder)
    ours = Tokenizer(tokenizer_folder)
    assert ours.encode("a man sang, all day") == theirs("a man sang, all day")["input_ids"]
    assert ours.apply_chat_template(CHAT, tokenize=False) == theirs.apply_chat_template(
        CHAT, tokenize=False, add_generation_prompt=True
    )
