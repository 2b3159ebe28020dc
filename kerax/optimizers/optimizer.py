"""`Optimizer`: an optax transformation with Keras's arguments around it, as a pair of pure functions."""

import functools
import inspect
import re
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, TypedDict, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer

from kerax import initializers
from kerax.core import scope as scopes
from kerax.core.configurable import Configurable, reject_unknown
from kerax.core.constant_results import constant_of, constant_results
from kerax.core.registry import Family, to_snake_case
from kerax.core.variable import Variable, unwrap
from kerax.optimizers import eager, stepwise
from kerax.optimizers.clipping import clipped
from kerax.optimizers.schedules import LearningRateSchedule
from kerax.optimizers.slots import form_of, in_keras_order, keyed, name_of, set_apart, sparing, without
from kerax.optimizers.slots import leaves as leaves_in_order

Tree = Any
LearningRate = float | Callable[..., Any] | jax.Array | Variable | dict[str, Any]
Constructor = TypeVar("Constructor", bound=Callable[..., None])
OPTIMIZERS = Family("optimizers", "optimizer")


class ArgumentsWithoutDecay(TypedDict, total=False):
    """`CommonArguments` of an optimizer that has a `weight_decay` of its own."""

    clipnorm: float | None
    clipvalue: float | None
    global_clipnorm: float | None
    use_ema: bool
    ema_momentum: float
    ema_overwrite_frequency: int | None
    loss_scale_factor: float | None
    gradient_accumulation_steps: int | None
    name: str | None


class CommonArguments(ArgumentsWithoutDecay, total=False):
    """What every optimizer's constructor takes: see `Optimizer`, which has the defaults."""

    weight_decay: float | None


class OptimizerState(NamedTuple):
    """Everything an optimizer carries from step to step.

    `iterations` counts steps (int32 scalar), `learning_rate` is a float32 scalar or `()` under a schedule,
    `slots` is optax's state, `average` and `accumulated` are trees like the weights, or `()` when unused.
    """

    iterations: Any
    learning_rate: Any
    slots: Any
    average: Any
    accumulated: Any


