"""Training a small model to do what a large one does: `Distiller` and its losses."""

from typing import Any

import jax
import jax.numpy as jnp

from kerax import losses, metrics, tree
from kerax.core.configurable import Configurable
from kerax.core.registry import Family
from kerax.models import Model

_FAMILY = Family("distillation", "distillation loss")


class DistillationLoss(Configurable):
    """How far a student's outputs are from a teacher's. A subclass writes `compute_loss`."""

    teacher_layer_name: str | None = None
    student_layer_name: str | None = None

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if cls.__module__ == __name__:
            _FAMILY.add(cls)

    def compute_loss(self, teacher_outputs, student_outputs, **kwargs):
        """The scalar loss of a batch."""
        raise NotImplementedError(f"{type(self).__name__} must implement `compute_loss`.")

    def validate_outputs(self, teacher_outputs, student_outputs):
        """Raises `ValueError` unless both outputs have one form."""
        tree.assert_same_structure(teacher_outputs, student_outputs)

    def validate_model_compatibility(self, teacher, student):
        """Raises `ValueError` unless this loss can be computed for the two models."""


def _functions(owner, loss):
    """Losses by name as functions, in the structure they were given in."""
    found = tree.map_structure(losses.get, loss)
    if all(item is None for item in tree.flatten(found)):
        raise ValueError(f"{type(owner).__name__}: `loss` must hold at least one loss. Got {loss!r}.")
    return found


def _total(function, loss, teacher_outputs, student_outputs):
    """The sum over the outputs of `function(loss, teacher, student)`; an output without a loss counts 0."""

    def apply(one, teacher, student):
        return jnp.zeros(()) if one is None else jnp.mean(function(one, teacher, student))

    return sum(tree.flatten(tree.map_structure(apply, loss, teacher_outputs, student_outputs)))


class LogitsDistillation(DistillationLoss):
    """The difference of the models' last outputs, softened: `loss(teacher / T, student / T)`.

    For the Kullback-Leibler divergence, `T**2 * KL(softmax(teacher / T), softmax(student / T))`.

    Args:
        temperature: `T`, above 0: the higher, the more the smaller outputs count.
        loss: Name, `Loss` or function of (teacher's, student's outputs); a structure of them for several outputs, with
            `None` for outputs that do not count.

    Deviation from Keras 3.15: the softmax is taken whether the divergence is given by name, as a function or as an
    object; Keras leaves it out but for an object, and its default takes the divergence of numbers that are no
    probabilities.

    Source: Hinton et al. 2015, https://arxiv.org/abs/1503.02531

    Raises:
        ValueError: if the temperature is not a number above 0, or there is no loss.
    """

    def __init__(self, temperature: float = 3.0, loss: Any = "kl_divergence"):
        if not isinstance(temperature, (int, float)) or temperature <= 0:
            raise ValueError(f"LogitsDistillation: `temperature` must be a number above 0. Got {temperature!r}.")
        self.temperature, self.loss = temperature, _functions(self, loss)

    def compute_loss(self, teacher_outputs, student_outputs, **kwargs):
        def apply(loss, teacher, student):
            teacher, student = teacher / self.temperature, student / self.temperature
            # Scaled by T squared: the gradients of softened outputs are that much smaller (section 2 of the paper).
            if loss is losses.kl_divergence or isinstance(loss, losses.KLDivergence):
                return jnp.mean(loss(jax.nn.softmax(teacher), jax.nn.softmax(student))) * self.temperature**2
            return loss(teacher, student)

        return _total(apply, self.loss, teacher_outputs, student_outputs)


