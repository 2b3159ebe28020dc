"""Learning-rate schedules: functions of the number of updates made so far."""

import jax.numpy as jnp

from kerax.core.configurable import Configurable
from kerax.core.registry import Family, deserialize_keras_object, serialize_keras_object
from kerax.core.variable import unwrap

SCHEDULES = Family("schedules", "learning-rate schedule", "keras.optimizers.schedules")


class LearningRateSchedule(Configurable):
    """Base of schedules: `__call__(step)` gives the learning rate for an int32 scalar step."""

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if cls.__module__.startswith("kerax."):
            # Only kerax's own: files find a user's class only if it was registered.
            SCHEDULES.add(cls)

    def __call__(self, step):
        raise NotImplementedError(f"{type(self).__name__} does not implement `__call__`.")

    @staticmethod
    def revive(config: dict):
        """The schedule that a config describes."""
        return deserialize_keras_object(config)


class ExponentialDecay(LearningRateSchedule):
    """`initial_learning_rate * decay_rate ** (step / decay_steps)`; the exponent is floored with `staircase`."""

    def __init__(self, initial_learning_rate, decay_steps, decay_rate, staircase=False, name="ExponentialDecay"):
        self.initial_learning_rate, self.decay_steps = initial_learning_rate, _positive(decay_steps)
        self.decay_rate, self.staircase, self.name = decay_rate, staircase, name

    def __call__(self, step):
        exponent = jnp.asarray(step, jnp.float32) / self.decay_steps
        return self.initial_learning_rate * self.decay_rate ** (jnp.floor(exponent) if self.staircase else exponent)


class InverseTimeDecay(LearningRateSchedule):
    """`initial_learning_rate / (1 + decay_rate * step / decay_steps)`; the fraction is floored with `staircase`."""

    def __init__(self, initial_learning_rate, decay_steps, decay_rate, staircase=False, name="InverseTimeDecay"):
        self.initial_learning_rate, self.decay_steps = initial_learning_rate, _positive(decay_steps)
        self.decay_rate, self.staircase, self.name = decay_rate, staircase, name

    def __call__(self, step):
        fraction = jnp.asarray(step, jnp.float32) / self.decay_steps
        return self.initial_learning_rate / (
            1 + self.decay_rate * (jnp.floor(fraction) if self.staircase else fraction)
        )


class PiecewiseConstantDecay(LearningRateSchedule):
    """`values[i]` up to and including step `boundaries[i]`, the last value after.

    Raises:
        ValueError: unless there is one value more than boundaries.
    """

    def __init__(self, boundaries, values, name: str = "PiecewiseConstant"):
        if len(boundaries) != len(values) - 1:
            raise ValueError(
                f"PiecewiseConstantDecay: expected one more of `values` than of `boundaries`. "
                f"Got {len(values)} and {len(boundaries)}."
            )
        self.boundaries, self.values, self.name = list(boundaries), list(values), name

    def __call__(self, step):
        # "left": a step that is a boundary still has the value before it.
        boundaries, values = (jnp.asarray([unwrap(item) for item in items]) for items in (self.boundaries, self.values))
        return values.astype(jnp.float32)[jnp.searchsorted(boundaries, jnp.asarray(unwrap(step)), side="left")]


class PolynomialDecay(LearningRateSchedule):
    """From `initial_learning_rate` to `end_learning_rate` in `decay_steps`, along `(1 - fraction) ** power`.

    With `cycle` the decay starts over, longer, whenever it has ended.
    """

    def __init__(
        self,
        initial_learning_rate,
        decay_steps,
        end_learning_rate: float = 0.0001,
        power: float = 1.0,
        cycle: bool = False,
        name: str = "PolynomialDecay",
    ):
        self.initial_learning_rate, self.decay_steps = initial_learning_rate, _positive(decay_steps)
        self.end_learning_rate, self.power, self.cycle, self.name = end_learning_rate, power, cycle, name

    def __call__(self, step):
        step, steps = jnp.asarray(step, jnp.float32), float(self.decay_steps)
        if self.cycle:
            # At step 0 the ceiling is 0, which would divide by 0.
            steps = steps * jnp.where(step == 0, 1.0, jnp.ceil(step / steps))
        else:
            step = jnp.minimum(step, steps)
        span = self.initial_learning_rate - self.end_learning_rate
        return span * (1 - step / steps) ** self.power + self.end_learning_rate


class CosineDecay(LearningRateSchedule):
    """A linear warm-up to `warmup_target`, then half a cosine down to `alpha` times the peak.

    Source: Loshchilov and Hutter 2016, https://arxiv.org/abs/1608.03983
    """

    def __init__(
        self, initial_learning_rate, decay_steps, alpha=0.0, name="CosineDecay", warmup_target=None, warmup_steps=0
    ):
        self.initial_learning_rate, self.decay_steps = initial_learning_rate, _positive(decay_steps)
        self.alpha, self.name = alpha, name
        self.warmup_target, self.warmup_steps = warmup_target, warmup_steps

    def __call__(self, step):
        step = jnp.asarray(step, jnp.float32)
        peak = self.initial_learning_rate if self.warmup_target is None else self.warmup_target
        # `warmup_steps` without a target do nothing, as in Keras.
        warmup = 0 if self.warmup_target is None else self.warmup_steps
        fraction = jnp.clip((step - warmup) / self.decay_steps, 0, 1)
        decayed = peak * ((1 - self.alpha) * 0.5 * (1 + jnp.cos(jnp.pi * fraction)) + self.alpha)
        # Known in Python: no `where` is traced for schedules without a warm-up.
        if not warmup:
            return decayed
        rising = self.initial_learning_rate + (peak - self.initial_learning_rate) * step / warmup
        return jnp.where(step < warmup, rising, decayed)


