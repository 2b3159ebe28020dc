"""What comes before training, evaluation and prediction: checks, building, losses and metrics, callbacks."""

import jax

from kerax import callbacks as callbacks_module
from kerax import data as data_module
from kerax.core import placement
from kerax.core import scope as scopes
from kerax.core.layer import Layer
from kerax.train import checks, engine
from kerax.train.compiling import CompiledLoss, CompiledMetrics
from kerax.train.state import other_optimizers, state_variables


def require_compiled(model, who: str):
    """Raises `ValueError` unless the model is compiled, with an optimizer for training."""
    model.require_init()
    if not model.compiled:
        raise ValueError(f"{model}: call `compile(optimizer, loss, ...)` before `{who}`.")
    is_plain = hasattr(type(model).train_step, "is_default")
    if model.optimizer is None and is_plain and who in ("fit", "train_on_batch"):
        raise ValueError(f"{model}: `{who}` needs an optimizer. Pass one to `compile`.")


def callback_list(model, callbacks, what: str, verbose, resume=None, **params) -> callbacks_module.CallbackList:
    """The callbacks given, with a progress display, for training a `History`, and one that resumes from a folder."""
    if isinstance(callbacks, callbacks_module.CallbackList):
        if resume is not None:
            raise ValueError("fit: with a `CallbackList`, put a `BackupAndRestore` into it instead of giving `resume`.")
        return callbacks
    given = [] if callbacks is None else list(callbacks) if isinstance(callbacks, (list, tuple)) else [callbacks]
    if what == "fit":
        given.append(callbacks_module.History())
    if not any(isinstance(callback, callbacks_module.ProgbarLogger) for callback in given):
        given.append(callbacks_module.ProgbarLogger(verbose, what))
    if resume is not None:
        given.append(callbacks_module.BackupAndRestore(resume, delete_checkpoint=False))
    steps_per_execution = getattr(model, "steps_per_execution", 1)
    return callbacks_module.CallbackList(
        given, model=model, steps_per_execution=steps_per_execution, verbose=verbose, **params
    )


def validation_source(validation_data, batch_size):
    """The source for `validation_data`, or `None`."""
    if validation_data is None:
        return None
    if isinstance(validation_data, (tuple, list)) and len(validation_data) in (2, 3):
        x, y, *weight = validation_data
        return data_module.make_source(x, y, weight[0] if weight else None, batch_size, who="fit (validation_data)")
    return data_module.make_source(validation_data, batch_size=batch_size, who="fit (validation_data)")


def make_ready(model, batch_spec: tuple, who: str):
    """Builds the model, its losses and metrics for the form of a batch, computing nothing.

    Raises:
        ValueError: if the batch does not fit the model, its losses or its metrics.
    """
    x, y, sample_weight = data_module.unpack_x_y_sample_weight(batch_spec)
    with_loss = model.compiled and who not in ("predict", "predict_on_batch")
    is_new = with_loss and model.compiled_loss is None
    form = "checked", with_loss, engine.batch_form(batch_spec), placement.active()
    if not is_new and form in model._programs and model._ready_layers():
        return
    y_pred = None
    if type(model).call is not Layer.call or hasattr(type(model).train_step, "is_default"):
        y_pred = _outputs_for(model, x)
    model.claim_seeds()
    if is_new:
        build_losses(model, y, y_pred)
        model.output_spec = y_pred
    if with_loss and y is not None and hasattr(type(model).train_step, "is_default"):
        checks.check_targets(model, y, y_pred, sample_weight)
    is_training = who in ("fit", "train_on_batch")
    placement.check(model, placement.global_spec(batch_spec) if is_training else (), who)
    if is_training:
        _build_optimizers(model, batch_spec)
    model._programs[form] = None


def _outputs_for(model, x):
    """Shapes and dtypes of the outputs for the shapes `x`. Builds what is not built."""
    try:
        return model.build_from(x, training=False)
    except jax.errors.ConcretizationTypeError:
        if not model.run_eagerly:
            raise
        return model(jax.tree.map(lambda spec: jax.numpy.zeros(spec.shape, spec.dtype), x), training=False)


def build_losses(model, y, y_pred):
    """Makes the compiled losses and metrics for shapes and dtypes of targets and outputs."""
    arguments = model._compile_arguments
    loss = CompiledLoss(arguments["loss"], arguments["loss_weights"], model.output_names)
    metrics = CompiledMetrics(arguments["metrics"], arguments["weighted_metrics"], model.output_names)
    if y is not None:
        if arguments["loss"] is not None:
            loss.build(y, y_pred)
        metrics.build(y, y_pred)
    elif (
        arguments["loss"] is not None
        and hasattr(type(model).compute_loss, "is_default")
        and hasattr(type(model).train_step, "is_default")
    ):
        raise ValueError(f"{model}: the loss needs targets, and the data has none. Pass `y`.")
    model.compiled_loss, model.compiled_metrics = loss, metrics


def _build_optimizers(model, batch_spec: tuple):
    """Builds optimizers beside the compiled one for the weights that an overridden step gives them: it is followed
    once without values."""
    if all(other.built for other in other_optimizers(model).values()):
        return
    variables = state_variables(model)
    specs = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf._dtype), variables)

    def follow(state, batch):
        owners = zip(jax.tree.leaves(variables), jax.tree.leaves(state), strict=True)
        with scopes.Scope(shapes_only=True), scopes.Scope(owners, jax.random.key(0)):
            model.train_step(state, batch)

    jax.eval_shape(follow, specs, batch_spec)