class FeatureDistillation(DistillationLoss):
    """The difference of what two layers give, one of each model: `loss(teacher's, student's)`.

    Args:
        loss: As in `LogitsDistillation`.
        teacher_layer_name: The teacher's layer. Default: its last outputs.
        student_layer_name: The student's layer. Default: its last outputs.

    Source: Romero et al. 2015, https://arxiv.org/abs/1412.6550

    Raises:
        ValueError: if there is no loss, and later if a model has no graph or no layer of that name.
    """

    def __init__(self, loss: Any = "mse", teacher_layer_name=None, student_layer_name=None):
        self.loss = _functions(self, loss)
        self.teacher_layer_name, self.student_layer_name = teacher_layer_name, student_layer_name

    def validate_model_compatibility(self, teacher, student):
        for who, model, name in (
            ("teacher", teacher, self.teacher_layer_name),
            ("student", student, self.student_layer_name),
        ):
            if name is None:
                continue
            if getattr(model, "inputs", None) is None:
                raise ValueError(
                    f"FeatureDistillation: the {who} {model} has no graph to take the outputs of {name!r} from. Use a "
                    "Sequential or functional model, or leave the layers' names out."
                )
            model.get_layer(name)

    def validate_outputs(self, teacher_outputs, student_outputs):
        super().validate_outputs(teacher_outputs, student_outputs)
        tree.assert_same_structure(self.loss, teacher_outputs)

    def compute_loss(self, teacher_outputs, student_outputs, **kwargs):
        return _total(lambda loss, *features: loss(*features), self.loss, teacher_outputs, student_outputs)


