"""`Engine`: answers many requests at once by one model, each token of all of them in one program."""

import itertools
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from kerax.core import placement
from kerax.core.tracking import descendants
from kerax.errors import check_integers
from kerax.language.models import Decoder
from kerax.language.requests import Dispatch, News, NewToken, QueueFull, Request
from kerax.language.sampling import NUMBERS, ArgumentError, read_sampling
from kerax.layers.positions import PositionEmbedding
from kerax.models import slots as programs
from kerax.models.generating import model_outputs, why_not_cached
from kerax.models.prompts import bucket

logger = logging.getLogger("kerax.language")
MOST_TOP = 20  # likeliest tokens that may be told with each
_LENGTH = 2048  # positions, if nobody says otherwise


class _Slot:
    """A request in its row of the cache; `number` counts those that got one."""

    def __init__(self, index: int, request: Request, number: int):
        self.index, self.request, self.number = index, request, number
        self.num_seen = 0  # tokens of the prompt in the cache
        self.position = len(request.tokens) - 1
        self.token = int(request.tokens[-1])

    @property
    def num_left(self) -> int:
        """Tokens of the prompt that are to be brought into the cache; the last one is the first step's."""
        return len(self.request.tokens) - 1 - self.num_seen


class Engine:
    """Generates for many requests at once, each of which comes and goes as it likes.

    The cache has a number of slots. A request gets a free one, its prompt is read in pieces of a few sizes between the
    steps of the others, and from then on each step makes a token for it too. A step is one program for all slots,
    whatever the requests ask for; all programs are compiled before the first.

    Args:
        model: A model from tokens to logits with caches, such as `kerax.language.load` reads. Once the programs are
            compiled, changes of its weights are not seen.
        slots: Requests that are answered at once. Each step computes as many rows.
        cache_length: Positions of a slot: of a prompt and its answer. Default: 2048, or fewer if the model was trained
            for fewer.
        chunk: Most tokens of prompts that are read between two steps.
        steps: Tokens of each request that are made in one dispatch while no prompt is to be read.
        max_queue: Requests that may wait for a slot.
        cache_dtype: As in `generate`.
        note: Called with each `Dispatch`, in the thread that computes.

    Attributes:
        num_dispatches, num_tokens: So far, by kind of program: of `"prefill"` and `"decode"`.

    Raises:
        ValueError: if a number is out of its range, the model has no logits or no caches, or cannot look so far.
    """

    def __init__(
        self,
        model: Any,
        slots: int = 8,
        cache_length: int | None = None,
        chunk: int = 256,
        steps: int = 4,
        max_queue: int = 256,
        cache_dtype: Any = None,
        note: Callable[[Dispatch], Any] | None = None,
    ):
        check_integers("Engine", slots=(slots, 1), chunk=(chunk, 1), steps=(steps, 1), max_queue=(max_queue, 0))
        self.model, self.num_slots, self._steps, self._max_queue = model, slots, steps, max_queue
        if not all(getattr(item, "built", True) for item in descendants(model)):
            model(np.zeros((1, 8), np.int32))
        self.cache_length = _cache_length(model, cache_length)
        self.vocabulary = model_outputs(model).shape[-1]
        self.num_top = min(MOST_TOP, self.vocabulary)
        # Of a `Decoder` it is known, and trying it out takes as much memory again as the weights.
        if not isinstance(model, Decoder) and (reason := why_not_cached(model)) is not None:
            raise ValueError(f"Engine: {model} must have caches. {reason}")
        most = min(bucket(chunk), self.cache_length)
        self._sizes = [*(size for power in range(4, 31) if (size := 1 << power) < most), most]
        self._cache_dtype, self._note = cache_dtype, note
        self.num_dispatches, self.num_tokens = {"prefill": 0, "decode": 0}, {"prefill": 0, "decode": 0}
        self._slots: list[_Slot | None] = [None] * slots
        self._queue: deque[Request] = deque()
        self._numbers = itertools.count()
        self._changed, self._is_closing, self._preparing = threading.Condition(), False, threading.Lock()
        self._memory: Any = None
        self._thread: threading.Thread | None = None
        self._settings = self._empty_settings()
        self._placed: Any = None
        decode = programs.decoding(model, self.cache_length, steps, self.num_top)
        # The memory is donated: caches are renewed where they lie.
        self._decode: Any = jax.jit(decode, donate_argnums=1)
        self._prefill: Any = jax.jit(programs.prefilling(model), donate_argnums=1)
        self._enter: Any = jax.jit(programs.entering(), donate_argnums=0)

    def submit(
        self,
        tokens: Sequence[int] | np.ndarray,
        max_new_tokens: int = 64,
        tell: Callable[[News], Any] | None = None,
        **sampling: Any,
    ) -> Request:
        """Has the tokens that follow a prompt made.

        Args:
            tokens: The prompt.
            max_new_tokens: Most tokens to add.
            tell: Called with each `News` in the thread that computes. Default: the request keeps them.
            **sampling: `temperature`, `top_k`, `top_p`, `min_p`, `repetition_penalty`, `seed` and `stop_tokens` as in
                `generate`, with the same defaults and, for one seed, the same draws; `presence_penalty` and
                `frequency_penalty`, what the logit of a token loses once it was generated, and each time; `logit_bias`,
                what logits gain by token; `num_top`, how many of the likeliest tokens to tell with each.

        Raises:
            ArgumentError: (a `ValueError`) for a prompt or an argument that does not fit.
            QueueFull: if too many wait already.
            RuntimeError: after `close`.
        """
        request = self.read(tokens, max_new_tokens, tell, **sampling)
        self.submit_all([request])
        return request

    def read(self, tokens: Any, max_new_tokens: Any, tell: Callable[[News], Any] | None = None, **sampling) -> Request:
        """A request, checked, that is not submitted yet. As in `submit`."""
        prompt = np.asarray(tokens)
        if prompt.ndim != 1 or not prompt.size or prompt.dtype.kind not in "iu":
            raise ArgumentError("tokens", "a list of at least one token", tokens)
        if prompt.min() < 0 or prompt.max() >= self.vocabulary:
            raise ArgumentError("tokens", f"tokens below {self.vocabulary}", f"{prompt.min()} to {prompt.max()}")
        if not isinstance(max_new_tokens, int) or isinstance(max_new_tokens, bool) or max_new_tokens < 1:
            raise ArgumentError("max_new_tokens", "an integer of at least 1", max_new_tokens)
        if len(prompt) + max_new_tokens > self.cache_length:
            raise ArgumentError(
                "max_new_tokens",
                f"at most {self.cache_length - len(prompt)}, what a prompt of {len(prompt)} tokens leaves of "
                f"{self.cache_length} positions",
                max_new_tokens,
            )
        drawn = read_sampling(self.vocabulary, self.num_top, **sampling)
        return Request(prompt.astype(np.int32), max_new_tokens, drawn, tell)

    def submit_all(self, requests: list[Request]) -> None:
        """Submits several requests, or none. Raises as `submit`."""
        with self._changed:
            if self._is_closing:
                raise RuntimeError("Engine: it is closed. Make a new one.")
            self._forget_cancelled()
            if len(self._queue) + len(requests) > self._max_queue + self._slots.count(None):
                raise QueueFull(f"{len(self._queue)} requests are waiting already.")
            self._queue.extend(requests)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="kerax engine", daemon=True)
                self._thread.start()
            self._changed.notify()

    @property
    def waiting(self) -> int:
        """Requests that wait for a slot."""
        return len(self._queue)

    @property
    def slots_in_use(self) -> int:
        """Requests that are being answered."""
        return self.num_slots - self._slots.count(None)

    @property
    def num_programs(self) -> int:
        """Programs compiled so far."""
        return sum(program._cache_size() for program in (self._decode, self._prefill, self._enter))

    def close(self) -> None:
        """Answers what was submitted, and ends the thread that does."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()
        self._memory = None

    def prepare(self) -> None:
        """Compiles and runs all programs, if that was not done."""
        with self._preparing:
            if self._memory is not None:
                return
            self._variables = self.model.variables_tree()
            self._memory = self._empty_memory()
            try:
                for _ in range(2):  # once more with what the programs made: it may lie elsewhere
                    self._run_all()
            except BaseException:
                self._memory = None
                raise

    def _run_all(self):
        for size in self._sizes:
            self._run_prefill(np.zeros(size, np.int32), 0, 0)
        self._run_enter(0, np.zeros(self.vocabulary, bool), np.zeros(self.vocabulary, np.float32))
        self._run_decode([], 1, False)

    # In the thread.

    def _work(self):
        while self._wait():
            try:
                self.prepare()
                self._turn()
            except Exception as error:  # whatever a program raises is the answer to all that were in it
                self._fail(error)

    def _wait(self) -> bool:
        """Waits for something to do. Returns whether there is any, before the end."""
        with self._changed:
            while not (self._queue or self.slots_in_use or self._is_closing):
                self._changed.wait()
            return bool(self._queue or self.slots_in_use)

    def _turn(self):
        """Pieces of prompts, together no longer than a chunk, and the next tokens of all that have read theirs."""
        self._admit()
        left = self._sizes[-1]
        filling = [slot for slot in self._slots if slot is not None and slot.num_left]
        for slot in sorted(filling, key=lambda slot: slot.number):
            while slot.num_left and (size := self._size_for(slot.num_left)) <= left:
                left -= size
                self._read_piece(slot, size)
        ready = [slot for slot in self._slots if slot is not None and not slot.num_left]
        if ready:
            has_more = any(slot.num_left for slot in filling)
            self._step(ready, 1 if has_more else self._steps)

    def _size_for(self, count: int) -> int:
        # Of the prompt alone: whoever else is there changes no bit of what is computed for it.
        return next((size for size in self._sizes if size >= count), self._sizes[-1])

    def _admit(self):
        """Frees the slots of those that have left, and gives free ones to those that wait, in their order."""
        for slot in self._slots:
            if slot is not None and slot.request.is_cancelled:
                self._slots[slot.index] = None
        with self._changed:
            self._forget_cancelled()
            free = [index for index, slot in enumerate(self._slots) if slot is None]
            entering = [_Slot(index, self._queue.popleft(), next(self._numbers)) for index in free[: len(self._queue)]]
            for slot in entering:
                self._slots[slot.index] = slot
        for slot in entering:
            self._enter_slot(slot)

    def _forget_cancelled(self):
        self._queue = deque(request for request in self._queue if not request.is_cancelled)

    def _enter_slot(self, slot: _Slot):
        request, drawn = slot.request, slot.request.sampling
        for name, value in drawn.settings().items():
            self._settings[name][slot.index] = value
        self._settings["last"][slot.index] = len(request.tokens) - 1 + request.max_new_tokens
        self._placed = None
        seen, bias = np.zeros(self.vocabulary, bool), np.zeros(self.vocabulary, np.float32)
        seen[request.tokens] = True
        bias[list(drawn.logit_bias)] = list(drawn.logit_bias.values())
        self._run_enter(slot.index, seen, bias)

    def _read_piece(self, slot: _Slot, size: int):
        piece = np.zeros(size, np.int32)
        count = min(size, slot.num_left)
        piece[:count] = slot.request.tokens[slot.num_seen : slot.num_seen + count]
        self._run_prefill(piece, slot.index, slot.num_seen)
        slot.num_seen += count
        self._count("prefill", count)

    def _step(self, ready: list[_Slot], num_steps: int):
        asked = any(slot.request.sampling.num_top is not None for slot in ready)
        emitted = self._run_decode(ready, num_steps, asked)
        self._count("decode", sum(self._tell(slot, emitted, asked) for slot in ready))

    def _count(self, kind: str, num_tokens: int):
        self.num_dispatches[kind] += 1
        self.num_tokens[kind] += num_tokens
        if self._note is not None:
            self._note(Dispatch(kind, num_tokens, self.slots_in_use, self.waiting))

    def _tell(self, slot: _Slot, emitted: programs.Emitted, has_chances: bool) -> int:
        row, request, count = slot.index, slot.request, int(emitted.count[slot.index])
        new = _new_tokens(emitted, row, count, request.sampling.num_top if has_chances else None)
        slot.position += count
        slot.token = new[-1].token
        reason = None
        if slot.token in request.sampling.stop_tokens:
            reason = "stop"
        elif slot.position >= len(request.tokens) - 1 + request.max_new_tokens:
            reason = "length"
        if reason is not None:
            self._slots[row] = None
        _send(request, News(new, reason))
        return count

    def _fail(self, error: Exception):
        with self._changed:
            failed = [slot.request for slot in self._slots if slot is not None]
            if self._memory is None:  # there are no programs, for nobody
                failed += self._queue
                self._queue.clear()
            self._slots = [None] * self.num_slots
            self._memory = None  # what was donated to a program that failed is lost
        for request in failed:
            _send(request, News([], None, error))

    # Programs.

    def _empty_memory(self) -> programs.Memory:
        return programs.empty_memory(self.model, self.num_slots, self.cache_length, self.vocabulary, self._cache_dtype)

    def _empty_settings(self) -> dict[str, np.ndarray]:
        nothing = {name: limits.default for name, limits in NUMBERS.items()}
        key = np.asarray(jax.random.key_data(jax.random.key(0)))
        stops = np.full(programs.MOST_STOPS, -1, np.int32)
        rest = {"keys": key, "stops": stops, "last": 0, "has_bias": False, "has_chances": False}
        found = {}
        for name, value in (nothing | rest).items():
            one = np.asarray(value)
            dtype = {"f": np.float32, "i": np.int32}.get(one.dtype.kind, one.dtype)
            found[name] = np.stack([one.astype(dtype)] * self.num_slots)
        return found

    def _run_prefill(self, piece: np.ndarray, slot: int, start: int):
        given = placement.place([piece[None], np.int32(slot), np.int32(start)])
        self._memory = self._prefill(self._variables, self._memory, *given)

    def _run_enter(self, slot: int, seen: np.ndarray, bias: np.ndarray):
        self._memory = self._enter(self._memory, *placement.place([np.int32(slot), seen, bias]))

    def _run_decode(self, ready: list[_Slot], num_steps: int, has_chances: bool) -> programs.Emitted:
        rows = programs.Rows(*(np.zeros(self.num_slots, dtype) for dtype in (np.int32, np.int32, bool)))
        for slot in ready:
            for values, value in zip(rows, (slot.token, slot.position, True), strict=True):
                values[slot.index] = value
        if self._placed is None:
            self._placed = placement.place({name: value.copy() for name, value in self._settings.items()})
        given = placement.place([rows, np.int32(num_steps), np.bool_(self.waiting > 0)])
        emitted, self._memory = self._decode(self._variables, self._memory, given[0], self._placed, *given[1:])
        asked = emitted if has_chances else emitted[:2]
        return programs.Emitted(*[*placement.to_host_all(list(asked)), *emitted[len(asked) :]])


def _send(request: Request, news: News):
    try:
        request.tell(news)
    except Exception:  # of whoever gets it: no concern of the others
        logger.exception("a request's `tell` failed; the request is given up")
        request.cancel()


def _new_tokens(emitted: programs.Emitted, row: int, count: int, num_top: int | None) -> list[NewToken]:
    tokens = emitted.tokens[row, :count].tolist()
    if num_top is None:
        return [NewToken(token, 0.0, []) for token in tokens]
    chances = emitted.log_probabilities[row].tolist()
    tops, values = (part[row, :, :num_top].tolist() for part in (emitted.top_tokens, emitted.top_log_probabilities))
    return [
        NewToken(token, chances[at], list(zip(tops[at], values[at], strict=True))) for at, token in enumerate(tokens)
    ]


def _cache_length(model: Any, asked: int | None) -> int:
    limits = [item.sequence_length for item in descendants(model) if isinstance(item, PositionEmbedding)]
    trained = model.source.get("max_position_embeddings") if isinstance(model, Decoder) and model.source else None
    if asked is None:
        return min([_LENGTH, *limits, *([trained] if trained else [])])
    check_integers("Engine", cache_length=(asked, 2))
    if limits and asked > min(limits):
        raise ValueError(f"Engine: {model} has vectors for {min(limits)} positions. Got cache_length={asked}.")
    return asked
