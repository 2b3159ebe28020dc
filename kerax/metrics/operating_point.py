"""The best of one rate among the thresholds at which another rate is high enough."""

import jax.numpy as jnp
import numpy as np

from kerax.metrics.confusion import Counts, Decisions

_SENSITIVITY = _RECALL = ("true_positives", "false_negatives")
_SPECIFICITY = ("true_negatives", "false_positives")
_PRECISION = ("true_positives", "false_positives")


class _OperatingPoint(Decisions):
    """A subclass says which rate is at least `value` (`_limited`) and which one is wanted high (`_wanted`)."""

    _counted = Counts._fields
    _limited: tuple[str, str]
    _wanted: tuple[str, str]

    def __init__(self, argument, value, num_thresholds, class_id, name, dtype):
        if num_thresholds < 1:
            raise ValueError(f"{type(self).__name__}: `num_thresholds` must be at least 1. Got {num_thresholds}.")
        # `linspace` of one point would be 0, at which nearly all is a yes.
        thresholds = np.linspace(0, 1, num_thresholds).tolist() if num_thresholds > 1 else [0.5]
        super().__init__(thresholds, None, class_id, name, dtype)
        # After `super().__init__`: the message has the metric's name.
        if not 0 <= value <= 1:
            raise ValueError(f"{self.name}: `{argument}` must be in [0, 1]. Got {value}.")
        self.value, self.num_thresholds = value, num_thresholds

    def result(self):
        """The highest rate, 0 if the other is never high enough."""
        is_enough = self._ratios(*self._limited) >= self.value
        # 0 is no rate that a threshold could fall below, so that it marks those that are out.
        return jnp.max(jnp.where(is_enough, self._ratios(*self._wanted), 0))


class SensitivityAtSpecificity(_OperatingPoint):
    """The highest sensitivity (fraction of yes labels found) at a specificity of at least `specificity`.

    Args:
        specificity: In [0, 1]: fraction of no labels that are told to be so.
        num_thresholds: Number of thresholds spread over [0, 1], at least 1.
        class_id: Only this column counts.

    Others as `Metric`.
    """

    _limited, _wanted = _SPECIFICITY, _SENSITIVITY

    def __init__(self, specificity, num_thresholds: int = 200, class_id=None, name: str | None = None, dtype=None):
        super().__init__("specificity", specificity, num_thresholds, class_id, name, dtype)
        self.specificity = specificity


class SpecificityAtSensitivity(_OperatingPoint):
    """The highest specificity at a sensitivity of at least `sensitivity`. Others as `SensitivityAtSpecificity`."""

    _limited, _wanted = _SENSITIVITY, _SPECIFICITY

    def __init__(self, sensitivity, num_thresholds: int = 200, class_id=None, name: str | None = None, dtype=None):
        super().__init__("sensitivity", sensitivity, num_thresholds, class_id, name, dtype)
        self.sensitivity = sensitivity


class PrecisionAtRecall(_OperatingPoint):
    """The highest precision at a recall of at least `recall`. Others as `SensitivityAtSpecificity`."""

    _limited, _wanted = _RECALL, _PRECISION

    def __init__(self, recall, num_thresholds: int = 200, class_id=None, name: str | None = None, dtype=None):
        super().__init__("recall", recall, num_thresholds, class_id, name, dtype)
        self.recall = recall


class RecallAtPrecision(_OperatingPoint):
    """The highest recall at a precision of at least `precision`. Others as `SensitivityAtSpecificity`."""

    _limited, _wanted = _PRECISION, _RECALL

    def __init__(self, precision, num_thresholds: int = 200, class_id=None, name: str | None = None, dtype=None):
        super().__init__("precision", precision, num_thresholds, class_id, name, dtype)
        self.precision = precision
