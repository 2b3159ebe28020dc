"""JAX's switches that forbid what kerax does on purpose: to broadcast, and to move arrays between host and device.

They are meant for the code of users; while kerax's own runs, which their code may be called from, they are off.
"""

import contextlib
from collections.abc import Callable
from typing import Any

import jax


def are_on() -> bool:
    """Whether such a switch is on."""
    config: Any = jax.config
    return (
        config.jax_numpy_rank_promotion == "raise"
        or config.jax_transfer_guard_host_to_device in _REFUSING
        or config.jax_transfer_guard_device_to_host in _REFUSING
    )


_REFUSING = ("disallow", "disallow_explicit")


def call_without(function: Callable, arguments: dict) -> Any:
    """Calls a function while they are off.

    Args:
        arguments: Its arguments by name, as `locals()` gives them; those behind `**kwargs` as `"kwargs"`.
    """
    rest = arguments.pop("kwargs", {})
    with contextlib.ExitStack() as stack:
        stack.enter_context(jax.numpy_rank_promotion("allow"))
        stack.enter_context(jax.transfer_guard("allow"))
        return function(**arguments, **rest)
