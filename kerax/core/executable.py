"""`Executable`: a jitted function that uses what was compiled before from the same text, by whatever model.

Cross-validation, tuning and tests make the same model again and again: its programs are traced, and found by what they
are lowered to; the machine's code is made once.
"""

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import jax

from kerax.core import waiting
from kerax.core.jaxprs import equations

_compiled: OrderedDict[tuple, Any] = OrderedDict()
_lock = threading.Lock()
_MOST = 64
"""Programs that are kept, those used last."""


class Executable:
    """A jitted function, compiled when it is first called or, behind what else is done, in a thread.

    Args:
        function: What `jax.jit` returned, with `keep_unused=True`: the text does not say which arguments were dropped.
        key: What distinguishes programs of one text, hashable; `None` for one that is compiled for itself.
    """

    def __init__(self, function: Any, key: tuple | None):
        self._function, self._key = function, key
        self._program: Any = None
        self._coming: Future | None = None

    @property
    def is_coming(self) -> bool:
        """Whether a thread compiles it, or did."""
        return self._coming is not None

    @property
    def is_compiled(self) -> bool:
        """Whether it has been called."""
        return self._program is not None

    def compile_behind(self, describe: Callable[[], tuple]):
        """Compiles it in a thread, if it is not compiled, for arguments like those that `describe` returns.

        Only their shapes, dtypes and placement are looked at.
        """
        if self._coming is None and self._program is None:
            args = describe()
            settings: Any = jax.config  # a thread does not inherit what `with` blocks of JAX's set
            switches = settings.jax_enable_x64, settings.jax_threefry_partitionable
            self._coming = Future()
            threading.Thread(target=self._compile, args=(self._coming, args, *switches), name="kerax compile").start()

    def _compile(self, coming: Future, args: tuple, x64: bool, partitionable: bool):
        try:
            with jax.enable_x64(x64), jax.threefry_partitionable(partitionable):
                coming.set_result(self._made(args))
        # Also what ends a thread: else the one that waits would do so for ever.
        except BaseException as error:  # raised where the program is called
            coming.set_exception(error)

    def _made(self, args: tuple) -> Callable:
        lowered = self._function.lower(*args)
        if self._key is None:
            return lowered.compile()
        places = tuple(getattr(leaf, "sharding", None) for leaf in jax.tree.leaves(args))
        trees = str((lowered.in_tree, lowered.args_info, lowered.out_info))
        text = hashlib.blake2b(lowered.as_text().encode()).digest()
        key = (*self._key, text, trees, places)
        with _lock:
            program: Any = _compiled.pop(key, None)
        program = program or lowered.compile()
        with _lock:
            _compiled[key] = program
            while len(_compiled) > _MOST:
                _compiled.popitem(last=False)
        return program

    def _first(self, args: tuple) -> Callable:
        if self._coming is None:
            with waiting.waits_for(waiting.COMPILING):
                self._program = self._made(args)
            return self._program
        if not self._coming.done():
            begun = time.time()
            with waiting.waits_for(waiting.COMPILING):
                self._coming.result()
            jax.monitoring.record_event_time_span("/kerax/compile/wait", begun, time.time())
        self._program = self._coming.result()
        return self._program

    def __call__(self, *args):
        program = self._program or self._first(args)
        try:
            return program(*args)
        except (TypeError, ValueError):  # other shapes or devices: raised before anything is donated
            return self._function(*args)

    def lower(self, *args):
        """As that of `jax.jit`."""
        return self._function.lower(*args)


def sharing_key(closed, options: dict) -> tuple | None:
    """What programs of one text are told apart by; `None` for those that must not be shared.

    Args:
        closed: The closed jaxpr they are made of.
        options: Of the compiler.
    """
    # A callback is a number in the text, whatever function it calls.
    if closed.effects or any("callback" in equation.primitive.name for equation in equations(closed.jaxpr)):
        return None
    # Constants are in the text: of large ones it would take more memory than time is saved.
    if sum(getattr(constant, "nbytes", 0) for constant in closed.consts) > 2**20:
        return None
    return *sorted(options.items()), jax.config.values["jax_disable_most_optimizations"]


def forget() -> None:
    """Lets go of all programs that no model holds."""
    with _lock:
        _compiled.clear()
