"""TensorFlow Serving's REST: `:predict` and `:classify`, status and metadata.

The protocol: https://www.tensorflow.org/tfx/serving/api_rest
"""

import base64
import binascii
from typing import Any

import numpy as np

from kerax.serve.labels import best_classes
from kerax.serve.tensors import TEXT, RequestError, TensorSpec
from kerax.serve.uploads import read_image

SIGNATURE = "serving_default"
_DTYPES = {"float32": "DT_FLOAT", "float64": "DT_DOUBLE", "float16": "DT_HALF", TEXT: "DT_STRING"}


def read(entry, data: Any, key: str = "instances") -> tuple[dict[str, Any], bool]:
    """The inputs that a request gives, by name, and whether the answer is to be by rows.

    Args:
        key: What the list of rows is called: `"instances"`, or for `:classify` `"examples"`.

    Raises:
        RequestError: (400) saying what the body must hold.
    """
    if not isinstance(data, dict) or (key in data) == ("inputs" in data):
        raise RequestError(400, f"the body must be an object with either `{key}` or `inputs`.")
    if data.get("signature_name", SIGNATURE) != SIGNATURE:
        raise RequestError(400, f"`signature_name` must be {SIGNATURE!r}. Got {data['signature_name']!r}.")
    if key in data:
        given = _columns(entry, data[key], key)
    else:
        given = data["inputs"] if _is_named(data["inputs"]) else {_only_input(entry): data["inputs"]}
    known = {spec.name: spec for spec in entry.inputs}
    return {
        name: _decode(known[name], value, entry.scale) if name in known else value for name, value in given.items()
    }, key in data


def write(entry, outputs: list[np.ndarray], by_rows: bool) -> dict:
    """The answer: a single output as it is, several by their names."""
    names = [spec.name for spec in entry.outputs]
    lists = [plain(output).tolist() for output in outputs]
    if not by_rows:
        return {"outputs": lists[0] if len(lists) == 1 else dict(zip(names, lists))}
    return {"predictions": lists[0] if len(lists) == 1 else [dict(zip(names, row)) for row in zip(*lists)]}


def write_classes(entry, outputs: list[np.ndarray], count: int) -> dict:
    """The answer of `:classify`: for each row pairs of a name and its score, the best first."""
    found = best_classes(outputs[0], entry.labels, count)
    return {"result": [[[name, score] for score, _, name in row] for row in found]}


def plain(array: np.ndarray) -> np.ndarray:
    """An array whose `tolist` gives Python's own numbers."""
    return array.astype(np.float32) if array.dtype.kind == "V" else array  # bfloat16 and other kinds that NumPy has not


def metadata(entry) -> dict:
    """What a model takes and gives, in the words of SavedModel's signatures."""

    def tensors(specs: list[TensorSpec]) -> dict:
        return {
            spec.name: {
                "dtype": _DTYPES.get(spec.dtype, f"DT_{spec.dtype.upper()}"),
                "tensor_shape": {
                    "dim": [{"size": str(-1 if size is None else size), "name": ""} for size in (None, *spec.shape)],
                    "unknown_rank": False,
                },
                "name": spec.name,
            }
            for spec in specs
        }

    signature: dict = {"inputs": tensors(entry.inputs), "outputs": tensors(entry.outputs)}
    signature["method_name"] = "tensorflow/serving/predict"
    return {
        "model_spec": {"name": entry.name, "signature_name": "", "version": entry.version},
        "metadata": {"signature_def": {"signature_def": {SIGNATURE: signature}}},
    }


def status(entries: list) -> dict:
    """The states of a model's versions."""
    return {
        "model_version_status": [
            {
                "version": entry.version,
                "state": "AVAILABLE" if entry.is_ready else "END" if entry.error else "LOADING",
                "status": {"error_code": "UNKNOWN" if entry.error else "OK", "error_message": entry.error or ""},
            }
            for entry in entries
        ]
    }


def _only_input(entry) -> str:
    if len(entry.inputs) != 1:
        names = [spec.name for spec in entry.inputs]
        raise RequestError(400, f"{entry.name!r} has the inputs {names}: give each by its name.")
    return entry.inputs[0].name


def _columns(entry, rows: Any, key: str) -> dict[str, list]:
    if not isinstance(rows, list) or not rows:
        raise RequestError(400, f"`{key}` must be a list of one row or more.")
    if not _is_named(rows[0]):
        return {_only_input(entry): rows}
    names = rows[0].keys()
    for index, row in enumerate(rows):
        if not isinstance(row, dict) or row.keys() != names:
            raise RequestError(400, f"`{key}`: row {index} must have the inputs {list(names)}, as row 0 has.")
    return {name: [row[name] for row in rows] for name in names}


def _is_named(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() != {"b64"}


def _decode(spec: TensorSpec, value: Any, scale: float) -> Any:
    """Values with what is written in base 64 decoded: texts, and the files of pictures."""
    if isinstance(value, list) and (spec.dtype == TEXT or spec.is_image):
        return [_decode(spec, item, scale) for item in value] if _holds_bytes(value) else value
    if not isinstance(value, dict):
        return value
    try:
        content = base64.b64decode(value["b64"], validate=True)
    except (KeyError, TypeError, ValueError, binascii.Error):
        raise RequestError(400, f"input {spec.name!r}: expected {spec.describe()}, or {{'b64': text}}.") from None
    return read_image(spec, content, scale) if spec.is_image else content


def _holds_bytes(value: list) -> bool:
    first = value[0] if value else None
    return isinstance(first, dict) or (isinstance(first, list) and _holds_bytes(first))
