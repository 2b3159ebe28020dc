"""Examples of text as arrays for `fit`: read, encoded with what counts of them, and packed several to a row."""

import bisect
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kerax.language.models import POSITIONS, SEGMENTS, TOKENS
from kerax.language.tokenizer import Tokenizer

FORMS = "{'messages': [...]}, {'prompt': ..., 'completion': ...} or {'text': ...}"


class Example(NamedTuple):
    """Token ids, and which of them a model is to learn to say."""

    ids: np.ndarray
    is_answer: np.ndarray


def read_examples(path: Any) -> Iterator[dict]:
    """The examples in a file of JSON lines, `*.jsonl`, or in a table, `*.parquet`; any other iterable as it is.

    Raises:
        ValueError: naming the line that holds no JSON object, or for another ending.
        FileNotFoundError: if there is no such file.
    """
    if not isinstance(path, (str, Path)):
        yield from path
        return
    path = Path(path)
    if path.suffix == ".parquet":
        import pandas

        for row in pandas.read_parquet(path).to_dict("records"):
            yield {str(name): value for name, value in row.items()}
        return
    if path.suffix not in (".jsonl", ".ndjson", ".json"):
        raise ValueError(f"read_examples: expected a file '*.jsonl' or '*.parquet'. Got '{path}'.")
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield _object_in(line, f"{path}, line {number}")