class Optimizer(Configurable):
    """Base of all optimizers. A subclass returns an optax transformation from `transformation`.

    `init(params)` and `update(grads, state, params)` are pure. The object keeps the values between runs in
    `Variable`s: `iterations`, `learning_rate` and the rest of `variables`.

    Args:
        learning_rate: A float, a `LearningRateSchedule`, or any function of the step (an optax schedule too), or
            of nothing.
        weight_decay: Fraction of each weight, times the learning rate, taken off at each step; before the update.
        clipnorm: Largest L2 norm of each weight's gradient.
        clipvalue: Largest absolute value of a gradient's elements.
        global_clipnorm: Largest L2 norm of all gradients together.
        use_ema: Whether to keep an exponential moving average of the weights, put in their place when `fit` ends.
        ema_momentum: Momentum of that average.
        ema_overwrite_frequency: Steps between overwriting the weights by the average. Default: only at the end.
        loss_scale_factor: Factor the loss is multiplied by and the gradients divided by.
        gradient_accumulation_steps: Steps whose gradients are averaged into one update.
        name: Default: the class name in snake case.

    Raises:
        ValueError: for more than one kind of clipping, or a number out of range.
    """

    _starts_from_weights = False  # whether slots depend on the weights' values at the start, not on their shapes alone

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if cls.__module__.startswith("kerax.") and not cls.__name__.startswith("_"):
            OPTIMIZERS.add(cls, cls.__name__.lower())
        # Keras's `build` takes a list and makes variables; here `build` takes the engine's tree and calls that.
        elif "build" in vars(cls):
            cls.build_own = vars(cls)["build"]  # takes a list of weights; the engine's `build` calls it
            del cls.build

    def __init__(
        self,
        learning_rate: LearningRate,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None,
        name: str | None = None,
        **kwargs,
    ):
        if kwargs.pop("decay", None) is not None:  # an argument of Keras 2
            warnings.warn(
                f"{type(self).__name__}: `decay` has no effect. Use a schedule as `learning_rate`.", stacklevel=3
            )
        reject_unknown(self, kwargs)
        self.name = name or to_snake_case(type(self).__name__)
        if not 0 <= ema_momentum <= 1:
            raise ValueError(f"{self}: `ema_momentum` must be in [0, 1]. Got {ema_momentum}.")
        for argument, value, least in (
            ("gradient_accumulation_steps", gradient_accumulation_steps, 2),
            ("ema_overwrite_frequency", ema_overwrite_frequency, 1),
        ):
            # 1 would accumulate nothing: a mistake rather than a wish.
            if value is not None and (not isinstance(value, (int, np.integer)) or value < least):
                raise ValueError(f"{self}: `{argument}` must be an integer of at least {least}. Got {value!r}.")
        limits = dict(clipnorm=clipnorm, clipvalue=clipvalue, global_clipnorm=global_clipnorm)
        for argument, value in limits.items():
            if value is not None and not value > 0:
                raise ValueError(f"{self}: `{argument}` must be above 0. Got {value!r}.")
        if sum(value is not None for value in limits.values()) > 1:
            raise ValueError(f"{self}: set only one of `clipnorm`, `clipvalue` and `global_clipnorm`.")
        self.weight_decay, self.clipnorm, self.clipvalue = weight_decay, clipnorm, clipvalue
        self.global_clipnorm, self.use_ema, self.ema_momentum = global_clipnorm, use_ema, ema_momentum
        self.ema_overwrite_frequency = ema_overwrite_frequency
        self.loss_scale_factor = loss_scale_factor
        self.gradient_accumulation_steps = gradient_accumulation_steps
        self._undecayed_names: list[str] = []
        self._undecayed: list[Variable] = []
        self.weights_tree: Tree = {}  # the variables that `build` was given, without those that become their gradients
        self.overwritten_paths: set = set()  # places of weights whose gradients are their next values
        self.given_tree: Tree = {}  # the weights, these included
        self.given_weights: list[Variable] = []  # the same in the order of the layers
        self._known: dict[str, Variable] = {}  # by their places in `weights_tree`
        # A variable even before `build`: callbacks read it as soon as `fit` begins.
        self._iterations = Variable(0, dtype="int32", trainable=False, name="iteration")
        self._iterations.path = f"{self.name}/iteration"
        self._schedule: Callable | None = None
        self._learning_rate: Variable | None = None  # `None` if the first is a schedule
        self.state_variables: OptimizerState | None = None  # made by `build`
        self.own_slots: stepwise.Slots | None = None  # of a subclass with `update_step`
        self.is_making_slots = self.is_applying = False
        self._set_learning_rate(learning_rate)

    def transformation(self) -> optax.GradientTransformationExtraArgs:
        """The update rule. Its `update` takes `learning_rate` and `step` (the 1-based number of the update)
        as extra arguments and returns what is added to the weights, which it gets decayed already.

        A subclass writes it, or as in Keras `update_step`, with a `build` that adds variables."""
        if not self.is_stepwise():
            raise NotImplementedError(f"{type(self).__name__} must implement `transformation` or `update_step`.")
        return stepwise.transformation(self)

    # As Keras users write optimizers.

    def update_step(self, gradient, variable, learning_rate):
        """Assigns one weight's next value, from its gradient as it is. A subclass may write this instead of
        `transformation`."""
        eager.update_step(self, gradient, variable, learning_rate)

    def is_stepwise(self) -> bool:
        """Whether a subclass wrote `update_step`, or `build`, or an `update_step` was set."""
        cls = type(self)
        return (
            "update_step" in vars(self)
            or cls.update_step is not Optimizer.update_step
            or cls.build_own is not Optimizer.build_own
        )

    def has_rule(self) -> bool:
        """Whether the class, or a base, is a transformation."""
        return type(self).transformation is not Optimizer.transformation

    def _rule(self) -> optax.GradientTransformationExtraArgs:
        """The transformation, as an `update_step` of a subclass applies it."""
        rule = self.transformation()
        return stepwise.around(self, rule) if self.has_rule() and self.is_stepwise() else rule

    def build_own(self, variables: list[Variable]):
        """The `build` of a subclass with `update_step`; the default adds nothing."""

    def add_variable(
        self, shape, initializer: Any = "zeros", dtype=None, aggregation="none", layout=None, name=None
    ) -> Variable:
        """A variable of the state that belongs to no weight. To be called in `build`, beside `update_step`."""
        return stepwise.add_variable(self, shape, initializer, dtype, name)

    def add_variable_from_reference(self, reference_variable, name=None, initializer: Any = "zeros") -> Variable:
        """A variable of the state, of the shape of a weight. To be called in `build`, beside `update_step`."""
        shape, dtype = reference_variable.shape, reference_variable.stored_dtype
        return stepwise.add_variable(self, shape, initializer, dtype, name or "var", reference_variable)

    def add_optimizer_variables(self, trainable_variables, name, initializer: Any = "zeros"):
        """Such a variable for each weight, as a list; with a list of names, a tuple of lists."""
        names = [name] if isinstance(name, str) else list(name)
        initializers = list(initializer) if isinstance(initializer, (list, tuple)) else [initializer] * len(names)
        if len(names) != len(initializers):
            raise ValueError(f"{self}: {len(names)} names need as many initializers. Got {len(initializers)}.")
        lists = tuple(
            [self.add_variable_from_reference(weight, one, how) for weight in trainable_variables]
            for one, how in zip(names, initializers, strict=True)
        )
        return lists[0] if isinstance(name, str) else lists

    def _get_variable_index(self, variable) -> int:
        """The place of a weight among those that `build` was given."""
        listed = self.own_slots.listed if self.own_slots else []
        return next(index for index, weight in enumerate(listed) if weight is variable)

    # The pure pair.

    def init(self, params: Tree) -> OptimizerState:
        """The state for a tree of weights, at step 0."""
        # Under a schedule the rate is no state: it follows from `iterations`.
        kept, rate = without(params, self.overwritten_paths), self._learning_rate
        return OptimizerState(
            jnp.zeros((), jnp.int32),
            () if rate is None or self._schedule is not None else jnp.asarray(rate.value, jnp.float32),
            self._rule().init(kept),
            jax.tree.map(jnp.zeros_like, kept) if self.use_ema else (),
            # Those of weights that become their gradients too: the largest one counts.
            jax.tree.map(jnp.zeros_like, params) if self.gradient_accumulation_steps else (),
        )

    @property
    def calls_apply(self) -> bool:
        """Whether a step is what a subclass wrote as `apply`."""
        return not self.is_applying and not type(self).apply.__module__.startswith("kerax.")

    @sparing
    def update(self, grads: Tree, state: OptimizerState, params: Tree) -> tuple[Tree, OptimizerState]:
        """One step: the new weights and the new state."""
        # In there it comes back here.
        if self.calls_apply:
            self.is_applying = True
            try:
                return stepwise.by_apply(self, grads, state, params)
            finally:
                self.is_applying = False
        if self.loss_scale_factor is not None:
            grads = jax.tree.map(lambda grad: grad / self.loss_scale_factor, grads)
        if self.gradient_accumulation_steps:
            # Gradients are divided by the loss scale before they are added up or clipped.
            params, slots, average, accumulated = self._accumulate(grads, state, params)
        else:
            params, slots, average = self._step(grads, state, params)
            accumulated = ()
        state = OptimizerState(state.iterations + 1, state.learning_rate, slots, average, accumulated)
        return params, state

    def scale_loss(self, loss, state: OptimizerState | None = None):
        """The loss times the factor that `update` divides the gradients by, so that half precision can hold them."""
        return loss if self.loss_scale_factor is None else loss * self.loss_scale_factor

    def _step(self, grads: Tree, state: OptimizerState, params: Tree):
        """Clip, decay, update, average. Returns the weights, the slots and the moving averages."""
        # From the state, not from the variable: a changed rate recompiles nothing.
        learning_rate = state.learning_rate
        if self._schedule is not None:
            learning_rate = jnp.asarray(self._schedule(self._updates(state.iterations)), jnp.float32)

        def decayed(path, weight):
            fraction = self._decay_of(path, weight)
            # Names are looked through only where something decays.
            return weight - learning_rate * fraction * weight if fraction and self._decays(path) else weight

        # Weights and slots keep their dtypes: a float32 rate would make float32 of bfloat16 weights.
        dtypes = jax.tree.map(lambda weight: weight.dtype, params)
        params = jax.tree_util.tree_map_with_path(decayed, params)
        updates, slots = self._rule().update(
            # Decay is no gradient: it is not clipped.
            clipped(grads, self.clipnorm, self.clipvalue, self.global_clipnorm),
            state.slots,
            params,
            learning_rate=learning_rate,
            step=self._updates(state.iterations) + 1,
        )
        new = jax.tree.map(lambda weight, update, dtype: (weight + update).astype(dtype), params, updates, dtypes)
        slots = jax.tree.map(lambda old, value: value.astype(old.dtype), state.slots, slots)
        new, average = self._track(new, state) if self.use_ema else (new, state.average)
        return new, slots, average

    def _accumulate(self, grads: Tree, state: OptimizerState, params: Tree):
        """Adds the gradients up, and every `gradient_accumulation_steps` steps applies their mean."""
        count = self.gradient_accumulation_steps
        total = jax.tree.map(jnp.add, grads, state.accumulated)

        def apply(_):
            stepped = self._step(jax.tree.map(lambda grad: grad / count, total), state, params)
            return *stepped, jax.tree.map(jnp.zeros_like, total)

        def wait(_):
            # An average counts updates too: weights that wait are not averaged again.
            return params, state.slots, state.average, total

        # Both branches return the same form, so that the step is one program.
        return jax.lax.cond((state.iterations + 1) % count == 0, apply, wait, None)

    def _track(self, params: Tree, state: OptimizerState):
        """The moving average of the weights: the weights themselves at the first step."""
        updates = self._updates(state.iterations)
        # At the first update the average is the weights: it starts without zeros to be corrected for.
        momentum = jnp.where(updates == 0, 0.0, self.ema_momentum)
        average = jax.tree.map(lambda old, new: momentum * old + (1 - momentum) * new, state.average, params)
        if self.ema_overwrite_frequency:
            overwrite = (updates + 1) % self.ema_overwrite_frequency == 0
            params = jax.tree.map(lambda weight, mean: jnp.where(overwrite, mean, weight), params, average)
        return params, average

    def _updates(self, iterations):
        """Number of updates made: steps, or groups of accumulated steps."""
        return iterations // self.gradient_accumulation_steps if self.gradient_accumulation_steps else iterations

    def _decay_of(self, path, weight) -> float | None:
        """The fraction of a weight that decays with each step."""
        return self.weight_decay

    def _decays(self, path) -> bool:
        # By identity: `==` of variables compares their values.
        if any(self._known.get(joined(path)) is other for other in self._undecayed):
            return False
        return not any(re.search(part, name) for part in self._undecayed_names for name in self._names_of(path))

    def _names_of(self, path) -> list[str]:
        """What a weight is called: its place in the tree and, once built, its variable's path."""
        name = joined(path)
        return [name, self._known[name].path] if name in self._known else [name]

    def exclude_from_weight_decay(self, var_list=None, var_names=None):
        """Spares weights from decay: the given variables, and those whose path holds a match of one of `var_names`.

        Args:
            var_list: Variables.
            var_names: Regular expressions, `"bias"` for example.

        Raises:
            ValueError: once the optimizer is built.
        """
        if self.built:
            raise ValueError(f"{self}: `exclude_from_weight_decay` must be called before training begins.")
        self._undecayed += list(var_list or [])
        self._undecayed_names += list(var_names or [])

    # Values kept between runs.

    @property
    def iterations(self):
        """The number of updates made: a variable that counts steps, or with accumulation, its value divided."""
        return self.num_updates if self.gradient_accumulation_steps else self._iterations

    @property
    def num_updates(self):
        """The number of updates made, as an array."""
        return self._updates(self._iterations.value)

    @property
    def learning_rate(self):
        """The learning rate as a variable that can be assigned; under a schedule, its current value."""
        if self._schedule is None:
            return self._learning_rate
        return jnp.asarray(self._schedule(self.num_updates), jnp.float32)

    @learning_rate.setter
    def learning_rate(self, value):
        self._set_learning_rate(value)

    def _set_learning_rate(self, value):  # apart from the setter: a wrapper's goes to the optimizer inside
        if isinstance(value, dict):
            value = LearningRateSchedule.revive(value)
        if callable(value) and not isinstance(value, Variable):
            if self._learning_rate is not None and self._learning_rate.is_lent:
                raise ValueError(f"{self}: cannot replace a number by a schedule while `fit` runs. Do so after it.")
            # The rate is no state any more.
            self._learning_rate = None
            if self.state_variables is not None:
                self.state_variables = self.state_variables._replace(learning_rate=())
            self._schedule = value if inspect.signature(value).parameters else lambda step: value()
            return
        if self._schedule is not None:
            # A number assigned would be overridden by the schedule at the next step.
            raise TypeError(f"{self}: the learning rate follows {self._schedule!r} and cannot be set to {value!r}.")
        value = unwrap(value)
        # `not >= 0` refuses NaN too.
        if isinstance(value, str) or (not isinstance(value, Tracer) and not float(value) >= 0):
            raise ValueError(f"{self}: `learning_rate` must be a number of at least 0. Got {value!r}.")
        if self._learning_rate is None:
            self._learning_rate = Variable(float(value), dtype="float32", trainable=False, name="learning_rate")
            self._learning_rate.path = f"{self.name}/learning_rate"
        else:
            self._learning_rate.assign(value)

    def build(self, params: Tree):
        """Makes the state's variables for a tree (or list) of weight `Variable`s, keeping those that weights have."""
        if self.is_making_slots:  # in there the user's `build` runs, which calls its base's
            return  # `super().build(variables)` in the `build` of a subclass
        given = self.given_tree
        params = set_apart(self, params)
        old, self.weights_tree = self.weights_tree, params
        self._known = {joined(path): v for path, v in jax.tree_util.tree_leaves_with_path(params)}
        # An equal form keeps the state: `fit` after `fit` goes on with its moments.
        if self.state_variables is None or form_of(params) != form_of(old):
            if self.is_stepwise():
                stepwise.make_slots(self, jax.tree.leaves(params), leaves_in_order(params))
            state = self._make_state(self.given_tree, given)
            if self.is_stepwise():
                state = state._replace(slots=stepwise.adopt(self, state.slots))
            self.state_variables = state

    def _make_state(self, params: Tree, old: Tree) -> OptimizerState:
        """A state of variables for weights: those of the last state, made for the weights `old`, and new ones."""
        known = {} if self.state_variables is None else {key: slot for key, slot, _ in keyed(self.state_variables, old)}
        with scopes.outside():
            # Nearly every state starts as constants: found by tracing, it needs no compilation.
            fresh = constant_results(
                self.init, jax.tree.map(lambda v: jax.ShapeDtypeStruct(v.shape, v.stored_dtype), params)
            )
        leaves = []
        with scopes.outside(), jax.ensure_compile_time_eval():  # the state outlives a step that is being traced
            fresh = jax.jit(self.init)(jax.tree.map(unwrap, params)) if fresh is None else fresh
            # Slots of weights that were there before are kept, those of new ones begin.
            owners = {id(variable): variable for variable in jax.tree.leaves(params)}
            for key, value, owner in keyed(fresh, params):
                slot = known.get(key)
                if slot is None or slot.shape != value.shape:
                    slot = _slot(value, name_of(key, owners))
                    # `reference`: a slot is laid over devices as its weight is.
                    slot.path, slot.reference = f"{self.name}/{slot.name}", None if owner is None else owners.get(owner)
                leaves.append(slot)
        state = jax.tree.unflatten(jax.tree.structure(fresh), leaves)
        rate = () if self._schedule is not None else self._learning_rate
        return state._replace(iterations=self._iterations, learning_rate=rate)

    def nested(self) -> list["Optimizer"]:
        """The optimizers inside this one."""
        return []

    def averages(self) -> list[tuple[Variable, Variable]]:
        """Each weight with its moving average, if these are kept."""
        if not self.use_ema or self.state_variables is None:
            return []
        return list(zip(jax.tree.leaves(self.weights_tree), jax.tree.leaves(self.state_variables.average), strict=True))

    def finalize_variable_values(self, var_list):
        """Puts the moving averages of weights in their place at the end of training, if they are kept."""
        # By identity: `==` of variables compares their values.
        chosen = set(map(id, var_list))
        for variable, mean in self.averages():
            if id(variable) in chosen:
                variable.assign(mean.value)

    def finalize(self, params: Tree):
        """`finalize_variable_values` for a tree of weights."""
        self.finalize_variable_values(jax.tree.leaves(params))

    @property
    def built(self) -> bool:
        """Whether the state's variables exist."""
        return self.state_variables is not None and not self.is_making_slots

    @property
    def variables(self) -> list[Variable]:
        """All variables of the state, in Keras's order."""
        if self.state_variables is None:
            # Before `build` only these two are known.
            return [v for v in (self._iterations, self._learning_rate) if v is not None]
        variables = in_keras_order(self.state_variables, self.given_tree)
        return stepwise.in_order(self, variables) if self.is_stepwise() else variables

    def apply(self, grads, trainable_variables=None):
        """Updates variables, in place or in the open scope, from gradients in the same order.

        Args:
            grads: Gradients; variables for which it is `None` are left alone, with a warning.
            trainable_variables: Variables; the optimizer is built for those it does not know. Default: all known.

        Raises:
            ValueError: if there is no gradient, or not one for each variable.
        """
        eager.apply(self, grads, trainable_variables)

    def slot_owners(self) -> dict[int, int | None]:
        """The ids of slots, each with that of the weight it belongs to."""
        return {id(slot): owner for _, slot, owner in keyed(self.state_variables, self.given_tree)}

    def apply_gradients(self, grads_and_vars):
        """`apply` on pairs of gradient and variable. Returns the number of steps."""
        grads, variables = zip(*grads_and_vars, strict=True)
        self.apply(grads, variables)
        return self._iterations

    def stateless_apply(self, optimizer_variables, grads, trainable_variables):
        """Keras's pure update: new weights and optimizer values, from lists in the order of `variables` or trees."""
        if isinstance(optimizer_variables, OptimizerState):
            return self.update(grads, optimizer_variables, trainable_variables)
        return eager.stateless_apply(self, optimizer_variables, grads, trainable_variables)

    assign = staticmethod(Variable.assign)
    assign_add = staticmethod(Variable.assign_add)
    assign_sub = staticmethod(Variable.assign_sub)

    def set_weights(self, weights):
        """Sets `variables`. Raises `ValueError`, changing nothing, for another number of arrays or other shapes."""
        eager.set_weights(self, weights)

    def save_own_variables(self, store):
        """Puts `variables` into a mapping under `"0"`, `"1"` and so on."""
        for index, variable in enumerate(self.variables):
            store[str(index)] = variable.numpy()

    def load_own_variables(self, store):
        """Takes `variables` from what `save_own_variables` filled. Raises `ValueError` if they do not fit."""
        self.set_weights([store[str(index)] for index in range(len(store))])

    def get_config(self) -> dict:
        """The constructor's arguments, with the current learning rate."""
        # The name first, as Keras writes it.
        config = {"name": self.name} | {k: v for k, v in super().get_config().items() if k != "name"}
        if "decay" not in inspect.signature(type(self).__init__).parameters:  # Keras 2's, not a subclass's own
            config.pop("decay", None)
        if self._learning_rate is not None and self._schedule is None and "learning_rate" in config:
            # As it is now: a callback may have changed it.
            config["learning_rate"] = float(self._learning_rate.value)
        return config

    def __repr__(self):
        return f"<{type(self).__name__} name={self.name}>"


