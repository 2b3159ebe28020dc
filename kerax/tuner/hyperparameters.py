"""`HyperParameters`: what a model asks for its hyperparameters."""

import contextlib
from typing import Any

from kerax.errors import suggest
from kerax.tuner.spaces import Choice, Fixed, Number


class HyperParameters:
    """Hyperparameters by name, declared by asking for their values.

    `hp.Int("units", 8, 64)` in a model's `build` declares a hyperparameter and returns its value: in a search the value
    of this trial, elsewhere the default. Asking again for the same name gives the same value.

    Attributes:
        values: `{name: value}` of what has been declared and is active.

    >>> hp = HyperParameters()
    >>> hp.Int("units", 8, 64, step=8), hp.Choice("activation", ["relu", "gelu"]), hp.Boolean("dropout")
    (8, 'relu', False)
    >>> with hp.conditional_scope("dropout", [True]):
    ...     rate = hp.Float("rate", 0.1, 0.5)
    >>> hp.values
    {'units': 8, 'activation': 'relu', 'dropout': False}
    """

    def __init__(self):
        self.values: dict[str, Any] = {}
        self._space: dict[tuple, Any] = {}  # declarations by (name, conditions), in order
        self._active: dict[str, Any] = {}  # the declaration that `values` holds a value of
        self._conditions: list[tuple] = []  # open conditional scopes: (parent's name, values)
        self._entered: set[tuple] = set()  # all scopes there have been
        self._prefix = ""
        self._given: HyperParameters | None = None  # declarations that go before those of `build`
        self._tune_new, self._allow_new = True, True
        self._choose = lambda declaration: declaration.default

    # Declarations.

    def Int(
        self,
        name,
        min_value,
        max_value,
        step=None,
        sampling: str = "linear",
        default=None,
        parent_name=None,
        parent_values=None,
    ) -> int:
        """An integer from `min_value` to `max_value`, both included.

        Args:
            name: Its name.
            min_value, max_value: The range.
            step: Distance between two values; with a `sampling` of logarithms, their ratio. Default: all integers.
            sampling: `"linear"`; `"log"` for as many draws between 1 and 10 as between 10 and 100; `"reverse_log"` for
                the mirror image, dense near `max_value`.
            default: Value outside a search. Default: `min_value`.
            parent_name, parent_values: As those of `conditional_scope`.

        Raises:
            ValueError: for arguments that make no range, naming the hyperparameter; or if the name is declared
                otherwise already.
        """
        make = lambda full: Number(full, int, min_value, max_value, step, sampling, default, self._scope)
        return self._declare(name, make, parent_name, parent_values)

    def Float(
        self,
        name,
        min_value,
        max_value,
        step=None,
        sampling: str = "linear",
        default=None,
        parent_name=None,
        parent_values=None,
    ) -> float:
        """A number from `min_value` to `max_value`. Arguments and errors as for `Int`."""
        make = lambda full: Number(full, float, min_value, max_value, step, sampling, default, self._scope)
        return self._declare(name, make, parent_name, parent_values)

    def Choice(self, name, values, ordered=None, default=None, parent_name=None, parent_values=None):
        """One of `values`.

        Args:
            name: Its name.
            values: Integers, floats, strings or booleans, all of one type.
            ordered: Whether neighbours are alike. Default: for numbers.
            default: Value outside a search. Default: the first.
            parent_name, parent_values: As those of `conditional_scope`.

        Raises:
            ValueError: for values that are none, or a name that is declared otherwise already. Keras Tuner raises
                TypeError for values of several types.
        """
        make = lambda full: Choice(full, values, ordered, default, self._scope)
        return self._declare(name, make, parent_name, parent_values)

    def Boolean(self, name, default: bool = False, parent_name=None, parent_values=None) -> bool:
        """`True` or `False`."""
        if not isinstance(default, bool):
            raise ValueError(f"Boolean({name!r}): `default` must be True or False. Got {default!r}.")
        make = lambda full: Choice(full, (False, True), False, default, self._scope, "Boolean")
        return self._declare(name, make, parent_name, parent_values)

    def Fixed(self, name, value, parent_name=None, parent_values=None):
        """`value`, in every trial."""
        return self._declare(name, lambda full: Fixed(full, value, self._scope), parent_name, parent_values)

    @property
    def _scope(self) -> tuple:
        return tuple(self._conditions)

    def _declare(self, name, make, parent_name, parent_values):
        if parent_name is not None:
            with self.conditional_scope(parent_name, parent_values):
                return self._declare(name, make, None, None)
        if not isinstance(name, str) or not name:
            raise ValueError(f"HyperParameters: a hyperparameter's name must be a string. Got {name!r}.")
        declaration = make(self._prefix + name)
        name = declaration.name
        # A declaration that the user passed replaces that of the model, range and all.
        given = self._given._active.get(name) if self._given is not None else None
        if given is not None:
            declaration = given
        elif not self._allow_new:
            raise ValueError(
                f"{declaration.who} is not among the given `hyperparameters`, and `allow_new_entries` is False."
            )
        is_active = all(self._holds(*condition) for condition in self._conditions)
        # Under conditions that exclude each other one name may have two ranges; only one of them is active.
        known = self._active.get(name) if is_active else self._space.get((name, self._scope))
        if known is not None and known != declaration:
            raise ValueError(
                f"{declaration.who} is declared twice, differently: {known.get_config()} and "
                f"{declaration.get_config()}. Give them two names, or the same arguments."
            )
        self._space.setdefault((name, self._scope), declaration)
        if not is_active:  # the model goes on, as if it were not searched
            return declaration.default
        self._active[name] = declaration
        if name not in self.values:
            is_tuned = given is not None or self._tune_new
            self.values[name] = self._choose(declaration) if is_tuned else declaration.default
        return self.values[name]

    # Scopes.

    @contextlib.contextmanager
    def conditional_scope(self, parent_name, parent_values):
        """A scope whose hyperparameters count only where `parent_name` has one of `parent_values`; elsewhere asking for
        one gives its default, and nothing is searched.

        Raises:
            ValueError: if the parent is not declared.
        """
        names = {name for name, _ in self._space}
        if parent_name not in names:
            raise ValueError(
                f"conditional_scope: {parent_name!r} is not declared. Declared are {sorted(names)}."
                f"{suggest(str(parent_name), names)}"
            )
        allowed = tuple(parent_values) if isinstance(parent_values, (list, tuple, set)) else (parent_values,)
        self._conditions.append((parent_name, allowed))
        self._entered.add(self._scope)  # also a scope that is not open, so that `discover` can open it
        try:
            yield
        finally:
            self._conditions.pop()

    @contextlib.contextmanager
    def name_scope(self, name):
        """A scope in which names begin with `name/`."""
        before, self._prefix = self._prefix, f"{self._prefix}{name}/"
        try:
            yield
        finally:
            self._prefix = before

    def _holds(self, parent_name, allowed) -> bool:
        return parent_name in self.values and self.values[parent_name] in allowed

    # Reading.

    def get(self, name):
        """The value of a hyperparameter.

        Raises:
            KeyError: if the name is not declared.
            ValueError: if it does not count now, because of its `conditional_scope`.
        """
        full = self._prefix + name
        if full in self.values:
            return self.values[full]
        names = [declared for declared, _ in self._space]
        if full in names:
            raise ValueError(f"HyperParameters: {full!r} is not active with {self.values}.")
        raise KeyError(f"{full!r} is not a hyperparameter. Declared are {names}.{suggest(full, names)}")

    __getitem__ = get

    def __contains__(self, name) -> bool:
        return self._prefix + name in self.values

    @property
    def space(self) -> list:
        """What has been declared, active or not, in order."""
        return list(self._space.values())

    def copy(self) -> "HyperParameters":
        """Hyperparameters with the same declarations and values, not bound to a search."""
        new = HyperParameters()
        new.values, new._space, new._active = dict(self.values), dict(self._space), dict(self._active)
        return new

    def __deepcopy__(self, memo):
        return self.copy()

    def bind(self, choose, given=None, tune_new: bool = True, allow_new: bool = True):
        """Lets `choose(declaration)` give the values, with the declarations of `given` before all others."""
        self._choose = choose
        for (name, scope), declaration in given._space.items() if given is not None else ():
            self._conditions = list(scope)
            self._declare(name, lambda full, known=declaration: known, None, None)
        self._conditions = []
        self._given, self._tune_new, self._allow_new = given, tune_new, allow_new

    def __repr__(self):
        return f"<HyperParameters {self.values}>"


def discover(build, *given) -> HyperParameters:
    """What `build(hp)` declares: by the defaults, and once more for each conditional scope that was not open then.
    `given` are the further arguments of `_bind`."""
    # A scope that the defaults leave closed may hide scopes of its own: each is opened by forcing its parents' values.
    found, tried, waiting = HyperParameters(), set(), [()]
    while waiting:
        forced = waiting.pop(0)
        hp = HyperParameters()
        values = dict(forced)
        hp.bind(lambda declaration, values=values: values.get(declaration.name, declaration.default), *given)
        build(hp)
        for key, declaration in hp._space.items():
            found._space.setdefault(key, declaration)
        for scope in sorted(hp._entered - tried, key=repr):
            tried.add(scope)
            if not all(hp._holds(*condition) for condition in scope):
                waiting.append(tuple((parent, allowed[0]) for parent, allowed in scope))
        found.values = hp.values | found.values  # those of the first run, by the defaults, count
        found._active = hp._active | found._active
    return found
