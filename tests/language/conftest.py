import json

import pytest

TEMPLATE = """{% for message in messages %}<|{{ message.role }}|>{{ message.content }}</s>
{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"""
WORDS = "a man was in the land of song and he sang of the sea , the sun and the sand all day long"
SPECIAL = ["<pad>", "<s>", "</s>", "<|user|>", "<|assistant|>", "<|system|>"]


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory):
    """A small tokenizer of the `tokenizers` library, trained here, with a chat template."""
    tokenizers = pytest.importorskip("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=320, special_tokens=SPECIAL, initial_alphabet=sorted(alphabet), show_progress=False
    )
    made.train_from_iterator([WORDS] * 3, trainer)
    made.post_processor = tokenizers.processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    folder = tmp_path_factory.mktemp("tokenizer")
    made.save(str(folder / "tokenizer.json"))
    end = {"__type": "AddedToken", "content": "</s>"}  # as older versions of `transformers` write them
    config = {"bos_token": "<s>", "eos_token": end, "pad_token": "<pad>", "chat_template": TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 4]}))
    return folder
