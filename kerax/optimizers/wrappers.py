"""Optimizers around others: `LossScaleOptimizer` for float16, `OptaxOptimizer` for any optax transformation."""

import inspect
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax

from kerax.core.variable import Variable
from kerax.optimizers.multi import MultiOptimizer
from kerax.optimizers.optimizer import CommonArguments, Optimizer, OptimizerState
from kerax.optimizers.slots import set_apart, sparing


class LossScaleSlots(NamedTuple):
    """Finite steps since the scale last changed (int32), the scale (float32), the inner optimizer's state."""

    step_counter: Any
    dynamic_scale: Any
    inner: Any


class LossScaleOptimizer(Optimizer):
    """An optimizer for a loss multiplied by a scale that follows the gradients, so that float16 can hold them.

    A step whose gradients are not all finite halves the scale and changes nothing else; `dynamic_growth_steps` finite
    steps in a row double it. `compile` puts it around the optimizer of a model in "mixed_float16".

    Args:
        inner_optimizer: The optimizer that gets the gradients of the loss itself.
        initial_scale: The scale at the start, above 0.
        dynamic_growth_steps: Finite steps after which the scale doubles, at least 1.
        name: Default: "loss_scale_optimizer".

    Raises:
        TypeError: unless `inner_optimizer` is an optimizer, and not of this kind.

    Takes the `loss_scale_factor` of what it is put around away: the loss has one scale.

    Deviation from Keras: the scale neither grows to infinity nor falls to 0, from where it could not return.
    """

    def __init__(self, inner_optimizer, initial_scale=2.0**15, dynamic_growth_steps=2000, name=None, **kwargs):
        # Keras 2's argument, and configs that hold what all optimizers take.
        if not kwargs.pop("dynamic", True):
            raise ValueError(
                "LossScaleOptimizer: a scale that stays (`dynamic=False`) is the `loss_scale_factor` of the optimizer "
                "itself. Set that instead."
            )
        defaults = inspect.signature(Optimizer.__init__).parameters
        kwargs = {k: v for k, v in kwargs.items() if k not in defaults or v != defaults[k].default}
        # Clipping and the like must see gradients without the scale: inside, not here.
        for argument in kwargs:
            if argument in CommonArguments.__annotations__:
                raise ValueError(f"LossScaleOptimizer: set `{argument}` on the `inner_optimizer`.")
        if not isinstance(inner_optimizer, Optimizer) or isinstance(inner_optimizer, LossScaleOptimizer):
            raise TypeError(
                "LossScaleOptimizer: `inner_optimizer` must be an optimizer of another kind. "
                f"Got {inner_optimizer!r}; make one with `kerax.optimizers.get`."
            )
        # The rate is a place holder in Keras's list of variables: `learning_rate` is the inner optimizer's.
        super().__init__(learning_rate=0.0, name=name, **kwargs)
        if not initial_scale > 0:
            raise ValueError(f"{self}: `initial_scale` must be above 0. Got {initial_scale}.")
        if not dynamic_growth_steps >= 1:
            raise ValueError(f"{self}: `dynamic_growth_steps` must be at least 1. Got {dynamic_growth_steps}.")
        self.inner_optimizer, self.use_ema = inner_optimizer, inner_optimizer.use_ema
        for optimizer in self.nested():
            optimizer.loss_scale_factor = None
        self.initial_scale, self.dynamic_growth_steps = initial_scale, dynamic_growth_steps
        self.step_counter = Variable(0, dtype="int32", trainable=False, autocast=False, name="step_counter")
        self.dynamic_scale = Variable(
            float(initial_scale), dtype="float32", trainable=False, autocast=False, name="dynamic_scale"
        )

    def get_config(self) -> dict:
        """The constructor's arguments, without what it only tolerates."""
        own = ("name", "inner_optimizer", "initial_scale", "dynamic_growth_steps")
        return {name: value for name, value in super().get_config().items() if name in own}

    def init(self, params):
        """The state for a tree of weights: the inner state in its `slots`."""
        scale = jnp.asarray(self.initial_scale, jnp.float32)
        slots = LossScaleSlots(jnp.zeros((), jnp.int32), scale, self.inner_optimizer.init(params))
        return OptimizerState(jnp.zeros((), jnp.int32), jnp.zeros((), jnp.float32), slots, (), ())

    @sparing
    def update(self, grads, state, params):
        """One step from the gradients of the scaled loss; `iterations` counts skipped steps too."""
        counter, scale, inner = state.slots
        # Divided first: the inner optimizer clips and averages true gradients.
        grads = jax.tree.map(lambda grad: grad / scale, grads)
        finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(grad)) for grad in jax.tree.leaves(grads)] or [True]))
        # Always computed, then chosen: no branch, so that the step stays one program.
        updated = self.inner_optimizer.update(grads, inner, params)
        params, inner = jax.tree.map(lambda new, old: jnp.where(finite, new, old), updated, (params, inner))
        is_due = counter + 1 >= self.dynamic_growth_steps
        # The scale stays finite and above 0, from where it could not return.
        limits = jnp.finfo(jnp.float32)
        grown = jnp.where(is_due, jnp.minimum(scale, limits.max / 2) * 2, scale)
        scale = jnp.where(finite, grown, jnp.maximum(scale / 2, limits.tiny))
        counter = jnp.where(finite & ~is_due, counter + 1, 0)
        return params, state._replace(iterations=state.iterations + 1, slots=LossScaleSlots(counter, scale, inner))

    def scale_loss(self, loss, state=None):
        """The loss times the scale in `state`; without one, in the optimizer's own variables."""
        return loss * (self.dynamic_scale.value if state is None else state.slots.dynamic_scale)

    def build(self, params):
        """Builds the inner optimizer."""
        self.inner_optimizer.build(set_apart(self, params))
        self.weights_tree = self.inner_optimizer.weights_tree
        slots = LossScaleSlots(self.step_counter, self.dynamic_scale, self.inner_optimizer.state_variables)
        self.state_variables = OptimizerState(self._iterations, self._learning_rate, slots, (), ())

    @property
    def variables(self):
        """All variables, those of the inner optimizer last."""
        own = [self._iterations, self._learning_rate, self.step_counter, self.dynamic_scale]
        return own + self.inner_optimizer.variables

    @property
    def iterations(self):
        """The inner optimizer's: the number of updates that were not skipped."""
        return self.inner_optimizer.iterations

    @property
    def learning_rate(self):
        """The inner optimizer's."""
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, value):
        self.inner_optimizer.learning_rate = value

    def averages(self):
        """The inner optimizer's."""
        return self.inner_optimizer.averages()

    def exclude_from_weight_decay(self, var_list=None, var_names=None):
        """The inner optimizer's."""
        self.inner_optimizer.exclude_from_weight_decay(var_list, var_names)

    def nested(self):
        """The inner optimizer and those inside it."""
        return [self.inner_optimizer, *self.inner_optimizer.nested()]

    def slot_owners(self):
        return self.inner_optimizer.slot_owners()

    @property
    def _multi(self) -> MultiOptimizer:
        """The inner optimizer where it is to have parts."""
        return cast(MultiOptimizer, self.inner_optimizer)

    def __getitem__(self, name):
        return self._multi[name]

    def part(self, opt_state, name):
        """`inner_optimizer.part`, of a state of this optimizer. Gradients for a part are of the loss itself."""
        return self._multi.part(opt_state.slots.inner, name)

    def with_part(self, opt_state, name, new):
        """`inner_optimizer.with_part`, likewise."""
        inner = self._multi.with_part(opt_state.slots.inner, name, new)
        return opt_state._replace(slots=opt_state.slots._replace(inner=inner))


