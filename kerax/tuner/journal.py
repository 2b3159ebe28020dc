"""`AddressJournal`: the journal of a search at an address, as `s3://bucket/search`."""

import json
from collections.abc import Iterable
from typing import Any

from optuna.storages.journal import BaseJournalBackend

from kerax.places import file_system


class AddressJournal(BaseJournalBackend):
    """Keeps each entry of Optuna's journal as an object of its own, numbered, that is written once and never changed.

    Objects cannot be appended to. Of several processes that write the same number one succeeds, and the others take the
    next: so one search is shared by machines that share nothing else.

    Args:
        address: Of the folder, as `kerax.places.path_of` returned it.
    """

    def __init__(self, address: str):
        self.address = address
        self._read: list[dict[str, Any]] = []
        self._num_objects = 0  # read so far

    def _catch_up(self):
        files, place = file_system(self.address)
        while True:
            try:
                text = files.cat_file(f"{place}/{self._num_objects:08d}.json")
            except FileNotFoundError:
                return
            self._read += json.loads(text)
            self._num_objects += 1

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        """The entries from a number on."""
        self._catch_up()
        return self._read[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Adds entries after all that are there."""
        files, place = file_system(self.address)
        text = json.dumps(logs).encode()
        while True:
            self._catch_up()
            try:
                # Written only if it is not there: two processes must not take one number.
                files.pipe_file(f"{place}/{self._num_objects:08d}.json", text, mode="create")
            except FileExistsError:
                continue
            return
