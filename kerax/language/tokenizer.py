"""`Tokenizer`: text to token ids and back by a folder's `tokenizer.json`, and chats as the text a model was trained on.

By the libraries `tokenizers` and `jinja2`: pip install 'kerax[text]'.
"""

import datetime
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kerax.language import files

FILE, CONFIG, SPECIAL, TEMPLATE = "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template"
# The characters that stand for bytes in vocabularies like GPT-2's: themselves where they can be seen, else from 256 on.
_SEEN = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_BYTES = {chr(byte): byte for byte in _SEEN}
_BYTES |= {chr(256 + at): byte for at, byte in enumerate(byte for byte in range(256) if byte not in _SEEN)}
_SPECIAL = ("bos_token", "eos_token", "pad_token", "unk_token", "sep_token", "cls_token", "mask_token")


class Tokenizer:
    """Text to token ids and back, as the files of a checkpoint say.

    Args:
        path: A folder with `tokenizer.json`, or `hf://user/name`. Beside it `tokenizer_config.json` and
            `generation_config.json` name the special tokens and those that end an answer, and
            `chat_template.jinja` or the config has the template of chats.

    Attributes:
        special_tokens: `{"eos_token": "</s>", ...}`, those that the files name.
        chat_template: The template, or `None`.
        stop_tokens: Ids that end an answer: for `generate`.
        pad_id: Id that fills up shorter rows: that of `pad_token`, else of `eos_token`, else 0.

    Raises:
        ImportError: if `tokenizers` is not installed.
        FileNotFoundError: if there is no `tokenizer.json`.
        ValueError: if a file cannot be read.
    """

    def __init__(self, path: Any):
        library = _library("tokenizers")
        folder = files.folder_of(path, "Tokenizer", ("*.json", "*.jinja"))
        if not (folder / FILE).is_file():
            raise FileNotFoundError(
                2,
                f"Tokenizer: the folder has no {FILE}; where `transformers` is, "
                "`AutoTokenizer.from_pretrained(FOLDER).save_pretrained(NEW)` writes it",
                str(folder),
            )
        self._text = (folder / FILE).read_text(encoding="utf-8")
        try:
            self._tokenizer = library.Tokenizer.from_str(self._text)
        except Exception as error:  # the library raises no other class
            raise ValueError(f"Tokenizer: '{folder / FILE}' cannot be read: {error}") from None
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.config = _read_if_there(folder / CONFIG)
        found = _read_if_there(folder / SPECIAL) | self.config
        each = {name: found.get(name) for name in _SPECIAL}
        texts = {name: token["content"] if isinstance(token, dict) else token for name, token in each.items()}
        self.special_tokens: dict[str, str] = {name: token for name, token in texts.items() if token is not None}
        self.chat_template = _find_template(folder, self.config)
        self.stop_tokens = self._find_stop_tokens(_read_if_there(folder / "generation_config.json"))
        known = [self.token_id(self.special_tokens.get(name, "")) for name in ("pad_token", "eos_token")]
        self.pad_id = next((number for number in known if number is not None), 0)

    def _find_stop_tokens(self, generation: dict) -> list[int]:
        named = generation.get("eos_token_id")
        found = [] if named is None else named if isinstance(named, list) else [named]
        own = self.token_id(self.special_tokens.get("eos_token", ""))
        return found if own is None or own in found else [*found, own]

    @property
    def vocabulary_size(self) -> int:
        """Number of tokens, added ones too."""
        return self._tokenizer.get_vocab_size()

    def token_id(self, token: str) -> int | None:
        """The id of a token, or `None`."""
        return self._tokenizer.token_to_id(token)

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """The ids of a text.

        Args:
            add_special_tokens: Whether to add those that the tokenizer puts around each text, such as a beginning.
        """
        return self._tokenizer.encode(text, add_special_tokens=add_special_tokens).ids

    def encode_with_places(self, text: str, add_special_tokens: bool = True) -> tuple[list[int], list[tuple[int, int]]]:
        """The ids of a text, and where in it each begins and ends, equal for tokens that are not in it."""
        found = self._tokenizer.encode(text, add_special_tokens=add_special_tokens)
        return found.ids, found.offsets

    def encode_batch(
        self, texts: Sequence[str], add_special_tokens: bool = True, length: int | None = None, padding: str = "right"
    ) -> tuple[np.ndarray, np.ndarray]:
        """The ids of several texts as one array.

        Args:
            add_special_tokens: As in `encode`.
            length: Size of the rows. Default: the longest text's.
            padding: Where shorter texts are filled up with `pad_id`: `"right"` or `"left"`.

        Returns: ids `(batch, length)`, int32, and a mask of the same shape, true where an id is of the text.

        Raises:
            ValueError: if a text is longer than `length`.
        """
        found = self._tokenizer.encode_batch(list(texts), add_special_tokens=add_special_tokens)
        return pad([one.ids for one in found], self.pad_id, length, padding)

    def decode(self, ids: Any, skip_special_tokens: bool = True) -> str:
        """The text of ids."""
        return self._tokenizer.decode(np.asarray(ids).tolist(), skip_special_tokens=skip_special_tokens)

    def decode_batch(self, ids: Any, skip_special_tokens: bool = True) -> list[str]:
        """The texts of rows of ids."""
        rows = [np.asarray(row).tolist() for row in ids]
        return self._tokenizer.decode_batch(rows, skip_special_tokens=skip_special_tokens)

    def token_bytes(self, token: int) -> bytes:
        """What a token stands for, in UTF-8; of some that is a part of a character."""
        anchor = self.encode("a", add_special_tokens=False)[-1]  # before it, so that a space at its beginning is kept
        alone = self.decode([anchor], skip_special_tokens=False)
        text = self.decode([anchor, token], skip_special_tokens=False)[len(alone) :]
        written = self._tokenizer.id_to_token(int(token)) or ""
        if "\ufffd" not in text:
            return text.encode()
        if written.startswith("<0x"):
            return bytes([int(written[3:-1], 16)])
        return bytes(_BYTES.get(character, 0x3F) for character in written)

    def apply_chat_template(
        self, messages: Sequence[dict], add_generation_prompt: bool = True, tokenize: bool = True, **variables: Any
    ) -> Any:
        """A chat as the model has seen chats in its training.

        Args:
            messages: `{"role": "system", "user" or "assistant", "content": ...}` in their order.
            add_generation_prompt: Whether the text ends where an answer begins.
            tokenize: Whether to return ids rather than text.
            **variables: What else the template asks for, such as `tools`.

        Returns: a list of ids, or the text.

        Raises:
            ValueError: if there is no template, or it fails, as some do for roles that they do not know.
            ImportError: if `jinja2` is not installed.
        """
        if self.chat_template is None:
            raise ValueError(
                "apply_chat_template: the tokenizer has no chat template. Set `tokenizer.chat_template` to one, in "
                "Jinja, or encode a text of your own."
            )
        values = self.special_tokens | {"messages": list(messages), "add_generation_prompt": add_generation_prompt}
        text = render(self.chat_template, values | variables)
        return self.encode(text, add_special_tokens=False) if tokenize else text

    def save(self, folder: str | os.PathLike) -> None:
        """Writes the files, so that they lie beside a model's."""
        to = Path(folder)
        to.mkdir(parents=True, exist_ok=True)
        (to / FILE).write_text(self._text, encoding="utf-8")
        kept = {name: value for name, value in self.config.items() if name != TEMPLATE}
        files.write_json(to / CONFIG, kept | self.special_tokens)
        if self.chat_template is not None:
            (to / f"{TEMPLATE}.jinja").write_text(self.chat_template, encoding="utf-8")


