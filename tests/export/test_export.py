"""Names, signatures and mistakes of `Model.export` and `ExportArchive`."""

import importlib.util
import math
import tomllib
from pathlib import Path

import jax
import numpy as np
import onnx_ir
import onnxruntime
import pytest

import kerax
from kerax import layers
from kerax.export import ExportArchive, ExportError, formats
from kerax.export.onnx.interpreter import RULES
from tests.export import models


def run(path, *arrays):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, dict(zip([i.name for i in session.get_inputs()], arrays)))


def dense_model():
    return kerax.Sequential([kerax.Input((4,)), layers.Dense(3)])


@pytest.mark.medium
def test_files_have_the_names_of_layers_weights_inputs_and_outputs(tmp_path):
    path = tmp_path / "model.onnx"
    models.make("mlp").export(path, "onnx", verbose=False)
    graph = onnx_ir.load(path).graph
    assert {"dense/kernel", "layer_normalization/gamma"} <= set(graph.initializers)
    assert any(node.name.startswith("sequential/dense_1/") for node in graph)
    assert [value.name for value in graph.inputs] == ["features"]
    assert [value.name for value in graph.outputs] == ["output_0"]
    assert str(graph.inputs[0].shape[0]) == "batch"
    for format, name in (("onnx", "model.onnx"), ("jax", "model")):
        target = tmp_path / "again" / name
        dense_model().export(target, format, verbose=False)
        held = target.read_bytes()
        for place in (kerax.__file__, __file__, str(tmp_path)):
            assert place.encode() not in held


SPEC = kerax.InputSpec(shape=(None, 4), dtype="float32")
SIGNATURES = {
    "spec": SPEC,
    "list": [SPEC],
    "array": np.zeros((2, 4), "float32"),
    "symbolic": kerax.KerasTensor((None, 4)),
    "fixed": kerax.InputSpec(shape=(3, 4), dtype="float32", name="rows"),
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures_are_taken_as_keras_takes_them(name, tmp_path):
    class Doubling(kerax.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(3)

        def call(self, x, training=False):
            return {"one": self.dense(x), "rest": [2 * self.dense(x), kerax.ops.sum(x, -1)]}

    model = Doubling()
    x = np.random.default_rng(0).normal(size=(3 if name == "fixed" else 2, 4)).astype("float32")
    expected = model(x)
    path = tmp_path / "model.onnx"
    model.export(path, "onnx", verbose=False, input_signature=SIGNATURES[name])
    for one, other in zip(jax.tree.leaves(expected), run(path, x), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    first = onnx_ir.load(path).graph.inputs[0]
    assert first.name == {"fixed": "rows", "symbolic": "keras_tensor_source"}.get(name, "input")
    assert (first.shape[0] == 3) == (name == "fixed")
    model.export(tmp_path / "built.onnx", "onnx", verbose=False)  # from what it was built for
    assert len(run(tmp_path / "built.onnx", x)) == 3


@pytest.mark.medium
def test_sizes_that_are_not_known_stay_open(tmp_path):
    tokens = kerax.Input((None,), dtype="int32")
    x = layers.LSTM(4, return_sequences=True)(layers.Embedding(20, 4, mask_zero=True)(tokens))
    model = kerax.Model(tokens, layers.GlobalAveragePooling1D()(x))
    model.export(tmp_path / "model.onnx", "onnx", verbose=False)
    for shape in ((1, 3), (4, 9)):
        given = np.random.default_rng(1).integers(0, 20, shape).astype("int32")
        np.testing.assert_allclose(run(tmp_path / "model.onnx", given)[0], model.predict(given, verbose=0), atol=1e-6)
    # Two inputs of one length that is not known, which have to be as long as each other.
    one, two = kerax.Input((None, 4)), kerax.Input((None, 4))
    both = kerax.Model([one, two], layers.Add()([layers.Dense(4)(one), two]))
    both.export(tmp_path / "both.onnx", "onnx", verbose=False)
    pair = [np.ones((2, 5, 4), "float32"), np.zeros((2, 5, 4), "float32")]
    np.testing.assert_allclose(run(tmp_path / "both.onnx", *pair)[0], both.predict(pair, verbose=0), rtol=1e-6)


def test_a_fixed_batch_and_opset(tmp_path):
    dense_model().export(tmp_path / "model.onnx", "onnx", batch=5, opset_version=20, verbose=False)
    model = onnx_ir.load(tmp_path / "model.onnx")
    assert list(model.graph.inputs[0].shape) == [5, 4] and model.opset_imports[""] == 20


@pytest.mark.parametrize("policy", ["float16", "mixed_bfloat16", "bfloat16"])
def test_half_precision(policy, tmp_path):
    model = kerax.Sequential([kerax.Input((8,)), layers.Dense(16, activation="relu", dtype=policy), layers.Dense(2)])
    model.export(tmp_path / "model.onnx", "onnx", verbose=False)


def test_wrong_files_are_found_and_removed(tmp_path, monkeypatch):
    """A rule with a mistake in it."""
    monkeypatch.setitem(RULES, "logistic", lambda graph, equation, x: graph.elementwise("Tanh", [x]))
    model = kerax.Sequential([kerax.Input((4,)), layers.Dense(3, activation="sigmoid")])
    with pytest.raises(ExportError, match="onnxruntime computes other numbers than kerax: output 'output_0'"):
        model.export(tmp_path / "model.onnx", "onnx")
    monkeypatch.setitem(RULES, "logistic", lambda graph, equation, x: graph.elementwise("Tanhh", [x]))
    with pytest.raises(ExportError, match="does not run"):
        model.export(tmp_path / "model.onnx", "onnx")
    monkeypatch.delitem(RULES, "logistic")
    with pytest.raises(ExportError, match=r"layer 'sequential/dense'.*primitive 'logistic'"):
        model.export(tmp_path / "model.onnx", "onnx")
    assert list(tmp_path.iterdir()) == []


def test_mistakes_are_told_before_anything_is_written(tmp_path, monkeypatch, capsys):
    model = dense_model()
    path = tmp_path / "model.onnx"
    for options, message in [
        ({"format": "onxx"}, "Did you mean 'onnx'"),
        ({"format": "torch"}, "Use format='onnx'"),
        ({"format": "onnx", "opset": 3}, "has no argument 'opset'.*opset_version"),
        ({"format": "onnx", "batch": 0}, "`batch`"),
        ({"format": "onnx", "input_signature": kerax.InputSpec(shape=(None, 5))}, r"has shape \(None, 4\)"),
        ({"format": "onnx", "input_signature": [SPEC, SPEC]}, "has 1 inputs. Got 2"),
        ({"format": "litert"}, "must end in '.tflite'"),
    ]:
        with pytest.raises(ValueError, match=message):
            model.export(path, **options)
    with pytest.raises(TypeError, match="InputSpec"):
        model.export(path, "onnx", input_signature=["x"])
    with pytest.raises(ValueError, match="not built"):
        kerax.Sequential([layers.Dense(3)]).export(path, "onnx")
    with pytest.raises(ValueError, match="gs://"):
        model.export("gs://bucket/model.onnx", "onnx")
    path.write_text("an older one")
    with pytest.raises(ValueError, match="exists.*overwrite=True"):
        model.export(path, "onnx", overwrite=False)
    assert path.read_text() == "an older one"
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "notes.txt").touch()
    with pytest.raises(ValueError, match="exists.*overwrite=True"):
        model.export(folder, "jax")
    (folder / "saved_model.pb").touch()  # an earlier export, then
    model.export(folder, "jax", verbose=False)
    assert folder.is_file()
    folder.unlink()
    model.export(path, "onnx")
    assert "run in onnxruntime, differs by" in capsys.readouterr().out
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if "onnx" in name else find(name, *a))
    with pytest.raises(ImportError, match=r"kerax\[onnx\]"):
        model.export(tmp_path / "other.onnx", "onnx")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "onnxruntime" else find(name, *a))
    model.export(tmp_path / "other.onnx", "onnx")
    assert "not checked, for onnxruntime is not installed" in capsys.readouterr().out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.onnx", "other.onnx"]


