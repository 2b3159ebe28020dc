"""A folder of checkpoints in another place, such as `gs://bucket/run`, and its copy on this computer.

orbax writes a step here, which is put there file by file, the one that says what it holds last: a step without it is
not complete, and is removed by the next that writes there. Nothing is renamed, for object stores cannot.
"""

import os
import shutil
import tempfile
import weakref

from kerax import places

_LAST = "meta/metadata"
_ARRAYS = "state/"


class Mirror:
    """The folder's copy.

    Args:
        address: Of the folder.

    Attributes:
        path: Of the copy. Steps that are there have all but their arrays here, for orbax to know them by.
    """

    def __init__(self, address: str):
        self.address = address
        self._files, self._root = places.file_system(address)
        self.path = tempfile.mkdtemp(prefix="kerax-checkpoint-")
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)

    def _there(self) -> dict[str, list[str]]:
        """The files of each entry there, as paths in it; of one that is a file, none."""
        self._files.invalidate_cache()
        found: dict[str, list[str]] = {}
        try:
            paths = self._files.find(self._root)
        except FileNotFoundError:
            return {}
        for path in paths:
            entry, _, rest = path[len(self._root) :].strip("/").partition("/")
            found.setdefault(entry, []).extend([rest] if rest else [])
        return found

    def steps(self) -> list[int]:
        """The complete steps there, in order."""
        return sorted(int(name) for name, files in self._there().items() if name.isdigit() and _LAST in files)

    def claim(self) -> list[str]:
        """Removes steps there that are not complete and outlines the others here. Returns what else is there."""
        there = self._there()
        for name, files in there.items():
            if name.isdigit() and _LAST not in files:
                self._files.rm(f"{self._root}/{name}", recursive=True)
            elif name.isdigit():
                self.fetch(int(name), with_arrays=False)
        return [name for name in there if not name.isdigit()]

    def fetch(self, step: int, with_arrays: bool):
        """Brings a step here, if it is not."""
        folder, place = os.path.join(self.path, str(step)), f"{self._root}/{step}"
        is_here = os.path.exists(os.path.join(folder, _LAST))
        if is_here and (not with_arrays or os.listdir(os.path.join(folder, _ARRAYS))):
            return
        wanted = [name for name in self._there().get(str(step), ()) if with_arrays or not name.startswith(_ARRAYS)]
        os.makedirs(os.path.join(folder, _ARRAYS), exist_ok=True)
        copies = [os.path.join(folder, name) for name in wanted]
        for copy in copies:
            os.makedirs(os.path.dirname(copy), exist_ok=True)
        self._files.get([f"{place}/{name}" for name in wanted], copies)

    def follow(self, steps: list[int]):
        """Puts the steps there that are here, and removes those that no longer are.

        Args:
            steps: Those that are here.
        """
        there = self.steps()
        for step in steps:
            if step not in there:
                self._put(step)
        for step in there:
            if step not in steps:
                self._remove(step)

    def _put(self, step: int):
        folder, place = os.path.join(self.path, str(step)), f"{self._root}/{step}"
        names = places.files_in(folder)
        # What a failed try has left there would be taken for part of it.
        if self._files.exists(place):
            self._files.rm(place, recursive=True)
        self._files.put(
            [os.path.join(folder, name) for name in names if name != _LAST],
            [f"{place}/{name}" for name in names if name != _LAST],
        )
        self._files.put_file(os.path.join(folder, _LAST), f"{place}/{_LAST}")
        # The outline stays.
        shutil.rmtree(os.path.join(folder, _ARRAYS))
        os.mkdir(os.path.join(folder, _ARRAYS))

    def _remove(self, step: int):
        # Killed in the midst of it, what is left is not complete.
        place = f"{self._root}/{step}"
        self._files.rm_file(f"{place}/{_LAST}")
        if self._files.exists(place):
            self._files.rm(place, recursive=True)
