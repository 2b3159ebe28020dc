"""`Writer`: the text of tokens that come one after the other, as far as it is sure."""

from collections.abc import Callable, Sequence

_BROKEN = "\ufffd"  # what decoders write for bytes that are no character, or not yet


class Writer:
    """The text of tokens as they come: whole characters only, and nothing that may turn out to begin a stop string.

    Args:
        decode: A function from a list of tokens to text.
        stops: Texts that end it; they are not part of it.

    Attributes:
        text: What was given out so far.
        is_stopped: Whether a stop string came.
        offsets: For each token, how much text there was before it.
    """

    def __init__(self, decode: Callable[[list[int]], str], stops: Sequence[str] = ()):
        self._decode, self._stops = decode, list(stops)
        self._tokens: list[int] = []
        # Tokens from `_begun` to `_known` have made the last text: decoded again with the next ones, for how a token is
        # written depends on the one before it.
        self._begun, self._known, self._whole = 0, 0, ""
        self.text, self.is_stopped, self._is_finished = "", False, False
        self.offsets: list[int] = []

    def push(self, token: int) -> str:
        """The text that a token makes sure."""
        if self.is_stopped:
            return ""
        self.offsets.append(len(self._whole))
        self._tokens.append(token)
        now = self._decode(self._tokens[self._begun :])
        # The rest of a character may be on its way.
        return "" if now.endswith(_BROKEN) else self._take(now, is_last=False)

    def finish(self) -> str:
        """The text that was held back, once no token comes any more."""
        self._is_finished = True
        return "" if self.is_stopped else self._take(self._decode(self._tokens[self._begun :]), is_last=True)

    def count_within(self) -> int:
        """Number of tokens that begin within the text that was given out; in the end all, if no stop string came."""
        if self._is_finished and not self.is_stopped:
            return len(self.offsets)
        return sum(offset < len(self.text) for offset in self.offsets)

    def _take(self, now: str, is_last: bool) -> str:
        before = self._decode(self._tokens[self._begun : self._known])
        self._whole += now[len(before) :]
        self._begun, self._known = self._known, len(self._tokens)
        # What was given out begins no stop string.
        found = [at for stop in self._stops if (at := self._whole.find(stop, len(self.text))) >= 0]
        self.is_stopped = bool(found)
        end = min(found) if found else len(self._whole) - (0 if is_last else self._held())
        piece = self._whole[len(self.text) : end]
        self.text = self._whole[:end]
        return piece

    def _held(self) -> int:
        """Length of the longest end of the text that begins a stop string."""
        rest = self._whole[len(self.text) :]
        return max((_overlap(rest, stop) for stop in self._stops), default=0)


def _overlap(text: str, stop: str) -> int:
    sizes = range(min(len(text), len(stop) - 1), 0, -1)
    return next((size for size in sizes if text.endswith(stop[:size])), 0)