def test_archives_of_functions(tmp_path):
    model, other = dense_model(), layers.Dense(2)
    other.build((None, 3))
    archive = ExportArchive()
    archive.add_endpoint("serve", lambda x: kerax.ops.relu(other(model(x))), [SPEC])
    archive.write_out(tmp_path / "model.onnx", format="onnx", verbose=False)
    x = np.random.default_rng(2).normal(size=(3, 4)).astype("float32")
    np.testing.assert_allclose(run(tmp_path / "model.onnx", x)[0], kerax.ops.relu(other(model(x))), atol=1e-6)
    # The layers that it refers to are tracked: their weights have names.
    assert {"sequential/dense/kernel", f"{other.name}/kernel"} <= set(
        onnx_ir.load(tmp_path / "model.onnx").graph.initializers
    )
    assert len(archive.variables) == len(archive.trainable_variables) == 4 and archive.non_trainable_variables == []
    for call, error, message in [
        (lambda: archive.track("model"), TypeError, "expected a layer"),
        (lambda: archive.track(layers.Dense(2)), ValueError, "not built"),
        (lambda: archive.add_endpoint("serve", model), ValueError, "already"),
        (lambda: archive.add_endpoint("two words", model), ValueError, "Python name"),
        (lambda: archive.add_endpoint("more", lambda x: x), ValueError, "input_signature"),
        (lambda: archive.add_variable_collection("all", [kerax.Variable(1.0)]), ValueError, "tracked"),
        (lambda: ExportArchive().write_out(tmp_path / "x"), ValueError, "no endpoint"),
    ]:
        with pytest.raises(error, match=message):
            call()
    archive.add_endpoint("second", model)
    with pytest.raises(ValueError, match="holds one endpoint"):
        archive.write_out(tmp_path / "both.onnx", format="onnx")


