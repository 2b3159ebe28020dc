"""Text for streams whose encoding may lack characters: no training ends at a name that the terminal cannot show."""

import sys

# Lines of bars and tables. What a user wrote becomes question marks.
_PLAIN = str.maketrans({"━": "=", "╌": ".", "└": "`", "─": "-", "│": "|", "┃": "|", "…": "~"})


def printable(text: str, stream=None) -> str:
    """The text, in characters that the encoding of a stream, by default the standard output's, has."""
    encoding = getattr(sys.stdout if stream is None else stream, "encoding", None) or "utf-8"
    try:
        # Tried, for encodings do not tell what they can.
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(_PLAIN).encode(encoding, "replace").decode(encoding)
    return text


def say(text: str) -> None:
    """Prints a line."""
    print(printable(text), flush=True)
