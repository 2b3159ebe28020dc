"""`Compiled`: what `compile` was given, with every check of it and every program made of it."""

import warnings
import weakref
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kerax import config
from kerax import losses as losses_module
from kerax import metrics as metrics_module
from kerax.core import placement, sparse, user_code
from kerax.core import scope as scopes
from kerax.core.layer import Layer
from kerax.core.registry import is_serialized
from kerax.core.tracking import descendants, forgetting
from kerax.core.variable import Variable
from kerax.data import BatchSpec, unpack_x_y_sample_weight
from kerax.ops.arrays import check_indices
from kerax.train import steps
from kerax.train.objectives import CHOSEN_BY_SHAPE, CompiledLoss, CompiledMetrics, Part
from kerax.train.program import Program
from kerax.train.programs import predict_program, test_program, train_program
from kerax.train.run_state import RunState
from kerax.train.state import other_optimizers, state_variables

Tree = Any


class Compiled:
    """The optimizer, losses, metrics and programs of a model. One that was not compiled has none but predicts.

    Args:
        arguments: What `compile` was given, by name; `None` for a model that was not compiled.

    Attributes:
        loss: The losses of all outputs, made for the first batch.
        metrics: The metrics of all outputs, likewise.
        output_spec: Shapes and dtypes of the outputs for that batch.
        bad_step: The step that made a number NaN or infinite, -1 before, while a `fit` looks out for it.
        training: The running `fit`.
        programs: Whatever was traced for the model, by kind and form.
        kept: What the last training, evaluation and prediction worked with, by kind.
        readers: Evaluations and predictions under way, of all threads, that hold the weights uncopied.

    Raises:
        ValueError: for an unknown name, with a suggestion.
        TypeError: for a loss or metric that is none, or a weight that is no number.
    """

    def __init__(self, arguments: dict | None = None):
        self.is_given = arguments is not None
        self.arguments = arguments or {}
        self.optimizer: Any = self.arguments.get("optimizer")
        self.micro_batches: int | None = self.arguments.get("micro_batches")
        self.auto_scale_loss: bool = self.arguments.get("auto_scale_loss", True)
        self.loss_tracker = metrics_module.Mean(name="loss")
        wants_norm = self.arguments.get("log_gradient_norm", False)
        self.gradient_norm = metrics_module.Mean(name="gradient_norm") if wants_norm else None
        self.loss: CompiledLoss | None = None
        self.metrics = CompiledMetrics(self.arguments.get("metrics"), self.arguments.get("weighted_metrics"))
        self.output_spec: Tree = None
        self.bad_step: Variable | None = None
        self.training: Any = None
        self.programs: dict = {}
        self.kept: dict[str, RunState] = {}
        self.readers: weakref.WeakSet = weakref.WeakSet()
        self._target_spec: Tree = None
        self._checked: set = set()
        self._code: tuple | None = None  # of the user's, that the programs were made from
        self._own_tell_rows_apart: bool | None = None
        self._mixes_rows = False  # whether what a row gives depends on others of the batch
        if self.is_given:
            self._check_arguments()

    def __getstate__(self) -> dict:
        """What copies and pickles take along: everything but programs and the running `fit`."""
        return vars(self) | {
            "programs": {},
            "training": None,
            "kept": {},
            "readers": None,
            "_checked": set(),
            "_code": None,
        }

    def __setstate__(self, state: dict):
        vars(self).update(state)
        self.readers = weakref.WeakSet()

    def forget(self):
        """Drops everything that was traced: the model is another one now."""
        self.programs, self._checked, self.kept = {}, set(), {}

    def _check_arguments(self):
        given = self.arguments
        at_least = given["steps_per_execution"]
        if at_least != "auto" and (not isinstance(at_least, int) or at_least < 1):
            raise ValueError(f"compile: `steps_per_execution` must be at least 1. Got {at_least!r}.")
        check_numbers("compile", micro_batches=(self.micro_batches, 1))
        for weight in jax.tree.leaves(given["loss_weights"]):
            if not isinstance(weight, (int, float, np.number, jax.Array)):
                raise TypeError(
                    f"compile: `loss_weights` must hold numbers. Got {weight!r}. "
                    "Metrics are the argument `metrics`, which comes after `loss_weights`."
                )
        wanted = (
            (given["loss"], losses_module.get),
            ((given["metrics"], given["weighted_metrics"]), metrics_module.get),
        )
        for identifiers, get in wanted:
            for identifier in jax.tree.leaves(identifiers, is_leaf=is_serialized):
                is_chosen = isinstance(identifier, str) and identifier.lower() in CHOSEN_BY_SHAPE
                if not callable(identifier) and not is_chosen:
                    get(identifier)

    def config(self) -> dict:
        """The arguments of `compile` that a file keeps; those that Keras does not know only if they were given."""
        own = ("micro_batches", "log_gradient_norm")
        left_out = [name for name in own if not self.arguments[name]] + ["auto_scale_loss"]
        return {name: value for name, value in self.arguments.items() if name not in left_out}

    def own_metrics(self) -> list:
        """The mean loss, the compiled metrics as one, and the outputs' losses."""
        found: list = [self.loss_tracker] if self.is_given else []
        if jax.tree.leaves(list(self.metrics.given.values())):
            found.append(self.metrics)
        return found + ([] if self.loss is None else list(self.loss.trackers.values()))

    # What comes before training, evaluation and prediction.

    def require(self, model, who: str):
        """Raises `ValueError` unless the model is compiled, with an optimizer for training."""
        if not self.is_given:
            raise ValueError(f"{model}: call `compile(optimizer, loss, ...)` before `{who}`.")
        if self.optimizer is None and not steps.overrides(model, "train_step") and who in ("fit", "train_on_batch"):
            raise ValueError(f"{model}: `{who}` needs an optimizer. Pass one to `compile`.")

    def make_ready(self, model, spec: BatchSpec, who: str):
        """Builds the model, its losses and metrics for the form of a batch, computing nothing.

        Raises:
            ValueError: if the batch does not fit the model, its losses or its metrics.
        """
        if user_code.may_change():
            self._notice_new_code(model)
        with_loss = self.is_given and who not in ("predict", "predict_on_batch")
        # Losses and metrics are made for the first batch, whose shapes decide what "accuracy" means.
        is_new = with_loss and self.loss is None
        kind = with_loss, spec, placement.active()
        is_built = all(child.built for child in descendants(model) if isinstance(child, Layer))
        # Each form of batch is looked at once; `fit` in a loop over small data pays nothing.
        if is_new or kind not in self._checked or not is_built:
            with forgetting():  # layers are built here
                self._make_ready(model, spec.arrays, who, with_loss, is_new, is_built)
            self._checked.add(kind)

    def _notice_new_code(self, model):
        before, given = self._code, jax.tree.leaves(list(self.arguments.values()))
        self._code = user_code.code_of([*descendants(model), *given])
        if before is not None and self._code != before:
            self.forget()

    def _make_ready(self, model, batch_spec: tuple, who: str, with_loss: bool, is_new: bool, is_built: bool):
        x, y, sample_weight = unpack_x_y_sample_weight(sparse.opened(batch_spec))
        own_step, y_pred = steps.overrides(model, "train_step"), None
        is_measured = jax.tree.leaves([self.arguments.get(name) for name in ("loss", "metrics", "weighted_metrics")])
        # A step of one's own may feed `call` otherwise: it is asked only to build, or for what was given to `compile`.
        if not own_step or (type(model).call is not Layer.call and (is_measured or not is_built)):
            y_pred = _outputs_for(model, x)
            if y_pred is None and not {"train_step", "test_step", "predict_step"} & steps.overridden(model):
                raise ValueError(f"{model}: `call` returned nothing. End it with `return` and the outputs.")
        model.kerax_claim_seeds()
        if is_new:
            self.build_losses(model, y, y_pred)
        if with_loss and not own_step and (y is not None or steps.overrides(model, "compute_loss")):
            self._follow(model, x, y, y_pred, sample_weight)
        is_training = who in ("fit", "train_on_batch")
        placement.check(model, batch_spec if is_training else (), who)
        if is_training:
            _build_optimizers(model, batch_spec)

    def build_losses(self, model, y, y_pred):
        """Makes losses and metrics for shapes and dtypes of targets and outputs."""
        given, names = self.arguments, model.kerax_output_names
        loss = CompiledLoss(given["loss"], given["loss_weights"], names)
        metrics = self.metrics = CompiledMetrics(given["metrics"], given["weighted_metrics"], names)
        if y is not None:
            if given["loss"] is not None and not steps.overrides(model, "compute_loss"):
                try:
                    loss.build(y, y_pred)
                except ValueError:
                    # A step of the model's own may have others: they are made when it calls them.
                    if not steps.overrides(model, "train_step"):
                        raise
            metrics.build(y, y_pred, [part.name for part in loss.parts])
        elif given["loss"] is not None and not {"compute_loss", "train_step"} & steps.overridden(model):
            raise ValueError(f"{model}: the loss needs targets, and the data has none. Pass `y`.")
        self.loss, self.output_spec, self._target_spec = loss, y_pred, y

    def _follow(self, model, *data):
        """Raises what losses and metrics raise for data of these shapes, before anything is compiled.

        What a `compute_loss` of the model's own calls the compiled losses on decides what these are.
        """
        is_own = steps.overrides(model, "compute_loss")

        def update_all(x, y, y_pred, sample_weight):
            with scopes.Scope(key=jax.random.key(0), shapes_only=True):
                if is_own:
                    steps.loss_of(model, x, y, y_pred, sample_weight, training=True)
                elif self.loss is not None and self.loss.parts:
                    self.loss(y, y_pred, sample_weight)
                if y is not None:
                    self.metrics.update_state(y, y_pred, sample_weight)

        try:
            jax.eval_shape(update_all, *data)
        except Exception:
            # Step by step, it may do whatever Python can.
            if not (is_own and model.run_eagerly):
                raise

    def check_values(self, model, source, who: str = "fit"):
        """Raises `ValueError` if labels of a sparse crossentropy are outside the range of classes, or integers that
        the model looks up outside that of their table.

        Of a source of batches only the first batch is looked at.
        """
        x, y, _ = unpack_x_y_sample_weight(source.sample())
        for table, indices in model.kerax_looked_up(x):
            if isinstance(indices, (np.ndarray, jax.Array)):
                check_indices(f"{who}: {table}", "a table", indices, table.input_dim)
        if self.loss is None or y is None or not any(map(_takes_labels, self.loss.parts)):
            return
        for part, labels, outputs, _ in self.loss.arguments(y, self.output_spec):
            if not _takes_labels(part):
                continue
            name, labels, num_classes = part.name, np.asarray(labels), outputs.shape[-1]
            ignored = getattr(part.loss, "ignore_class", None)
            if ignored is not None:
                labels = labels[labels != ignored]
            if labels.size and (labels.min() < 0 or labels.max() >= num_classes):
                raise ValueError(
                    f"{who}: labels must be in [0, {num_classes}) for the {num_classes} classes of output {name!r}. "
                    f"Got labels from {labels.min()} to {labels.max()}. Renumber them, or give the last layer more "
                    "units."
                )

    # Programs.

    def train_program(self, model, state: RunState, spec: BatchSpec) -> Program:
        """The program that trains on batches of this form, traced once."""
        form = self._form(model, spec, state.frozen)
        if not self._has("train", state, form):
            with forgetting():
                self._add("train", state, form, train_program(model, state.variables, spec))
        return state.programs[form]

    def test_program(self, model, state: RunState, source) -> Program:
        """The program that evaluates the batches of a source.

        Of a last, smaller batch that is filled up only the rows count that are its own, where the model, losses and
        metrics tell rows apart; else that batch has a program of its own.
        """
        if not self._mixes_rows and self._tells_rows_apart(model) and not steps.goes_on(model):
            try:
                return self.test_program_for(model, state, source.spec(True), True)
            except steps.RowsMixed:
                self._mixes_rows = True
        return self.test_program_for(model, state, source.spec(False), False)

    def test_program_for(self, model, state: RunState, spec: BatchSpec, fills_up: bool) -> Program:
        """The program that evaluates batches of this form."""
        form = self._form(model, spec, fills_up)
        if not self._has("test", state, form):
            with forgetting():
                self._add("test", state, form, test_program(model, state.variables, spec, fills_up))
        return state.programs[form]

    def predict_program(self, model, state: RunState, spec: BatchSpec) -> Program:
        """The program that predicts for batches of this form."""
        form = self._form(model, spec)
        if not self._has("predict", state, form):
            with forgetting():
                self._add("predict", state, form, predict_program(model, state.variables, spec))
        return state.programs[form]

    def _form(self, model, *rest) -> tuple:
        return *rest, model.run_eagerly, placement.active(), config.compatibility()

    def _has(self, kind: str, state: RunState, form: tuple) -> bool:
        """Whether there is a program; also one that was made for a state of before of the same form."""
        if form not in state.programs:
            known = self.programs.get(_key(kind, state, form))
            if known is None:
                return False
            state.programs[form] = known
        return True

    def _add(self, kind: str, state: RunState, form: tuple, program: Program):
        self.programs[_key(kind, state, form)] = state.programs[form] = program

    def _tells_rows_apart(self, model) -> bool:
        """Whether all that is evaluated of a batch is a sum or mean of something of each row."""
        if model.run_eagerly or {"test_step", "compute_loss", "compute_metrics"} & steps.overridden(model):
            return False
        # Metrics of layers are updated inside the call, with all rows.
        others = {id(metric) for metric in model.metrics} ^ {id(metric) for metric in self.own_metrics()}
        if self._target_spec is None or others - {id(self.gradient_norm)}:
            return False
        if self._own_tell_rows_apart is None:  # asked at each evaluation, found out by following them without values
            parts = (part for part in (self.loss, self.metrics) if part is not None)
            self._own_tell_rows_apart = all(
                part.tells_rows_apart(self._target_spec, self.output_spec) for part in parts
            )
        return self._own_tell_rows_apart


