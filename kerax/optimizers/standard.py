"""SGD, Adam, AdamW, RMSprop and Adagrad with Keras's arguments and defaults."""

from kerax.optimizers import rules
from kerax.optimizers.optimizer import Optimizer, common_arguments


class SGD(Optimizer):
    """Gradient descent with optional (Nesterov) momentum: `rules.sgd`.

    Args:
        learning_rate: Float, schedule or function of the step.
        momentum: In [0, 1].
        nesterov: Whether to look ahead along the velocity.
        weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum, ema_overwrite_frequency,
            loss_scale_factor, gradient_accumulation_steps, name: See `Optimizer`.
    """

    def __init__(
        self,
        learning_rate=0.01,
        momentum=0.0,
        nesterov=False,
        weight_decay=None,
        clipnorm=None,
        clipvalue=None,
        global_clipnorm=None,
        use_ema=False,
        ema_momentum=0.99,
        ema_overwrite_frequency=None,
        loss_scale_factor=None,
        gradient_accumulation_steps=None,
        name=None,
        **kwargs,
    ):
        super().__init__(**common_arguments(locals()))
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
        weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum, ema_overwrite_frequency,
            loss_scale_factor, gradient_accumulation_steps, name: See `Optimizer`.
    """

    def __init__(
        self,
        learning_rate=0.001,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-07,
        amsgrad=False,
        weight_decay=None,
        clipnorm=None,
        clipvalue=None,
        global_clipnorm=None,
        use_ema=False,
        ema_momentum=0.99,
        ema_overwrite_frequency=None,
        loss_scale_factor=None,
        gradient_accumulation_steps=None,
        name=None,
        **kwargs,
    ):
        super().__init__(**common_arguments(locals()))
        self.beta_1, self.beta_2, self.epsilon, self.amsgrad = beta_1, beta_2, epsilon, amsgrad

    def transformation(self):
        return rules.adam(self.beta_1, self.beta_2, self.epsilon, self.amsgrad)


class AdamW(Adam):
    """Adam with decoupled weight decay of 0.004 by default.

    Source: Loshchilov and Hutter 2017, https://arxiv.org/abs/1711.05101
    """

    def __init__(
        self,
        learning_rate=0.001,
        weight_decay=0.004,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-07,
        amsgrad=False,
        clipnorm=None,
        clipvalue=None,
        global_clipnorm=None,
        use_ema=False,
        ema_momentum=0.99,
        ema_overwrite_frequency=None,
        loss_scale_factor=None,
        gradient_accumulation_steps=None,
        name=None,
        **kwargs,
    ):
        super().__init__(beta_1=beta_1, beta_2=beta_2, epsilon=epsilon, amsgrad=amsgrad, **common_arguments(locals()))


class RMSprop(Optimizer):
    """Gradients divided by the root of their running mean square: `rules.rmsprop`.

    Args:
        learning_rate: Float, schedule or function of the step.
        rho: Decay of the mean square.
        momentum: Momentum of the increments.
        epsilon: Added to the mean square.
        centered: Whether to take off the squared mean gradient.
        weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum, ema_overwrite_frequency,
            loss_scale_factor, gradient_accumulation_steps, name: See `Optimizer`.
    """

    def __init__(
        self,
        learning_rate=0.001,
        rho=0.9,
        momentum=0.0,
        epsilon=1e-07,
        centered=False,
        weight_decay=None,
        clipnorm=None,
        clipvalue=None,
        global_clipnorm=None,
        use_ema=False,
        ema_momentum=0.99,
        ema_overwrite_frequency=None,
        loss_scale_factor=None,
        gradient_accumulation_steps=None,
        name=None,
        **kwargs,
    ):
        super().__init__(**common_arguments(locals()))
        self.rho, self.momentum, self.epsilon, self.centered = rho, momentum, epsilon, centered

    def transformation(self):
        return rules.rmsprop(self.rho, self.momentum, self.epsilon, self.centered)


class Adagrad(Optimizer):
    """Gradients divided by the root of the sum of their squares: `rules.adagrad`.

    Args:
        learning_rate: Float, schedule or function of the step.
        initial_accumulator_value: Start of the sum, at least 0.
        epsilon: Added to the sum.
        weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum, ema_overwrite_frequency,
            loss_scale_factor, gradient_accumulation_steps, name: See `Optimizer`.
    """

    def __init__(
        self,
        learning_rate=0.001,
        initial_accumulator_value=0.1,
        epsilon=1e-07,
        weight_decay=None,
        clipnorm=None,
        clipvalue=None,
        global_clipnorm=None,
        use_ema=False,
        ema_momentum=0.99,
        ema_overwrite_frequency=None,
        loss_scale_factor=None,
        gradient_accumulation_steps=None,
        name=None,
        **kwargs,
    ):
        super().__init__(**common_arguments(locals()))
        self.initial_accumulator_value, self.epsilon = initial_accumulator_value, epsilon

    def transformation(self):
        return rules.adagrad(self.initial_accumulator_value, self.epsilon)
