"""Metrics: what training and evaluation report."""

from kerax.core.registry import deserialize_keras_object, serialize_keras_object
from kerax.losses import (
    binary_crossentropy,
    binary_focal_crossentropy,
    categorical_crossentropy,
    categorical_focal_crossentropy,
    categorical_hinge,
    hinge,
    huber,
    kind_of_labels,
    kl_divergence,
    log_cosh,
    mean_absolute_error,
    mean_absolute_percentage_error,
    mean_squared_error,
    mean_squared_logarithmic_error,
    poisson,
    sparse_categorical_crossentropy,
    squared_hinge,
)
from kerax.metrics.accuracy import (
    Accuracy,
    BinaryAccuracy,
    CategoricalAccuracy,
    SparseCategoricalAccuracy,
    SparseTopKCategoricalAccuracy,
    TopKCategoricalAccuracy,
    binary_accuracy,
    categorical_accuracy,
    sparse_categorical_accuracy,
    sparse_top_k_categorical_accuracy,
    top_k_categorical_accuracy,
)
from kerax.metrics.confusion import (
    AUC,
    FalseNegatives,
    FalsePositives,
    Precision,
    Recall,
    TrueNegatives,
    TruePositives,
)
from kerax.metrics.correlation import (
    ConcordanceCorrelation,
    PearsonCorrelation,
    concordance_correlation,
    pearson_correlation,
)
from kerax.metrics.f_score import F1Score, FBetaScore
from kerax.metrics.iou import BinaryIoU, IoU, MeanIoU, OneHotIoU, OneHotMeanIoU
from kerax.metrics.metric import METRICS, Metric
from kerax.metrics.operating_point import (
    PrecisionAtRecall,
    RecallAtPrecision,
    SensitivityAtSpecificity,
    SpecificityAtSensitivity,
)
from kerax.metrics.probabilistic import (
    BinaryCrossentropy,
    CategoricalCrossentropy,
    KLDivergence,
    Poisson,
    SparseCategoricalCrossentropy,
)
from kerax.metrics.reduction import Mean, MeanMetricWrapper, Sum
from kerax.metrics.regression import (
    CategoricalHinge,
    CosineSimilarity,
    Hinge,
    LogCoshError,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanSquaredError,
    MeanSquaredLogarithmicError,
    R2Score,
    RootMeanSquaredError,
    SquaredHinge,
)

__all__ = [
    "AUC",
    "Accuracy",
    "BinaryAccuracy",
    "BinaryCrossentropy",
    "BinaryIoU",
    "CategoricalAccuracy",
    "CategoricalCrossentropy",
    "CategoricalHinge",
    "ConcordanceCorrelation",
    "CosineSimilarity",
    "F1Score",
    "FBetaScore",
    "FalseNegatives",
    "FalsePositives",
    "Hinge",
    "IoU",
    "KLDivergence",
    "LogCoshError",
    "Mean",
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanIoU",
    "MeanMetricWrapper",
    "MeanSquaredError",
    "MeanSquaredLogarithmicError",
    "Metric",
    "OneHotIoU",
    "OneHotMeanIoU",
    "PearsonCorrelation",
    "Poisson",
    "Precision",
    "PrecisionAtRecall",
    "R2Score",
    "Recall",
    "RecallAtPrecision",
    "RootMeanSquaredError",
    "SensitivityAtSpecificity",
    "SparseCategoricalAccuracy",
    "SparseCategoricalCrossentropy",
    "SparseTopKCategoricalAccuracy",
    "SpecificityAtSensitivity",
    "SquaredHinge",
    "Sum",
    "TopKCategoricalAccuracy",
    "TrueNegatives",
    "TruePositives",
    "accuracy_for",
    "as_metric",
    "binary_accuracy",
    "binary_crossentropy",
    "binary_focal_crossentropy",
    "categorical_accuracy",
    "categorical_crossentropy",
    "categorical_focal_crossentropy",
    "categorical_hinge",
    "concordance_correlation",
    "crossentropy_for",
    "deserialize",
    "get",
    "hinge",
    "huber",
    "kl_divergence",
    "log_cosh",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_squared_error",
    "mean_squared_logarithmic_error",
    "pearson_correlation",
    "poisson",
    "serialize",
    "sparse_categorical_accuracy",
    "sparse_categorical_crossentropy",
    "sparse_top_k_categorical_accuracy",
    "squared_hinge",
    "top_k_categorical_accuracy",
]

# The short names that Keras knows; the functions of these names are losses.
METRICS.add(BinaryCrossentropy, "bce", "BCE")
METRICS.add(MeanSquaredError, "mse", "MSE")
METRICS.add(MeanAbsoluteError, "mae", "MAE")
METRICS.add(MeanAbsolutePercentageError, "mape", "MAPE")
METRICS.add(MeanSquaredLogarithmicError, "msle", "MSLE")
METRICS.add(KLDivergence, "kld", "KLD")
METRICS.add(RootMeanSquaredError, "rmse", "RMSE")


def get(identifier):
    """The metric object or function for a name, a config, a class or an object; `None` stays `None`."""
    return METRICS.get(identifier)


def as_metric(identifier) -> Metric | None:
    """`get(identifier)` as a `Metric`: a function is wrapped, a metric got by a name is called so, as in Keras."""
    metric = get(identifier)
    if metric is None:
        return None
    if not isinstance(metric, Metric):
        return MeanMetricWrapper(metric, name=identifier if isinstance(identifier, str) else None)
    if isinstance(identifier, str):
        # So that the logs have the name that the user wrote: `"mse"`, not `mean_squared_error`.
        metric.name = identifier
    return metric


def accuracy_for(y_true_shape, y_pred_shape) -> type[Metric]:
    """The class that `"accuracy"` means for these shapes."""
    return {
        "binary": BinaryAccuracy,
        "sparse": SparseCategoricalAccuracy,
        "categorical": CategoricalAccuracy,
    }[kind_of_labels(y_true_shape, y_pred_shape)]


def crossentropy_for(y_true_shape, y_pred_shape) -> type[Metric]:
    """The class that `"crossentropy"` means for these shapes."""
    return {
        "binary": BinaryCrossentropy,
        "sparse": SparseCategoricalCrossentropy,
        "categorical": CategoricalCrossentropy,
    }[kind_of_labels(y_true_shape, y_pred_shape)]


def serialize(metric) -> dict | str:
    """A JSON-able description."""
    return serialize_keras_object(metric)


def deserialize(config, custom_objects: dict | None = None):
    """The metric that `serialize` described."""
    return METRICS.get(deserialize_keras_object(config, custom_objects))
