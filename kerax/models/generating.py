"""`Model.generate`: what follows prompts, for any model from tokens to logits."""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kerax.core import caching, placement
from kerax.core.seeds import key_from, make_seed
from kerax.core.tracking import descendants
from kerax.layers.positions import PositionEmbedding
from kerax.models import beams, decoding, speculation
from kerax.models.prompts import Prompts, bucket, read_prompts


def generate(
    self,
    tokens: Any,
    max_new_tokens: int = 64,
    *,
    lengths: Any = None,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float | None = None,
    num_beams: int = 1,
    length_penalty: float = 1.0,
    stop_tokens: Any = (),
    stop_strings: Sequence[str] = (),
    tokenizer: Any = None,
    seed: int | None = None,
    return_log_probabilities: bool = False,
    draft_model: Any = None,
    num_draft_tokens: int = 4,
    cache_dtype: Any = None,
    stream: bool = False,
    chunk_size: int = 16,
) -> Any:
    """The tokens that follow prompts, by a model from tokens `(batch, length)` to logits `(batch, length, vocabulary)`.

    Prompts and all new tokens go through one program, which does not depend on the prompts' lengths but for steps of a
    few. Attention layers called with `use_causal_mask=True` keep what they have seen in a cache. A model whose layers
    cannot all do with that is computed anew for each token, with a warning.

    Args:
        tokens: One prompt, a list of prompts of any lengths, or an array `(batch, length)`.
        max_new_tokens: Most tokens to add to each.
        lengths: Of the prompts in an array; what follows them in a row is padding.
        temperature: Logits are divided by it; 0 takes the likeliest token.
        top_k: Only so many of the likeliest tokens may follow.
        top_p: Only the likeliest tokens that have so much probability together.
        min_p: Only tokens with this fraction of the largest probability.
        repetition_penalty: Above 1 makes tokens that are in a row already less likely.
        num_beams: Above 1, the likeliest of several continuations that are followed at once.
        length_penalty: Beams' log probabilities are divided by their number of new tokens to this power.
        stop_tokens: A token, or several, that end a row. It is the row's last.
        stop_strings: Texts that end a row, with the token that completes one; `tokenizer` must be given.
        tokenizer: A function from a list of tokens to text, or an object with such a method `decode`.
        seed: Of random draws, which for each row do not depend on the others. Default: the next of `kerax.random`'s.
        return_log_probabilities: Whether to return that of each new token too, of the logits as they are.
        draft_model: A smaller model of the same vocabulary that proposes tokens, which the model accepts or not, in
            such a way that what comes out has the model's own distribution.
        num_draft_tokens: How many it proposes at a time.
        cache_dtype: `"bfloat16"` or `"int8"`, for instance. Default: the layers' compute dtype.
        stream: Whether to return an iterator instead, of new tokens as they come.
        chunk_size: Steps between two items of that.

    Returns: the new tokens as an int32 array, a list of such for several prompts; with `return_log_probabilities` a
        pair of these and the log probabilities in the same form. With `stream`, an iterator of them.

    Raises:
        ValueError: before anything is compiled, for prompts or arguments that do not fit.

    Source of speculative decoding: Leviathan et al. 2022, https://arxiv.org/abs/2211.17192
    """
    prompts = read_prompts(tokens, lengths)
    numbers = {"top_k": top_k, "top_p": top_p, "min_p": min_p, "repetition_penalty": repetition_penalty}
    _check_sampling(temperature, numbers)
    _check_counts(max_new_tokens=max_new_tokens, num_beams=num_beams, chunk_size=chunk_size, drafts=num_draft_tokens)
    others = temperature, stream, draft_model, return_log_probabilities, stop_strings
    if num_beams > 1 and any(others):
        raise ValueError(
            "generate: `num_beams` above 1 takes no `temperature`, `stream`, `draft_model`, `stop_strings` or "
            "`return_log_probabilities`. Leave them out, or `num_beams`."
        )
    if draft_model is not None and repetition_penalty is not None:
        raise ValueError("generate: a `draft_model` takes no `repetition_penalty`. Leave one of them out.")
    if stop_strings and tokenizer is None:
        raise ValueError("generate: `stop_strings` needs `tokenizer`, a function from tokens to text.")
    stops = np.unique(np.asarray(stop_tokens, np.int32).ravel())
    options = {"temperature": temperature} | {name: value for name, value in numbers.items() if value is not None}
    decoder = _Decoder(self, draft_model, num_draft_tokens, num_beams, length_penalty, cache_dtype)
    decoder.prepare(prompts, max_new_tokens)
    chunks = decoder.chunks(
        prompts,
        max_new_tokens,
        options,
        stops,
        seed,
        return_log_probabilities,
        chunk_size if stream or stop_strings else max_new_tokens,
    )
    if stop_strings:
        chunks = _until_strings(chunks, [stop_strings] if isinstance(stop_strings, str) else stop_strings, tokenizer)
    given = ([prompts.shape(part) for part in chunk] for chunk in chunks)
    found = (tuple(parts) if return_log_probabilities else parts[0] for parts in given)
    if stream:
        return found
    return _joined(list(found), prompts, return_log_probabilities)


