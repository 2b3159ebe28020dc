"""Links from guides to the reference: a name in backticks that is a public one leads to its entry."""

import importlib
import re

import generate_reference

_CODE = re.compile(r"(?<![`\[])`([^`\n]+)`(?!`|\])")
_NAME = re.compile(r"(?:kerax\.)?((?:\w+\.)*\w+)(?:\(.*\))?")


def known_names() -> dict[str, str]:
    """By what a guide may call it the public name of each thing; bare names only of classes that have one home."""
    found, homes = {}, {}
    for namespace in generate_reference.NAMESPACES:
        for name in generate_reference.public_names(importlib.import_module(namespace)):
            public = f"{namespace}.{name}"
            found[public.removeprefix("kerax.")] = public
            homes.setdefault(name, []).append(public)
    alone = {name: publics[0] for name, publics in homes.items() if len(publics) == 1 and name[0].isupper()}
    return alone | found


def linked(text: str, known: dict[str, str], above: str = "") -> str:
    """Markdown with links from names in backticks; code, headings and what is a link already stay as they are.

    Args:
        above: What leads from the page's folder to the root, as `"../"`.
    """

    def link(found: re.Match) -> str:
        name = _NAME.fullmatch(found[1])
        public = None if name is None else known.get(name[1])
        if public is None:
            return found[0]
        if generate_reference.is_in_source(public):
            return f"[`{found[1]}`][{public}]"
        # mkdocstrings knows nothing of what is made while kerax is loaded.
        return f"[`{found[1]}`]({above}{generate_reference.page_name(public.rpartition('.')[0])}#{public})"

    lines, is_code = [], False
    for line in text.split("\n"):
        is_code ^= line.lstrip().startswith("```")
        lines.append(line if is_code or line.startswith(("#", "```")) else _CODE.sub(link, line))
    return "\n".join(lines)


def on_config(config):
    """Called by MkDocs: looks the names up once."""
    global _known
    _known = known_names()


def on_page_markdown(markdown, page, config, files):
    """Called by MkDocs for each page."""
    is_linked = page.file.src_uri.startswith("guides/") or page.file.src_uri in _PAGES
    return linked(markdown, _known, "../" * page.file.src_uri.count("/")) if is_linked else markdown


_known: dict[str, str] = {}
_PAGES = ("getting_started.md", "coming_from_keras.md", "coming_from_flax.md", "cheat_sheet.md")
