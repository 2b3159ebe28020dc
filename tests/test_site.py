"""The site as it is built: what search finds first, links under public names, notebooks, pages that fit a phone."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.browser import Site

ROOT = Path(__file__).parents[1]
# By what is searched for the page that must come first.
FIRST = {
    "mixed precision": "guides/mixed_precision/",
    "gradient clipping": "guides/training/",
    "missing values": "guides/tables/",
    "multi gpu": "guides/devices/",
    "save": "guides/saving/",
    "transfer learning": "guides/transfer_learning/",
}
SEARCH = """
const input = document.querySelector("[data-md-component=search-query]")
const found = {}
const first = () => document.querySelector(".md-search-result__item a")
await until(() => input)
for (const query of QUERIES) {
  const before = first()
  input.focus()
  input.value = query
  input.dispatchEvent(new KeyboardEvent("keyup", {bubbles: true}))
  await until(() => first() && first() !== before)
  await new Promise(resolve => setTimeout(resolve, 1000))
  found[query] = new URL(first().href).pathname.slice(1)
}
report(found)
"""
WIDTHS = """
const wide = []
for (const path of PATHS) {
  const frame = document.createElement("iframe")
  frame.style.width = "390px"
  frame.style.height = "800px"
  frame.src = path
  document.body.replaceChildren(frame)
  await new Promise(resolve => { frame.onload = resolve })
  if (frame.contentDocument.documentElement.scrollWidth > 390) wide.push(path)
}
report(wide)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the site, built without running the notebooks."""
    for package in ("mkdocs", "material", "mkdocstrings"):
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAX_DOCS_NOTEBOOKS", "none")
        patch.setenv("GITHUB_REPOSITORY", "someone/kerax")
        subprocess.run([sys.executable, "-m", "mkdocs", "build", "--strict", "-d", folder], cwd=ROOT, check=True)
    return folder


@pytest.mark.slow
def test_search_finds_the_guide_first(site):
    served = Site(site)
    page = (site / "index.html").read_text(encoding="utf-8")
    found = served.open(page, SEARCH.replace("QUERIES", str(list(FIRST))))
    served.close()
    assert {query: path.partition("#")[0] for query, path in found.items()} == FIRST


@pytest.mark.slow
def test_entries_are_found_under_their_public_names(site):
    inventory = pytest.importorskip("mkdocstrings").Inventory
    with (site / "objects.inv").open("rb") as file:
        known = inventory.parse_sphinx(file)
    for name in ("kerax.layers.Dense", "kerax.layers.AvgPool2D", "kerax.ops.abs", "kerax.Model", "kerax.losses.Huber"):
        page, _, anchor = known[name].uri.replace("$", name).partition("#")
        text = (site / page / "index.html").read_text(encoding="utf-8")
        assert anchor == name and f'id="{name}"' in text, name
    layers = (site / "reference" / "layers" / "index.html").read_text(encoding="utf-8")
    titles = re.findall(r"<h2 id=.*?>(.*?)<a", layers)
    assert titles[:4] == ["Core", "Convolution", "Pooling", "Attention and transformers"]


@pytest.mark.slow
def test_each_notebook_has_a_page_in_the_gallery_and_a_link_to_colab(site):
    gallery = (site / "notebooks" / "index.html").read_text(encoding="utf-8")
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        assert f'href="{path.stem}/"' in gallery
        page = (site / "notebooks" / path.stem / "index.html").read_text(encoding="utf-8")
        assert f"colab.research.google.com/github/someone/kerax/blob/main/notebooks/{path.name}" in page
        assert (site / "notebooks" / path.name).is_file()


@pytest.mark.slow
def test_no_page_is_wider_than_a_phone(site):
    paths = sorted(str(path.parent.relative_to(site)) for path in site.rglob("index.html"))
    served = Site(site)
    wide = served.open("<body></body>", WIDTHS.replace("PATHS", str([f"/{path}/" for path in paths if path != "."])))
    served.close()
    assert wide == []