def _joined(chunks: list, prompts: Prompts, has_pairs: bool):
    if has_pairs:
        return tuple(_joined([chunk[part] for chunk in chunks], prompts, False) for part in range(2))
    if prompts.is_one:
        return np.concatenate(chunks)
    return [np.concatenate(row) for row in zip(*chunks, strict=True)]


def _check_counts(**counts: Any) -> None:
    for name, value in counts.items():
        if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 1:
            raise ValueError(f"generate: `{name}` must be an integer of at least 1. Got {value!r}.")


def _check_sampling(temperature: Any, numbers: dict) -> None:
    def fail(name, expected, value):
        raise ValueError(f"generate: `{name}` must be {expected}. Got {value!r}.")

    if not np.all(np.asarray(temperature) >= 0):
        fail("temperature", "at least 0", temperature)
    for name in ("top_p", "min_p"):
        value = numbers[name]
        if value is not None and not np.all((np.asarray(value) >= 0) & (np.asarray(value) <= 1)):
            fail(name, "between 0 and 1", value)
    top_k, penalty = numbers["top_k"], numbers["repetition_penalty"]
    if top_k is not None and not (np.asarray(top_k).dtype.kind in "iu" and np.all(np.asarray(top_k) >= 1)):
        fail("top_k", "an integer of at least 1", top_k)
    if penalty is not None and not np.all(np.asarray(penalty) > 0):
        fail("repetition_penalty", "above 0", penalty)
    given = [name for name in ("top_k", "top_p", "min_p") if numbers[name] is not None]
    if given and not np.any(np.asarray(temperature) > 0):
        raise ValueError(
            f"generate: {given} choose among tokens that are drawn, but `temperature` is 0, which takes the likeliest. "
            "Give a temperature, 1.0 for example."
        )