def pad(
    rows: Sequence[Sequence[int]], pad_id: int, length: int | None = None, padding: str = "right"
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of ids as one array, and where it has ids of theirs: as `Tokenizer.encode_batch` returns them."""
    if padding not in ("right", "left"):
        raise ValueError(f"encode_batch: `padding` must be 'right' or 'left'. Got {padding!r}.")
    longest = max(map(len, rows), default=0)
    length = longest if length is None else length
    if longest > length:
        raise ValueError(f"encode_batch: a text has {longest} tokens. Got length={length}; give a larger one.")
    ids, mask = np.full((len(rows), length), pad_id, np.int32), np.zeros((len(rows), length), bool)
    for index, row in enumerate(rows):
        place = slice(0, len(row)) if padding == "right" else slice(length - len(row), length)
        ids[index, place], mask[index, place] = row, True
    return ids, mask


def render(template: str, values: dict[str, Any]) -> str:
    """The text of a chat template, in a sandbox: it sees the values and nothing else, and can change none of them.

    Raises:
        ValueError: saying what the template says, if it fails.
        ImportError: if `jinja2` is not installed.
    """
    jinja2 = _library("jinja2")
    from jinja2 import ext
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def raise_exception(message):
        raise jinja2.TemplateError(message)

    # What templates written for `transformers` count on.
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[ext.loopcontrols])
    environment.filters["tojson"] = lambda value, indent=None: json.dumps(value, ensure_ascii=False, indent=indent)
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
    try:
        return environment.from_string(template).render(**values)
    except Exception as error:  # whatever the template does wrong: it is data
        raise ValueError(f"apply_chat_template: the template failed: {type(error).__name__}: {error}") from None


def _find_template(folder: Path, config: dict) -> str | None:
    if (folder / f"{TEMPLATE}.jinja").is_file():
        return (folder / f"{TEMPLATE}.jinja").read_text(encoding="utf-8")
    found = config.get(TEMPLATE)
    if isinstance(found, list):  # several under names
        found = {one["name"]: one["template"] for one in found}.get("default")
    return found


def _read_if_there(path: Path) -> dict:
    return files.read_json(path, "Tokenizer") if path.is_file() else {}


def _library(name: str) -> Any:
    try:
        return __import__(name)
    except ImportError as error:
        raise ImportError(f"kerax.language: text needs {name}: pip install 'kerax[text]'.") from error
