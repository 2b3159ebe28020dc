"""`kerax export`: files from files, and what is told about mistakes."""

import onnx_ir
import pytest

import kerax
from kerax.cli import main


@pytest.fixture
def model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kerax.Sequential([kerax.Input((4,), name="row"), kerax.layers.Dense(3)]).save("model.keras")
    return tmp_path


def test_a_file_becomes_one_of_another_runtime(model, capsys):
    assert main(["export", "model.keras", "model.onnx", "--batch", "5", "--opset", "19"]) == 0
    assert "run in onnxruntime, differs by" in capsys.readouterr().out
    graph = onnx_ir.load(model / "model.onnx").graph
    assert list(graph.inputs[0].shape) == [5, 4] and graph.opset_imports[""] == 19
    assert main(["export", "model.keras", "model", "--format", "jax", "--batch", "dynamic", "--unverified"]) == 0
    assert "not checked" in capsys.readouterr().out
    assert main(["export", "model.keras", "model.onnx", "--overwrite"]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model.keras"], "two paths, MODEL and OUT"),
        ([], "MODEL OUT"),
        (["model.keras", "out"], "its ending tells no format"),
        (["model.keras", "out", "--format", "onxx"], "Did you mean 'onnx'"),
        (["model.keras", "out.onnx", "--batch", "none"], "--batch: expected a whole number"),
        (["model.keras", "out.onnx", "--opset", "-1"], "--opset: expected a whole number"),
        (["model.keras", "out.onnx", "--size", "3"], "unknown option --size"),
        (["model.keras", "out.xml", "--quantize", "int8"], "has no argument 'quantize'"),
        (["nothing.keras", "out.onnx"], "nothing.keras"),
    ],
)
def test_mistakes_are_told_in_a_line(words, message, model, capsys):
    assert main(["export", *words]) == 2
    assert message in capsys.readouterr().err
    assert sorted(path.name for path in model.iterdir()) == ["model.keras"]
