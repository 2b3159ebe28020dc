"""A page of the site for each notebook, with its outputs, and a gallery of them; made while the documentation is built.

Notebooks are committed without outputs: they are run here, once, and kept in `.cache/notebooks` until they change.
`KERAX_DOCS_NOTEBOOKS` says how: `small` (the default) or `full`, which trains as long as a reader would, or `none`.
"""

import base64
import hashlib
import json
import logging
import os
import re
import tempfile
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

logger = logging.getLogger("mkdocs.hooks.notebooks")
ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
CACHE = ROOT / ".cache" / "notebooks"
# In the order of preference; of a picture the file's ending.
PICTURES = {"image/png": "png", "image/svg+xml": "svg", "image/jpeg": "jpg"}
SIZES = ("small", "full", "none")


def size() -> str:
    """How much notebooks are run."""
    found = os.environ.get("KERAX_DOCS_NOTEBOOKS", "small")
    if found not in SIZES:
        raise ValueError(f"KERAX_DOCS_NOTEBOOKS: expected one of {', '.join(SIZES)}. Got {found!r}.")
    return found


def executed(path: Path) -> dict[str, Any]:
    """A notebook with its outputs; without where it cannot run, as for want of a package or data."""
    text = path.read_text(encoding="utf-8")
    if size() == "none":
        return json.loads(text)
    name = hashlib.blake2b(f"{size()} {text}".encode(), digest_size=8).hexdigest()
    kept = CACHE / f"{path.stem}-{name}.ipynb"
    if not kept.is_file():
        found = _run(path)
        if found is None:
            return json.loads(text)
        CACHE.mkdir(parents=True, exist_ok=True)
        kept.write_text(found, encoding="utf-8")
    return json.loads(kept.read_text(encoding="utf-8"))


def _run(path: Path) -> str | None:
    try:
        import nbclient
        import nbformat
    except ImportError:
        logger.info("Notebooks are shown without outputs: pip install 'kerax[docs]'")
        return None
    logger.info("Running %s (%s)", path.name, size())
    notebook = nbformat.read(path, as_version=4)
    before = os.environ.pop("KERAX_NOTEBOOK_SIZE", None)
    if size() == "small":
        os.environ["KERAX_NOTEBOOK_SIZE"] = "small"
    try:
        with tempfile.TemporaryDirectory() as folder:  # what a notebook writes shall not stay
            where = {"metadata": {"path": folder}}
            nbclient.NotebookClient(notebook, timeout=3600, kernel_name="python3", resources=where).execute()
    except Exception as error:  # whatever a notebook does: the page is as good without its outputs
        logger.info("%s is shown without outputs: %s", path.name, str(error).strip().rpartition("\n")[2])
        return None
    finally:
        os.environ.pop("KERAX_NOTEBOOK_SIZE", None)
        if before is not None:
            os.environ["KERAX_NOTEBOOK_SIZE"] = before
    return nbformat.writes(notebook)


class Page:
    """A notebook as Markdown.

    Args:
        name: Of the notebook, without its ending.
        notebook: Its content.

    Attributes:
        text: The Markdown.
        pictures: `{file name: bytes}`.
        title, about: Of its first cell the heading, and the first sentence below it.
    """

    def __init__(self, name: str, notebook: dict[str, Any]):
        self.name, self.pictures = name, {}
        cells = notebook["cells"]
        self.title, self.about = _head("".join(cells[0]["source"]))
        parts = [part for cell in cells for part in self._cell(cell)]
        links = _links(name)
        # Below the heading, which names the page.
        self.text = "\n\n".join([parts[0].replace("\n", f"\n\n{links}\n", 1), *parts[1:]]) + "\n"

    def _cell(self, cell: dict[str, Any]) -> list[str]:
        source = "".join(cell["source"])
        if cell["cell_type"] != "code":
            return [source]
        outputs = [self._output(output) for output in cell.get("outputs", [])]
        return [f"```python\n{source}\n```", *filter(None, outputs)]

    def _output(self, output: dict[str, Any]) -> str:
        if output["output_type"] == "stream":
            # What a library warns of is no part of the lesson.
            return _fenced("".join(output["text"])) if output["name"] == "stdout" else ""
        data = output.get("data", {})
        for kind, ending in PICTURES.items():
            if kind in data:
                return self._picture("".join(data[kind]), ending)
        if "text/html" in data:
            page = re.sub(r"\n\s*\n", "\n", "".join(data["text/html"]))  # an empty line would end the HTML
            has_content = re.search("<(img|svg|table)", page) or re.sub("<[^>]*>", "", page).strip()
            return f'<div class="output">\n{page}\n</div>' if has_content else ""
        return _fenced("".join(data.get("text/plain", "")))

    def _picture(self, content: str, ending: str) -> str:
        name = f"{self.name}_{len(self.pictures) + 1}.{ending}"
        self.pictures[name] = content.encode() if ending == "svg" else base64.b64decode(content)
        return f"![What this cell draws](pictures/{name})"


