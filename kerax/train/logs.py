"""`Logs`: named numbers of a step or an epoch that stay on the device until someone reads one."""

from collections.abc import Iterator, MutableMapping

import jax
import numpy as np


class Logs(MutableMapping):
    """A mapping of names to numbers. The first read fetches all of them from the device at once.

    Args:
        values: `{name: scalar array}`. Names that begin with an underscore are the engine's own and left out.
    """

    def __init__(self, values: dict | None = None):
        self._values = {name: value for name, value in (values or {}).items() if not name.startswith("_")}
        self._fetched = False

    def _numbers(self) -> dict:
        if not self._fetched:
            if jax.default_backend() != "cpu":
                for value in self._values.values():
                    if isinstance(value, jax.Array):
                        value.copy_to_host_async()  # all at once; `jax.device_get` takes 15 us more for each
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
