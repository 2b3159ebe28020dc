"""KServe's V2 protocol, also called Open Inference Protocol: JSON, and tensors as bytes after it.

The protocol: https://github.com/kserve/open-inference-protocol and its extensions for binary tensors and
classification: https://github.com/triton-inference-server/server/tree/main/docs/protocol
"""

import json
import math
from typing import Any

import numpy as np

from kerax.serve.labels import best_classes
from kerax.serve.tensors import TEXT, RequestError, TensorSpec
from kerax.serve.tf_serving import plain

HEADER = "Inference-Header-Content-Length"
EXTENSIONS = ["binary_tensor_data", "classification", "model_repository"]
DATATYPES = {
    "BOOL": "bool",
    **{
        f"{'UINT' if sign == 'uint' else 'INT'}{bits}": f"{sign}{bits}"
        for sign in ("uint", "int")
        for bits in (8, 16, 32, 64)
    },
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
    "BF16": "bfloat16",
    "BYTES": TEXT,
}
_NAMES = {dtype: name for name, dtype in DATATYPES.items()}


def read(data: Any, tail: memoryview) -> dict[str, np.ndarray]:
    """The inputs that a request gives, by name.

    Args:
        data: The JSON.
        tail: The bytes after it.

    Raises:
        RequestError: (400) naming the input.
    """
    if not isinstance(data, dict) or not isinstance(data.get("inputs"), list):
        raise RequestError(400, "the body must be an object with a list `inputs`.")
    given, at = {}, 0
    for item in data["inputs"]:
        name = item.get("name") if isinstance(item, dict) else None
        if not isinstance(name, str) or name in given:
            raise RequestError(400, f"each of `inputs` must be an object with a `name` of its own. Got {name!r}.")
        datatype, shape = item.get("datatype"), item.get("shape")
        if datatype not in DATATYPES:
            raise RequestError(
                400, f"input {name!r}: `datatype` must be one of {', '.join(DATATYPES)}. Got {datatype!r}."
            )
        if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
            raise RequestError(400, f"input {name!r}: `shape` must be a list of sizes. Got {shape!r}.")
        count = math.prod(shape)
        size = (item.get("parameters") or {}).get("binary_data_size")
        try:
            if size is None:
                values = _of_json(item["data"], DATATYPES[datatype])
            else:
                values = _of_bytes(tail[at : at + int(size)], DATATYPES[datatype])
                at += int(size)
            if values.size != count:
                raise ValueError(f"expected {count} values for shape {shape}. Got {values.size}.")
        except (KeyError, ValueError, TypeError, OverflowError) as error:
            message = "`data` is missing" if isinstance(error, KeyError) else str(error)
            raise RequestError(400, f"input {name!r}: {message}") from None
        given[name] = values.reshape(shape)
    if at != len(tail):
        raise RequestError(400, f"there are {len(tail)} bytes after the JSON, and inputs for {at}.")
    return given


def _of_json(data: Any, dtype: str) -> np.ndarray:
    values = np.asarray(data)
    if dtype == TEXT:
        return values
    if values.dtype.kind not in "biuf":
        raise ValueError(f"expected numbers in `data`, all rows of one length. Got {values.dtype.name}.")
    # Its own dtype is the model's to check: a FP32 that is given as INT64 is as good as a number in JSON.
    return values


def _of_bytes(data: memoryview, dtype: str) -> np.ndarray:
    if dtype != TEXT:
        return np.frombuffer(data, _numpy_dtype(dtype))
    texts, at = [], 0
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "little")
        if end > len(data):
            raise ValueError("a text is cut off: each is its length in 4 bytes, the lowest first, and its bytes.")
        texts.append(bytes(data[at + 4 : end]))
        at = end
    return np.array(texts, object)


def _numpy_dtype(name: str) -> np.dtype:
    if name == "bfloat16":
        import ml_dtypes  # NumPy knows the name once it is loaded; JAX needs it, so it is there

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name).newbyteorder("<")


def write(entry, data: dict, outputs: list[np.ndarray]) -> tuple[dict, list[bytes]]:
    """The answer: its JSON, and the tensors that are to follow it as bytes.

    Raises:
        RequestError: (400) if `outputs` asks for what the model has not.
    """
    found = dict(zip([spec.name for spec in entry.outputs], outputs))
    asked = data.get("outputs") or [{"name": name} for name in found]
    all_binary = (data.get("parameters") or {}).get("binary_data_output", False)
    answers, tails = [], []
    for item in asked:
        name = item.get("name") if isinstance(item, dict) else item
        if name not in found:
            raise RequestError(400, f"`outputs`: {entry.name!r} has {list(found)}. Got {name!r}.")
        parameters, array = item.get("parameters") or {}, found[name]
        if count := parameters.get("classification"):
            array = _classes(array, entry.labels, count)
        dtype = TEXT if array.dtype.kind in "OU" else array.dtype.name
        answer = {"name": name, "datatype": _NAMES[dtype], "shape": list(array.shape)}
        if parameters.get("binary_data", all_binary):
            tails.append(_to_bytes(array))
            answer["parameters"] = {"binary_data_size": len(tails[-1])}
        else:
            answer["data"] = plain(array).ravel().tolist()
        answers.append(answer)
    head = {"model_name": entry.name, "model_version": entry.version, "outputs": answers}
    return head | ({"id": data["id"]} if "id" in data else {}), tails


def _classes(scores: np.ndarray, labels: list[str] | None, count: Any) -> np.ndarray:
    if type(count) is not int or count < 1:
        raise RequestError(400, f"`classification` must be a number of classes. Got {count!r}.")
    found = best_classes(scores, labels, count)
    return np.array([[f"{score:f}:{number}:{name}" for score, number, name in row] for row in found])


def _to_bytes(array: np.ndarray) -> bytes:
    if array.dtype.kind not in "OU":
        return array.tobytes()
    texts = [str(text).encode() for text in array.ravel()]
    return b"".join(len(text).to_bytes(4, "little") + text for text in texts)


def metadata(entry, versions: list[str]) -> dict:
    """What a model takes and gives."""

    def tensors(specs: list[TensorSpec]) -> list[dict]:
        sizes = [[-1 if size is None else size for size in (None, *spec.shape)] for spec in specs]
        return [
            {"name": spec.name, "datatype": _NAMES[spec.dtype], "shape": shape} for spec, shape in zip(specs, sizes)
        ]

    return {
        "name": entry.name,
        "versions": versions,
        "platform": entry.platform,
        "inputs": tensors(entry.inputs),
        "outputs": tensors(entry.outputs),
    }


def split(body: bytes, length: str | None) -> tuple[bytes, memoryview]:
    """The JSON of a body, and what follows. Raises `RequestError` for a header that says otherwise."""
    if length is None:
        return body, memoryview(b"")
    if not length.isdecimal() or int(length) > len(body):
        raise RequestError(400, f"{HEADER} must be a number of at most {len(body)}. Got {length!r}.")
    return body[: int(length)], memoryview(body)[int(length) :]


def to_json(head: dict) -> bytes:
    """A head as the bytes that its tensors follow."""
    return json.dumps(head).encode()
