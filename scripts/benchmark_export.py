"""onnxruntime on the files of `Model.export` beside the same model's jitted `apply`, and beside other exporters' files.

    python scripts/benchmark_export.py --model mobilenet --batch 1 --threads 1
    python scripts/benchmark_export.py --model mlp --file other=mlp.onnx

All run in one process on the same cores, in alternating rounds. Where jax2onnx is installed its file is one of them;
`--file` adds others, of a model with the same input.
"""

import argparse
import importlib.util
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

MODELS = ("mlp", "lstm", "transformer", "mobilenet")


def make_model(name: str):
    """A model of one kind, with weights as they are drawn."""
    import kerax
    from kerax import layers

    kerax.utils.set_random_seed(0)
    if name == "mobilenet":
        return kerax.applications.MobileNetV3Small(weights=None, input_shape=(224, 224, 3), classes=100)
    if name == "mlp":
        hidden = [layers.Dense(512, activation="relu"), layers.Dense(512, activation="gelu")]
        return kerax.Sequential([kerax.Input((784,)), *hidden, layers.Dense(10, activation="softmax")])
    tokens = kerax.Input((64,), dtype="int32")
    x = layers.Embedding(1000, 128)(tokens)
    if name == "lstm":
        return kerax.Model(tokens, layers.Dense(10)(layers.LSTM(128)(x)))
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(4, 32)(x, x, use_causal_mask=True))
    x = layers.LayerNormalization()(x + layers.Dense(128)(layers.Dense(512, activation="gelu")(x)))
    return kerax.Model(tokens, layers.Dense(10)(layers.GlobalAveragePooling1D()(x)))


def in_onnxruntime(path: str, x, threads: int) -> Callable[[], object]:
    """A call of a file."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    given = {session.get_inputs()[0].name: x}
    return lambda: session.run(None, given)[0]


def by_jax2onnx(model, variables, x, path: str):
    """Writes the file of jax2onnx, for this batch alone."""
    import jax
    import jax.extend
    import jax2onnx

    import kerax

    spec = jax.ShapeDtypeStruct(x.shape, x.dtype)
    # Traced before: it puts functions of its own in the place of JAX's, which are no functions of kerax's arguments.
    with kerax.config.compiling_for("export"):
        program = jax.make_jaxpr(lambda x: model.apply(variables, x)[0])(spec)
    call = jax.extend.core.jaxpr_as_fun(program)
    jax2onnx.to_onnx(lambda x: call(x)[0], [spec], return_mode="file", output_path=path)


def seconds_of(call: Callable[[], object], seconds: float) -> float:
    """The median of calls, one after the other, for some seconds."""
    import numpy as np

    taken, until = [], time.perf_counter() + seconds
    while time.perf_counter() < until:
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return float(np.median(taken))


def contenders(name: str, batch: int, threads: int, files: dict[str, str], folder: Path) -> dict[str, Callable]:
    """Calls with the same input, by what makes them; all that can be made, and give the same numbers."""
    import jax
    import numpy as np

    model, rng = make_model(name), np.random.default_rng(0)
    shape, dtype = (batch, *model.inputs[0].shape[1:]), model.inputs[0].dtype
    x = rng.integers(0, 1000, shape).astype(dtype) if dtype == "int32" else rng.random(shape, dtype)
    variables = model.variables_tree()
    apply = jax.jit(lambda variables, x: model.apply(variables, x)[0])
    found: dict[str, Callable] = {"jitted apply": lambda: np.asarray(apply(variables, x))}
    expected = found["jitted apply"]()
    model.export(folder / "kerax.onnx", format="onnx", verbose=False)
    files = {"kerax": str(folder / "kerax.onnx")} | files
    if importlib.util.find_spec("jax2onnx") is not None:
        files["jax2onnx"] = str(folder / "jax2onnx.onnx")
        by_jax2onnx(model, variables, x, files["jax2onnx"])
    for kind, path in files.items():
        try:
            call = in_onnxruntime(path, x, threads)
            difference = np.abs(call() - expected).max() / np.abs(expected).max()
        except Exception as error:  # of onnxruntime, whose classes are many
            print(f"{name}: {kind}: {str(error)[:120]}")
            continue
        # Files that were given may hold other weights.
        if difference > 1e-4:
            print(f"{name}: {kind} gives other numbers, by {difference:.1e} of the largest")
        found[f"onnxruntime, {kind}"] = call
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=MODELS, action="append", help="may be given several times; default: all")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1, help="cores of this process, and threads of onnxruntime")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each contender in each round")
    parser.add_argument("--file", action="append", default=[], metavar="NAME=PATH", help="a file of another exporter")
    given = parser.parse_args()
    # Before JAX starts, which takes as many threads as there are cores.
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: given.threads])
    import numpy as np

    files = dict(pair.split("=", 1) for pair in given.file)
    for name in given.model or MODELS:
        with tempfile.TemporaryDirectory() as folder:
            calls = contenders(name, given.batch, given.threads, files, Path(folder))
            times: dict[str, list[float]] = {kind: [] for kind in calls}
            for round_ in range(given.rounds + 1):
                for kind, call in calls.items():
                    taken = seconds_of(call, given.seconds)
                    times[kind] += [taken] if round_ else []  # the first is not counted
        medians = {kind: float(np.median(taken)) for kind, taken in times.items()}
        print(f"{name}, batch {given.batch}, {given.threads} threads, {given.rounds} rounds")
        for kind, taken in medians.items():
            print(f"  {kind:<24} {1e3 * taken:8.3f} ms  ({taken / medians['onnxruntime, kerax']:.2f} of kerax's file)")


if __name__ == "__main__":
    main()