def _object_in(line: str, where: str) -> dict:
    try:
        found = json.loads(line)
    except ValueError as error:
        raise ValueError(f"read_examples: {where}: no JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"read_examples: {where}: expected an object. Got {type(found).__name__}.")
    return found


def encode_example(example: dict, tokenizer: Tokenizer) -> Example:
    """An example's ids, and which of them are the answer.

    Args:
        example: `{"messages": [...]}`, a chat, of which everything that the assistant says counts; `{"prompt": ...,
            "completion": ...}`, of which the completion and the end count; or `{"text": ...}`, of which all counts.

    Raises:
        ValueError: if it has none of these forms, or the chat template does not write a chat as it goes on.
    """
    if "messages" in example:
        text, spans = _chat(list(example["messages"]), tokenizer)
        return _with_spans(text, spans, tokenizer, add_special_tokens=False)
    if "prompt" in example and "completion" in example:
        prompt = example["prompt"]
        if not isinstance(prompt, str):  # a chat that ends where the completion begins
            return encode_example({"messages": [*prompt, *example["completion"]]}, tokenizer)
        text = prompt + example["completion"]
        return _ended(_with_spans(text, [(len(prompt), len(text))], tokenizer), tokenizer)
    if "text" in example:
        return _ended(_with_spans(example["text"], [(0, len(example["text"]))], tokenizer), tokenizer)
    raise ValueError(f"encode_example: expected {FORMS}. Got {sorted(example)}.")


def _chat(messages: list[dict], tokenizer: Tokenizer) -> tuple[str, list[tuple[int, int]]]:
    """The text of a chat, and where in it the assistant speaks."""
    spans, text = [], tokenizer.apply_chat_template(messages, add_generation_prompt=False, tokenize=False)
    for index, message in enumerate(messages):
        if message.get("role") == "assistant":
            before = tokenizer.apply_chat_template(messages[:index], tokenize=False)
            after = tokenizer.apply_chat_template(messages[: index + 1], add_generation_prompt=False, tokenize=False)
            if not (after.startswith(before) and text.startswith(after)):
                raise ValueError(
                    f"encode_example: the chat template changes what message {index} follows on, so that its place in "
                    "the text is not known. Give one example for each answer, or prompt and completion as text."
                )
            spans.append((len(before), len(after)))
    return text, spans


def _with_spans(text: str, spans: list[tuple[int, int]], tokenizer: Tokenizer, add_special_tokens=True) -> Example:
    ids, places = tokenizer.encode_with_places(text, add_special_tokens)
    # A token that begins before an answer and ends in it is of the answer: there is no other place to learn it.
    is_answer = [any(start < last and end > first for first, last in spans) for start, end in places]
    return Example(np.asarray(ids, np.int32), np.asarray(is_answer, bool))


def _ended(example: Example, tokenizer: Tokenizer) -> Example:
    """The example with the end that a model is to say when it is done, unless it has one."""
    end = tokenizer.token_id(tokenizer.special_tokens.get("eos_token", ""))
    if end is None or (len(example.ids) and example.ids[-1] == end):
        return example
    return Example(np.append(example.ids, np.int32(end)), np.append(example.is_answer, True))


def cut(examples: Iterable[Example], length: int, too_long: str = "cut") -> list[Example]:
    """The examples in which something is to be learned, none longer than `length` tokens and the one that they end in.

    Args:
        too_long: What is done with those that are: `"cut"` their ends off, `"drop"` them, or `"raise"`.
    """
    if too_long not in ("cut", "drop", "raise"):
        raise ValueError(f"pack: `too_long` must be 'cut', 'drop' or 'raise'. Got {too_long!r}.")
    found = []
    for number, example in enumerate(examples):
        if len(example.ids) > length + 1:
            if too_long == "raise":
                raise ValueError(
                    f"pack: example {number} has {len(example.ids)} tokens; length={length} allows {length + 1}."
                )
            if too_long == "drop":
                continue
            example = Example(example.ids[: length + 1], example.is_answer[: length + 1])
        if example.is_answer[1:].any():
            found.append(example)
    return found


def pack(
    examples: Sequence[Example], length: int, pad_id: int = 0, too_long: str = "cut"
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Examples side by side in rows, so that little of a row is padding, as arrays for `fit`.

    Each token predicts the next of its example. Attention keeps to the example by its number in the row, and positions
    begin anew with each.

    Args:
        examples: What `encode_example` returns.
        length: Size of the rows.
        pad_id: Id of what fills them up.
        too_long: `"cut"` ends of examples off that do not fit into a row, `"drop"` such examples, or `"raise"`.

    Returns: `x`, a dict of `token_ids`, `segment_ids` (0 where a row is empty) and `positions`; `y`, the next tokens;
        `sample_weight`, 1 where the next token is of the answer. All `(rows, length)`. With a loss of
        `reduction="mean_with_sample_weight"` each token of an answer counts alike.

    Raises:
        ValueError: if nothing is left.
    """
    kept = cut(examples, length, too_long)
    if not kept:
        raise ValueError("pack: there is no example with an answer that fits into a row.")
    rows = _fill_rows([len(example.ids) - 1 for example in kept], length)
    shape = len(rows), length
    ids, following = np.full(shape, pad_id, np.int32), np.full(shape, pad_id, np.int32)
    segments, positions, weight = np.zeros(shape, np.int32), np.zeros(shape, np.int32), np.zeros(shape, np.float32)
    for row, members in enumerate(rows):
        start = 0
        for segment, member in enumerate(members, 1):
            example = kept[member]
            place = row, slice(start, start + len(example.ids) - 1)
            ids[place], following[place] = example.ids[:-1], example.ids[1:]
            segments[place], weight[place] = segment, example.is_answer[1:]
            positions[place] = np.arange(len(example.ids) - 1)
            start += len(example.ids) - 1
    return {TOKENS: ids, SEGMENTS: segments, POSITIONS: positions}, following, weight


def _fill_rows(sizes: list[int], length: int) -> list[list[int]]:
    """The indices of the sizes in rows of `length`: the largest first, each where it leaves the least room."""
    rows: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (what is free, row), in order
    for index in sorted(range(len(sizes)), key=lambda index: -sizes[index]):
        place = bisect.bisect_left(room, (sizes[index], -1))
        free, row = room.pop(place) if place < len(room) else (length, len(rows))
        if row == len(rows):
            rows.append([])
        rows[row].append(index)
        bisect.insort(room, (free - sizes[index], row))
    return rows
