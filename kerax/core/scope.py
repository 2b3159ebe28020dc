"""The pure scope: for the length of one call, variables read and write here instead of in themselves.

This is what turns a layer with mutable attributes into a pure function. `Variable.value` asks the innermost scope that
holds the variable; `assign` writes there; random layers draw their keys and layers collect their losses here.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import jax
import numpy as np
from jax.core import Tracer


def is_tracing() -> bool:
    """Whether JAX traces the running code; found out without a program, which `jnp.zeros(())` would compile."""
    return isinstance(jax.device_put(_ZERO), Tracer)


Value = TypeVar("Value")
_ZERO = np.zeros((), np.int32)
names: ContextVar[tuple[str, ...]] = ContextVar("kerax_names", default=())
"""The open `name_scope`s, which are in the paths of what is made or built in them."""
_current: ContextVar["Scope | None"] = ContextVar("kerax_scope", default=None)


class Scope:
    """Values of variables for one pure call.

    Args:
        values: `{variable: value}` pairs as an iterable.
        key: PRNG key from which the n-th draw takes `fold_in(key, n)`, or `None`.
        shapes_only: Whether the call only infers shapes: unset variables then read as zeros, writes are dropped.
    """

    # One is made at each traced call, and read at each variable's.
    __slots__ = ("_token", "added_losses", "draws", "key", "parent", "shapes_only", "values", "written")

    captures = False  # whether it also takes what is assigned to variables that it has no value of

    def __init__(self, values=(), key=None, shapes_only=False):
        # By identity: `==` of variables compares their values.
        self.values = {id(variable): value for variable, value in values}
        # Written ones apart: `remat` must tell them from those that were only given.
        self.written: set[int] = set()
        self.added_losses: list[tuple[Any, Any]] = []  # (layer, scalar)
        self.key, self.draws, self.shapes_only = key, 0, shapes_only

    def __enter__(self) -> "Scope":
        # On entering, not on making: a scope may be made in one place and opened in another.
        self.parent = _current.get()
        self._token = _current.set(self)
        return self

    def __exit__(self, *_):
        _current.reset(self._token)

    def next_key(self) -> jax.Array:
        """`fold_in(key, n)` for the n-th draw in this scope."""
        if self.key is None:
            raise ValueError("This scope was given no key to draw from.")
        # Counted, not split: the n-th draw does not depend on what the draws before it were for.
        key = jax.random.fold_in(self.key, self.draws)
        self.draws += 1
        return key

    def value_of(self, variable, default=None) -> Any:
        """The variable's value at the end of the call."""
        return self.values.get(id(variable), default)


def current_scope() -> Scope | None:
    """The innermost open scope."""
    return _current.get()


def infers_shapes() -> bool:
    """Whether the running call only infers shapes."""
    scope = _current.get()
    return scope is not None and scope.shapes_only


@contextmanager
def holding(variable: ContextVar[Value], value: Value) -> Iterator[None]:
    """Gives a context variable a value for the length of a `with` block, in this thread or task alone."""
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


def outside() -> AbstractContextManager[None]:
    """Leaves every open scope for the length of a `with` block."""
    return holding(_current, None)


def find(variable, to_write=False) -> Scope | None:
    """The innermost open scope that holds `variable`, or any scope that only infers shapes or captures writes."""
    scope = _current.get()
    # A loop over few scopes: mostly one, the training step's.
    while scope is not None and id(variable) not in scope.values and not scope.shapes_only:
        # A `StatelessScope` keeps whatever is assigned inside it, known or not.
        if to_write and scope.captures:
            break
        scope = scope.parent
    return scope


def find_key() -> Scope | None:
    """The innermost open scope that can hand out keys."""
    scope = _current.get()
    while scope is not None and scope.key is None:
        scope = scope.parent
    return scope


autocast: ContextVar[str | None] = ContextVar("kerax_autocast", default=None)
"""The dtype that float variables are read in, `None` for their own."""


def cast_name(variable) -> str | None:
    """The dtype a float variable is read in here, where that differs from the stored one."""
    name = autocast.get()
    # The commonest ways out first: this runs at each read of a variable.
    if name is None or not variable.autocast or name == variable.stored_dtype:
        return None
    return name if variable.stored_dtype in _FLOATS else None


_FLOATS = ("float16", "bfloat16", "float32", "float64")
