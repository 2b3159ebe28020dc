"""Lion, schedule-free AdamW and Muon with Keras's arguments and defaults."""

import re
from collections.abc import Iterable
from typing import Unpack

import jax.numpy as jnp

from kerax.optimizers import adaptive_rules as rules
from kerax.optimizers.muon_rule import muon, orthogonal, scaled
from kerax.optimizers.optimizer import (
    ArgumentsWithoutDecay,
    CommonArguments,
    LearningRate,
    Optimizer,
    takes_common_arguments,
)


class Lion(Optimizer):
    """The sign of the momentum as the step: `adaptive_rules.lion`.

    Args:
        learning_rate: Float, schedule or function of the step.
        beta_1: Share of the momentum in the step, above 0 and at most 1.
        beta_2: Decay of the momentum.
        common: `weight_decay`, `clipnorm` and all else that `Optimizer` takes.
    """

    @takes_common_arguments
    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.99,
        **common: Unpack[CommonArguments],
    ):
        super().__init__(learning_rate, **common)
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
        common: `weight_decay`, `clipnorm` and all else that `Optimizer` takes.
    """

    # `z` starts at the weights themselves.
    _starts_from_weights = True

    @takes_common_arguments
    def __init__(
        self,
        learning_rate: LearningRate = 0.0025,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-08,
        warmup_steps: int = 0,
        **common: Unpack[CommonArguments],
    ):
        super().__init__(learning_rate, **common)
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
        common: `weight_decay`, `clipnorm` and all else that `Optimizer` takes.
    """

    @takes_common_arguments
    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        adam_beta_1: float = 0.9,
        adam_beta_2: float = 0.999,
        adam_weight_decay: float = 0.004,
        epsilon: float = 1e-07,
        weight_decay: float = 0.004,
        *,
        exclude_layers: Iterable[str] | None = None,
        exclude_embeddings: bool = True,
        muon_a: float = 3.4445,
        muon_b: float = -4.775,
        muon_c: float = 2.0315,
        adam_lr_ratio: float = 1,
        momentum: float = 0.95,
        ns_steps: int = 5,
        nesterov: bool = True,
        rms_rate: float | None = 0.2,
        **common: Unpack[ArgumentsWithoutDecay],
    ):
        super().__init__(learning_rate, weight_decay, **common)
        self.adam_beta_1, self.adam_beta_2, self.epsilon = adam_beta_1, adam_beta_2, epsilon
        self.adam_weight_decay, self.adam_lr_ratio = adam_weight_decay, adam_lr_ratio
        # A list, so that a config of an iterator is not used up.
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

    def zeropower_via_newtonschulz5(self, x, steps: int):
        """The orthogonal matrix near `x`, after so many steps of the polynomial: `muon_rule.orthogonal`."""
        return orthogonal(jnp.asarray(x), steps, (self.muon_a, self.muon_b, self.muon_c))

    def lr_adjust(self, x):
        """An orthogonal update `x` with the RMS that `rms_rate` says."""
        return scaled(x, self.rms_rate)

    def get_config(self) -> dict:
        """The constructor's arguments, with the current learning rate."""
        return super().get_config() | {"exclude_layers": self.exclude_layers}

    def _uses_adam(self, path, weight) -> bool:
        names = self._names_of(path)
        # Embeddings are tables of rows, not maps: their singular values mean nothing.
        if weight.ndim != 2 or (self.exclude_embeddings and any("embedding" in name.lower() for name in names)):
            return True
        return any(re.search(part, name) for part in self.exclude_layers for name in names)

    def _decay_of(self, path, weight):
        return self.adam_weight_decay if self._uses_adam(path, weight) else self.weight_decay
