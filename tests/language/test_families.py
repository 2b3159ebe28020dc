"""Each family against `transformers`: logits, and what is written is what was read."""

import numpy as np
import pytest

from kerax import language
from tests.language import tiny
from tests.language.test_checkpoints import all_tensors

pytestmark = pytest.mark.slow
LENGTH = 40
IDS = np.random.default_rng(0).integers(3, 99, (2, LENGTH)).astype("int32")
MASK = np.arange(LENGTH)[None] >= [[9], [0]]  # a prompt that is padded on the left


@pytest.fixture(scope="module")
def transformers():
    pytest.importorskip("torch")
    library = pytest.importorskip("transformers")
    library.logging.set_verbosity_error()
    library.logging.disable_progress_bar()
    return library


def outputs(torch, theirs, is_decoder, mask):
    """Those of PyTorch, in the order of `named`."""
    options = {} if mask is None else {"attention_mask": torch.tensor(mask.astype("int64"))}
    if mask is not None and is_decoder:
        options["position_ids"] = torch.tensor(np.maximum(np.cumsum(mask, axis=1) - 1, 0))
    with torch.no_grad():
        found = theirs(input_ids=torch.tensor(IDS.astype("int64")), **options)
    return [getattr(found, name).numpy() for name in ("logits", "last_hidden_state", "pooler_output") if name in found]


def named(found):
    """kerax's outputs in the same order."""
    if not isinstance(found, dict):
        return [found]
    return [found["logits"]] if "logits" in found else [found["sequence_output"], found["pooled_output"]]


@pytest.mark.parametrize("name", tiny.FAMILIES)
def test_logits_and_bytes_are_those_of_transformers(transformers, name, tmp_path):
    import torch

    theirs = tiny.make(name, tmp_path / "in")
    ours = language.load(tmp_path / "in")
    for mask in (None, MASK):
        found = ours(IDS if mask is None else {"token_ids": IDS, "padding_mask": mask})
        for mine, other in zip(named(found), outputs(torch, theirs, name in tiny.DECODERS, mask), strict=True):
            kept = slice(None) if mask is None or other.ndim == 2 else mask
            np.testing.assert_allclose(np.asarray(mine)[kept], other[kept], atol=1e-4)
            assert np.std(other) > 0.3  # not so alike that anything would do
    language.save(ours, tmp_path / "out", max_shard_size=20_000)
    before, after = all_tensors(tmp_path / "in"), all_tensors(tmp_path / "out")
    assert before.keys() == after.keys()
    assert all(
        before[key].dtype == after[key].dtype and before[key].tobytes() == after[key].tobytes() for key in before
    )
    again, info = type(theirs).from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(info.values()), info
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), theirs.parameters(), strict=True))


@pytest.mark.parametrize("kind", tiny.SCALINGS)
def test_scaled_positions_are_those_of_transformers(transformers, kind, tmp_path):
    import torch

    name, changes = tiny.SCALINGS[kind]
    (expected,) = outputs(torch, tiny.make(name, tmp_path, **changes), True, None)
    np.testing.assert_allclose(language.load(tmp_path)(IDS), expected, atol=1e-4)


@pytest.mark.parametrize("name", ["gemma3", "gpt2"])
def test_half_precision_too(transformers, name, tmp_path):
    theirs = tiny.make(name, tmp_path / "in", dtype="bfloat16")
    ours = language.load(tmp_path / "in")
    import torch

    (other,) = outputs(torch, theirs.float(), True, None)  # the same weights, computed with in float32
    np.testing.assert_allclose(np.asarray(ours(IDS), "float32"), other, atol=0.3)
    language.save(ours, tmp_path / "out")
    before, after = all_tensors(tmp_path / "in"), all_tensors(tmp_path / "out")
    assert all(
        before[key].dtype == after[key].dtype and before[key].tobytes() == after[key].tobytes() for key in before
    )


@pytest.mark.parametrize("name", tiny.DECODERS)
def test_greedy_tokens_are_those_of_transformers(transformers, name, tmp_path):
    import torch

    theirs = tiny.make(name, tmp_path)
    prompts = [row[row_mask] for row, row_mask in zip(IDS[:, :20], MASK[:, :20], strict=True)]
    found = language.load(tmp_path).generate(prompts, max_new_tokens=64)
    for prompt, mine in zip(prompts, found, strict=True):
        given = torch.tensor(prompt.astype("int64"))[None]
        options = {"max_new_tokens": 64, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
        with torch.no_grad():
            other = theirs.generate(given, attention_mask=torch.ones_like(given), **options)[0, len(prompt) :]
        np.testing.assert_array_equal(mine, other.numpy())
