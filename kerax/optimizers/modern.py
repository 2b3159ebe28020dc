"""LAMB, Lion, schedule-free AdamW and Muon with Keras's arguments and defaults."""

import re

from kerax.optimizers import adaptive_rules as rules
from kerax.optimizers.muon_rule import muon
from kerax.optimizers.optimizer import Optimizer, common_arguments


class Lamb(Optimizer):
    """Adam with each step scaled to the norm of its weight, for large batches: `adaptive_rules.lamb`.

    Args:
        learning_rate: Float, schedule or function of the step.
        beta_1: Decay of the first moment.
        beta_2: Decay of the second moment.
        epsilon: Added to the divisor.
        weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum, ema_overwrite_frequency,
            loss_scale_factor, gradient_accumulation_steps, name: See `Optimizer`.
    """

    def __init__(
        self,
        learning_rate=0.001,
        beta_1=0.9,
        beta_2=0.999,
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
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon

    def transformation(self):
        return rules.lamb(self.beta_1, self.beta_2, self.epsilon)


class Lion(Optimizer):
    """The sign of the momentum as the step: `adaptive_rules.lion`.

    Args:
        learning_rate: Float, schedule or function of the step.
        beta_1: Share of the momentum in the step, above 0 and at most 1.
        beta_2: Decay of the momentum.
        weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum, ema_overwrite_frequency,
            loss_scale_factor, gradient_accumulation_steps, name: See `Optimizer`.
    """

    def __init__(
        self,
        learning_rate=0.001,
        beta_1=0.9,
        beta_2=0.99,
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
        if not 0 < beta_1 <= 1:
            raise ValueError(f"{self}: `beta_1` must be in (0, 1]. Got {beta_1}.")
        self.beta_1, self.beta_2 = beta_1, beta_2

    def transformation(self):
        return rules.lion(self.beta_1, self.beta_2)


class ScheduleFreeAdamW(Optimizer):
    """AdamW without a schedule, by averaging: `adaptive_rules.schedule_free_adamw`.

    Args:
        learning_rate: Float, schedule or function of the step.
        beta_1: Share of the average in the weights, above 0.
        beta_2: Decay of the second moment.
        epsilon: Added to the root of the second moment.
        warmup_steps: Steps in which the learning rate rises from 0.
        weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum, ema_overwrite_frequency,
            loss_scale_factor, gradient_accumulation_steps, name: See `Optimizer`.
    """

    _starts_from_weights = True

    def __init__(
        self,
        learning_rate=0.0025,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-08,
        warmup_steps=0,
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
        if not 0 < beta_1 <= 1:
            raise ValueError(f"{self}: `beta_1` must be in (0, 1]. Got {beta_1}.")
        self.beta_1, self.beta_2, self.epsilon, self.warmup_steps = beta_1, beta_2, epsilon, warmup_steps

    def transformation(self):
        return rules.schedule_free_adamw(self.beta_1, self.beta_2, self.epsilon, self.warmup_steps)


class Muon(Optimizer):
    """Orthogonalized momentum for matrices, AdamW for everything else: `muon_rule.muon`.

    AdamW takes weights without 2 axes, those in `exclude_layers`, and embeddings.

    Args:
        learning_rate: Float, schedule or function of the step.
        adam_beta_1, adam_beta_2: Decays of AdamW's moments.
        adam_weight_decay: Weight decay of what AdamW takes; `weight_decay` is that of the rest.
        epsilon: Added to the root of AdamW's second moment.
        exclude_layers: Regular expressions searched for in the weights' paths; name the output layer here.
        exclude_embeddings: Whether AdamW takes weights with "embedding" in their path.
        muon_a, muon_b, muon_c: Coefficients of the polynomial that drives singular values to 1.
        adam_lr_ratio: AdamW's learning rate over Muon's.
        momentum: Decay of Muon's sum of gradients.
        ns_steps: Number of iterations of the polynomial.
        nesterov: Whether to look ahead along the momentum.
        rms_rate: RMS of Muon's updates before the learning rate. `None` leaves them orthogonal.
        weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum, ema_overwrite_frequency,
            loss_scale_factor, gradient_accumulation_steps, name: See `Optimizer`.
    """

    def __init__(
        self,
        learning_rate=0.001,
        adam_beta_1=0.9,
        adam_beta_2=0.999,
        adam_weight_decay=0.004,
        epsilon=1e-07,
        weight_decay=0.004,
        clipnorm=None,
        clipvalue=None,
        global_clipnorm=None,
        use_ema=False,
        ema_momentum=0.99,
        ema_overwrite_frequency=None,
        loss_scale_factor=None,
        gradient_accumulation_steps=None,
        name=None,
        exclude_layers=None,
        exclude_embeddings=True,
        muon_a=3.4445,
        muon_b=-4.775,
        muon_c=2.0315,
        adam_lr_ratio=1,
        momentum=0.95,
        ns_steps=5,
        nesterov=True,
        rms_rate=0.2,
        **kwargs,
    ):
        super().__init__(**common_arguments(locals()))
        self.adam_beta_1, self.adam_beta_2, self.epsilon = adam_beta_1, adam_beta_2, epsilon
        self.adam_weight_decay, self.adam_lr_ratio = adam_weight_decay, adam_lr_ratio
        self.exclude_layers, self.exclude_embeddings = list(exclude_layers or []), exclude_embeddings
        self.muon_a, self.muon_b, self.muon_c = muon_a, muon_b, muon_c
        self.momentum, self.ns_steps, self.nesterov, self.rms_rate = momentum, ns_steps, nesterov, rms_rate

    def transformation(self):
        return muon(
            self._uses_adam,
            (self.adam_beta_1, self.adam_beta_2, self.epsilon, self.adam_lr_ratio),
            (self.momentum, self.nesterov, self.ns_steps, self.rms_rate),
            (self.muon_a, self.muon_b, self.muon_c),
        )

    def get_config(self) -> dict:
        """The constructor's arguments, with the current learning rate."""
        return super().get_config() | {"exclude_layers": self.exclude_layers}

    def _uses_adam(self, path, weight) -> bool:
        names = self._names_of(path)
        if weight.ndim != 2 or (self.exclude_embeddings and any("embedding" in name.lower() for name in names)):
            return True
        return any(re.search(part, name) for part in self.exclude_layers for name in names)

    def _decay_of(self, path, weight):
        return self.adam_weight_decay if self._uses_adam(path, weight) else self.weight_decay