def _key(kind: str, state: RunState, form: tuple) -> tuple:
    # By shapes and dtypes too: a layer may be built anew, or cast, under the same name.
    specs = tuple((leaf.shape, leaf.stored_dtype) for leaf in state.carried.owners)
    return kind, jax.tree.structure(state.variables), specs, *form


def _takes_labels(part: Part) -> bool:
    loss = part.loss
    return (
        isinstance(loss, losses_module.SparseCategoricalCrossentropy)
        or getattr(loss, "fn", None) is losses_module.sparse_categorical_crossentropy
    )


def _outputs_for(model, x):
    """Shapes and dtypes of the outputs for the shapes `x`. Builds what is not built."""
    try:
        return model.kerax_build_from(x, training=False)
    except Exception:
        # Step by step, `call` may do whatever Python can.
        if not model.run_eagerly:
            raise
        return model(jax.tree.map(lambda spec: jnp.zeros(spec.shape, spec.dtype), x), training=False)


def _build_optimizers(model, batch_spec: tuple):
    """Builds optimizers beside the compiled one for the weights that an overridden step gives them: it is followed
    once without values."""
    if all(other.built for other in other_optimizers(model).values()):
        return
    variables = state_variables(model)
    specs = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.stored_dtype), variables)

    def follow(state, batch):
        owners = zip(jax.tree.leaves(variables), jax.tree.leaves(state), strict=True)
        with scopes.Scope(shapes_only=True), scopes.Scope(owners, jax.random.key(0)):
            model.train_step(state, batch)

    jax.eval_shape(follow, specs, batch_spec)


