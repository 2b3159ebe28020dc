"""What the site makes of notebooks, names and groups, without building it."""

import base64
import sys
from pathlib import Path

import pytest

pytest.importorskip("mkdocs")
pytest.importorskip("mkdocstrings")
DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(autouse=True)
def docs(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    monkeypatch.chdir(DOCS.parent)
    yield
    for path in DOCS.glob("*.py"):
        sys.modules.pop(path.stem, None)


def output(kind, **data):
    return {"output_type": kind, **data}


def test_a_page_shows_what_a_notebook_prints_draws_and_returns(monkeypatch):
    import notebooks

    picture = base64.b64encode(b"png").decode()
    outputs = [
        output("stream", name="stdout", text=["\x1b[32mEpoch 1\x1b[0m\n", "1/2\r2/2\n"]),
        output("stream", name="stderr", text=["a warning"]),
        output("display_data", data={"image/png": picture, "text/plain": "<Figure>"}),
        output("execute_result", data={"text/html": "<table>\n\n</table>", "text/plain": "rows"}),
        output("execute_result", data={"text/plain": "(3,)"}),
    ]
    cells = [
        {"cell_type": "markdown", "source": ["# A title\n", "\n", "What `it` is about. More."]},
        {"cell_type": "code", "source": ["x = 1"], "outputs": outputs},
    ]
    monkeypatch.setenv("GITHUB_REPOSITORY", "someone/kerax")
    page = notebooks.Page("one", {"cells": cells})
    assert "# A title\n\n[Download the notebook](one.ipynb) · [Open in Colab](https://colab" in page.text
    assert "```python\nx = 1\n```" in page.text and "````text\nEpoch 1\n2/2\n````" in page.text
    assert "a warning" not in page.text and "<Figure>" not in page.text and "\x1b" not in page.text
    assert page.pictures == {"one_1.png": b"png"} and "](pictures/one_1.png)" in page.text
    assert '<div class="output">\n<table>\n</table>\n</div>' in page.text and "(3,)" in page.text
    gallery = notebooks.gallery([page])
    assert '<img src="pictures/one_1.png"' in gallery and "What <code>it</code> is about.</small>" in gallery


def test_a_notebook_that_cannot_run_is_shown_as_it_is(monkeypatch, tmp_path):
    import notebooks

    pytest.importorskip("nbformat")
    monkeypatch.setattr(notebooks, "CACHE", tmp_path / "cache")
    text = '{"cells": [{"cell_type": "code", "source": ["raise ValueError"], "outputs": []}], "metadata": {}}'
    path = tmp_path / "broken.ipynb"
    path.write_text(text)
    monkeypatch.setattr(notebooks, "_run", lambda path: None)
    assert notebooks.executed(path)["cells"][0]["outputs"] == [] and not (tmp_path / "cache").exists()
    runs = []
    monkeypatch.setattr(notebooks, "_run", lambda path: runs.append(path) or text.replace("raise", "done"))
    for _ in range(2):
        assert "done" in str(notebooks.executed(path))
    assert runs == [path]  # once, until it changes
    path.write_text(text + " ")
    notebooks.executed(path)
    assert runs == [path] * 2


def test_names_in_guides_lead_to_the_reference():
    import linking

    known = {"utils.FeatureSpace": "kerax.utils.FeatureSpace", "Adam": "kerax.optimizers.Adam"}
    assert linking.linked("`ops.abs`", {"ops.abs": "kerax.ops.abs"}, "../") == (
        "[`ops.abs`](../reference/ops.md#kerax.ops.abs)"  # made while kerax is loaded
    )
    text = "# `Adam`\n`Adam(1e-3)` and `kerax.utils.FeatureSpace`, `Other`, [`Adam`](x.md)\n```python\n`Adam`\n```"
    assert linking.linked(text, known) == (
        "# `Adam`\n[`Adam(1e-3)`][kerax.optimizers.Adam] and [`kerax.utils.FeatureSpace`][kerax.utils.FeatureSpace], "
        "`Other`, [`Adam`](x.md)\n```python\n`Adam`\n```"
    )


def test_every_layer_and_operation_has_a_group():
    import groups

    import kerax

    for namespace in ("kerax.layers", "kerax.ops", "kerax.callbacks"):
        module = {"kerax.layers": kerax.layers, "kerax.ops": kerax.ops, "kerax.callbacks": kerax.callbacks}[namespace]
        names = [name for name in dir(module) if name[0].isalpha() and callable(getattr(module, name))]
        found = dict(groups.grouped(namespace, names, module))
        assert sum(map(len, found.values())) == len(names)
        assert list(found)[: len(groups.groups(namespace))] == list(groups.groups(namespace))
        assert len(found.get("Others", [])) < 0.1 * len(names), found["Others"]
