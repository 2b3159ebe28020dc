"""The files of a checkpoint in Hugging Face's form: `config.json`, and safetensors in one file or in several.

All of it is data: no pickle is opened and no code that a folder brings is run.
"""

import contextlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from kerax import places
from kerax.saving import h5_members, hub, safetensors_file

CONFIG, WHOLE, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
PATTERNS = ("*.json", "*.safetensors")
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_CODES = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}


def folder_of(path: Any, who: str, patterns: tuple[str, ...]) -> Path:
    """The folder of a checkpoint: of this computer, or with the files of `hf://user/name` that fit the patterns.

    Raises:
        FileNotFoundError: if there is no such folder.
    """
    if hub.is_address(path):
        return Path(hub.cached_files(path, who, list(patterns)))
    folder = Path(places.local_path(path, who))
    if not folder.is_dir():
        raise FileNotFoundError(2, f"{who}: expected a folder with {CONFIG}, or 'hf://user/name'", str(path))
    return folder


def read_json(path: Path, who: str) -> dict:
    """The object in a JSON file.

    Raises:
        FileNotFoundError: if it is not there.
        ValueError: if it holds no object.
    """
    if not path.is_file():
        raise FileNotFoundError(2, f"{who}: the folder has no {path.name}", str(path.parent))
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{who}: '{path}' is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{who}: '{path}' must hold an object. Got {type(found).__name__}.")
    return found


class Tensors:
    """The tensors in a folder's safetensors, by name; each is read when it is asked for.

    Args:
        folder: What has `model.safetensors`, or several files beside `model.safetensors.index.json`.
        who: What error messages begin with.
        whole: Name of the one file, where it is not `model.safetensors`.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if there are pickles only, a file is damaged, or the index and the files do not agree.
    """

    def __init__(self, folder: Path, who: str, whole: str = WHOLE):
        self.who, self._open = who, contextlib.ExitStack()
        try:
            self._files = self._find(folder, whole)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Tensors":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        """Closes the files."""
        self._open.close()

    def names(self) -> list[str]:
        """All names."""
        return list(self._files)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, from its file's header."""
        return tuple(self._files[name].get_slice(name).get_shape())

    def read(self, name: str) -> np.ndarray:
        """A tensor, in host memory of its own."""
        return self._files[name].get_tensor(name)

    def dtype(self) -> str:
        """Name of the dtype of the largest tensor."""
        largest = max(self._files, key=lambda name: math.prod(self.shape(name)))
        code = self._files[largest].get_slice(largest).get_dtype()
        names = {code: name for name, code in _CODES.items()}
        if code not in names:
            raise ValueError(f"{self.who}: {largest} has dtype {code}. Expected one of {tuple(_CODES)}.")
        return names[code]

    def _find(self, folder: Path, whole: str) -> dict[str, Any]:
        if (folder / whole).is_file():
            file = self._open_file(folder / whole)
            return {name: file for name in file.keys()}
        if not (folder / INDEX).is_file():
            self._refuse(folder, whole)
        places = read_json(folder / INDEX, self.who).get("weight_map")
        if not isinstance(places, dict) or not all(isinstance(place, str) for place in places.values()):
            raise ValueError(f"{self.who}: '{folder / INDEX}' must have a 'weight_map' of names and files.")
        outside = [place for place in places.values() if Path(place).name != place]
        if outside:
            raise ValueError(f"{self.who}: '{folder / INDEX}' names a file outside the folder: {outside[0]!r}.")
        files = {place: self._open_file(folder / place) for place in sorted(set(places.values()))}
        absent = [name for name, place in places.items() if name not in files[place].keys()]
        if absent:
            raise ValueError(f"{self.who}: '{folder / INDEX}' lists tensors that its files do not have: {absent[:8]}.")
        return {name: files[place] for name, place in places.items()}

    def _open_file(self, path: Path) -> Any:
        library = safetensors_file.library_of_safetensors()
        if not path.is_file():
            raise FileNotFoundError(2, f"{self.who}: a file of the checkpoint is missing", str(path))
        try:
            return self._open.enter_context(library.safe_open(str(path), "numpy"))
        except library.SafetensorError as error:
            raise ValueError(f"{self.who}: '{path}' is not a readable safetensors file: {error}") from None

    def _refuse(self, folder: Path, whole: str):
        pickles = [path.name for pattern in PICKLES for path in sorted(folder.glob(pattern))]
        if pickles:
            raise ValueError(
                f"{self.who}: '{folder}' has {pickles[0]}, a pickle, which may run code when it is read, and no "
                "safetensors. Where PyTorch is, `transformers.AutoModel.from_pretrained(FOLDER).save_pretrained(NEW)` "
                "writes them."
            )
        raise FileNotFoundError(2, f"{self.who}: the folder has neither {whole} nor {INDEX}", str(folder))


class Tensor(NamedTuple):
    """A tensor to be written: what is known of it before it is there, and how it is had."""

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], np.ndarray]

    @property
    def num_bytes(self) -> int:
        """Its size in bytes."""
        return math.prod(self.shape) * jnp.dtype(self.dtype).itemsize


def write_tensors(folder: Path, tensors: dict[str, Tensor], max_shard_size: int, whole: str = WHOLE) -> None:
    """Writes tensors to one file, or where they are larger than `max_shard_size` bytes to several and their index."""
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        if shards[-1] and size + tensor.num_bytes > max_shard_size:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += tensor.num_bytes
    if len(shards) == 1:
        _write_file(folder / whole, shards[0])
        return
    places: dict[str, str] = {}
    for index, shard in enumerate(shards, 1):
        file = f"model-{index:05d}-of-{len(shards):05d}.safetensors"
        _write_file(folder / file, shard)
        places |= dict.fromkeys(shard, file)
    total = sum(tensor.num_bytes for tensor in tensors.values())
    write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": places})


def _write_file(path: Path, tensors: dict[str, Tensor]):
    # The library writes what is in memory; written here one by one, a file is no larger than its largest tensor there.
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.num_bytes
        header[name] = {"dtype": _CODES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the numbers begin at a multiple of 8
    with h5_members.replacing(str(path)) as file:
        _write_all(file, [len(text).to_bytes(8, "little"), text])
        for name, tensor in tensors.items():
            value = tensor.read()
            if value.shape != tensor.shape or value.dtype.name != tensor.dtype:
                raise ValueError(f"{name}: expected {tensor.dtype}{tensor.shape}, got {value.dtype}{value.shape}.")
            _write_all(file, [np.ascontiguousarray(value).tobytes()])


def _write_all(file: IO[bytes], parts: list[bytes]):
    for part in parts:
        file.write(part)


def write_json(path: Path, value: dict) -> None:
    """Writes an object as JSON."""
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
