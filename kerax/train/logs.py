"""Named numbers of a step or an epoch, which stay on the device until someone reads one."""

from collections.abc import Iterator, MutableMapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Packing:
    """How the logs of a training step lie together: the numbers of one dtype in one array, a row for each step.

    To read one array of three numbers takes a third of the time of three arrays.

    Args:
        specs: `{name: shape and dtype}` of one step's logs. Names that begin with an underscore are the engine's own.
    """

    def __init__(self, specs: dict):
        # In Keras's order, which histories, tables and displays have.
        self.names = tuple(sorted(name for name in specs if not name.startswith("_")))
        self._groups: dict[tuple, list[str]] = {}
        for name, spec in specs.items():
            self._groups.setdefault((spec.shape, jnp.dtype(spec.dtype)), []).append(name)
        # Arrays among the logs may be large: only the last step's are kept then.
        are_numbers = bool(specs) and all(shape == () for shape, _ in self._groups)
        self.num_rows = 32 if are_numbers else 1  # of the last steps of a dispatch

    def one(self, carry: tuple, logs: dict) -> tuple[jax.Array, ...]:
        """One step's row as arrays like those of `empty`, one row long."""
        return tuple(jnp.stack([logs[name] for name in names])[None] for names in self._groups.values())

    def empty(self, room: int) -> tuple[jax.Array, ...]:
        """The arrays, zero."""
        groups = self._groups.items()
        return tuple(jnp.zeros((self.num_rows, len(names), *shape), dtype) for (shape, dtype), names in groups)

    def put(self, rows: tuple, logs: dict, place) -> tuple[jax.Array, ...]:
        """The arrays with a step's row in its place."""
        put = jax.lax.dynamic_update_slice_in_dim
        row = self.one((), logs)
        return tuple(put(array, new, place % self.num_rows, axis=0) for array, new in zip(rows, row))

    def finish(self, carry: tuple, rows: tuple) -> tuple[jax.Array, ...]:
        """The arrays."""
        return rows

    def together(self, parts: list[tuple]) -> tuple[jax.Array, ...]:
        """The last step's row."""
        return parts[-1]

    def unpack(self, rows: tuple) -> list[dict[str, Any]]:
        """The logs of each row, on the host; waits for the device."""
        logs: list[dict] = [{} for _ in range(len(rows[0]) if rows else 1)]
        if jax.default_backend() != "cpu":
            for array in rows:
                array.copy_to_host_async()  # all at once; `jax.device_get` takes 15 us more for each
        for (shape, _), names, array in zip(self._groups, self._groups.values(), rows):
            host = np.asarray(array)
            for found, row in zip(logs, host if shape else host.tolist()):
                found.update(zip(names, row))
        return logs


class Rows:
    """The logs of several steps of one dispatch, fetched at once when the first number is read.

    Attributes:
        names: The names, but for the engine's own.
        token: An array to wait for; `None` if there are no logs.
    """

    def __init__(self, packing: Packing, arrays: tuple):
        self._packing, self._arrays = packing, arrays
        self.names, self.token = packing.names, arrays[0] if arrays else None
        self._fetched: list[dict] | None = None

    def __getitem__(self, step: int) -> dict[str, Any]:
        if self._fetched is None:
            self._fetched = self._packing.unpack(self._arrays)
        return self._fetched[step % len(self._fetched)]


class StepLogs(NamedTuple):
    """The logs of one step, whether fetched or not: those of its dispatch, and the step's number in its table."""

    rows: Rows
    step: int = 0

    def numbers(self) -> dict[str, Any]:
        """All of them; waits for the device."""
        return self.rows[self.step]


class Logs(MutableMapping):
    """A mapping of names to numbers. The first read fetches all of them from the device at once.

    Args:
        values: `{name: number or array}`, or a step's. Names that begin with an underscore are left out.
    """

    def __init__(self, values: "dict | StepLogs | Logs | None" = None):
        self._step = values if isinstance(values, StepLogs) else None
        self._values: dict[str, Any] = {}
        if self._step is not None:
            self._values = dict.fromkeys(self._step.rows.names)
        elif values is not None and not isinstance(values, StepLogs):
            self._values = {name: value for name, value in values.items() if not name.startswith("_")}
        self._fetched = False

    def _numbers(self) -> dict:
        if not self._fetched:
            # Let go of: a log kept for long would keep its dispatch's arrays.
            if self._step is not None:
                numbers = self._step.numbers()
                self._values = {name: numbers[name] for name in self._values}
                self._step = None
            else:
                self._values = {name: _number(value) for name, value in self._values.items()}
            self._fetched = True
        return self._values

    def peek(self, name: str):
        """The number if it has been fetched already, else `None`."""
        return self._values.get(name) if self._fetched else None

    def __getitem__(self, name: str):
        return self._numbers()[name]

    def __setitem__(self, name: str, value):
        self._numbers()[name] = value

    def __delitem__(self, name: str):
        del self._numbers()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self):
        return f"Logs({self._numbers()})"


def _number(value):
    value = np.asarray(value)
    return value.item() if value.ndim == 0 else value
