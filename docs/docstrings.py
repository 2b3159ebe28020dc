"""What the reference makes of docstrings before it reads them: examples in doctest form become blocks of code."""

import griffe


class Doctests(griffe.Extension):
    """Fences doctests, whose `>>>` is a quotation to Markdown."""

    def on_object(self, *, obj: griffe.Object, **kwargs):
        """Called for each module, class, function and attribute."""
        if obj.docstring is not None and ">>>" in obj.docstring.value:
            obj.docstring.value = fence(obj.docstring.value)


def fence(text: str) -> str:
    """`text` with each doctest, up to the next empty line, as a fenced block."""
    lines, is_inside = [], False
    for line in [*text.split("\n"), ""]:
        indent = line[: len(line) - len(line.lstrip())]
        if not is_inside and line.lstrip().startswith(">>>"):
            lines += ["", f"{indent}```pycon"]
            is_inside, opened = True, indent
        elif is_inside and not line.strip():
            lines.append(f"{opened}```")
            is_inside = False
        lines.append(line)
    return "\n".join(lines[:-1])
