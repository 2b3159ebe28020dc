"""Pages of the site that lie at the root of the repository: `CONTRIBUTING.md` and `CHANGELOG.md`."""

import re
from pathlib import Path

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PAGES = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}


def on_files(files: Files, config):
    """Called by MkDocs: adds the pages to the files of `docs/`, with links as they are from there."""
    for name, source in PAGES.items():
        text = re.sub(r"\]\(docs/", "](", (ROOT / source).read_text(encoding="utf-8"))
        files.append(File.generated(config, name, content=text))
