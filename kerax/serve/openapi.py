"""The description of a server's routes that tools read, with an example for each model."""

import math
from collections.abc import Callable
from typing import Any

from kerax.serve.kserve import metadata
from kerax.serve.language import LanguageModel
from kerax.serve.tensors import TEXT, TensorSpec
from kerax.version import __version__

_MOST_NUMBERS = 1000  # in an example; nobody reads a photograph


def describe(entries: list) -> dict:
    """An OpenAPI document of the models' routes."""
    paths: dict[str, Any] = {
        "/v2": _get("Name and extensions of the server."),
        "/v2/health/live": _get("Whether the server runs."),
        "/v2/health/ready": _get("Whether all models are ready (200), or not (503)."),
        "/v2/models": _get("Inputs and outputs of all models."),
        "/metrics": _get("Counters for Prometheus."),
    }
    texts = [entry for entry in entries if isinstance(entry.model, LanguageModel)]
    if texts:
        name = texts[0].name
        chat = {"model": name, "messages": [{"role": "user", "content": "What is the sea made of?"}]}
        paths["/v1/models"] = _get("The language models.")
        paths["/v1/completions"] = _ask("What follows a text.", {"model": name, "prompt": "The sea", "max_tokens": 16})
        paths["/v1/chat/completions"] = _ask("The answer in a chat.", chat)
    for entry in entries:
        if entry in texts:
            continue
        v1, v2 = (f"/{number}/models/{entry.name}/versions/{entry.version}" for number in ("v1", "v2"))
        paths[v2] = _get(f"Inputs and outputs of {entry.name}.")
        paths[f"{v2}/infer"] = _post(entry, "The outputs, as tensors.", "inputs", _tensors)
        paths[f"{v1}:predict"] = _post(entry, "The outputs, row by row.", "instances", _rows)
        paths[f"{v1}:classify"] = _post(entry, "The best classes, with their scores.", "examples", _rows)
        paths[f"/v2/repository/models/{entry.name}/load"] = {
            "post": {"summary": f"Reads {entry.name} anew.", "responses": _responses()}
        }
    return {"openapi": "3.1.0", "info": {"title": "kerax", "version": __version__}, "paths": paths}


def _get(summary: str) -> dict:
    return {"get": {"summary": summary, "responses": _responses()}}


def _ask(summary: str, example: dict) -> dict:
    content = {"application/json": {"schema": {"type": "object"}, "example": example}}
    body = {"required": True, "content": content}
    return {"post": {"summary": summary, "requestBody": body, "responses": _responses()}}


def _post(entry, summary: str, key: str, make: Callable[[Any], list]) -> dict:
    content: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
    if max(math.prod(size or 1 for size in spec.shape) for spec in entry.inputs) <= _MOST_NUMBERS:
        content["application/json"]["example"] = {key: make(entry)}
    pictures = [spec.name for spec in entry.inputs if spec.is_image]
    if pictures:
        fields = {name: {"type": "string", "format": "binary"} for name in pictures}
        content["multipart/form-data"] = {"schema": {"type": "object", "properties": fields}}
    body = {"required": True, "content": content}
    return {"post": {"summary": summary, "tags": [entry.name], "requestBody": body, "responses": _responses()}}


def _responses() -> dict:
    return {"200": {"description": "What was asked for."}, "default": {"description": "`error` says what is wrong."}}


def _tensors(entry) -> list[dict]:
    found = metadata(entry, [])["inputs"]
    for tensor, spec in zip(found, entry.inputs):
        tensor["shape"] = [1, *(size or 1 for size in spec.shape)]
        tensor["data"] = _value(spec, spec.shape)
    return found


def _rows(entry) -> list:
    values = {spec.name: _value(spec, spec.shape) for spec in entry.inputs}
    return [next(iter(values.values())) if len(values) == 1 else values]


def _value(spec: TensorSpec, shape: tuple) -> Any:
    """Zeros, or texts, in nested lists."""
    if not shape:
        return "text" if spec.dtype == TEXT else 0
    return [_value(spec, shape[1:])] * (shape[0] or 1)