class CosineDecayRestarts(LearningRateSchedule):
    """Half cosines one after the other, each `t_mul` times as long and from `m_mul` times as high as the one before.

    Source: Loshchilov and Hutter 2016, https://arxiv.org/abs/1608.03983
    """

    def __init__(self, initial_learning_rate, first_decay_steps, t_mul=2.0, m_mul=1.0, alpha=0.0, name="SGDRDecay"):
        self.initial_learning_rate, self.first_decay_steps = initial_learning_rate, _positive(first_decay_steps)
        self.t_mul, self.m_mul, self.alpha, self.name = t_mul, m_mul, alpha, name

    def __call__(self, step):
        progress = jnp.asarray(step, jnp.float32) / self.first_decay_steps
        # The logarithm below would divide by `log(1) = 0`.
        if self.t_mul == 1.0:
            restart = jnp.floor(progress)
            fraction = progress - restart
        else:
            # The inverse of the geometric sum: how many periods, each `t_mul` times as long, have passed.
            restart = jnp.floor(jnp.log(1 - progress * (1 - self.t_mul)) / jnp.log(self.t_mul))
            begun = (1 - self.t_mul**restart) / (1 - self.t_mul)
            fraction = (progress - begun) / self.t_mul**restart
        cosine = 0.5 * self.m_mul**restart * (1 + jnp.cos(jnp.pi * fraction))
        return self.initial_learning_rate * ((1 - self.alpha) * cosine + self.alpha)


class OneCycle(LearningRateSchedule):
    """Up from `max_learning_rate / initial_factor` to `max_learning_rate` in a fraction of the steps, then down to
    `max_learning_rate / final_factor`, both along half a cosine. kerax's own.

    Source: Smith and Topin 2017, https://arxiv.org/abs/1708.07120

    Args:
        max_learning_rate: The highest rate.
        steps: Number of updates in all; the last rate stays.
        rising: Fraction of them that rises.
        initial_factor: How many times smaller the first rate is than the highest.
        final_factor: How many times smaller the last is.
        name: Of the schedule.

    Raises:
        ValueError: if `steps` is not positive, or `rising` not between 0 and 1.
    """

    def __init__(
        self,
        max_learning_rate,
        steps,
        rising: float = 0.3,
        initial_factor: float = 25.0,
        final_factor: float = 1e4,
        name: str = "OneCycle",
    ):
        if not 0 < rising < 1:
            raise ValueError(f"OneCycle: `rising` must be between 0 and 1. Got {rising!r}.")
        self.max_learning_rate, self.steps, self.rising = max_learning_rate, _positive(steps), rising
        self.initial_factor, self.final_factor, self.name = initial_factor, final_factor, name

    def __call__(self, step):
        step, turn, high = jnp.asarray(step, jnp.float32), self.rising * self.steps, self.max_learning_rate
        is_rising = step < turn
        fraction = jnp.where(is_rising, 1 - step / turn, jnp.minimum((step - turn) / (self.steps - turn), 1))
        low = jnp.where(is_rising, high / self.initial_factor, high / self.final_factor)
        return low + (high - low) * 0.5 * (1 + jnp.cos(jnp.pi * fraction))


class WarmupStableDecay(LearningRateSchedule):
    """A linear warm-up to `learning_rate`, which stays for `stable_steps`, then a linear decay to `alpha` times it.
    kerax's own.

    Source: Hu et al. 2024, https://arxiv.org/abs/2404.06395

    Args:
        learning_rate: The rate in the middle.
        warmup_steps, stable_steps, decay_steps: Numbers of updates; the last rate stays.
        alpha: The last rate over the one in the middle.
        name: Of the schedule.

    Raises:
        ValueError: if `decay_steps` is not positive, or another number is negative.
    """

    def __init__(
        self,
        learning_rate,
        warmup_steps,
        stable_steps,
        decay_steps,
        alpha: float = 0.0,
        name: str = "WarmupStableDecay",
    ):
        if warmup_steps < 0 or stable_steps < 0:
            raise ValueError(f"WarmupStableDecay: steps must not be negative. Got {warmup_steps} and {stable_steps}.")
        self.learning_rate, self.warmup_steps, self.stable_steps = learning_rate, warmup_steps, stable_steps
        self.decay_steps, self.alpha, self.name = _positive(decay_steps), alpha, name

    def __call__(self, step):
        step = jnp.asarray(step, jnp.float32)
        left = 1 - jnp.clip((step - self.warmup_steps - self.stable_steps) / self.decay_steps, 0, 1)
        rate = self.learning_rate * (self.alpha + (1 - self.alpha) * left)
        # Not zero at the first step, which would do nothing.
        return rate * jnp.minimum((step + 1) / self.warmup_steps, 1) if self.warmup_steps else rate


def _positive(steps):
    if steps <= 0:
        raise ValueError(f"A schedule's number of steps must be positive. Got {steps}.")
    return steps


def serialize(learning_rate_schedule) -> dict:
    """A JSON-able description of a schedule."""
    return serialize_keras_object(learning_rate_schedule)


def deserialize(config, custom_objects: dict | None = None):
    """The schedule that `serialize` described."""
    return deserialize_keras_object(config, custom_objects)