@pytest.mark.medium
def test_what_the_newest_jax_writes_as_composites_is_read_by_older_ones(tmp_path):
    x = kerax.Input((6,))
    model = kerax.Model(x, layers.Dense(2, activation="gelu")(kerax.ops.cumsum(x, axis=1)))  # with and without a region
    model.export(tmp_path / "model", "jax", verbose=False)
    program = jax.export.deserialize(bytearray((tmp_path / "model").read_bytes()))
    assert "composite" not in program.mlir_module()
    given = np.random.default_rng(0).normal(size=(3, 6)).astype("float32")
    np.testing.assert_allclose(program.call(given), model.predict(given, verbose=0), rtol=1e-5, atol=1e-6)


@pytest.mark.medium
def test_weights_of_onnx_files_in_8_bits(tmp_path, capsys):
    kerax.utils.set_random_seed(0)
    tokens, image = kerax.Input((6,), dtype="int32", name="tokens"), kerax.Input((12, 12, 3), name="image")
    x = layers.LSTM(24)(layers.Embedding(100, 32)(tokens))
    y = layers.Conv2DTranspose(16, 3, strides=2)(layers.Conv2D(64, 3)(image))
    z = layers.Concatenate()([x, layers.GlobalAveragePooling2D()(y)])
    model = kerax.Model([tokens, image], layers.Dense(5)(layers.Dense(64, activation="relu")(z)))
    sizes = {}
    for quantize in (None, "int8"):
        path = tmp_path / f"{quantize}.onnx"
        model.export(path, "onnx", quantize=quantize)
        sizes[quantize] = path.stat().st_size
    assert sizes["int8"] < 0.5 * sizes[None]
    assert f"onnx, {sizes['int8'] / 1e6:.3g} MB" in capsys.readouterr().out
    rng = np.random.default_rng(0)
    given = [rng.integers(0, 100, (4, 6)).astype("int32"), rng.normal(size=(4, 12, 12, 3)).astype("float32")]
    expected, (found,) = model.predict(given, verbose=0), run(tmp_path / "int8.onnx", *given)
    assert 0 < np.abs(found - expected).max() < 0.05 * np.abs(expected).max()
    held = onnx_ir.load(tmp_path / "int8.onnx").graph.initializers
    assert held["embedding/embeddings"].dtype == held["conv2d/kernel"].dtype == onnx_ir.DataType.INT8
    assert held["conv2d/kernel_scale"].shape == (64,) and held["embedding/embeddings_scale"].shape == (100,)
    assert held["dense_1/kernel"].dtype == onnx_ir.DataType.FLOAT  # too small
    with pytest.raises(ValueError, match="`quantize` must be None or 'int8'"):
        model.export(tmp_path / "x.onnx", "onnx", quantize="int3")


def test_every_format_has_an_extra():
    extras = {kind.extra for kind in formats.FORMATS.values() if kind.extra}
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert extras <= set(project["optional-dependencies"])


@pytest.fixture
def write(tmp_path):
    """Writes a function as ONNX, checks its numbers, and tells its operators."""

    def write(function, atol=1e-6, shape=(4,)):
        inputs = kerax.Input(shape)
        model = kerax.Model(inputs, layers.Lambda(function)(inputs))
        model.export(tmp_path / "model.onnx", "onnx", verbose=False, overwrite=True, verify=False)
        x = np.linspace(-9, 9, 2 * math.prod(shape), dtype="float32").reshape(2, *shape)
        np.testing.assert_allclose(run(tmp_path / "model.onnx", x)[0], model.predict(x, verbose=0), atol=atol)
        return [node.op_type for node in onnx_ir.load(tmp_path / "model.onnx").graph if node.op_type != "Identity"]

    return write


@pytest.mark.medium
def test_functions_that_have_an_operator_are_written_as_it(write):
    @jax.jit
    def relu6(x):
        return x - 1

    activations = kerax.activations
    assert write(activations.hard_swish) == ["HardSwish"]
    assert write(activations.hard_sigmoid) == ["HardSigmoid"]
    assert write(activations.relu6) == write(jax.nn.relu6) == ["Clip"]
    assert write(lambda x: activations.hard_swish(2 * x)) == ["Mul", "HardSwish"]
    assert write(relu6) == ["Sub"]  # another of the same name
    assert "HardSwish" not in write(lambda x: activations.hard_swish(x.astype("float16")).astype("float32"), 1e-2)


@pytest.mark.medium
def test_softmax_and_gelu_are_written_as_runtimes_have_them(write):
    softmax, gelu = kerax.activations.softmax, kerax.activations.gelu
    assert write(softmax) == ["Softmax"]
    assert write(softmax, shape=(3, 4)) == ["Softmax"]
    assert write(lambda x: softmax(softmax(x))) == ["Softmax", "Softmax"]
    for other in (lambda x: softmax(x, 1), lambda x: softmax(x, (1, 2))):
        assert "Softmax" not in write(other, shape=(3, 4))
    # What onnxruntime joins to one, with the bias before.
    assert write(gelu) == ["Div", "Erf", "Add", "Mul", "Mul"]
    assert write(lambda x: gelu(gelu(x))) == 2 * ["Div", "Erf", "Add", "Mul", "Mul"]
    assert "Div" not in write(lambda x: 0.5 * x * jax.lax.erfc(-x * 0.7))
