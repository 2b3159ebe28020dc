"""`TensorBoard`: losses, metrics, weights, the model and profiles as files that TensorBoard shows."""

import importlib.util
import itertools
import json
import os
import time
import warnings
from collections.abc import Sequence

import jax
import numpy as np

from kerax.callbacks.callback import Callback, When, flat_numbers, num_iterations, read_rates
from kerax.layers import Embedding
from kerax.places import Mirror, is_elsewhere, path_of

_count = itertools.count()


class TensorBoard(Callback):
    """Writes event files for TensorBoard under `log_dir/train` and `log_dir/validation`, with the tags of Keras.

    Every epoch `epoch_<name>` of every log and `epoch_learning_rate`; after each evaluation
    `evaluation_<name>_vs_iterations` against the optimizer's iterations; every `update_freq` batches `batch_<name>`,
    the mean so far. Needs tensorboardX: `pip install 'kerax[tensorboard]'`.

    Args:
        log_dir: Folder of the files, or its address, as `s3://bucket/logs`, where they are put after each epoch and at
            the end.
        histogram_freq: Every how many epochs to write a histogram of each weight; 0 for never.
        write_graph: Whether to write the model when training begins: its summary and its JSON as texts
            `model/summary` and `model/json`, and `keras`, from which TensorBoard draws the graph of its layers.
        write_images: Whether to write each weight as a grey image too, black its smallest value and white its largest:
            a kernel `(height, width, inputs, outputs)` as a table of `inputs` rows, of others the last axis as columns,
            and at most 1,024 pixels to a side.
        write_steps_per_second: Whether to write `epoch_steps_per_second`, validation included, and, where
            `update_freq` is not `"epoch"`, `batch_steps_per_second`.
        update_freq: `"epoch"`, `"batch"`, or a number of batches. Logs are fetched from the device at those batches
            only, and as many steps go to the device at once as lie between two of them.
        profile_batch: Number of a batch, counted from 1 through all epochs, or the pair of the first and last batch, to
            profile with `jax.profiler`; 0 for none.
        embeddings_freq: Every how many epochs to write the tables of `Embedding` layers for the projector, each over
            the one before; 0 for never.
        embeddings_metadata: Path (absolute, or relative to `log_dir`) of the file with a label per row, or
            `{layer name: path}`.

    Raises:
        ImportError: without tensorboardX.
        ValueError: for an `update_freq` or `profile_batch` that is none, or metadata of an unknown layer.

    Deviations from Keras: TensorFlow is not needed; the model is written as text too, and weights outside layers;
    embeddings are written as text, which TensorBoard reads without a checkpoint; weights that are not finite are left
    out of histograms and images.
    """

    first_process_only = True

    def __init__(
        self,
        log_dir: str | os.PathLike = "logs",
        histogram_freq: int = 0,
        write_graph: bool = True,
        write_images: bool = False,
        write_steps_per_second: bool = False,
        update_freq: str | int = "epoch",
        profile_batch: int | str | Sequence[int] = 0,
        embeddings_freq: int = 0,
        embeddings_metadata=None,
    ):
        super().__init__()
        if importlib.util.find_spec("tensorboardX") is None:
            raise ImportError("TensorBoard: tensorboardX is missing. Run `pip install 'kerax[tensorboard]'`.")
        if update_freq not in ("epoch", "batch") and not (isinstance(update_freq, int) and update_freq > 0):
            raise ValueError(
                f"TensorBoard: `update_freq` must be 'epoch', 'batch' or a number of batches. Got {update_freq!r}."
            )
        self.log_dir = path_of(log_dir, "TensorBoard")
        self._mirror: Mirror | None = None
        self.histogram_freq, self.write_graph, self.write_images = histogram_freq, write_graph, write_images
        self.write_steps_per_second = write_steps_per_second
        self.update_freq: str | int = 1 if update_freq == "batch" else update_freq
        self.embeddings_freq, self.embeddings_metadata = embeddings_freq, embeddings_metadata
        self._first, self._last = _batches(profile_batch)
        # Steps that come in pieces are cut where the trace begins and ends.
        looks = (self._first - 1, self._last) if self._last else ()
        self._every = self.update_freq if isinstance(self.update_freq, int) else None
        self.sees_batches = When(self._every, looks)
        self._writers: dict = {}
        self._tracing = False
        self._start = self._before = 0  # the optimizer's iterations at the start; batches of this fit's epochs so far
        self._written = 0  # batches of this fit at the last write
        self._began = self._wrote = 0.0  # when the epoch began; when batches were written last, or the epoch began

    # What happens when.

    def on_train_begin(self, logs=None):
        self._start, self._before, self._written = num_iterations(self.model), 0, 0
        self._profiled = False  # one trace in a `fit`
        if self.write_graph:
            self._write_model()
        if self.embeddings_freq:
            self._check_metadata()

    def on_epoch_begin(self, epoch, logs=None):
        self._began = self._wrote = time.perf_counter()

    def on_train_batch_begin(self, batch, logs=None):
        if self._last and not self._profiled and self._before + batch + 1 >= self._first:
            self._profiled = True
            self._start_trace()

    def on_train_batch_end(self, batch, logs=None):
        step = self._before + batch + 1
        if self._tracing and step >= self._last:
            # Else the trace would end before the device has run the batch.
            dict(logs)  # waits until the device is done
            self._stop_trace()
        # Not `step % every`: where steps come in pieces, a look may be late.
        if self._every is None or step - self._written < self._every:
            return
        numbers = dict(logs)
        if self.write_steps_per_second:
            now = time.perf_counter()
            numbers["steps_per_second"] = (step - max(self._written, self._before)) / (now - self._wrote)
            self._wrote = now
        self._written = step
        self._scalars("train", "batch_{}", numbers, step)

    def on_test_end(self, logs=None):
        if getattr(self.model, "optimizer", None) is not None:
            self._scalars("validation", "evaluation_{}_vs_iterations", logs, num_iterations(self.model))

    def on_epoch_end(self, epoch, logs=None):
        steps, logs = num_iterations(self.model) - self._start, dict(logs or {})
        if steps == self._before:  # a train step of the user's, which does without the optimizer
            steps += self.params.get("steps") or 0
        # Keras writes training and validation into folders of their own, under the same tags.
        trained = {name: value for name, value in logs.items() if not name.startswith("val_")}
        trained |= read_rates(self.model.optimizer)
        if self.write_steps_per_second:
            trained["steps_per_second"] = (steps - self._before) / (time.perf_counter() - self._began)
        self._before = steps
        self._scalars("train", "epoch_{}", trained, epoch)
        validated = {name.removeprefix("val_"): value for name, value in logs.items() if name.startswith("val_")}
        if validated:
            self._scalars("validation", "epoch_{}", validated, epoch)
        if self.histogram_freq and epoch % self.histogram_freq == 0:
            self._write_weights(epoch)
        if self.embeddings_freq and epoch % self.embeddings_freq == 0:
            self._write_embeddings()
        for writer in self._writers.values():
            writer.flush()
        self._put()

    def close(self):
        if self._tracing:
            self._stop_trace()
        for writer in self._writers.values():
            writer.close()
        self._writers = {}
        self._put()
        if self._mirror is not None:
            self._mirror.close()
            self._mirror = None

    def _put(self):
        """Puts the files at their address, if they have one."""
        if self._mirror is None:
            return
        try:
            self._mirror.put()
        except OSError as error:  # no reason to lose a run
            warnings.warn(f"TensorBoard: {error}. Training goes on.", stacklevel=2)

    @property
    def _folder(self) -> str:
        """The folder of this computer that is written to."""
        if not is_elsewhere(self.log_dir):
            return self.log_dir
        # Now, not in the constructor: copies for several trainings write to several places.
        self._mirror = self._mirror or Mirror(self.log_dir)
        return self._mirror.folder

    # What is written.

    def _writer(self, name: str):
        # On first use: an empty file would show as an empty run.
        if name not in self._writers:
            from tensorboardX import SummaryWriter

            # Files are named by the second: without a suffix a short fit's would be replaced by the next fit's.
            suffix = f".{os.getpid()}.{next(_count)}"
            self._writers[name] = SummaryWriter(os.path.join(self._folder, name), filename_suffix=suffix)
        return self._writers[name]

    def _scalars(self, name: str, tag: str, numbers, step: int):
        """Writes numbers under `tag` with their names in it; the elements of an array one by one."""
        tagged = {tag.format(key): value for key, value in dict(numbers or {}).items()}
        for key, number in flat_numbers(tagged).items():
            self._writer(name).add_scalar(key, number, step)

    def _write_model(self):
        proto, tensors = (importlib.import_module(f"tensorboardX.proto.{name}_pb2") for name in ("summary", "tensor"))
        lines: list[str] = []
        self.model.summary(print_fn=lines.append)
        self._write_text("model/summary", "\n".join(lines))
        try:
            text = self.model.to_json()
        except (TypeError, ValueError) as error:
            warnings.warn(f"TensorBoard: the model has no JSON, so its graph is not written: {error}", stacklevel=2)
            return
        self._write_text("model/json", text)
        if "layers" not in json.loads(text)["config"]:  # a subclass, of whose `call` there is no graph
            return
        metadata = proto.SummaryMetadata(plugin_data={"plugin_name": "graph_keras_model", "content": b"1"})
        tensor = tensors.TensorProto(dtype="DT_STRING", string_val=[text.encode()])
        value = proto.Summary.Value(tag="keras", metadata=metadata, tensor=tensor)
        self._writer("train").file_writer.add_summary(proto.Summary(value=[value]), 0)

    def _write_text(self, tag: str, text: str):
        self._writer("train").add_text(tag, f"```\n{text}\n```", 0)

    def _write_weights(self, epoch: int):
        weights = self.model.weights
        for weight, values in zip(weights, jax.device_get([weight.value for weight in weights]), strict=True):
            values = np.asarray(values, np.float64)
            # NumPy's histograms refuse NaN and infinity.
            finite = values[np.isfinite(values)]
            if not finite.size:
                continue
            self._writer("train").add_histogram(f"{weight.path}/histogram", finite, epoch)
            if self.write_images and finite.size == values.size:
                self._writer("train").add_image(f"{weight.path}/image", _image(values), epoch, dataformats="HW")

    def _embeddings(self) -> list[Embedding]:
        return [layer for layer in self.model.layers if isinstance(layer, Embedding)]

    def _check_metadata(self):
        if isinstance(self.embeddings_metadata, dict):
            names = [layer.name for layer in self._embeddings()]
            unknown = sorted(self.embeddings_metadata.keys() - set(names))
            if unknown:
                raise ValueError(
                    f"TensorBoard: `embeddings_metadata` names {unknown}; the model's Embedding layers are {names}."
                )

    def _write_embeddings(self):
        """The tables as text, and the file that tells the projector of them."""
        given, entries = self.embeddings_metadata, []
        os.makedirs(self._folder, exist_ok=True)
        for layer in self._embeddings():
            path = f"{layer.name}.tsv"
            np.savetxt(os.path.join(self._folder, path), np.asarray(layer.embeddings, np.float32), "%.6g", "\t")
            labels = given.get(layer.name) if isinstance(given, dict) else given
            fields = {"tensor_name": layer.name, "tensor_path": path}
            fields |= {"metadata_path": os.fspath(labels)} if labels else {}
            entries.append("embeddings {\n" + "".join(f'  {key}: "{value}"\n' for key, value in fields.items()) + "}\n")
        with open(os.path.join(self._folder, "projector_config.pbtxt"), "w") as file:
            file.write("".join(entries))

    # Profiling.

    def _start_trace(self):
        try:
            jax.profiler.start_trace(os.path.join(self._folder, "train"))
        # Somebody else profiles already.
        except RuntimeError as error:
            warnings.warn(f"TensorBoard: batches {self._first} to {self._last} are not profiled: {error}", stacklevel=2)
        else:
            self._tracing = True

    def _stop_trace(self):
        self._tracing = False
        jax.profiler.stop_trace()


