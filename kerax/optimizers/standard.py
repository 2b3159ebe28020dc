"""SGD, Adam, AdamW, RMSprop and Adagrad with Keras's arguments and defaults."""

from typing import Unpack

from kerax.optimizers import rules
from kerax.optimizers.optimizer import (
    ArgumentsWithoutDecay,
    CommonArguments,
    LearningRate,
    Optimizer,
    takes_common_arguments,
)


class SGD(Optimizer):
    """Gradient descent with optional (Nesterov) momentum: `rules.sgd`.

    Args:
        learning_rate: Float, schedule or function of the step.
        momentum: In [0, 1].
        nesterov: Whether to look ahead along the velocity.
        common: `weight_decay`, `clipnorm` and all else that `Optimizer` takes.
    """

    @takes_common_arguments
    def __init__(
        self,
        learning_rate: LearningRate = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        **common: Unpack[CommonArguments],
    ):
        super().__init__(learning_rate, **common)
        if not 0 <= momentum <= 1:
            raise ValueError(f"{self}: `momentum` must be in [0, 1]. Got {momentum}.")
        self.momentum, self.nesterov = momentum, nesterov

    def transformation(self):
        return rules.sgd(self.momentum, self.nesterov)


class Adam(Optimizer):
    """Adam, and AMSGrad with `amsgrad`: `rules.adam`.

    Args:
        learning_rate: Float, schedule or function of the step.
        beta_1: Decay of the first moment.
        beta_2: Decay of the second moment.
        epsilon: Added to the root of the second moment, before bias correction.
        amsgrad: Whether to divide by the largest second moment so far.
        common: `weight_decay`, `clipnorm` and all else that `Optimizer` takes.
    """

    @takes_common_arguments
    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-07,
        amsgrad: bool = False,
        **common: Unpack[CommonArguments],
    ):
        super().__init__(learning_rate, **common)
        self.beta_1, self.beta_2, self.epsilon, self.amsgrad = beta_1, beta_2, epsilon, amsgrad

    def transformation(self):
        return rules.adam(self.beta_1, self.beta_2, self.epsilon, self.amsgrad)


class AdamW(Adam):
    """Adam with decoupled weight decay of 0.004 by default.

    Source: Loshchilov and Hutter 2017, https://arxiv.org/abs/1711.05101
    """

    @takes_common_arguments
    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        weight_decay: float = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-07,
        amsgrad: bool = False,
        **common: Unpack[ArgumentsWithoutDecay],
    ):
        # Decay is the base's, for every optimizer: AdamW differs from Adam by its default alone.
        super().__init__(learning_rate, beta_1, beta_2, epsilon, amsgrad, weight_decay=weight_decay, **common)
        if weight_decay is None:
            raise ValueError(f"{self}: `weight_decay` must be a number. Got None; `Adam` has none.")


class RMSprop(Optimizer):
    """Gradients divided by the root of their running mean square: `rules.rmsprop`.

    Args:
        learning_rate: Float, schedule or function of the step.
        rho: Decay of the mean square.
        momentum: Momentum of the increments.
        epsilon: Added to the mean square.
        centered: Whether to take off the squared mean gradient.
        common: `weight_decay`, `clipnorm` and all else that `Optimizer` takes.
    """

    @takes_common_arguments
    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-07,
        centered: bool = False,
        **common: Unpack[CommonArguments],
    ):
        super().__init__(learning_rate, **common)
        self.rho, self.momentum, self.epsilon, self.centered = rho, momentum, epsilon, centered

    def transformation(self):
        return rules.rmsprop(self.rho, self.momentum, self.epsilon, self.centered)


class Adagrad(Optimizer):
    """Gradients divided by the root of the sum of their squares: `rules.adagrad`.

    Args:
        learning_rate: Float, schedule or function of the step.
        initial_accumulator_value: Start of the sum, at least 0.
        epsilon: Added to the sum.
        common: `weight_decay`, `clipnorm` and all else that `Optimizer` takes.
    """

    @takes_common_arguments
    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-07,
        **common: Unpack[CommonArguments],
    ):
        super().__init__(learning_rate, **common)
        self.initial_accumulator_value, self.epsilon = initial_accumulator_value, epsilon

    def transformation(self):
        return rules.adagrad(self.initial_accumulator_value, self.epsilon)
