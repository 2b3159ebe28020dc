"""The guide to language models, run from its top, with a small model in the place of a large one."""

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.language import llama

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "language.md"
SMALLER = {
    "hf://user/name": "theirs",
    'dtype="bfloat16"': 'dtype="float32"',
    "nf4/64": "nf4/16",
    "max_new_tokens=200": "max_new_tokens=5",
    "length=2048": "length=48",
    "length=1024": "length=48",
}


@pytest.mark.slow
def test_the_guide_runs_from_loading_to_preferences(tmp_path, monkeypatch, tokenizer_folder):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tokenizer_folder, "theirs")
    llama.write(Path("theirs"))
    chat = [{"role": "user", "content": "a song"}, {"role": "assistant", "content": "of the sea"}]
    Path("train.jsonl").write_text("\n".join([json.dumps({"messages": chat})] * 8))
    pair = {"prompt": "the land of", "chosen": " sun", "rejected": " sand"}
    Path("pairs.jsonl").write_text("\n".join([json.dumps(pair)] * 8))
    names = {}
    found = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.S)
    blocks = [block for block in found if "Engine(" not in block and "openai" not in block]  # tests/serve runs these
    assert len(blocks) >= 3
    for block in blocks:
        for written, here in SMALLER.items():
            block = block.replace(written, here)
        exec(compile(block, str(GUIDE), "exec"), names)
    assert Path("my-model/model.safetensors").is_file() and Path("my-adapter/adapter_config.json").is_file()
    assert len(names["trained"].history.history["loss"]) == 1