def _batches(profile_batch) -> tuple[int, int]:
    """The first and last batch to profile, from 1; zeros for none."""
    pair = profile_batch.split(",") if isinstance(profile_batch, str) else profile_batch
    pair = [pair] * 2 if isinstance(pair, int) else list(pair)
    try:
        first, last = (int(batch) for batch in (pair * 2 if len(pair) == 1 else pair))
    except ValueError:
        first, last = -1, -1  # refused below
    if not (0 < first <= last or first == last == 0):
        raise ValueError(
            "TensorBoard: `profile_batch` must be a batch's number, from 1, or a pair of the first and last, or 0. "
            f"Got {profile_batch!r}."
        )
    return first, last


def _image(values: np.ndarray) -> np.ndarray:
    """A weight as `(rows, columns)` of grey values from 0 to 1."""
    # A bias is one row.
    values = np.squeeze(values)
    if values.ndim == 4:
        height, width, inputs, outputs = values.shape
        values = values.transpose(2, 0, 3, 1).reshape(inputs * height, outputs * width)
    elif values.ndim > 2:
        values = values.reshape(-1, values.shape[-1])
    values = np.atleast_2d(values)[:1024, :1024]
    low, high = values.min(), values.max()
    return (values - low) / (high - low if high > low else 1.0)
