"""Files of each format compute in their own runtimes what `predict` does."""

import importlib.util
import os

import jax
import numpy as np
import pytest

import kerax
from kerax.export import formats
from kerax.export.archive import ExportArchive
from tests.export import models

ENDINGS = {"onnx": ".onnx", "openvino": ".xml", "litert": ".tflite", "tf_saved_model": "", "jax": ""}
# What kerax's own tests are installed with; others are asked for by name.
FAST = [("onnx", "mlp"), ("onnx", "two"), ("onnx", "lstm"), ("jax", "mlp")]
CASES = [(f, n) for f in ENDINGS for n in models.MODELS]


def needs(format):
    kind = formats.FORMATS[format]
    for package in (kind.needs, kind.runtime):
        if package and importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: pip install 'kerax[{kind.extra}]'")
    return kind


def run_by_name(format, path, given):
    """What a file computes, by the names of outputs, with nothing of kerax's."""
    if format in ("onnx", "openvino"):
        if format == "openvino":
            import openvino

            core = openvino.Core()
            compiled = core.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
            found = compiled(given)
            return {name: found[output] for output in compiled.outputs for name in output.get_names()}
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return dict(zip([o.name for o in session.get_outputs()], session.run(None, given)))
    if format == "litert":
        from ai_edge_litert.interpreter import Interpreter

        return Interpreter(model_path=path).get_signature_runner("serving_default")(**given)
    import tensorflow as tf

    loaded = tf.saved_model.load(path)
    return {k: v.numpy() for k, v in loaded.signatures["serving_default"](**given).items()}


@pytest.mark.medium
@pytest.mark.parametrize(
    ("format", "name"), [case if case in FAST else pytest.param(*case, marks=pytest.mark.slow) for case in CASES]
)
def test_files_compute_what_predict_does(format, name, tmp_path):
    needs(format)
    model = models.make(name)
    path = str(tmp_path / f"model{ENDINGS[format]}")
    model.export(path, format, verbose=False, **({"batch": 4} if format == "litert" else {}))
    for batch in (4,) if format == "litert" else (1, 4, 7):
        given = models.inputs(model, batch)
        x = given if len(given) > 1 else next(iter(given.values()))
        expected = model.predict(x, verbose=0)
        if format == "jax":
            found = jax.export.deserialize(bytearray(open(path, "rb").read())).call(x)
            pairs = zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True)
        else:
            outputs = run_by_name(format, path, given)
            if isinstance(expected, dict):
                assert set(outputs) >= set(expected)
                pairs = [(expected[key], outputs[key]) for key in expected]
            else:
                leaves = jax.tree.leaves(expected)
                pairs = [(leaf, outputs[f"output_{index}"]) for index, leaf in enumerate(leaves)]
        for one, other in pairs:
            assert one.shape == other.shape
            # Rounding to 8 bits may go either way where a sum of floats differs in its last bit.
            tolerance = 1e-2 if name == "quantized" else 1e-5
            assert np.abs(one - other).max() <= tolerance * np.abs(one).max()
    if os.path.isfile(path) and format != "openvino":
        weights = sum(np.asarray(w).nbytes for w in model.get_weights())
        assert os.path.getsize(path) <= 1.05 * weights + 100_000


@pytest.mark.slow
def test_litert_takes_any_batch_on_request_and_quantizes(tmp_path):
    needs("litert")
    model = models.make("mlp")
    path = str(tmp_path / "model.tflite")
    model.export(path, "litert", batch="dynamic", verbose=False)
    for batch in (1, 5):
        given = models.inputs(model, batch)
        found = run_by_name("litert", path, given)["output_0"]
        np.testing.assert_allclose(found, model.predict(given["features"], verbose=0), atol=1e-5)
    wide = kerax.Sequential([kerax.Input((64,), name="x"), kerax.layers.Dense(256), kerax.layers.Dense(4)])
    for quantize in (None, "int8"):
        wide.export(str(tmp_path / f"{quantize}.tflite"), "litert", quantize=quantize, verbose=False)
    sizes = [os.path.getsize(tmp_path / f"{quantize}.tflite") for quantize in (None, "int8")]
    assert sizes[1] < sizes[0] / 2
    with pytest.raises(ValueError, match="quantize"):
        wide.export(str(tmp_path / "x.tflite"), "litert", quantize="int3")


@pytest.mark.slow
def test_saved_models_hold_endpoints_variables_and_collections(tmp_path):
    needs("tf_saved_model")
    import tensorflow as tf

    model = models.make("two")
    archive = ExportArchive()
    archive.track(model)
    archive.add_endpoint("serve", model)
    archive.add_endpoint(
        "score",
        lambda numbers, series: model({"numbers": numbers, "series": series})["score"],
        [kerax.InputSpec(shape=(None, 6), dtype="float32"), kerax.InputSpec(shape=(None, 7, 3), dtype="float32")],
    )
    archive.add_variable_collection("kernels", [v for v in model.variables if v.path.endswith("kernel")])
    archive.write_out(tmp_path / "model", verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "model"))
    given = models.inputs(model, 5)
    expected = model.predict(given, verbose=0)
    found = loaded.serve({name: tf.constant(value) for name, value in given.items()})
    np.testing.assert_allclose(found["kind"], expected["kind"], atol=1e-5)
    alone = loaded.score(tf.constant(given["numbers"]), tf.constant(given["series"]))
    np.testing.assert_allclose(alone, expected["score"], atol=1e-5)
    assert set(loaded.signatures) == {"serve", "score", "serving_default"}
    assert len(loaded.kernels) == sum(v.path.endswith("kernel") for v in model.variables)
    assert {v.name for v in loaded.weights} >= {"dense/kernel:0", "conv1d/bias:0"}


@pytest.mark.slow
@pytest.mark.parametrize("family", ["MobileNetV3Small", "EfficientNetB0", "ResNet50V2", "DenseNet121", "ConvNeXtTiny"])
def test_applications_become_onnx(family, tmp_path):
    shape = (32, 32, 3) if family != "DenseNet121" else (64, 64, 3)
    model = getattr(kerax.applications, family)(weights=None, input_shape=shape, classes=10)
    model.export(tmp_path / "model.onnx", "onnx", verbose=False)  # raises where onnxruntime differs
    assert (tmp_path / "model.onnx").stat().st_size < 1.05 * sum(w.nbytes for w in model.get_weights()) + 1_000_000
