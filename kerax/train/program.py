"""`Program`: a step as device programs, for one batch or for some of those that lie in a block.

A step is a function of (constants, carry, batch, number, num_rows) that returns (carry, outputs): the carry is the
whole state in training, the metrics in evaluation, nothing in prediction; constants are what stays as it is. All but
the batch are flat tuples of arrays, so that a dispatch costs the same however deep the trees are. How many batches of a
block are done is an argument at run time: one compilation, and the same bits however a run is cut.

XLA's CPU backend runs some steps slower inside a loop than dispatched alone (`ops.cpu.is_slow_in_loops`); these are
dispatched alone.
"""

import functools
import math
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import eval_jaxpr

from kerax.core import placement, sparse, sums, waiting
from kerax.core.executable import Executable, sharing_key
from kerax.core.jaxprs import equations, inner_jaxprs
from kerax.core.tracking import forgetting
from kerax.data.source import BatchSpec, Source
from kerax.ops import cpu
from kerax.plan import flops
from kerax.train.feed import BLOCK_BYTES, GROUP, LEAST_GROUPED, Piece, block_spec, room_for
from kerax.train.logs import Rows, StepLogs
from kerax.train.state import Store

Tree = Any


class Program:
    """A traced step for one form of batch, compiled when it is first called.

    Args:
        step: The step. Its outputs are a dict or whatever a prediction is.
        constants: Shapes and dtypes, a flat tuple.
        carry: Likewise.
        spec: Of a batch.
        keep: Function of the outputs' shapes and dtypes that returns how those of several steps are kept: an object
            with `empty(room)`, `put(kept, outputs, place)` and `finish(carry, kept)` for steps in a loop,
            `put_several(kept, outputs, place)` for some that were done at once, `one(carry, outputs)` for a step alone
            and `together(parts)` for several such.
        join: Function of (traced step, jaxpr) that returns a function of (constants, carry, batches, numbers) that does
            several full batches at once and returns (carry, outputs), or `None` if that is not the same.
        is_eager: Whether the step runs as plain Python, so that `print` and debuggers work in it.
        shardings: Where the carry lies, under a distribution.
        rests: Place in the carry of what lies beside a sum, by the place of the sum: see `core.sums`.

    Attributes:
        room: Batches in the blocks it takes.
        seconds_per_step: As measured.
        is_looped: Whether more than one batch is done in a dispatch.
        fills_up: Whether batches may be filled up with rows that do not count.
        jaxpr: Of a step; there is none of one that runs as plain Python.
    """

    def __init__(
        self,
        step: Callable,
        constants: tuple,
        carry: tuple,
        spec: BatchSpec,
        keep: Callable,
        join: Callable | None = None,
        is_eager: bool = False,
        shardings: list | None = None,
        rests: dict[int, int] | None = None,
    ):
        self.spec, self.room, self.shardings = spec, room_for(spec, 1 if join is None else 2), shardings
        self.seconds_per_step: float | None = None
        self.specs = constants, carry, spec.arrays
        self.is_looped = self.can_be_undone = self.fills_up = False
        step = _of_sparse(step) if sparse.has_rows(spec.arrays) else step
        self._step, self._keep, self.is_eager = step, keep, is_eager
        # Integers are exact at each step.
        self._rests = {place: rest for place, rest in (rests or {}).items() if carry[place].dtype == jnp.float32}
        # So many batches are counted exactly. They are numbered in the epoch, so that bits do not depend on dispatches.
        most = max(sums.EXACT // max(leaf.size for leaf in [*jax.tree.leaves(spec.arrays), _NUMBER]), 1)
        self._period = min(2 ** int(math.log2(most)), 64)
        self._one: Any = None
        self._many: Any = None
        self._grouped: Any = None
        self._at_once: Any = None
        if is_eager:
            self.room = 1
            self._one = self._eagerly
            return
        # Traced once: one step, some in a loop and a block at once are made of the same jaxpr, so their bits agree.
        with waiting.waits_for(waiting.COMPILING):
            closed, (_, self.outputs) = jax.make_jaxpr(step, return_shape=True)(*self.specs, _NUMBER, _NUMBER)
        arguments, output_tree = jax.device_put(closed.consts), jax.tree.structure(self.outputs)
        self.jaxpr, self.kept = closed.jaxpr, keep(self.outputs)
        # What is kept of each step lies in a block too: large outputs leave room for fewer.
        self.room = max(1, min(self.room, BLOCK_BYTES // _num_bytes(jax.tree.leaves(self.outputs))))
        on_cpu = jax.default_backend() == "cpu"
        self.is_looped = not on_cpu or not cpu.is_slow_in_loops(closed.jaxpr)
        # A step that prints or calls the host cannot be taken back.
        self.can_be_undone = self.is_looped and shardings is None and not closed.effects

        def traced(constants, carry, batch, number, num_rows):
            # Said inside the program, for XLA would else choose where a batch's rows lie.
            batch = placement.constrain_batch(batch)
            leaves = (*constants, *carry, *jax.tree.leaves(batch), number, num_rows)
            out = eval_jaxpr(closed.jaxpr, arguments, *leaves)
            new, outputs = out[: len(carry)], jax.tree.unflatten(output_tree, out[len(carry) :])
            # The carry is donated: it must come back where it lay, or the next dispatch moves it.
            new = new if shardings is None else map(lax.with_sharding_constraint, new, shardings)
            return tuple(new), outputs

        def one(constants, carry, batch, number, num_rows):
            carry, outputs = traced(constants, carry, batch, number, num_rows)
            carry = self._settled(carry, number + 1)
            return carry, self.kept.one(carry, outputs)

        self._several: Any = None if join is None else join(traced, closed.jaxpr)
        if self._several is not None:
            most = _MOST_AT_ONCE.get(jax.default_backend(), 2**29) // _num_bytes(_results(closed.jaxpr))
            self.room = max(1, min(self.room, most))

        # Each holds the step once: whoever has a few batches waits for one of them to compile.

        def grouped(constants, carry, block, start, count, number):
            def body(index, state):
                place = start + index * GROUP
                batches = jax.tree.map(lambda leaf: lax.dynamic_slice_in_dim(leaf, place, GROUP), block)
                numbers = number + index * GROUP + jnp.arange(GROUP)
                carry, outputs = self._several(constants, state[0], batches, numbers)
                return carry, self.kept.put_several(state[1], outputs, place)

            carry, kept = lax.fori_loop(0, count // GROUP, body, (carry, self.kept.empty(self.room)))
            carry = self._settled(carry)
            return carry, self.kept.finish(carry, kept)

        def many(constants, carry, block, start, count, number, num_rows):
            def body(place, state):
                batch = jax.tree.map(lambda leaf: lax.dynamic_index_in_dim(leaf, place, keepdims=False), block)
                # The rows of this batch that count: all but in a last one that was filled up.
                left = jnp.clip(num_rows - (place - start) * spec.num_rows, 0, spec.num_rows)
                carry, outputs = traced(constants, state[0], batch, number + place - start, left)
                return carry, self.kept.put(state[1], outputs, place)

            def period(state):
                place, carry, kept = state
                end = place + self._period - (number + place - start) % self._period
                end = jnp.minimum(end, start + count)
                carry, kept = lax.fori_loop(place, end, body, (carry, kept))
                return end, self._settled(carry, number + end - start), kept

            kept = self.kept.empty(self.room)
            if self._rests:
                state = jnp.asarray(start, jnp.int32), carry, kept
                _, carry, kept = lax.while_loop(lambda state: state[0] < start + count, period, state)
            else:
                carry, kept = lax.fori_loop(start, start + count, body, (carry, kept))
            return carry, self.kept.finish(carry, kept)

        def at_once(constants, carry, block, number):
            carry, outputs = self._several(constants, carry, block, number + jnp.arange(self.room))
            carry = self._settled(carry)
            return carry, self.kept.finish(carry, outputs)

        # Results that are read on the host are the same on all devices.
        layout: dict[str, Any] = (
            {} if shardings is None else {"out_shardings": (tuple(shardings), placement.active().replicated)}
        )
        options = cpu.compiler_options(closed.jaxpr) if on_cpu else {}
        key = sharing_key(closed, options)

        def compiled(function, **layout):
            jitted = jax.jit(function, donate_argnums=1, keep_unused=True, compiler_options=options or None, **layout)
            return Executable(jitted, key)

        self._one, self._many = compiled(one, **layout), compiled(many, **layout)
        if self._several is not None and self.room > 1:
            self._at_once = compiled(at_once)
            self._grouped = compiled(grouped) if self.is_looped and self.room >= LEAST_GROUPED else None
        _raise_map_threshold()

    def __call__(self, constants: tuple, carry: tuple, piece: Piece, number: int = 0) -> tuple[tuple, Any]:
        """Does a piece of work, whose first batch is the `number`-th, in one dispatch.

        Returns: the carry, and what `keep` makes of the outputs.
        """
        # Ordered by cost: a single batch needs no block, a whole block no loop.
        if piece.room == 1:
            return self._one(constants, carry, piece.block, number, piece.num_rows)
        if self._at_once is not None and piece.is_whole:
            return self._at_once(constants, carry, piece.block, number)
        if self._grouped is not None and piece.is_in_groups:
            return self._grouped(constants, carry, piece.block, piece.start, piece.num_batches, number)
        if self.is_looped:
            return self._many(constants, carry, piece.block, piece.start, piece.num_batches, number, piece.num_rows)
        # Steps that XLA's CPU backend is slow at in a loop, one dispatch for each.
        parts = []
        for batch, num_rows in piece.batches():
            carry, part = self._one(constants, carry, batch, number + len(parts), num_rows)
            parts.append(part)
        return carry, self.kept.together(parts)

    @property
    def does_blocks_at_once(self) -> bool:
        """Whether whole blocks are done at once, not batch by batch."""
        return self._at_once is not None

    @property
    def does_groups(self) -> bool:
        """Whether groups of batches in a block that is not whole are done at once."""
        return self._grouped is not None

    @property
    def has_blocks(self) -> bool:
        """Whether what does blocks of batches is compiled."""
        return any(form is not None and form.is_compiled for form in (self._many, self._grouped, self._at_once))

    def steps_at_once(self, wanted: int) -> int:
        """Batches that one dispatch may do, of those that are wanted."""
        return wanted if self.is_looped or self._at_once is not None else 1

    def compile_behind(self, leaves: list, room: int):
        """Compiles what does some batches of a block in a thread.

        Not where compiled programs are kept on disk: XLA was seen to abort the process as a thread wrote one out.

        Args:
            leaves: The carry's arrays, or the variables that hold them; only shapes, dtypes and places are looked at.
        """
        settings = jax.config.values
        is_kept = settings["jax_enable_compilation_cache"] and settings["jax_compilation_cache_dir"] is not None
        if self.is_eager or is_kept:
            return
        is_single = room == 1 or not self.is_looped
        numbers = (0, 0) if is_single else (0, 1, 0, 0)

        def describe():
            return (), tuple(map(placement.spec_of, leaves)), block_spec(self.spec, 1 if is_single else room), *numbers

        (self._one if is_single else self._many).compile_behind(describe)

    def lower(self, *specs):
        """What `jax.jit(...).lower` returns for one step, of these shapes, dtypes and places of carry and batch."""
        constants, carry, batch = self.specs
        if self.shardings is not None:
            carry = tuple(
                jax.ShapeDtypeStruct(spec.shape, spec.dtype, sharding=sharding)
                for spec, sharding in zip(carry, self.shardings, strict=True)
            )
        carry, batch = specs or (carry, batch)
        return self._one.lower(constants, carry, batch, 0, 0)

    def flops(self) -> float | None:
        """Floating-point operations of one step, on all devices together; `None` for a step that is not traced."""
        return None if self.is_eager else flops.count(self.jaxpr).total

    def _settled(self, carry: tuple, num_done: Any = 0) -> tuple:
        """The carry with its sums settled, if `num_done` batches of the epoch are whole periods."""
        if not self._rests or (isinstance(num_done, int) and num_done % self._period):
            return carry
        pairs = {place: (carry[place], carry[rest]) for place, rest in self._rests.items()}
        if isinstance(num_done, int):
            pairs = _settle_all(pairs)
        else:
            is_due = num_done % self._period == 0
            pairs = jax.tree.map(lambda new, old: jnp.where(is_due, new, old), _settle_all(pairs), pairs)
        new = list(carry)
        for place, rest in self._rests.items():
            new[place], new[rest] = pairs[place]
        return tuple(new)

    def _eagerly(self, constants, carry, batch, number, num_rows):
        with forgetting():  # a step in plain Python may make layers
            carry, outputs = self._step(constants, carry, batch, np.int32(number), np.int32(num_rows))
        carry = self._settled(carry, number + 1)
        self.kept = self._keep(outputs)
        return carry, self.kept.one(carry, outputs)


def _of_sparse(step: Callable) -> Callable:
    """The step, which gets sparse matrices as JAX's; batches hold them as arrays that can be cut by rows."""
    return lambda constants, carry, batch, *numbers: step(constants, carry, sparse.opened(batch), *numbers)


def room_of(program: Program, source: Source) -> int:
    """Batches in the blocks that a program gets of a source."""
    # The program of one batch compiles faster, unless the other is there already.
    return 1 if source.num_batches == 1 and not program.has_blocks else program.room


_ALL = 2**30  # batches: more than there are
_NUMBER = jax.ShapeDtypeStruct((), np.int32)


def _settle_all(pairs: dict) -> dict:
    return {place: sums.settle(*pair) for place, pair in pairs.items()}


_MOST_AT_ONCE = {"cpu": 64 * 2**20}
"""Bytes of intermediate results that a block done at once may have; 512 MB where not said otherwise."""


def _results(jaxpr) -> list:
    """The results of all equations that compute something themselves, at any depth."""
    return [out.aval for equation in equations(jaxpr) if not inner_jaxprs(equation) for out in equation.outvars]


def _num_bytes(arrays: list) -> int:
    return max(sum(array.size * array.dtype.itemsize for array in arrays), 1)


class Pace:
    """How many steps to hand to the device at once: about `target` seconds' worth, or 8 if `most` seconds suffice.

    Long enough that dispatch costs nothing, short enough that Ctrl-C and the progress bar are served. One piece of work
    is always queued behind the one that is waited for, so the device never idles.

    Attributes:
        finished: (number of steps, their logs) of the dispatch that the last one waited for, or `None`.
    """

    target, most = 0.1, 0.6

    def __init__(self):
        self.finished: tuple | None = None
        self._pending: tuple | None = None
        self._last_done: float | None = None
        self._num_measured = 0

    def begin_epoch(self):
        """Forgets when the last dispatch ended: something else was done since."""
        self._pending = self._last_done = self.finished = None

    def steps(self, program: Program) -> int:
        """Number of steps of `program` for the next dispatch."""
        known = program.seconds_per_step
        wanted = 1 if known is None else max(1, int(self.target / known), min(8, int(self.most / known)))
        return program.steps_at_once(wanted)

    def most_shown(self, program: Program, is_steady: bool) -> int:
        """Number of inference steps for the next dispatch, so that a display moves.

        Args:
            is_steady: Whether blocks are whole ones, which are not cut if they are done at once.
        """
        if (is_steady and program.does_blocks_at_once) or jax.process_count() > 1:
            return _ALL
        known = program.seconds_per_step
        return 1 if known is None else max(1, int(self.most / known))

    def dispatched(self, program: Program, count: int, logs, token: jax.Array | None):
        """Notes a dispatch and waits for the one before it.

        Args:
            token: One of its results, to wait for; the others come from the same program. `None`: it is not waited for.
        """
        # The one before the last is waited for, never the last: the device always has work.
        previous, self._pending = self._pending, (program, count, logs, token)
        self.finished = None
        if previous is None:
            return
        before, num_steps, logs, waited_for = previous
        if waited_for is not None:
            waited_for.block_until_ready()
        now = time.perf_counter()
        if self._last_done is not None:
            measured, known = max((now - self._last_done) / num_steps, 1e-7), before.seconds_per_step
            if jax.process_count() > 1:
                measured = known or self._agreed(measured)
            # A dispatch that was done before anyone waited looks too quick; an eighth of what is known is the least.
            if known is not None and measured is not None:
                measured = max(measured, known / 8)
            before.seconds_per_step = measured
        self._last_done = now
        self.finished = num_steps, logs

    def _agreed(self, measured: float) -> float | None:
        """The first process's measurement of the third dispatch, once: all processes must do the same steps at once."""
        self._num_measured += 1
        if self._num_measured < 3:
            return None
        from jax.experimental import multihost_utils

        return float(multihost_utils.broadcast_one_to_all(np.float32(measured)))


class Stepper:
    """Does pieces of work on the training state, each in a dispatch.

    Args:
        store: The arrays of the training state.
        pace: Told of every dispatch.
    """

    def __init__(self, store: Store, pace: Pace):
        self.store, self.pace = store, pace

    def __call__(self, program: Program, piece: Piece, step: int) -> StepLogs:
        """Does a piece that begins with batch `step` of the epoch. Returns the logs of its last batch."""
        # The state is the carry and donated; nothing is constant.
        with self.store.lock:  # of threads that read weights: what is donated here was copied by them, or is not read
            self.store.leaves, arrays = program((), self.store.leaves, piece, step)
        self.rows = Rows(program.kept, arrays)
        logs = StepLogs(self.rows, piece.start + piece.num_batches - 1)
        token = self.rows.token
        self.pace.dispatched(program, piece.num_batches, logs, self.store.read(0) if token is None else token)
        return logs


@functools.cache
def _raise_map_threshold():
    """Has glibc keep up to 62 MB of memory that XLA's CPU backend frees, for the next program.

    Once a large piece has been freed, glibc no longer maps pieces of up to that size anew at each use, nor unmaps what
    is free at the end up to twice that. Before, predictions of 600 batches touched 6,000 fresh pages, a quarter of
    their time.
    """
    if jax.default_backend() == "cpu":
        np.empty(31 * 2**20, np.uint8)  # 32 MB is the largest that counts