def for_policy(optimizer: Any, dtype_policy) -> Any:
    """The optimizer for a model of a dtype policy: under "mixed_float16" with a `LossScaleOptimizer` around it."""
    # bfloat16 has float32's range: it needs no scale.
    if optimizer is None or isinstance(optimizer, LossScaleOptimizer) or dtype_policy.name != "mixed_float16":
        return optimizer
    return LossScaleOptimizer(optimizer, name="loss_scale_optimizer")


class OptaxOptimizer(Optimizer):
    """Any optax transformation as it is, learning rate included in it.

    Args:
        transformation: An `optax.GradientTransformation`.
    """

    def __init__(self, transformation: optax.GradientTransformation, name: str = "optax"):
        self._transformation = optax.with_extra_args_support(transformation)
        # Never read: the transformation has the rate in it.
        super().__init__(learning_rate=0.0, name=name)

    def transformation(self):
        return self._transformation

    @property
    def learning_rate(self):
        """The hyperparameter of `optax.inject_hyperparams`, if the transformation was made by it."""
        hyperparams = getattr(self.state_variables.slots if self.state_variables else None, "hyperparams", {})
        if "learning_rate" not in hyperparams:
            raise AttributeError(
                f"{self}: an optax transformation keeps its learning rate to itself. "
                "Make it with `optax.inject_hyperparams` to read or set it."
            )
        return hyperparams["learning_rate"]

    @learning_rate.setter
    def learning_rate(self, value):
        self.learning_rate.assign(value)

    def get_config(self):
        raise TypeError(
            f"{self}: an optax transformation has no config. Use one of `kerax.optimizers` to save the model."
        )
