"""Callbacks that send or add numbers: `JSONLogger`, `RemoteMonitor`, `LearningRateLogger`."""

import json
import math
import os
import warnings

import numpy as np

from kerax.callbacks.callback import Callback, read_rates
from kerax.callbacks.history import FileLogger


class JSONLogger(FileLogger):
    """One JSON object per epoch and line: `{"epoch": 0, "loss": 0.3, ...}`.

    Each line is in the file as soon as its epoch has ended. NaN and infinity, which JSON does not have, are written as
    `null`. Read the file back with `pandas.read_json(filename, lines=True)`. Keras has no such callback.

    Args:
        filename: Path of the file; its folder is made.
        append: Whether to go on in an existing file instead of replacing it.
    """

    def __init__(self, filename, append: bool = False):
        super().__init__(filename, append)

    def on_train_begin(self, logs=None):
        goes_on = self._begin()
        os.makedirs(os.path.dirname(os.path.abspath(self._path)), exist_ok=True)
        # Bytes, and readable: what the last byte is decides whether a newline is missing.
        self._file = open(self._path, "a+b" if goes_on else "w+b")
        if self._file.seek(0, os.SEEK_END):  # a line that a killed run left unfinished shall not swallow the next
            self._file.seek(-1, os.SEEK_END)
            if self._file.read(1) != b"\n":
                self._file.write(b"\n")

    def on_epoch_end(self, epoch, logs=None):
        self._file.write((to_json({"epoch": epoch} | dict(logs or {})) + "\n").encode())
        self._publish()


class RemoteMonitor(Callback):
    """Sends `{"epoch": 0, "loss": 0.3, ...}` to a server after each epoch, by HTTP POST.

    Training goes on when the server cannot be reached or refuses; a warning says so once. NaN and infinity are sent as
    `null`.

    Args:
        root: Address of the server, `http://` or `https://`.
        path: Path under it.
        field: Name of the form's field that holds the JSON; unused with `send_as_json`.
        headers: Further HTTP headers, a dict.
        send_as_json: Whether the body is the JSON itself, of type `application/json`, instead of a form.

    Raises:
        ValueError: if `root` is no HTTP address.
    """

    first_process_only = True

    timeout = 10.0  # seconds

    def __init__(
        self,
        root: str = "http://localhost:9000",
        path="/publish/epoch/end/",
        field: str = "data",
        headers=None,
        send_as_json: bool = False,
    ):
        super().__init__()
        if not root.startswith(("http://", "https://")):
            raise ValueError(f"RemoteMonitor: `root` must start with 'http://' or 'https://'. Got {root!r}.")
        self.root, self.path, self.field = root, path, field
        self.headers, self.send_as_json = headers, send_as_json
        self._has_warned = False

    def on_epoch_end(self, epoch, logs=None):
        import http.client  # these take 10 ms
        import urllib.error
        import urllib.parse
        import urllib.request

        body = to_json({"epoch": epoch} | dict(logs or {}))
        kind = "application/json" if self.send_as_json else "application/x-www-form-urlencoded"
        if not self.send_as_json:
            body = urllib.parse.urlencode({self.field: body})
        headers = {"Content-Type": kind} | (self.headers or {})
        request = urllib.request.Request(self.root + self.path, body.encode(), headers, method="POST")
        try:
            urllib.request.urlopen(request, timeout=self.timeout).close()
        except urllib.error.HTTPError as error:
            # An HTTP error holds its connection open.
            error.close()
            self._warn(f"{self.root + self.path} answered {error.code} {error.reason}")
        except (OSError, http.client.HTTPException) as error:
            self._warn(f"could not reach the server at {self.root}: {error}")

    def _warn(self, message: str):
        if not self._has_warned:
            self._has_warned = True
            warnings.warn(f"RemoteMonitor: {message}. Training goes on; this is said once.", stacklevel=3)


class LearningRateLogger(Callback):
    """Adds `learning_rate`, that of the next step, to the logs of each epoch.

    Callbacks that come after it in the list, the history and the progress display see it. Keras has no such callback.
    """

    def on_epoch_end(self, epoch, logs=None):
        logs.update(read_rates(self.model.optimizer))


def to_json(numbers: dict) -> str:
    """Numbers and arrays as one line of valid JSON, with `null` for what is not finite."""
    # `allow_nan`: Python would write NaN, which is no JSON and breaks readers.
    return json.dumps({name: _finite(np.asarray(value).tolist()) for name, value in numbers.items()}, allow_nan=False)


def _finite(value):
    if isinstance(value, list):
        return [_finite(element) for element in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
