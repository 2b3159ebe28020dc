"""`Model`: a layer that can be compiled, trained, evaluated and saved. Training itself is in `kerax.train`."""

import json
import operator
import os
from collections.abc import Callable, Collection
from typing import IO, Any, Self, cast

import jax
import numpy as np
import optax

from kerax import metrics as metrics_module
from kerax import optimizers as optimizers_module
from kerax import saving
from kerax.callbacks.callback_list import for_call
from kerax.callbacks.history import History
from kerax.core import calling, seeds, switches
from kerax.core.layer import Layer
from kerax.core.registry import Family, deserialize_keras_object, serialize_keras_object
from kerax.core.symbolic import KerasTensor, is_shape
from kerax.core.tracking import Alias, Memory, aliases, descendants, remembering
from kerax.core.variable import Variable, unwrap
from kerax.data import BatchSpec, array_source, make_source, unpack_x_y_sample_weight, validation_source
from kerax.data.shares import of_all
from kerax.errors import check_choice, suggest
from kerax.models import generating, outward, quantizing, stateless
from kerax.models.summary import print_summary, summary_html
from kerax.tracebacks import hide_library_frames
from kerax.train import keras_state, loop, steps
from kerax.train.compiled import (
    Compiled,
    check_numbers,
    check_validation_arguments,
    within_max_epochs,
    within_max_steps,
)
from kerax.train.state import TrainState, each_metric, metrics_of
from kerax.train.training import Training

Path = str | os.PathLike | IO[bytes]
OptimizerLike = str | dict | optimizers_module.Optimizer | optax.GradientTransformation | optax.MultiSteps
MODELS = Family("models", "model", module="keras")