class _Decoder:
    """The programs of one way to generate, which the model keeps, and the Python around them."""

    def __init__(self, model, draft, num_drafts: int, num_beams: int, length_penalty: float, cache_dtype):
        self.model, self.draft, self.num_drafts = model, draft, num_drafts
        self.num_beams, self.length_penalty = num_beams, float(length_penalty)
        self.cache_dtype = None if cache_dtype is None else jnp.dtype(cache_dtype).name
        self.window: int | None = None

    def prepare(self, prompts: Prompts, max_new_tokens: int) -> None:
        """Sees to it that the models are built and can go so far, and finds out whether they have caches."""
        needed = int(prompts.lengths.max()) + max_new_tokens
        self.length = bucket(needed + (self.num_drafts + 1 if self.draft is not None else 0))
        self.width = bucket(int(prompts.lengths.max()))
        for model in [self.model, *([] if self.draft is None else [self.draft])]:
            if not hasattr(model, "kerax_compilation"):
                raise ValueError(f"generate: `draft_model` must be a model. Got {model!r}.")
            if not all(getattr(item, "built", True) for item in descendants(model)):
                model(np.zeros((1, 8), np.int32))
            self._check_length(model, needed)
        self.window = _window(self.model)
        if self.draft is not None and (self.window is not None or _window(self.draft) is not None):
            raise ValueError("generate: a `draft_model` needs caches, its own and the model's. Leave it out.")

    def _check_length(self, model, needed: int) -> None:
        for item in descendants(model):
            if isinstance(item, PositionEmbedding):
                if needed > item.sequence_length:
                    raise ValueError(
                        f"generate: prompts and new tokens take {needed} positions, but {item} has vectors for "
                        f"{item.sequence_length}. Shorten the prompts or lower `max_new_tokens`."
                    )
                self.length = max(min(self.length, item.sequence_length), needed)
                self.width = min(self.width, item.sequence_length)

    def chunks(
        self, prompts: Prompts, max_new_tokens, options, stops, seed, has_log_probabilities, chunk_size
    ) -> Iterator[list]:
        """Lists of the new tokens of each row, and of their log probabilities, chunk by chunk."""
        rows = len(prompts.lengths)
        rules = decoding.Rules(
            is_greedy=not np.any(np.asarray(options["temperature"])),
            is_penalized="repetition_penalty" in options,
            has_log_probabilities=has_log_probabilities,
        )
        arrays = {name: _for_rows(name, value, rows) for name, value in options.items()}
        start, go_on = self._programs(rules, tuple(sorted(arrays)))
        models = [self.model] if self.draft is None else [self.model, self.draft]
        variables = [model.variables_tree() for model in models]
        keys = _keys(seed, rows)
        lengths = prompts.lengths.astype(np.int32)
        padded = -np.ones(bucket(max(len(stops), 1), 4), np.int32)
        padded[: len(stops)] = stops
        given = placement.place(
            [prompts.padded(self.width), lengths, lengths - 1 + max_new_tokens, keys, arrays, padded]
        )
        state, shown = None, lengths
        while True:
            steps = np.int32(chunk_size)
            if state is None:
                state = start(variables, *given, steps)
            else:
                state = go_on(variables, state, *given[4:], steps)
            found = self.host(state)
            parts = [found["tokens"], *([found["log_probabilities"]] if has_log_probabilities else [])]
            ends = found["positions"] + 1
            told = yield [[row[a:b] for row, a, b in zip(part, shown, ends, strict=True)] for part in parts]
            shown = ends
            done = found["is_done"]
            if told is not None:
                done = done | told
                state = state._replace(is_done=placement.place(done))
            if done.all():
                return

    def host(self, state) -> dict[str, np.ndarray]:
        """What of a state people see, as NumPy's arrays."""
        names = ["tokens", "positions", "is_done"]
        names += ["log_probabilities"] if state.log_probabilities is not None else []
        return dict(zip(names, placement.to_host_all([getattr(state, name) for name in names]), strict=True))

    def _programs(self, rules: decoding.Rules, names: tuple[str, ...]) -> tuple[Callable, Callable]:
        kept = self.model.kerax_compilation.programs
        settings = (self.length, self.num_drafts, self.num_beams, self.length_penalty, self.cache_dtype, self.window)
        key = "generate", rules, names, settings, id(self.draft)
        if key not in kept:
            kept[key] = self._make(rules), self.draft  # which lives as long, so that its identity is its own
        return kept[key][0]

    def _make(self, rules: decoding.Rules) -> tuple[Callable, Callable]:
        models = [self.model] if self.draft is None else [self.model, self.draft]
        begin = decoding.starting(
            [] if self.window is not None else models,
            self.length,
            _vocabulary(self.model) if rules.is_penalized else 0,
            rules.has_log_probabilities,
            self.cache_dtype,
        )
        step: Callable = decoding.plain_step(self.model, rules, self.window)
        if self.draft is not None:
            step = speculation.step(self.model, self.draft, self.num_drafts, rules)
        elif self.num_beams > 1:
            step = beams.step(self.model, rules, self.window, self.num_beams, self.length_penalty)
            begin = beams.starting(begin, self.num_beams)
        go_on = decoding.program(step)
        finish = beams.best if self.num_beams > 1 else lambda state: state

        def start(variables, tokens, lengths, last, keys, options, stops, num_steps):
            return finish(go_on(variables, begin(variables, tokens, lengths, last, keys), options, stops, num_steps))

        return jax.jit(start), jax.jit(go_on, donate_argnums=1)


def _for_rows(name: str, value, rows: int) -> np.ndarray:
    array = np.asarray(value, np.int32 if name == "top_k" else np.float32)
    if array.shape not in ((), (rows,)):
        raise ValueError(f"generate: `{name}` must be one number, or one for each of {rows} prompts. Got {value!r}.")
    return np.broadcast_to(array, (rows,))


def _keys(seed, rows: int):
    """A key for each row: of a seed and its index, or of a seed of its own."""
    if seed is not None and np.ndim(seed) == 1:
        return jnp.stack([jax.random.fold_in(key_from(int(one)), 0) for one in seed])
    key = key_from(make_seed() if seed is None else seed)
    return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(rows))


def _until_strings(chunks, strings: Sequence[str], tokenizer) -> Iterator[list]:
    """Chunks with rows cut after the token that completes one of the strings."""
    decode = getattr(tokenizer, "decode", tokenizer)
    texts: list[list[int]] = []
    ended, told = np.zeros(0, bool), None
    while True:
        try:
            chunk = chunks.send(told)
        except StopIteration:
            return
        texts = texts or [[] for _ in chunk[0]]
        ended = ended if ended.size else np.zeros(len(texts), bool)
        for index, row in enumerate(chunk[0]):
            kept = 0 if ended[index] else len(row)
            for count in range(1, kept + 1):
                texts[index].append(int(row[count - 1]))
                if any(string in decode(texts[index]) for string in strings):
                    kept, ended[index] = count, True
                    break
            for part in chunk:
                part[index] = part[index][:kept]
        yield chunk
        told = ended


