"""OpenAI's forms of requests for text: what they ask for, checked, and what is answered.

The interface: https://platform.openai.com/docs/api-reference/completions and `/chat`.
"""

import time
import uuid
from collections.abc import Sequence
from typing import Any, NamedTuple

from kerax.errors import suggest
from kerax.language.engine import MOST_TOP, Engine
from kerax.language.requests import NewToken, Request
from kerax.language.sampling import NUMBERS, ArgumentError, Range
from kerax.language.tokenizer import Tokenizer
from kerax.serve.tensors import RequestError

_MOST_ANSWERS, _MOST_STOPS, _FEW = 128, 16, 16  # `max_tokens` of a completion that names none
_LEAST_CHANCE = -9999.0  # for what JSON has no number
_COMMON = {
    *("model", "stream", "stream_options", "n", "max_tokens", "seed", "stop", "logit_bias", "logprobs"),
    *("stop_token_ids", "ignore_eos", *NUMBERS),
}
_OWN = {
    False: {"prompt", "echo"},
    True: {"messages", "max_completion_tokens", "top_logprobs", "chat_template_kwargs", "add_generation_prompt"},
}
_IGNORED = {"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "parallel_tool_calls"}
_NAMES = {"stop_tokens": "stop_token_ids", "max_new_tokens": "max_tokens", "tokens": "prompt"}
_HARMLESS = {"response_format": {"type": "text"}, "tools": [], "tool_choice": "none", "best_of": 1, "suffix": ""}
"""What asks for nothing, of fields that are not known otherwise."""


class ApiError(RequestError):
    """What is wrong with a request, and with which of its fields."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None, headers=None):
        super().__init__(status, message, headers)
        self.param, self.code = param, code


def error_body(error: RequestError) -> dict:
    """An error as clients of OpenAI's read it."""
    kind = "rate_limit_error" if error.status == 429 else "server_error" if error.status >= 500 else None
    return {
        "error": {
            "message": error.message,
            "type": kind or "invalid_request_error",
            "param": getattr(error, "param", None),
            "code": getattr(error, "code", None),
        }
    }


class Asked(NamedTuple):
    """A request, checked but for what the engine checks."""

    is_chat: bool
    prompts: list[list[int]]
    num_answers: int  # for each prompt
    is_stream: bool
    has_usage: bool  # in a last chunk of a stream
    has_chances: bool
    stops: list[str]
    most: int | None  # new tokens
    sampling: dict[str, Any]
    echoes: list[str]  # of each prompt what its answer begins with


def read(data: Any, is_chat: bool, tokenizer: Tokenizer) -> Asked:
    """What a request asks for. Raises `ApiError` (400) naming the field."""
    _check_names(data, is_chat)
    data = {name: value for name, value in data.items() if value is not None}
    options = _typed(data, "stream_options", dict, {})
    prompts = [_chat(data, tokenizer)] if is_chat else _prompts(data, tokenizer)
    has_chances, num_top = _chances(data, is_chat)
    echo = _typed(data, "echo", bool, False)
    if echo and has_chances:
        raise ApiError(400, "`logprobs` of a prompt are not told: leave out `logprobs` or `echo`.", "echo")
    most = data.get("max_completion_tokens", data.get("max_tokens", None if is_chat else _FEW))
    sampling = {name: data[name] for name in (*NUMBERS, "seed", "logit_bias") if name in data}
    sampling = {"temperature": 1.0} | sampling | {"num_top": num_top}
    if sampling.get("top_k") == -1:  # as some clients write "all"
        sampling["top_k"] = 0
    stop_tokens = _list(data, "stop_token_ids", int, MOST_TOP)
    ends = [] if _typed(data, "ignore_eos", bool, False) else tokenizer.stop_tokens
    return Asked(
        is_chat,
        prompts,
        _number(data, "n", Range(1, 1, _MOST_ANSWERS, is_integer=True)),
        _typed(data, "stream", bool, False),
        _typed(options, "include_usage", bool, False, "stream_options"),
        has_chances,
        _list(data, "stop", str, _MOST_STOPS),
        None if most is None else _number({"max_tokens": most}, "max_tokens", Range(1, 1, 2**31, is_integer=True)),
        sampling | {"stop_tokens": [*ends, *stop_tokens]},
        [tokenizer.decode(prompt) if echo else "" for prompt in prompts],
    )


def requests(asked: Asked, engine: Engine) -> list[Request]:
    """What the engine is to do for a request, an item for each answer. Raises `ApiError` (400)."""
    found = []
    for prompt in asked.prompts:
        room = engine.cache_length - len(prompt)
        if (asked.most or 1) > room:
            new = "" if asked.most is None else f" and {asked.most} new ones"
            message = f"the prompt has {len(prompt)} tokens{new}. At most {engine.cache_length} fit."
            param = "messages" if asked.is_chat else "prompt"
            raise ApiError(400, message, param if room < 1 else "max_tokens", "context_length_exceeded")
        for index in range(asked.num_answers):
            try:
                request = engine.read(prompt, asked.most or room, index=index, **asked.sampling)
            except ArgumentError as error:
                name = _NAMES.get(error.name, error.name)
                raise ApiError(400, str(error).replace(f"`{error.name}`", f"`{name}`"), name) from None
            found.append(request)
    return found


def _check_names(data: Any, is_chat: bool):
    if not isinstance(data, dict):
        raise ApiError(400, f"the body must be an object. Got {type(data).__name__}.")
    known = _COMMON | _OWN[is_chat] | _IGNORED
    for name, value in data.items():
        if name in known or value is None or _HARMLESS.get(name) == value:
            continue
        raise ApiError(400, f"`{name}` is not supported here.{suggest(name, known)}", name)


def _typed(data: dict, name: str, kind: type, default: Any, inside: str | None = None) -> Any:
    value = data.get(name, default)
    if not isinstance(value, kind):
        expected = {bool: "true or false", dict: "an object"}[kind]
        raise ApiError(400, f"`{name}` must be {expected}. Got {value!r}.", inside or name)
    return value


def _number(data: dict, name: str, limits: Range) -> Any:
    try:
        return limits.read(name, data.get(name, limits.default))
    except ArgumentError as error:
        raise ApiError(400, str(error), name) from None


def _list(data: dict, name: str, kind: type, most: int) -> list:
    """One or several texts or integers."""
    value = data.get(name, [])
    items = [value] if isinstance(value, kind) else value
    is_list = isinstance(items, list) and all(type(item) is kind and item != "" for item in items)
    if not is_list or len(items) > most:
        noun = "texts that are not empty" if kind is str else "tokens"
        raise ApiError(400, f"`{name}` must be a list of at most {most} {noun}. Got {value!r}.", name)
    return items


def _chances(data: dict, is_chat: bool) -> tuple[bool, int | None]:
    """Whether log probabilities are asked for, and of how many of the likeliest tokens."""
    limits = Range(0, 0, MOST_TOP, is_integer=True)
    if not is_chat:
        return "logprobs" in data, _number(data, "logprobs", limits) if "logprobs" in data else None
    has_chances = _typed(data, "logprobs", bool, False)
    if "top_logprobs" in data and not has_chances:
        raise ApiError(400, "`top_logprobs` needs `logprobs` to be true.", "top_logprobs")
    return has_chances, _number(data, "top_logprobs", limits) if has_chances else None


def _prompts(data: dict, tokenizer: Tokenizer) -> list[list[int]]:
    """The tokens of a text, of several, or those given themselves."""
    given = data.get("prompt")
    items: list[Any] = given if isinstance(given, list) else [given]
    if items and all(type(item) is int for item in items):
        items = [items]
    found: list[Any] = [tokenizer.encode(item) if isinstance(item, str) else item for item in items]
    for prompt, item in zip(found, items):
        is_tokens = isinstance(prompt, list) and all(type(token) is int for token in prompt)
        if not is_tokens or not prompt:
            expected = "a text, a list of texts, tokens, or a list of lists of tokens, none empty"
            raise ApiError(400, f"`prompt` must be {expected}. Got {item!r}.", "prompt")
    if not found or len(found) > _MOST_ANSWERS:
        raise ApiError(400, f"`prompt` must have 1 to {_MOST_ANSWERS} items. Got {len(found)}.", "prompt")
    return found


def _chat(data: dict, tokenizer: Tokenizer) -> list[int]:
    messages = data.get("messages")
    if not isinstance(messages, list) or not messages:
        raise ApiError(400, f"`messages` must be a list of at least one message. Got {messages!r}.", "messages")
    variables = _typed(data, "chat_template_kwargs", dict, {})
    goes_on = _typed(data, "add_generation_prompt", bool, True)
    try:
        return tokenizer.apply_chat_template([_message(item) for item in messages], goes_on, **variables)
    except (TypeError, ValueError) as error:
        raise ApiError(400, str(error), "messages") from None


def _message(item: Any) -> dict:
    content = item.get("content") if isinstance(item, dict) else None
    if isinstance(content, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in content):
        content = "".join(str(part.get("text", "")) for part in content)
    if not isinstance(item, dict) or not isinstance(item.get("role"), str) or not isinstance(content, str):
        raise ApiError(
            400,
            f"each of `messages` must have a `role` and a `content`, a text or parts of text. Got {item!r}.",
            "messages",
        )
    return item | {"content": content}


# Answers.


class Form:
    """The answers to one request: the whole, or the chunks of a stream."""

    def __init__(self, asked: Asked, model: str, tokenizer: Tokenizer):
        self._asked, self._tokenizer = asked, tokenizer
        kind = "chatcmpl" if asked.is_chat else "cmpl"
        self._head = {"id": f"{kind}-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}

    def whole(self, texts: Sequence[str], reasons: Sequence[str | None], chances: Sequence, usage: dict) -> dict:
        """The answer with everything in it."""
        choices = []
        for index, (text, reason, chance) in enumerate(zip(texts, reasons, chances)):
            content = {"message": {"role": "assistant", "content": text}} if self._asked.is_chat else {"text": text}
            choices.append({"index": index, **content, "logprobs": chance, "finish_reason": reason})
        kind = "chat.completion" if self._asked.is_chat else "text_completion"
        return self._head | {"object": kind, "choices": choices, "usage": usage}

    def chunk(self, index: int, text: str | None, reason: str | None = None, chances: Any = None) -> dict:
        """A piece of an answer; of a chat the first is told apart by `None` for a text, and so is the last."""
        if self._asked.is_chat:
            first = {"role": "assistant", "content": ""} if reason is None else {}
            content: dict = {"delta": first if text is None else {"content": text}}
        else:
            content = {"text": text or ""}
        choice = {"index": index, **content, "logprobs": chances, "finish_reason": reason}
        return self._chunk([choice]) | ({"usage": None} if self._asked.has_usage else {})

    def last_chunk(self, usage: dict) -> dict:
        """What follows the answers where the request wants to know the numbers of tokens."""
        return self._chunk([]) | {"usage": usage}

    def _chunk(self, choices: list) -> dict:
        kind = "chat.completion.chunk" if self._asked.is_chat else "text_completion"
        return self._head | {"object": kind, "choices": choices}

    def usage(self, num_new: int) -> dict:
        """Numbers of tokens, those of the prompts once each."""
        prompts = sum(map(len, self._asked.prompts))
        return {"prompt_tokens": prompts, "completion_tokens": num_new, "total_tokens": prompts + num_new}

    def chances(self, tokens: Sequence[NewToken], offsets: Sequence[int]) -> dict | None:
        """The log probabilities of tokens that begin at such places of the text."""
        if not self._asked.has_chances:
            return None
        if self._asked.is_chat:
            content = [
                self._chance(new.token, new.log_probability)
                | {"top_logprobs": [self._chance(token, value) for token, value in new.top]}
                for new in tokens
            ]
            return {"content": content, "refusal": None}
        texts = [self._chance(new.token, new.log_probability) for new in tokens]
        tops = [
            {one["token"]: one["logprob"] for one in [*(self._chance(*pair) for pair in new.top), own]}
            for new, own in zip(tokens, texts)
        ]
        return {
            "tokens": [one["token"] for one in texts],
            "token_logprobs": [one["logprob"] for one in texts],
            "top_logprobs": tops,
            "text_offset": list(offsets),
        }

    def _chance(self, token: int, value: float) -> dict:
        written = self._tokenizer.token_bytes(token)
        try:
            text = written.decode()
        except UnicodeDecodeError:  # a part of a character
            text = "bytes:" + "".join(f"\\x{byte:02x}" for byte in written)
        return {"token": text, "logprob": max(value, _LEAST_CHANCE), "bytes": list(written)}