class Model(Layer):
    """A model: `Model(inputs, outputs)` from a graph of symbolic tensors, or a subclass with `call`.

    Args:
        inputs: `Input`s as one tensor, a list, tuple or dict.
        outputs: Tensors computed from them, in the same forms.
        name: Default: the class name in snake case.
    """

    # Their variables are no weights.
    _untracked = Layer._untracked | frozenset({"kerax_compilation", "history", "_random_key"})
    kerax_output_names: list[str] | None = None
    loss: Any = None
    compilation, passes, inferences = Alias("kerax_compilation"), Alias("kerax_passes"), Alias("kerax_inferences")

    def __new__(cls, *args, **kwargs) -> Self:
        # Looked up by name: `functional` imports this module.
        if cls is Model and (args or "inputs" in kwargs):
            return MODELS.entries["Functional"](*args, **kwargs)
        return super().__new__(cls, *args, **kwargs)

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if cls.__module__.startswith("kerax."):
            MODELS.add(cls)

    def __init__(self, *args, trainable: bool = True, name: str | None = None, dtype=None, **kwargs):
        if args or "inputs" in kwargs:
            functional = MODELS.entries["Functional"]
            functional.adopt(type(self))
            functional.__init__(self, *args, name=name, trainable=trainable, dtype=dtype, **kwargs)
            return
        super().__init__(trainable=trainable, name=name, dtype=dtype, **kwargs)
        # Before `compile` too: `predict` needs programs, and nothing else of it.
        self.kerax_compilation = Compiled()
        self.stop_training = self.stop_evaluating = self.stop_predicting = False  # a hook sets one to end the loop
        self.run_eagerly, self.jit_compile, self.steps_per_execution = False, True, 1
        self.history: Any = None
        self.kerax_passes = 0  # over the training data so far: with the seed, what orders the next one
        self.kerax_memory = Memory()
        self.kerax_inferences = 0  # evaluations and predictions so far, each with random draws of its own
        self._random_key: Variable | None = None

    @classmethod
    def from_config(cls, config: dict, custom_objects: dict | None = None) -> "Model":
        """The model that `get_config` described: by its graph, if it has one, else by the constructor's arguments."""
        functional = MODELS.entries["Functional"]
        if functional.is_graph(config) and functional.is_made_of_tensors(cls):
            return functional.from_graph(config, custom_objects, functional if cls is Model else cls)
        return super().from_config(config)

    def kerax_used_inputs(self, x, call=operator.call) -> Any:
        """What the model's steps get of the inputs `x`, of all or of a batch. Default: all, as it is.
        `call` makes the calls that read text; with one that records them, `x` may be symbolic."""
        return x

    def kerax_sparse_inputs(self, x) -> list:
        """The leaves of the inputs `x` that the model takes as sparse arrays. Default: none."""
        return []

    @property
    def _reading(self) -> dict[str, Any]:
        return {"prepare": self.kerax_used_inputs, "sparse_inputs": self.kerax_sparse_inputs}

    def kerax_looked_up(self, x) -> list[tuple[Layer, Any]]:
        """The tables that read inputs as they are, and what of the inputs `x` they look up, where that is known."""
        return []

    # Structure.

    @property
    def layers(self) -> list[Layer]:
        """The layers directly inside this model."""
        return [child for _, child in self._children() if isinstance(child, Layer)]

    def get_layer(self, name: str | None = None, index=None) -> Layer:
        """The layer of that name or index. Raises `ValueError` if there is none."""
        if (name is None) == (index is None):
            raise ValueError(f"{self}: give either `name` or `index` to get_layer.")
        layers = self.layers
        if index is not None:
            if not -len(layers) <= index < len(layers):
                raise ValueError(f"{self}: no layer {index}; there are {len(layers)}.")
            return layers[index]
        # A layer that another model shares may have got another name there: here it keeps that of its path.
        by_path = [child for path, child in self._children() if path == (name,) and isinstance(child, Layer)]
        for layer in [*(layer for layer in layers if layer.name == name), *by_path]:
            return layer
        names = [layer.name for layer in layers]
        raise ValueError(f"{self}: no layer {name!r}.{suggest(name, names)} Layers: {', '.join(names)}.")

    @calling.follows_call
    def build(self, input_shape):
        """Builds every layer for an input shape (with the batch size or `None` first), or a list or dict of them."""
        self.built = True
        tensors = jax.tree.map(lambda shape: KerasTensor(shape, self.compute_dtype), input_shape, is_leaf=is_shape)
        dtypes = self.kerax_build_dtypes  # of the inputs that the model was saved with
        if dtypes is not None:
            tensors = jax.tree.map(lambda tensor, dtype: KerasTensor(tensor.shape, dtype), tensors, dtypes)
        unbuilt = [child for child in descendants(self) if isinstance(child, Layer) and not child.built]
        if unbuilt and jax.tree.leaves(tensors):
            try:
                self.kerax_build_from(tensors)
            except jax.errors.JAXTypeError:
                pass  # a `call` that looks at values builds its layers as it runs
        self.kerax_claim_seeds()

    def summary(
        self,
        line_length=None,
        positions=None,
        print_fn=None,
        expand_nested: bool = False,
        show_trainable: bool = False,
        layer_range=None,
        show_flops: bool = False,
    ):
        """Prints a table of the layers: output shapes, parameters, connections, with `show_trainable` who is trained.

        Args:
            line_length: Width of the table in characters.
            positions: Ignored; the columns fit what they hold.
            print_fn: Function that receives the text. Default: printing.
            expand_nested: Whether to list the layers of models inside this one.
            show_trainable: Whether to say which layers are trained.
            layer_range: Names (regular expressions) of the first and last layer to list.
            show_flops: Whether to show the floating-point operations of a forward pass per example, by XLA's count.
                Keras has no such argument.
        """
        print_summary(self, line_length, print_fn, expand_nested, show_trainable, layer_range, show_flops)

    def _repr_html_(self) -> str:
        return summary_html(self)

    # Compilation.

    def compile(
        self,
        optimizer: OptimizerLike | None = "rmsprop",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        jit_compile: bool | str = "auto",
        auto_scale_loss: bool = True,
        micro_batches: int | None = None,
        log_gradient_norm: bool = False,
        dtype: Any = None,
    ):
        """Sets what `fit` minimises, with what, and what it reports.

        Args:
            optimizer: Name, `Optimizer`, config, or any optax transformation.
            loss: Name, `Loss` or function of (y_true, y_pred); a list or dict for several outputs.
            loss_weights: Weights of the outputs' losses.
            metrics: Names, `Metric`s or functions that ignore sample weights; `"accuracy"` picks its kind from shapes.
            weighted_metrics: Likewise, using sample weights.
            run_eagerly: Whether to run the step as plain Python, for debugging.
            steps_per_execution: Least number of batches between two calls of callbacks' batch hooks. The number of
                steps per dispatch is chosen by the engine.
            jit_compile: `False` is the same as `run_eagerly=True`.
            auto_scale_loss: Whether an optimizer's loss scale is applied to the loss.
            micro_batches: Parts that each batch is cut into, worked off one after the other with the memory of one;
                their gradients are averaged into one update, that of the whole batch.
            log_gradient_norm: Whether the logs get `gradient_norm`, the mean L2 norm of all gradients together.
            dtype: Dtype policy, such as `"mixed_bfloat16"`, for the model and its layers but those with another one
                than the model's. Default: as they are. Keras has no such argument.

        Raises:
            ValueError: for an unknown name, with a suggestion, and a `dtype` that weights do not have.
        """
        self.kerax_require_init()
        if dtype is not None:
            quantizing.take_policy(self, dtype)
        found: Any = optimizers_module.get(optimizer)
        if auto_scale_loss:
            # float16 cannot hold small gradients: it gets a loss scale unless told otherwise.
            found = optimizers_module.for_policy(found, self.dtype_policy)
        self.kerax_compilation = Compiled(
            {
                "optimizer": found,
                "loss": loss,
                "loss_weights": loss_weights,
                "metrics": metrics,
                "weighted_metrics": weighted_metrics,
                "run_eagerly": run_eagerly,
                "steps_per_execution": steps_per_execution,
                "jit_compile": jit_compile,
                "auto_scale_loss": auto_scale_loss,
                "micro_batches": micro_batches,
                "log_gradient_norm": log_gradient_norm,
            }
        )
        self.loss, self.steps_per_execution = loss, steps_per_execution
        self.run_eagerly = run_eagerly or jit_compile is False  # users set it after `compile`, too
        self.jit_compile = not self.run_eagerly
        self.stop_training = False

    @property
    def compiled(self) -> bool:
        """Whether `compile` was called."""
        return self.kerax_compilation.is_given

    @property
    def optimizer(self):
        """The optimizer that `compile` was given, or that was assigned."""
        return self.kerax_compilation.optimizer

    @optimizer.setter
    def optimizer(self, optimizer):
        self.kerax_compilation.optimizer = optimizer

    def get_compile_config(self) -> dict | None:
        """The arguments of `compile`, JSON-able."""
        return serialize_keras_object(self.kerax_compilation.config()) if self.compiled else None

    def compile_from_config(self, config: dict):
        """Compiles as `get_compile_config` described; only warns where a user's `compile` takes other arguments."""
        if steps.takes_compile_arguments(self, Model, config):
            self.compile(**deserialize_keras_object(config))
        if self.optimizer is not None and self.built:  # so that the loader can fill its state before the first step
            self.optimizer.build(self.trainable_variables)

    @property
    def kerax_random_key(self) -> Variable:
        """The key from which every training step's is made: uint32 (stream 0, seed, number of steps so far)."""
        if self._random_key is None:
            start = np.array([0, seeds.make_seed(), 0], np.uint32)
            self._random_key = Variable(start, trainable=False, autocast=False, name="random_key")
        return self._random_key

    metrics = property(metrics_of)

    @property
    def metrics_names(self) -> list[str]:
        """The names of the metrics."""
        return [self.kerax_log_name(metric) for metric in each_metric(self)]

    def kerax_log_name(self, metric: metrics_module.Metric) -> str:
        """The name of a metric in the logs: its own, after the output's if there are several."""
        return self.kerax_compilation.metrics.log_name(metric)

    @property
    def metrics_variables(self) -> list[Variable]:
        """The variables of all metrics."""
        return [variable for metric in self.metrics for variable in metric.variables]

    # The step, for overriding.

    train_function = test_function = predict_function = None
    make_train_function = steps.make_train_function
    make_test_function = steps.make_test_function
    make_predict_function = steps.make_predict_function
    train_step = steps.train_step
    test_step = steps.test_step
    predict_step = steps.predict_step
    compute_loss = steps.compute_loss
    compute_metrics = steps.compute_metrics
    reset_metrics = steps.reset_metrics
    stateless_compute_loss = stateless.stateless_compute_loss
    compute_loss_and_updates = stateless.compute_loss_and_updates

    def jax_state_sync(self):
        """Nothing: whatever runs, variables read as they are at that moment."""

    def get_metrics_result(self) -> dict:
        """`{name: result}` of every metric; a metric whose result is a dict adds its entries."""
        results = {}
        for metric in self.metrics:
            result = jax.tree.map(unwrap, metric.result())
            results.update(result if isinstance(result, dict) else {self.kerax_log_name(metric): result})
        return results

    def bind_state(self, state: TrainState, key=None):
        """A pure scope, to be opened by `with`, in which variables and metrics have the values of `state`."""
        return steps.bind(self, state, key)

    # Training.

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: int | str = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        class_weight: dict[int, float] | None = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: int | Collection[int] = 1,
        overfit_batches: int | None = None,
        limit_batches: int | None = None,
        resume: str | os.PathLike | None = None,
    ) -> History:
        """Trains the model. Keras's arguments and meaning.

        Args:
            x: Inputs: a pytree of arrays or frames with one row per sample, or a source of batches
                `(x, y)` / `(x, y, sample_weight)`: a generator, a `PyDataset`, any re-iterable.
            y: Targets, in the same forms.
            batch_size: Rows per step, 32 by default.
            epochs: Number of the last epoch.
            verbose: 0 silent, 1 bar, 2 a line per epoch, `"auto"` what fits the output.
            callbacks: `Callback`s.
            validation_split: Fraction of the last rows held out for validation.
            validation_data: `(x, y)`, `(x, y, sample_weight)`, or a source of batches.
            shuffle: Whether each pass has its own order.
            class_weight: `{class index: weight}`, which validation does without.
            sample_weight: One weight per row.
            initial_epoch: Epoch to start from.
            steps_per_epoch: Batches per epoch.
            validation_steps: Batches per validation.
            validation_batch_size: Default: `batch_size`.
            validation_freq: Every how many epochs to validate, or the epochs after which to.
            overfit_batches: For debugging: train on this many first batches only, in the same order each epoch, and
                validate on them.
            limit_batches: For debugging: the most batches of an epoch and of a validation.
            resume: Folder in which the run is saved after each epoch and when it is interrupted. If there is a saved
                run in it, training goes on from there, exactly. `BackupAndRestore` has more options.

        Returns: the `History`.

        Raises:
            ValueError: before anything is compiled, for data, targets or arguments that do not fit.
        """
        if switches.are_on():
            return switches.call_without(Model.fit, locals())
        self.kerax_require_init()
        compilation = self.kerax_compilation
        compilation.require(self, "fit")
        check_numbers(
            "fit",
            epochs=(epochs, 0),
            initial_epoch=(initial_epoch, 0),
            steps_per_epoch=(steps_per_epoch, 1),
            validation_steps=(validation_steps, 1),
            overfit_batches=(overfit_batches, 1),
            limit_batches=(limit_batches, 1),
        )
        check_validation_arguments(validation_split, validation_freq)
        # Given validation data count, not the fraction.
        is_split = validation_data is None and validation_split > 0
        # Class weights after the split: validation does without.
        source = make_source(x, y, sample_weight, batch_size, None if is_split else class_weight, **self._reading)
        if is_split:
            source, held_out = source.split(validation_split)
            source = cast(Any, source).with_class_weight(class_weight)  # only rows can be split
        else:
            size = batch_size if validation_batch_size is None else validation_batch_size
            held_out = validation_source(validation_data, size, **self._reading)
        if overfit_batches is not None:
            source, shuffle = source.head(overfit_batches), False
            held_out = None if held_out is None else source
        if limit_batches is not None:
            steps_per_epoch = min(limit_batches, steps_per_epoch or source.num_batches or limit_batches)
            validation_steps = min(limit_batches, validation_steps or limit_batches)
        epochs = within_max_epochs(epochs)
        steps_per_epoch = within_max_steps(self, steps_per_epoch, source)
        validation_steps = within_max_steps(self, validation_steps, held_out)
        # Before callbacks begin: what does not fit is said before anything is compiled or written.
        compilation.make_ready(self, source.spec(False), "fit")
        compilation.check_values(self, source)
        # A source of batches is looked at when its turn comes: taking one now would use it up.
        if held_out is not None and held_out.rows is not None:
            compilation.make_ready(self, held_out.spec(False), "fit (validation_data)")
            compilation.check_values(self, held_out, "fit (validation_data)")
        num_steps = source.num_batches if steps_per_epoch is None else steps_per_epoch
        watching = for_call(self, callbacks, "fit", verbose, resume, epochs=epochs, steps=num_steps)
        validate: Any = None
        if held_out is not None and steps.is_own(self, "evaluate", Model):
            validate = self._own_evaluation(held_out, watching, validation_steps)
        elif held_out is not None:
            validate = loop.Evaluation(self, held_out, watching, validation_steps)
        self.stop_training = False
        # Only where a callback wants to know: the check is part of the program.
        compilation.bad_step = Variable(-1, dtype="int32", trainable=False) if watching.guards_numbers else None
        try:
            training = Training(self, source, watching, epochs, initial_epoch, steps_per_epoch, shuffle)
            loop.fit(training, validate, validation_freq)
        except Exception as error:
            hide_library_frames(error)
            raise
        finally:
            compilation.bad_step = None
            if isinstance(validate, loop.Evaluation):
                validate.close()
            watching.close()
        return self.history

    def _own_evaluation(self, source, callbacks, steps: int | None) -> Callable[[], dict]:
        """A function that evaluates by an `evaluate` of the model's own."""
        x, y, sample_weight = (
            (source.batches, None, None) if source.rows is None else unpack_x_y_sample_weight(source.rows)
        )
        named = {"x": x, "y": y, "sample_weight": sample_weight, "steps": steps, "callbacks": callbacks}
        size = getattr(source, "batch_size", None)
        return lambda: self.evaluate(**named, batch_size=size, return_dict=True)

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: int | str = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        callbacks: Any = None,
        return_dict: bool = False,
        **kwargs,
    ) -> Any:
        """Loss and metrics over data, as a list in the order of `metrics_names`, or a dict. Arguments as in `fit`."""
        if switches.are_on():
            return switches.call_without(Model.evaluate, locals())
        if kwargs:
            raise TypeError(f"evaluate: unknown argument {next(iter(kwargs))!r}.")
        self.kerax_compilation.require(self, "evaluate")
        check_numbers("evaluate", steps=(steps, 1))
        source = make_source(x, y, sample_weight, batch_size, who="evaluate", **self._reading)
        self.kerax_compilation.make_ready(self, source.spec(False), "evaluate")
        self.kerax_compilation.check_values(self, source, "evaluate")
        steps = within_max_steps(self, steps, source)
        watching = for_call(self, callbacks, "evaluate", verbose, epochs=1, steps=steps or source.num_batches)
        evaluation = loop.Evaluation(self, source, watching, steps)
        try:
            logs = dict(evaluation())
        except Exception as error:
            hide_library_frames(error)
            raise
        finally:
            evaluation.close()
            if watching is not callbacks:  # not that of a `fit` around
                watching.close()
        return self._returned(logs, self.metrics_names, return_dict)

    plan, export, generate = outward.plan, outward.export, generating.generate

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: int | str = "auto",
        steps: int | None = None,
        callbacks: Any = None,
    ) -> Any:
        """The outputs for all rows of `x`, as NumPy arrays."""
        if switches.are_on():
            return switches.call_without(Model.predict, locals())
        check_numbers("predict", steps=(steps, 1))
        source = make_source(x, batch_size=batch_size, who="predict", **self._reading)
        self.kerax_compilation.make_ready(self, source.spec(False), "predict")
        self.kerax_compilation.check_values(self, source, "predict")
        steps = within_max_steps(self, steps, source)
        watching = for_call(self, callbacks, "predict", verbose, epochs=1, steps=steps or source.num_batches)
        try:
            return loop.predict(self, source, watching, steps)
        except Exception as error:
            hide_library_frames(error)
            raise
        finally:
            watching.close()

    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: dict[int, float] | None = None,
        return_dict: bool = False,
    ) -> Any:
        """One step on one batch. Returns the loss and the metrics of this batch alone."""
        if switches.are_on():
            return switches.call_without(Model.train_on_batch, locals())
        with remembering():
            batch = self._batch(x, y, sample_weight, class_weight, "train_on_batch")
            return self._returned(*loop.train_on_batch(self, *batch), return_dict)

    def test_on_batch(self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False) -> Any:
        """Loss and metrics of one batch alone."""
        if switches.are_on():
            return switches.call_without(Model.test_on_batch, locals())
        with remembering():
            batch = self._batch(x, y, sample_weight, None, "test_on_batch")
            return self._returned(*loop.test_on_batch(self, *batch), return_dict)

    @staticmethod
    def _returned(logs: dict, names: list[str], return_dict: bool):
        """Logs as a dict, a list in the order of the metrics' names, or the only number."""
        if return_dict:
            return logs
        in_order = {name: logs[name] for name in names if name in logs} | logs
        return list(in_order.values()) if len(logs) > 1 else next(iter(logs.values()))

    def _batch(self, x, y, sample_weight, class_weight, who: str) -> tuple[tuple, BatchSpec]:
        if who != "predict_on_batch":
            self.kerax_compilation.require(self, who)
        # One batch of all rows, however many.
        source = array_source(self.kerax_used_inputs(x), y, sample_weight, 2**31 - 1, class_weight, who)
        spec = BatchSpec(source.rows)
        self.kerax_compilation.make_ready(self, of_all(spec), who)
        self.kerax_compilation.check_values(self, source, who)
        return source.rows, spec

    def predict_on_batch(self, x: Any) -> Any:
        """The outputs for one batch, as NumPy arrays."""
        if switches.are_on():
            return switches.call_without(Model.predict_on_batch, locals())
        with remembering():
            return loop.predict_on_batch(self, *self._batch(x, None, None, None, "predict_on_batch"))

    def get_state_tree(self, value_format: str = "backend_tensor") -> TrainState:
        """The current training state: copies, in the form that `train_step` takes, and by name in that of Keras:
        `tree["trainable_variables"]["dense"]["kernel"]`.

        Args:
            value_format: `"backend_tensor"`, or `"numpy_array"`.
        """
        check_choice(self, "value_format", value_format, ("backend_tensor", "numpy_array"))
        return keras_state.state_of(self, on_host=value_format == "numpy_array")

    def set_state_tree(self, state_tree: TrainState | dict):
        """Puts a training state back, or what a dict in Keras's form has of it; `ValueError` if it does not fit."""
        keras_state.put_state(self, state_tree)

    # Saving.

    quantize = quantizing.quantize  # pyright: ignore[reportAssignmentType]
    get_quantization_layer_structure = quantizing.get_quantization_layer_structure

    def save_weights(self, filepath: Path, overwrite: bool = True, max_shard_size: float | None = None, **kwargs):
        """Writes the weights, as `kerax.saving.save_weights` says: `*.weights.h5` as Keras reads it, or safetensors."""
        saving.save_weights(self, filepath, overwrite, max_shard_size, **kwargs)

    def load_weights(self, filepath: Path, skip_mismatch: bool = False, **kwargs):
        """Reads weights, as `kerax.saving.load_weights` says: all, or none and a `ValueError` listing what differs."""
        saving.load_weights(self, filepath, skip_mismatch, **kwargs)

    def save(self, filepath: Path, overwrite: bool = True, zipped: bool | None = None, **kwargs):
        """Writes the model, as `kerax.saving.save_model` says: `*.keras`, or a folder for an orbax checkpoint."""
        saving.save_model(self, filepath, overwrite, zipped, **kwargs)

    def to_json(self, **kwargs) -> str:
        """The model's structure without weights, as `kerax.models.model_from_json` reads it."""
        return json.dumps(serialize_keras_object(self), **kwargs)


aliases(Model)
