"""`Metric`: numbers accumulated over batches, in variables that a scope can hold."""

import jax.numpy as jnp

from kerax import config as settings
from kerax import dtype_policies, initializers
from kerax.core import sums
from kerax.core.configurable import Configurable
from kerax.core.registry import Family, to_snake_case
from kerax.core.scope import Scope
from kerax.core.seed_generator import SeedGenerator
from kerax.core.variable import Sum, Variable, unwrap

METRICS = Family("metrics", "metric")
FUNCTIONS = Family("metric_functions", "metric function")


class Metric(Configurable):
    """An accumulator; a subclass adds variables and writes `update_state` and `result`.

    It is pure under a scope over its variables, as the training step uses it; the `stateless_` methods do the same
    with lists of values. It belongs to no layer's weights.

    Args:
        dtype: Dtype of the computation. Default: `floatx()`. Sums are kept in float32 at least: a bfloat16 count, as
            Keras has it in some metrics, does not grow beyond 256.
        name: Default: the class name in snake case.
    """

    # "up" or "down": Keras's name for what callbacks with `mode="auto"` go by; users' metrics say it so.
    _direction: str | None = None

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if cls.__module__.startswith("kerax.metrics") and not cls.__name__.startswith("_"):
            # Only kerax's own: files find a user's class only if it was registered.
            METRICS.add(cls)

    def __init__(self, dtype=None, name: str | None = None):
        self.name: str = name or to_snake_case(type(self).__name__)
        self._dtype = dtype_policies.get(dtype or settings.floatx()).compute_dtype
        # A sum in half precision stops growing: 256 + 1 is 256 in bfloat16.
        self.sum_dtype = jnp.promote_types(self.dtype, jnp.float32).name
        # In the order they are added, which is that of the stateless lists.
        self._variables: list[Variable] = []
        self.built = True

    def build(self, y_true_shape, y_pred_shape):
        """Adds variables whose shapes depend on the data. The default has none.

        A metric that needs this sets `built = False` in `__init__`; `update_state` then builds on the first batch.
        """
        self.built = True

    @property
    def dtype(self) -> str:
        """The dtype of the computation."""
        return self._dtype

    def add_variable(self, shape, initializer, dtype=None, aggregation="sum", name=None) -> Variable:
        """A variable of the metric's state.

        Args:
            shape: Tuple of ints.
            initializer: Name or function; `reset_state` assigns what it gives.
            dtype: Default: the metric's, float32 at least.
            aggregation: Kept for Keras's signature.
            name: Default: `"variable"`.
        """
        # A subclass that forgot the base's `__init__` would else fail on a name it does not know.
        if not hasattr(self, "_variables"):
            raise RuntimeError(f"{type(self).__name__}: call `super().__init__()` before adding variables.")
        initializer = initializers.get("zeros" if initializer is None else initializer)
        # Not autocast: read in bfloat16 inside a mixed-precision step, counts would be lost.
        dtype = jnp.dtype(dtype or self.sum_dtype).name
        if sums.has_rest(dtype):
            variable = Sum(initializer, shape, dtype, aggregation, name)
        else:
            variable = Variable(initializer, shape, dtype, False, False, aggregation, name=name)
        variable.path = f"{self.name}/{variable.name}"
        self._variables.append(variable)
        return variable

    def add_weight(self, shape=(), initializer=None, dtype=None, name: str | None = None) -> Variable:
        """`add_variable` with defaults: a scalar that starts at 0."""
        return self.add_variable(shape, initializer, dtype, name=name)

    @property
    def variables(self) -> list[Variable]:
        """Those added, then other variables in attributes, then those of metrics in attributes."""
        found: dict[int, Variable] = {}  # by identity: `==` of variables compares their values
        metrics: list[Metric] = []
        _gather(self._variables, found, metrics)
        _gather(vars(self), found, metrics)
        for metric in metrics:
            _gather(metric.variables, found, metrics)
        return list(found.values())

    def update_state(self, *args, **kwargs):
        """Takes in a batch. Written by a subclass."""
        raise NotImplementedError(f"{type(self).__name__} must implement `update_state`.")

    def tells_rows_apart(self, y_true, y_pred) -> bool:
        """Whether rows of a batch of these shapes whose weight is 0 are as good as left out: known of kerax's own."""
        # A user's `update_state` may count rows by `shape[0]`, whatever their weights.
        return type(self).update_state.__module__.startswith("kerax.")

    def result(self):
        """The metric of what was taken in. Written by a subclass."""
        raise NotImplementedError(f"{type(self).__name__} must implement `result`.")

    def reset_state(self):
        """Assigns the initial values; 0, as Keras does for all variables, to one that has no initializer."""
        for variable in self.variables:
            if not variable.is_weight:  # where a `SeedGenerator` stands, which goes on
                continue
            initializer = variable.initializer or initializers.get("zeros")
            # On the host where the initializer can: no program is compiled for zeros.
            make = getattr(initializer, "on_host", initializer)
            variable.assign(make(variable.shape, dtype=variable.dtype))

    def __call__(self, *args, **kwargs):
        self.update_state(*args, **kwargs)
        return unwrap(self.result())

    def stateless_update_state(self, metric_variables, *args, **kwargs) -> list:
        """The values of `variables` after `update_state`, given those before."""
        with self._scope(metric_variables) as scope:
            self.update_state(*args, **kwargs)
        return [scope.value_of(variable) for variable in self.variables]

    def stateless_result(self, metric_variables):
        """`result()` for these values of `variables`."""
        with self._scope(metric_variables):
            return unwrap(self.result())

    def stateless_reset_state(self) -> list:
        """The values of `variables` after `reset_state`."""
        # The scope must hold the variables, or `assign` would reach their own values.
        with Scope((variable, None) for variable in self.variables) as scope:
            self.reset_state()
        return [scope.value_of(variable) for variable in self.variables]

    def _scope(self, values) -> Scope:
        variables = self.variables
        if len(values) != len(variables):
            raise ValueError(
                f"{self.name}: `metric_variables` must hold one value for each of the metric's {len(variables)} "
                f"variables. Got {len(values)}."
                + ("" if self.built else " Call `build(y_true_shape, y_pred_shape)` first.")
            )
        return Scope(zip(variables, map(unwrap, values), strict=True))

    def get_config(self) -> dict:
        """The constructor's arguments, name and dtype as they are now."""
        config = super().get_config()
        return config | {name: getattr(self, name) for name in ("name", "dtype") if name in config}

    def __repr__(self):
        return f"<{type(self).__name__} name={self.name}>"


def _gather(value, variables: dict[int, Variable], metrics: list[Metric]):
    """Notes the variables and the metrics in nested lists and dicts, in their order."""
    if isinstance(value, (Variable, SeedGenerator)):
        value = value.state if isinstance(value, SeedGenerator) else value
        variables.setdefault(id(value), value)
    elif isinstance(value, Metric):
        metrics.append(value)
    elif isinstance(value, (list, tuple, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            _gather(item, variables, metrics)