class Distiller(Model):
    """A student that learns from targets and from a teacher.

        student_loss_weight * loss(y, student(x)) + (1 - student_loss_weight) * sum(weight * distillation loss)

    The teacher is made untrainable. Predictions are the student's; save `distiller.student` when it is trained.

    Args:
        teacher: A trained model.
        student: A model with inputs and outputs of the same shapes and dtypes.
        distillation_losses: A `DistillationLoss`, or a list of them.
        distillation_loss_weights: One for each of the list. Default: 1.
        student_loss_weight: From 0 (only the teacher counts) to 1 (only the targets).
        name: Default: `"distiller"`.

    Logs: `student_loss`, `distillation_loss`, `total_loss`.

    Raises:
        ValueError: if the models do not fit each other or the losses, or weights are out of range.
    """

    _untracked = Model._untracked | {"_extractors", "_student_loss"}

    def __init__(
        self,
        teacher,
        student,
        distillation_losses,
        distillation_loss_weights=None,
        student_loss_weight: float = 0.5,
        name: str = "distiller",
        **kwargs,
    ):
        super().__init__(name=name, **kwargs)
        for who, model in (("teacher", teacher), ("student", student)):
            if not isinstance(model, Model):
                raise ValueError(f"{self}: `{who}` must be a model. Got {model!r}.")
        for what in ("inputs", "outputs"):
            self._check_alike(what, getattr(teacher, what, None), getattr(student, what, None))
        if not isinstance(student_loss_weight, (int, float)) or not 0 <= student_loss_weight <= 1:
            raise ValueError(
                f"{self}: `student_loss_weight` must be a number from 0 to 1. Got {student_loss_weight!r}."
            )
        is_list = isinstance(distillation_losses, (list, tuple))
        self.distillation_losses = list(distillation_losses) if is_list else [distillation_losses]
        for loss in self.distillation_losses:
            if not isinstance(loss, DistillationLoss):
                raise ValueError(f"{self}: `distillation_losses` must hold distillation losses. Got {loss!r}.")
            loss.validate_model_compatibility(teacher, student)
        # As in Keras the weight of a single loss does not count: `student_loss_weight` says it all.
        weights = distillation_loss_weights if is_list and distillation_loss_weights is not None else None
        self.distillation_loss_weights = list(weights or [1.0] * len(self.distillation_losses))
        if len(self.distillation_loss_weights) != len(self.distillation_losses):
            raise ValueError(
                f"{self}: {len(self.distillation_losses)} losses need as many `distillation_loss_weights`. "
                f"Got {distillation_loss_weights}."
            )
        self.teacher, self.student, self.student_loss_weight = teacher, student, student_loss_weight
        teacher.trainable = False  # its weights get neither gradients nor slots of the optimizer
        # One model for all layers that losses look at, so that each of the two is computed once in a step.
        self._extractors = [
            _with_layers(model, [getattr(loss, f"{who}_layer_name") for loss in self.distillation_losses])
            for who, model in (("teacher", teacher), ("student", student))
        ]
        self.student_loss_tracker = metrics.Mean(name="student_loss")
        self.distillation_loss_tracker = metrics.Mean(name="distillation_loss")
        self.total_loss_tracker = metrics.Mean(name="total_loss")

    def _check_alike(self, what: str, first, second):
        if first is None or second is None:
            return
        tensors, others = jax.tree.leaves(first), jax.tree.leaves(second)
        # A size that is not known fits any.
        fits = len(tensors) == len(others) and all(
            a.dtype == b.dtype
            and len(a.shape) == len(b.shape)
            and all(None in sizes or len(set(sizes)) == 1 for sizes in zip(a.shape, b.shape))
            for a, b in zip(tensors, others)
        )
        if not fits:
            raise ValueError(f"{self}: teacher and student must have {what} of equal form. Got {first} and {second}.")

    # Keras's arguments, which are not those of its `Model.compile` either.
    def compile(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, optimizer: Any = "adam", loss=None, metrics=None, **kwargs
    ):
        """As `Model.compile`; `loss` is the student's own, without sample weights.

        Raises:
            ValueError: without a loss, or if `metrics` is not a list.
        """
        if loss is None:
            raise ValueError(f"{self}: `loss` must be given: that of the student's outputs and the targets.")
        if metrics is not None and not isinstance(metrics, (list, tuple)):
            raise ValueError(f"{self}: `metrics` must be a list. Got {metrics!r}.")
        # Not for `Model.compile`: the loss of the whole is that of `compute_loss` below.
        self._student_loss = tree.map_structure(losses.get, loss)
        super().compile(optimizer=optimizer, loss=None, metrics=metrics, **kwargs)

    def call(self, inputs, training=None, **kwargs):
        return self.student(inputs, training=training, **kwargs)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training: bool = True):
        y_pred = self(x, training=training) if y_pred is None else y_pred
        student_loss = distillation_loss = jnp.zeros(())
        if self.student_loss_weight > 0 and y is not None:
            student_loss = _total(lambda loss, *pair: loss(*pair), self._student_loss, y, y_pred)
        if self.student_loss_weight < 1:
            teacher, student = self._extractors
            # The teacher as at inference, without dropout; the student's layers as in training.
            taught: dict = teacher(x, training=False) if teacher else {None: self.teacher(x, training=False)}
            learned = student(x, training=True) if student else {}
            for loss, weight in zip(self.distillation_losses, self.distillation_loss_weights, strict=True):
                target = taught.get(loss.teacher_layer_name or _LAST, taught.get(None))
                given = y_pred
                # Without a layer it is the student's outputs that were computed already.
                if loss.teacher_layer_name is not None and student:
                    given = learned[loss.student_layer_name or _LAST]
                loss.validate_outputs(target, given)
                value = loss.compute_loss(target, given)
                if jnp.ndim(value):
                    raise ValueError(f"{type(loss).__name__}: the loss must be a scalar. Got shape {jnp.shape(value)}.")
                distillation_loss = distillation_loss + weight * value
        share = self.student_loss_weight
        total = share * student_loss + (1 - share) * distillation_loss
        for tracker, value in (
            (self.student_loss_tracker, student_loss),
            (self.distillation_loss_tracker, distillation_loss),
            (self.total_loss_tracker, total),
        ):
            tracker.update_state(value)
        return total


_LAST = "final_output"


def _with_layers(model, names: list) -> Model | None:
    """A model that gives the last outputs and those of some layers by name, or `None` if there are none to give."""
    wanted = list(dict.fromkeys(name for name in names if name))
    if not wanted:
        return None
    outputs = model.outputs if len(model.outputs) > 1 else model.outputs[0]
    return Model(model.inputs, {_LAST: outputs, **{name: model.get_layer(name).output for name in wanted}})
