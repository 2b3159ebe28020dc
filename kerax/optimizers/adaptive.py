"""Adadelta, Adafactor, Adamax, Nadam, LAMB and FTRL with Keras's arguments and defaults."""

from typing import Unpack

from kerax.optimizers import adaptive_rules as rules
from kerax.optimizers.optimizer import CommonArguments, LearningRate, Optimizer, takes_common_arguments


class Adadelta(Optimizer):
    """Gradients scaled by the ratio of the RMS of past updates to that of past gradients: `adaptive_rules.adadelta`.

    Args:
        learning_rate: Float, schedule or function of the step.
        rho: Decay of the mean squares.
        epsilon: Added to both mean squares.
        common: `weight_decay`, `clipnorm` and all else that `Optimizer` takes.
    """

    @takes_common_arguments
    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        rho: float = 0.95,
        epsilon: float = 1e-07,
        **common: Unpack[CommonArguments],
    ):
        super().__init__(learning_rate, **common)
        self.rho, self.epsilon = rho, epsilon

    def transformation(self):
        return rules.adadelta(self.rho, self.epsilon)


class Adafactor(Optimizer):
    """Adam without momentum, keeping means of rows and columns of the second moment: `adaptive_rules.adafactor`.

    Args:
        learning_rate: Float, schedule or function of the step.
        beta_2_decay: Exponent of the step in the decay of the second moment.
        epsilon_1: Added to the squared gradients.
        epsilon_2: Least RMS of a weight that its step is scaled by.
        clip_threshold: Largest RMS of an update before scaling.
        relative_step: Without effect: as Keras computes it, the learning rate is at most `1 / sqrt(step)` always.
        common: `weight_decay`, `clipnorm` and all else that `Optimizer` takes.
    """

    @takes_common_arguments
    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        beta_2_decay: float = -0.8,
        epsilon_1: float = 1e-30,
        epsilon_2: float = 0.001,
        clip_threshold: float = 1.0,
        relative_step: bool = True,
        **common: Unpack[CommonArguments],
    ):
        super().__init__(learning_rate, **common)
        self.beta_2_decay, self.epsilon_1, self.epsilon_2 = beta_2_decay, epsilon_1, epsilon_2
        # `relative_step` is kept for configs alone.
        self.clip_threshold, self.relative_step = clip_threshold, relative_step

    def transformation(self):
        return rules.adafactor(self.beta_2_decay, self.epsilon_1, self.epsilon_2, self.clip_threshold)


class _Moments(Optimizer):
    """Base of what divides a mean of the gradients by a measure of their size.

    Args:
        learning_rate: Float, schedule or function of the step.
        beta_1: Decay of the mean.
        beta_2: Decay of the measure.
        epsilon: Added to the divisor.
        common: `weight_decay`, `clipnorm` and all else that `Optimizer` takes.
    """

    @takes_common_arguments
    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-07,
        **common: Unpack[CommonArguments],
    ):
        super().__init__(learning_rate, **common)
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon


class Adamax(_Moments):
    """Adam with the infinity norm in place of the second moment: `adaptive_rules.adamax`.

    Args: as Adam, without `amsgrad`.
    """

    def transformation(self):
        return rules.adamax(self.beta_1, self.beta_2, self.epsilon)


class Nadam(_Moments):
    """Adam with Nesterov momentum: `adaptive_rules.nadam`.

    Args: as Adam, without `amsgrad`.
    """

    def transformation(self):
        return rules.nadam(self.beta_1, self.beta_2, self.epsilon)


class Lamb(_Moments):
    """Adam with each step scaled to the norm of its weight, for large batches: `adaptive_rules.lamb`.

    Args: as Adam, without `amsgrad`.
    """

    def transformation(self):
        return rules.lamb(self.beta_1, self.beta_2, self.epsilon)


class Ftrl(Optimizer):
    """ "Follow the regularized leader", for sparse linear models: `adaptive_rules.ftrl`.

    Args:
        learning_rate: Float, schedule or function of the step.
        learning_rate_power: Exponent of the sum of squares in the learning rate, at most 0.
        initial_accumulator_value: Start of the sum of squared gradients, at least 0.
        l1_regularization_strength, l2_regularization_strength: Penalties, at least 0.
        l2_shrinkage_regularization_strength: L2 penalty on the weights' size alone, at least 0.
        beta: Added to the root of the sum of squares.
        common: `weight_decay`, `clipnorm` and all else that `Optimizer` takes.
    """

    @takes_common_arguments
    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        learning_rate_power: float = -0.5,
        initial_accumulator_value: float = 0.1,
        l1_regularization_strength: float = 0.0,
        l2_regularization_strength: float = 0.0,
        l2_shrinkage_regularization_strength: float = 0.0,
        beta: float = 0.0,
        **common: Unpack[CommonArguments],
    ):
        super().__init__(learning_rate, **common)
        for argument, value in (
            ("initial_accumulator_value", initial_accumulator_value),
            ("l1_regularization_strength", l1_regularization_strength),
            ("l2_regularization_strength", l2_regularization_strength),
            ("l2_shrinkage_regularization_strength", l2_shrinkage_regularization_strength),
        ):
            if value < 0:
                raise ValueError(f"{self}: `{argument}` must be at least 0. Got {value}.")
        # Above 0 the rate would grow with the sum of squares.
        if learning_rate_power > 0:
            raise ValueError(f"{self}: `learning_rate_power` must be at most 0. Got {learning_rate_power}.")
        self.learning_rate_power, self.beta = learning_rate_power, beta
        self.initial_accumulator_value = initial_accumulator_value
        self.l1_regularization_strength = l1_regularization_strength
        self.l2_regularization_strength = l2_regularization_strength
        self.l2_shrinkage_regularization_strength = l2_shrinkage_regularization_strength

    def transformation(self):
        return rules.ftrl(
            self.learning_rate_power,
            self.initial_accumulator_value,
            self.l1_regularization_strength,
            self.l2_regularization_strength,
            self.l2_shrinkage_regularization_strength,
            self.beta,
        )
