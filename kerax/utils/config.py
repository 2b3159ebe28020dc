"""`Config`: named values that read like attributes and can be frozen."""

import json
from typing import Any

from kerax.errors import suggest

_INTERNAL = ("_config", "_frozen")


class Config:
    """Named values as attributes and as a mapping: `config.rate` is `config["rate"]`.

    Args:
        **kwargs: The values by name.

    Raises:
        AttributeError: when an unknown name is read.
        ValueError: when a frozen config is changed.

    >>> config = Config(rate=0.1, layers=2)
    >>> config.rate = 0.2
    >>> config.freeze()
    >>> config.to_json()
    '{"rate": 0.2, "layers": 2}'
    """

    def __init__(self, **kwargs):
        self._config: dict[str, Any] = kwargs
        self._frozen = False

    @property
    def frozen(self) -> bool:
        """Whether changes are refused."""
        return self._frozen

    def freeze(self):
        """Refuses changes from now on."""
        self._frozen = True

    def unfreeze(self):
        """Allows changes again."""
        self._frozen = False

    def as_dict(self) -> dict[str, Any]:
        """A copy of the values by name."""
        return dict(self._config)

    def to_json(self) -> str:
        """The values as JSON."""
        return json.dumps(self._config)

    def keys(self):
        """The names."""
        return self._config.keys()

    def values(self):
        """The values."""
        return self._config.values()

    def items(self):
        """Names with values."""
        return self._config.items()

    def get(self, keyname, value=None):
        """The value of a name, or `value` if there is none."""
        return self._config.get(keyname, value)

    def pop(self, *args):
        """Takes a name out and returns its value, or the second argument if there is none."""
        return self._changing().pop(*args)

    def update(self, *args, **kwargs):
        """Takes values over from a mapping and from keyword arguments."""
        self._changing().update(*args, **kwargs)

    def _changing(self) -> dict[str, Any]:
        if self._frozen:
            raise ValueError(f"{self!r} is frozen; call `unfreeze()` to change it.")
        return self._config

    def __getattr__(self, name):
        # Copying and unpickling ask for these before `__init__` has run: looking them up here would not end.
        if name in _INTERNAL or name.startswith("__"):
            raise AttributeError(name)
        if name not in self._config:
            raise AttributeError(f"Config has no {name!r}.{suggest(name, self._config)}")
        return self._config[name]

    def __setattr__(self, name, value):
        if name in _INTERNAL:
            object.__setattr__(self, name, value)
        else:
            self[name] = value

    def __getitem__(self, key):
        return self._config[key]

    def __setitem__(self, key, item):
        self._changing()[key] = item

    def __delitem__(self, key):
        del self._changing()[key]

    def __contains__(self, item):
        return item in self._config

    def __iter__(self):
        return iter(sorted(self._config))

    def __len__(self):
        return len(self._config)

    def __repr__(self):
        return f"<Config {self._config}>"