def joined(path) -> str:
    """A path of JAX's tree functions as `a/b/c`."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def takes_common_arguments(constructor: Constructor) -> Constructor:
    """A constructor that ends in `**common`, with the arguments of `Optimizer` that it does not name spelled out.

    They follow its positional arguments and can be given by position too, as in Keras; what it takes by keyword only
    comes after them.
    """
    # Without `**common` itself, which is the last.
    own = list(inspect.signature(constructor).parameters.values())[:-1]
    names = {parameter.name for parameter in own}
    *common, rest = (p for p in inspect.signature(Optimizer.__init__).parameters.values() if p.name not in names)
    first = [parameter for parameter in own if parameter.kind is parameter.POSITIONAL_OR_KEYWORD]
    last = [p.replace(kind=p.POSITIONAL_OR_KEYWORD) for p in own if p.kind is p.KEYWORD_ONLY]
    signature = inspect.Signature([*first, *common, *last, rest])

    @functools.wraps(constructor)
    def construct(self, *args, **kwargs):
        given = signature.bind(self, *args, **kwargs).arguments
        # Unknown names stay in `rest` and go on to the base, which refuses them.
        constructor(**given.pop(rest.name, {}) | given)

    construct.__dict__["__signature__"] = signature  # what `inspect`, configs and errors read
    return cast(Constructor, construct)


def _slot(value, name: str) -> Variable:
    """The variable of a slot: of one that starts as 0 everywhere, no array is made until it is read."""
    # An array in memory, or a constant other than 0, as an accumulator that starts at 0.1.
    if constant_of(value) != 0:
        return Variable(
            np.array(value) if isinstance(value, np.ndarray) else value, None, None, False, False, name=name
        )
    slot = Variable(initializers.Zeros(), value.shape, value.dtype, False, False, name=name)
    slot.seed_and_path = (0, name)  # nothing is drawn
    return slot
