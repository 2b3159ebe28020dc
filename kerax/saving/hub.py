"""Models in the Hugging Face Hub: `hf://user/name`, through `huggingface_hub`.

A repository holds what a `.keras` file does, as files, so that Keras loads it too, beside a card, `README.md`. A commit
is whole or not at all. What is loaded is data, as from any file.
"""

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kerax.saving import archive, weights_h5

_ADDRESS = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")
CARD, WEIGHTS = "README.md", "model.weights.h5"


def is_address(path: Any) -> bool:
    """Whether a path is an address of the hub."""
    return isinstance(path, (str, bytes, os.PathLike)) and os.fsdecode(path).startswith("hf://")


def parse(address: Any, who: str) -> tuple[str, str | None]:
    """The repository, `user/name`, and the revision of `hf://user/name@revision`.

    Raises:
        ValueError: if it is none.
    """
    match = _ADDRESS.fullmatch(os.fsdecode(address).rstrip("/"))
    if not match:
        raise ValueError(f"{who}: expected 'hf://user/name', with '@revision' if wanted. Got {address!r}.")
    return match[1], match[2]


def _hub(who: str) -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise ImportError(f"{who}: 'hf://' needs huggingface_hub: pip install 'kerax[hub]'.") from error
    return huggingface_hub


def push_to_hub(
    model,
    repo_id: str,
    *,
    description: str = "",
    data: str = "",
    metrics: Mapping[str, float] | None = None,
    license: str | None = None,
    tags: tuple[str, ...] = (),
    private: bool | None = None,
    revision: str | None = None,
    commit_message: str = "A model of kerax",
    token: str | bool | None = None,
) -> str:
    """Puts a model into a repository of the Hugging Face Hub, made if it is not there, with a card that tells what it
    is, what it was trained on, how well it does and how it is loaded.

    Args:
        model: A built model.
        repo_id: `"user/name"` or `"hf://user/name"`.
        description: What the model is for, Markdown.
        data: What it was trained on, Markdown; the name of a data set of the hub is linked.
        metrics: `{name: number}`, as `evaluate(..., return_dict=True)` returns them.
        license: Identifier of the licence, such as `"apache-2.0"`.
        tags: Words to be found by.
        private: Whether a new repository is private. Default: what the account says.
        revision: Branch. Default: `"main"`.
        commit_message: Of the commit.
        token: Default: of `hf auth login`, or `HF_TOKEN`.

    Returns: the address, `"hf://user/name"`.

    Raises:
        ValueError: if `repo_id` is none, or the model is not built.
        ImportError: if `huggingface_hub` is not installed.
    """
    address = repo_id if is_address(repo_id) else f"hf://{repo_id}"
    repo, given = parse(address, "push_to_hub")
    if not model.built:
        raise ValueError(f"push_to_hub: {model} is not built. Call it on data or `build` it first.")
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder, "model")
        archive.save_model(model, str(files), zipped=False)
        card = _card(model, repo, description, data, metrics or {}, license, tags)
        (files / CARD).write_text(card, encoding="utf-8")
        _upload(files, repo, revision or given, commit_message, token, private)
    return f"hf://{repo}"


def save_model(model, address: Any, overwrite: bool) -> None:
    """As `push_to_hub`, with a card of what the model says itself; one that somebody has written stays."""
    repo, revision = parse(address, "save_model")
    known = _names(repo, revision, "save_model")
    if not overwrite and "config.json" in known:
        raise ValueError(f"save_model: {str(address)!r} holds a model. Pass `overwrite=True` to replace it.")
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder, "model")
        archive.save_model(model, str(files), zipped=False)
        if CARD not in known:
            (files / CARD).write_text(_card(model, repo, "", "", {}, None, ()), encoding="utf-8")
        _upload(files, repo, revision, "A model of kerax", None, None)


def save_weights(model, address: Any, overwrite: bool, objects_to_skip) -> None:
    """Puts the weights alone into a repository, as `model.weights.h5`."""
    repo, revision = parse(address, "save_weights")
    if not overwrite and WEIGHTS in _names(repo, revision, "save_weights"):
        raise ValueError(f"save_weights: {str(address)!r} holds weights. Pass `overwrite=True` to replace them.")
    with tempfile.TemporaryDirectory() as folder:
        weights_h5.save(model, os.path.join(folder, WEIGHTS), objects_to_skip=objects_to_skip)
        _upload(Path(folder), repo, revision, "Weights of kerax", None, None)


def cached_files(address: Any, who: str, patterns: str | list[str] | None = None) -> str:
    """The folder in the hub's cache with a repository's files, or those that fit patterns: to be read, not written to.

    Raises:
        FileNotFoundError: if there is no such repository, or it may not be read.
    """
    hub = _hub(who)
    repo, revision = parse(address, who)
    try:
        return hub.snapshot_download(repo, revision=revision, allow_patterns=patterns)
    except (hub.errors.RepositoryNotFoundError, hub.errors.RevisionNotFoundError) as error:
        raise FileNotFoundError(
            2, f"{who}: there is no such repository, or it may not be read", str(address)
        ) from error


@contextlib.contextmanager
def files_of(address: Any, who: str, only: str | None = None) -> Iterator[str]:
    """A folder with a repository's files, or one of them, for the block.

    Raises:
        FileNotFoundError: if there is no such repository or file, or it may not be read.
    """
    found = cached_files(address, who, only)
    with tempfile.TemporaryDirectory() as folder:
        copy = os.path.join(folder, "model")
        shutil.copytree(found, copy)  # the cache's files are links, which no model's files may be
        if only is not None and not os.path.exists(os.path.join(copy, only)):
            raise FileNotFoundError(2, f"{who}: the repository has no {only}", str(address))
        yield copy if only is None else os.path.join(copy, only)


def _names(repo: str, revision: str | None, who: str) -> list[str]:
    """The names of a repository's files; none if there is no repository."""
    hub = _hub(who)
    try:
        return hub.HfApi().list_repo_files(repo, revision=revision)
    except (hub.errors.RepositoryNotFoundError, hub.errors.RevisionNotFoundError):
        return []


def _upload(folder: Path, repo: str, revision, message: str, token, private):
    api = _hub("save_model").HfApi(token=token)
    api.create_repo(repo, private=private, exist_ok=True)
    api.upload_folder(repo_id=repo, folder_path=str(folder), revision=revision, commit_message=message)


def _card(model, repo: str, description: str, data: str, metrics: Mapping, license: str | None, tags) -> str:
    import yaml

    head: dict[str, Any] = {"library_name": "keras", "tags": ["kerax", "keras", *tags]}
    if license is not None:
        head["license"] = license
    if re.fullmatch(r"[\w.-]+(/[\w.-]+)?", data):
        head["datasets"] = [data]
    lines: list[str] = []
    model.summary(print_fn=lines.append, line_length=90)
    parts = [
        f"# {repo.partition('/')[2]}",
        description or f"A {type(model).__name__} of {model.count_params():,} weights.",
        f'## Use\n\n```python\nimport kerax  # or keras\n\nmodel = kerax.saving.load_model("hf://{repo}")\n```',
    ]
    if data:
        parts.append(f"## Data\n\n{data}")
    if metrics:
        rows = "\n".join(f"| {name} | {float(value):.6g} |" for name, value in metrics.items())
        parts.append(f"## Metrics\n\n| | |\n| --- | --- |\n{rows}")
    parts.append("## Model\n\n```text\n" + "\n".join(lines).strip() + "\n```")
    return f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n\n" + "\n\n".join(parts) + "\n"