# Checks of arguments.


def check_numbers(who: str, **arguments):
    """Raises `ValueError` for an argument, given as (value, least), that is neither `None` nor an integer in range."""
    for name, (value, least) in arguments.items():
        if value is not None and (not isinstance(value, (int, np.integer)) or value < least):
            raise ValueError(f"{who}: `{name}` must be an integer of at least {least}. Got {value!r}.")


def check_validation_arguments(validation_split, validation_freq):
    """Raises `ValueError` for a fraction or frequency out of range."""
    if not 0 <= validation_split < 1:
        raise ValueError(f"fit: `validation_split` must be in [0, 1). Got {validation_split!r}.")
    epochs = [validation_freq] if isinstance(validation_freq, (int, np.integer)) else validation_freq
    if isinstance(epochs, str) or not all(isinstance(epoch, (int, np.integer)) and epoch >= 1 for epoch in epochs):
        raise ValueError(
            f"fit: `validation_freq` must be an integer of at least 1, or a list of epochs. Got {validation_freq!r}."
        )


def within_max_epochs(epochs: int) -> int:
    """The number of the last epoch, at most `config.max_epochs()`; says so where that is less."""
    most = config.max_epochs()
    if most is None or most >= epochs:
        return epochs
    warnings.warn(f"`config.set_max_epochs` limits the {epochs} epochs to {most}.", stacklevel=3)
    return most


def within_max_steps(model, steps: int | None, source) -> int | None:
    """The steps over a source: whole executions of `steps_per_execution`, which Keras does not cut either, and at most
    `config.max_steps_per_epoch()`; says so where that is less.

    Args:
        model: The model, which may have `steps_per_execution`.
        steps: The steps asked for; `None` for all there are.
        source: The source of batches, or `None`.
    """
    per_execution = getattr(model, "steps_per_execution", None)
    if steps is not None and isinstance(per_execution, int):
        steps = -(-steps // per_execution) * per_execution
    most = config.max_steps_per_epoch()
    planned = steps or (source.num_batches if source is not None else 0)
    if most is None or (planned is not None and planned <= most):
        return steps
    warnings.warn(f"`config.set_max_steps_per_epoch` limits the steps to {most} of {planned or '?'}.", stacklevel=3)
    return most
