"""Every notebook runs from top to bottom at small size, gives what it is about, and is committed without outputs."""

import os
import re
from pathlib import Path
from typing import NamedTuple

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
MNIST, SHAKESPEARE = "mnist/t10k-images-idx3-ubyte.gz", "text/tinyshakespeare.txt"
ABALONE = "tabular/abalone.csv"


class Expected(NamedTuple):
    """What a notebook needs and prints.

    Args:
        prints: `{text before a number: (least, most)}`.
        data: Files in the folder that `$KERAX_DATASETS_DIR` names.
        packages: Beside those that all need.
    """

    prints: dict
    data: tuple = ()
    packages: tuple = ()


# The bounds are for the small size: little training on little data, far from chance but also from the full result.
EXPECTED = {
    "01_quickstart": Expected({"test accuracy ": (0.95, 1)}),
    "02_mnist_augmentation": Expected({"as they are: test accuracy ": (0.3, 1)}, (MNIST,)),
    "03_census_income": Expected({"test accuracy ": (0.8, 0.9)}, ("tabular/adult-train.csv",), ("pandas",)),
    "04_regression_and_forecasting": Expected(
        {"rings off by ": (1, 1.7), "forecast off by ": (1, 1.9)}, (ABALONE, "series/daily-min-temperatures.csv")
    ),
    "05_text_classification": Expected({"test accuracy ": (0.4, 0.9)}, (SHAKESPEARE,)),
    "06_text_generation": Expected(
        {"gpt validation loss ": (1, 3.1), "lstm validation loss ": (1, 3.3)}, (SHAKESPEARE,)
    ),
    "07_autoencoders": Expected({"squared error ": (0, 0.12), "VAE test loss ": (80, 400)}, (MNIST,)),
    "08_gan": Expected({"classifier accuracy ": (0.7, 1), "sure of ": (0, 1)}),
    "09_transfer_and_distillation": Expected(
        {"frozen base: test accuracy ": (0.35, 1), "distilled student (25,450 parameters): test accuracy ": (0.5, 1)},
        (MNIST,),
    ),
    "10_pure_functions": Expected({"loop: test accuracy ": (0.9, 1), "ensemble: test accuracy ": (0.9, 1)}),
    "11_several_inputs_and_outputs": Expected({"rings off by ": (1, 1.8), "sex accuracy ": (0.45, 1)}, (ABALONE,)),
    "12_checkpoints": Expected({"went on with epoch ": (3, 3), "test accuracy ": (0.85, 1)}),
    "13_deploying": Expected(
        {
            "onnxruntime: test accuracy ": (0.8, 1),
            "largest difference ": (0, 1e-5),
            "served: test accuracy ": (0.8, 1),
            "exit code ": (0, 0),
        },
        packages=("onnx_ir", "onnxruntime", "starlette", "PIL"),
    ),
}


def read(path):
    return pytest.importorskip("nbformat").read(path, as_version=4)


def test_every_notebook_has_its_expectations():
    assert [path.stem for path in NOTEBOOKS] == list(EXPECTED)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_committed_without_outputs(path):
    cells = [cell for cell in read(path).cells if cell.cell_type == "code"]
    assert cells
    assert all(cell.outputs == [] and cell.execution_count is None for cell in cells)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(path, tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient")
    prints, data, packages = EXPECTED[path.stem]
    for name in ("ipykernel", "matplotlib", *packages):
        pytest.importorskip(name)
    for name in data:
        if not (Path(os.environ.get("KERAX_DATASETS_DIR", "")) / name).is_file():
            pytest.skip(f"KERAX_DATASETS_DIR names no folder with {name}")
    monkeypatch.setenv("KERAX_NOTEBOOK_SIZE", "small")
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "true")  # compiling is most of the time
    notebook = read(path)
    nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    printed = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))
    for text, (least, most) in prints.items():
        value = float(re.search(re.escape(text) + r"([0-9.]*[0-9])", printed).group(1))
        assert least <= value <= most, f"{text}{value}"
    if "equal to the bit" in printed:
        assert "equal to the bit: True" in printed
