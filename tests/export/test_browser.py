"""The pages of the guide "In the browser" compute in Chromium what `predict` does."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.browser import Site, chromium
from tests.export import models
from tests.export.test_formats import ENDINGS, needs

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "browser.md").read_text()
CDN = "https://cdn.jsdelivr.net/npm/"
TITLES = {"onnx": "onnxruntime-web", "litert": "LiteRT.js"}
pytestmark = pytest.mark.slow


def block(title, language):
    """The code in a section of the guide."""
    section = GUIDE.split(f"## {title}\n")[1].split("\n## ")[0]
    return re.search(rf"```{language}\n(.*?)```", section, re.S)[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A server with the packages that the guide names, where they can be had."""
    chromium()
    if shutil.which("npm") is None:
        pytest.skip("there is no npm: apt install npm")
    folder = tmp_path_factory.mktemp("site")
    packages = sorted(set(re.findall(rf"{CDN}(@?[^@\"]+@[\d.]+)/", GUIDE)))
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=0"]
    command = ["npm", "install", *options, "--prefix", str(folder), *packages]
    installed = subprocess.run(command, capture_output=True, text=True)
    if installed.returncode:
        pytest.skip(f"npm does not reach its registry: {installed.stderr[-300:]}")
    site = Site(folder)
    site.folder = folder
    yield site
    site.close()


@pytest.mark.parametrize("name", ["mlp", "cnn", "lstm", "transformer"])
@pytest.mark.parametrize("format", TITLES)
def test_the_guides_pages_compute_what_predict_does(site, format, name):
    needs(format)
    model = models.make(name)
    path = site.folder / f"model{ENDINGS[format]}"
    path.unlink(missing_ok=True)
    model.export(path, format, verbose=False)
    (x,) = models.inputs(model, 3).values()
    page = re.sub(rf"{CDN}(@?[^@\"]+)@[\d.]+/", r"/node_modules/\1/", block(TITLES[format], "html"))
    script = f"""
        await until(() => !element("run").disabled)
        element("rows").value = {json.dumps(json.dumps(x.tolist()))}
        element("run").click()
        await until(() => element("answer").textContent)
        report(JSON.parse(element("answer").textContent))
    """.replace("element(", "document.getElementById(")
    found = site.open(page, script)
    expected = model.predict(x, verbose=0)
    assert not isinstance(found, dict), found
    assert np.shape(found) == expected.shape
    assert np.abs(np.array(found) - expected).max() <= 1e-5 * np.abs(expected).max()


def test_the_guides_pictures_have_the_canvas_pixels(site):
    script = """
        const canvas = Object.assign(document.createElement("canvas"), {width: 2, height: 1})
        const context = canvas.getContext("2d")
        context.fillStyle = "rgb(10, 20, 30)"
        context.fillRect(0, 0, 1, 1)
        context.fillStyle = "rgb(255, 0, 7)"
        context.fillRect(1, 0, 1, 1)
        report([pixels(canvas), pixels(canvas, 1)])
    """
    found = site.open("<!doctype html>", block("Pictures", "js") + script)
    assert found == [[10, 20, 30, 255, 0, 7], [10, 255]]