def _vocabulary(model) -> int:
    return model_outputs(model).shape[-1]


def model_outputs(model) -> Any:
    """The shape and dtype of a model's outputs for one row of two tokens.

    Raises:
        ValueError: if it is not from tokens to logits.
    """
    spec = jax.ShapeDtypeStruct((1, 2), jnp.int32)
    variables = model.variables_tree()

    def call(variables, tokens):
        return model.apply(variables, tokens, positions=jnp.arange(2)[None], training=False)[0]

    found = jax.eval_shape(call, variables, spec)
    if not hasattr(found, "shape") or found.ndim != 3 or found.shape[:2] != (1, 2):
        shown = jax.tree.map(lambda leaf: leaf.shape, found)
        raise ValueError(
            f"generate: {model} must make logits (batch, length, vocabulary) of tokens (batch, length). "
            f"For tokens (1, 2) it makes {shown}."
        )
    return found


# Whether a model goes on from a cache.


def _window(model) -> int | None:
    """`None` for a model with caches. Else how many tokens it takes, or 0 for any number; warns once."""
    kept = model.kerax_compilation.programs
    if "generate_window" not in kept:
        kept["generate_window"] = _find_window(model)
    return kept["generate_window"]


def _find_window(model) -> int | None:
    reason = why_not_cached(model)
    if reason is None:
        return None
    warnings.warn(
        f"generate: {model} is computed anew for each token, from all before it, which takes far longer. {reason}",
        stacklevel=6,
    )
    shape = getattr(model, "input_shape", None)
    size = shape[1] if isinstance(shape, tuple) and len(shape) == 2 else None
    return size if size and not _takes(model, size + 1) else 0


def _takes(model, length: int) -> bool:
    """Whether the model takes rows of another length than that of its `Input` or of its first data."""
    spec = jax.ShapeDtypeStruct((1, length), jnp.int32)
    try:
        jax.eval_shape(lambda variables, tokens: model.apply(variables, tokens)[0], model.variables_tree(), spec)
    except (TypeError, ValueError):
        return False
    return True


def why_not_cached(model) -> str | None:
    """Why the model cannot go on from a cache; `None` if it can, which is tried out with weights of no meaning."""
    try:
        return _why_not(model)
    except caching.NotCached as error:
        return str(error)


def _why_not(model) -> str | None:
    model_outputs(model)

    def difference(variables):
        tokens = jnp.array([[0, 1, 1, 0]], jnp.int32)
        leaves, form = jax.tree.flatten(variables["params"])
        keys = jax.random.split(jax.random.key(0), len(leaves) + 1)
        # The model's own may be zeros that hide a mistake.
        drawn = [_shaken(leaf, key) for key, leaf in zip(keys, leaves, strict=False)]
        variables = variables | {"params": jax.tree.unflatten(form, drawn)}
        whole, _ = model.apply(variables, tokens, positions=jnp.arange(4)[None], training=False)
        cache = model.init_cache(1, 4)
        parts = []
        for start, stop, positions in ((0, 2, None), (2, 3, jnp.array([2])), (3, 4, jnp.array([3]))):
            given = tokens[:, start:stop]
            part, _, cache = model.apply(variables, given, cache=cache, positions=positions, training=False)
            parts.append(part)
        whole, parts = whole.astype(jnp.float32), jnp.concatenate(parts, axis=1).astype(jnp.float32)
        return jnp.max(jnp.abs(whole - parts)) / jnp.max(jnp.abs(whole))

    found = float(jax.jit(difference)(model.variables_tree()))
    limit = 1e-3 if jnp.dtype(model.compute_dtype) == jnp.float32 else 0.1
    if found < limit:
        return None
    return (
        "Its outputs for one token after the other, with a cache, differ from those for all at once: some layer looks "
        "at other positions, or at how many there are, without `kerax.core.caching`."
    )


def _shaken(leaf, key):
    """A weight plus random numbers, of a size at which activations neither grow nor vanish."""
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
        return leaf
    deviation = 0.1 if leaf.ndim < 2 else math.prod(leaf.shape[1:]) ** -0.5
    return leaf + (deviation * jax.random.normal(key, leaf.shape)).astype(leaf.dtype)