def _head(text: str) -> tuple[str, str]:
    title, _, rest = text.partition("\n")
    sentence = re.split(r"(?<=\.)\s", " ".join(rest.split()), maxsplit=1)[0]
    return title.removeprefix("# "), sentence.replace("**", "")


def _fenced(text: str) -> str:
    # Colours of a terminal, and lines that others were drawn over.
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    text = "\n".join(line.rpartition("\r")[2] for line in text.rstrip().split("\n"))
    return f"````text\n{text}\n````" if text.strip() else ""


def _links(name: str) -> str:
    """Where to run it. A site that is built for a repository of GitHub's links to Colab."""
    repository = os.environ.get("GITHUB_REPOSITORY")
    links = [f"[Download the notebook]({name}.ipynb)"]
    if repository:
        where = f"https://colab.research.google.com/github/{repository}/blob/main/notebooks/{name}.ipynb"
        links.append(f"[Open in Colab]({where}), after `%pip install 'git+https://github.com/{repository}'`")
    how = "with little training, so that the pages are made quickly" if size() == "small" else "as it is"
    return f"{' · '.join(links)} · Run here {how}; [what it reaches](../use_cases.md).\n"


def gallery(pages: list[Page]) -> str:
    """The page of all notebooks, each with a picture."""
    lines = [
        "# Notebooks",
        "",
        "Each runs from top to bottom, on a CPU in minutes. The files lie in `notebooks/`.",
        "",
    ]
    lines += ['<div class="gallery">']
    for page in pages:
        # The last one shows what came out, the first often the data.
        picture = f'<img src="pictures/{list(page.pictures)[-1]}" alt="">' if page.pictures else "<span>Σ</span>"
        lines.append(
            f'<a href="{page.name}/"><span class="picture">{picture}</span>'
            f"<strong>{page.title}</strong><small>{_plain(page.about)}</small></a>"
        )
    return "\n".join([*lines, "</div>", "", "[What each reaches](../use_cases.md), at full size.", ""])


def _plain(text: str) -> str:
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text)
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", text)


def on_config(config):
    """Called by MkDocs: names the pages under `Notebooks` in the navigation."""
    names = [f"notebooks/{path.stem}.md" for path in NOTEBOOKS]
    config.nav = [{"Notebooks": ["notebooks/index.md", *names]} if "Notebooks" in item else item for item in config.nav]


def on_files(files: Files, config):
    """Called by MkDocs: adds the pages, their pictures and the notebooks themselves to the files of `docs/`."""
    pages = [Page(path.stem, executed(path)) for path in NOTEBOOKS]
    files.append(File.generated(config, "notebooks/index.md", content=gallery(pages)))
    for path, page in zip(NOTEBOOKS, pages, strict=True):
        files.append(File.generated(config, f"notebooks/{page.name}.md", content=page.text))
        files.append(File.generated(config, f"notebooks/{path.name}", content=path.read_bytes()))
        for name, content in page.pictures.items():
            files.append(File.generated(config, f"notebooks/pictures/{name}", content=content))
