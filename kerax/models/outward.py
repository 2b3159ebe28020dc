"""What leads out of a model: `Model.plan` for devices that are not there, `Model.export` for other runtimes."""

from typing import Any


def plan(
    self,
    topology=None,
    batch=None,
    batch_size: int | str | None = None,
    distribution: Any = "fsdp",
    *,
    generate: int | None = None,
    cache_dtype: Any = None,
):
    """What a training step would need and take on devices that need not be there: compiled for them, not run.

    Nothing is allocated, so that models far larger than this machine can be planned. For TPUs `libtpu` is needed:
    `pip install "jax[tpu]"`, with `JAX_PLATFORMS=cpu` in the environment on a machine without one.

    Args:
        topology: The devices: `"v5e:16x16"`, `"v5p:8x8x8"`, `"v6e:4x4"`; of this machine `"cpu:8"`, `"gpu:1"`.
            Default: those of the distribution.
        batch: `(x, y)` or `(x, y, sample_weight)`, arrays or `jax.ShapeDtypeStruct`s; only shapes and dtypes count.
        batch_size: Rows of a step on all devices together, instead of the batch's; `"largest"`: the most that fit.
        distribution: `"data"` (weights on every device), `"fsdp"` (weights in shards), a `Distribution`, or a
            function from a list of devices to one. A list of these: one plan each.
        generate: Plans a step of `model.generate` instead, which adds a token to each of `batch_size` rows (default 1),
            with caches of so many positions. `batch` is not looked at, and the model need not be compiled.
        cache_dtype: Of these caches, as in `generate`.

    Returns: a `Plan`, which prints memory by kind, operations, messages between devices, and a step's time by a
        roofline; or a list of them, which prints as a table.

    Raises:
        ValueError: for an unknown topology, a batch or model that cannot be spread so, or for `generate` a model
            without caches.
        ImportError: for a TPU topology without `libtpu`.
    """
    # Few models are planned: who trains shall not wait for this.
    from kerax.models.generation_plan import make_decoding_plan
    from kerax.plan.planning import make_plan

    if generate is not None:
        num_rows = 1 if batch_size is None else batch_size
        return make_decoding_plan(self, topology, num_rows, generate, cache_dtype, distribution)
    return make_plan(self, topology, batch, batch_size, distribution)


def export(self, filepath, format="tf_saved_model", verbose=None, input_signature=None, **kwargs):
    """Writes what the model infers, with its weights, for another runtime.

    The file is run in its runtime, if that is installed, for two batch sizes, and kept only if it computes what
    `predict` does.

    Args:
        filepath: A file, or a folder for a SavedModel. An earlier export there is replaced, as in Keras.
        format: `"tf_saved_model"` (TensorFlow, TensorFlow Serving), `"onnx"`, `"openvino"` (`.xml`), `"litert"`
            (`.tflite`, for phones), or `"jax"` (`jax.export`, for CPUs, CUDA GPUs and TPUs at once).
        verbose: Whether to print a line about what was written. Default: yes.
        input_signature: Shapes and dtypes of the inputs as `InputSpec`s, symbolic tensors or arrays, in the inputs'
            structure, or a list with one structure for each argument. Default: what the model was built for.
        **kwargs: `batch` (a fixed batch size, or `"dynamic"`; default dynamic, for litert 1), `verify=False` (writes
            without running), `overwrite` (`True` replaces any folder, `False` nothing); for onnx and openvino
            `opset_version`; for litert `quantize="int8"`.

    Raises:
        ValueError: for an unknown format or option, a model that is not built, a signature that does not fit, a folder
            that holds something else; and as `kerax.export.ExportError` if the format cannot express the model, or its
            runtime computes other numbers.
        ImportError: naming kerax's extra, if a package is missing.
    """
    from kerax.export.archive import export_model  # what is trained only shall not wait for this

    export_model(self, filepath, format, verbose, input_signature, **kwargs)
