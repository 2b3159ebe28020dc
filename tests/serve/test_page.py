"""The server's own page, in Chromium."""

import asyncio
import io
import json
import threading

import numpy as np
import pytest

import kerax
from kerax import layers
from tests.browser import REPORT, browse, chromium
from tests.language.conftest import tokenizer_folder as tokenizer_folder
from tests.serve.script import chain, model_of, tokens_of

uvicorn = pytest.importorskip("uvicorn")
Image = pytest.importorskip("PIL.Image")
pytestmark = pytest.mark.slow


class Watched:
    """A server whose page runs a script, and what that reported."""

    def __init__(self, server, script, files):
        self.server, self.done, self.report = server, threading.Event(), None
        self.files = {f"/{name}": content for name, content in files.items()}
        self.script = f"<script type=module>{REPORT}{script}</script>".encode()

    async def __call__(self, scope, receive, send):
        path = scope.get("path")
        if path == "/done":
            self.report = json.loads((await receive())["body"])
        elif path not in self.files:
            await self.server(scope, receive, self.with_script(send) if path == "/" else send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": self.files.get(path, b"")})
        if path == "/done":
            self.done.set()

    def with_script(self, send):
        async def sent(message):
            if message["type"] == "http.response.start":
                message["headers"] = [pair for pair in message["headers"] if pair[0] != b"content-length"]
            else:
                message["body"] += self.script
            await send(message)

        return sent

    def open(self):
        """What the page reported."""
        chromium()
        process = uvicorn.Server(uvicorn.Config(self, port=0, log_level="error", access_log=False))
        thread = threading.Thread(target=asyncio.run, args=(process.serve(),), daemon=True)
        thread.start()
        try:
            self.server.wait()
            while not process.started:
                threading.Event().wait(0.01)
            browse(
                f"http://127.0.0.1:{process.servers[0].sockets[0].getsockname()[1]}/",
                self.done,
                180,
                "--window-size=390,900",
            )
        finally:
            process.should_exit = True
            thread.join()
        return self.report


SCRIPT = """
    await until(() => document.querySelectorAll("section").length === 2)
    const [digits, table] = document.querySelectorAll("section")
    const file = digits.querySelector("input"), chosen = new DataTransfer()
    chosen.items.add(new File([await (await fetch("/digit.png")).blob()], "digit.png", {type: "image/png"}))
    file.files = chosen.files
    file.dispatchEvent(new Event("change"))
    await until(() => digits.querySelector(".bar") && digits.querySelector("img").naturalWidth)
    const bars = [...digits.querySelectorAll(".bar")]
    const classes = bars.map(({children}) => [children[0].textContent, children[1].value])

    const [predict, classify] = table.querySelectorAll("button")
    predict.click()
    await until(() => table.querySelector("pre"))
    const example = table.querySelector("pre").textContent
    table.querySelector("textarea").value = `[{"age": [1], "town": ["<b>Paris"]}, {"age": [2], "town": ["Berlin"]}]`
    predict.click()
    await until(() => table.querySelector("pre")?.textContent.includes("\\n"))
    const rows = table.querySelector("pre").textContent.split("\\n").map(JSON.parse)
    table.querySelector("textarea").value = `[{"age": [1], "<b>": 2}]`
    predict.click()
    await until(() => table.querySelector(".error"))
    const error = table.querySelector(".error").textContent
    report({classes, example, rows, error, bold: table.querySelectorAll("b").length, buttons: !!classify,
            wide: document.documentElement.scrollWidth > innerWidth})
"""


def test_the_page_uploads_pictures_and_computes_rows():
    digits = kerax.Sequential(
        [kerax.Input((8, 8, 1), name="image"), layers.Flatten(), layers.Dense(3, activation="softmax")]
    )
    age, town = kerax.Input((1,), name="age"), kerax.Input((1,), dtype="string", name="town")
    one_hot = layers.StringLookup(vocabulary=["Berlin", "Paris"], output_mode="one_hot")(town)
    table = kerax.Model({"age": age, "town": town}, layers.Dense(2)(layers.Concatenate()([age, one_hot])))
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8), "uint8")
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "png")
    options = {"max_batch": 1, "scale": {"digits": 1 / 255}, "labels": {"digits": ["a zero", "a one", "a <b>two"]}}
    server = kerax.serve.app({"digits": digits, "table": table}, **options)
    found = Watched(server, SCRIPT, {"digit.png": content.getvalue()}).open()
    assert "unknown: ['<b>']" in found.pop("error")
    scores = digits.predict(pixels[None, :, :, None] / np.float32(255), verbose=0)[0]
    order = np.argsort(-scores)
    assert [name for name, _ in found["classes"]] == [["a zero", "a one", "a <b>two"][n] for n in order]
    np.testing.assert_allclose([score for _, score in found.pop("classes")], scores[order], rtol=1e-4)
    given = {"age": np.array([[1.0], [2.0]]), "town": np.array([["<b>Paris"], ["Berlin"]])}
    np.testing.assert_allclose(found.pop("rows"), table.predict(given, verbose=0), rtol=1e-4)
    assert json.loads(found.pop("example"))
    assert found == {"bold": 0, "buttons": True, "wide": False}


CHAT = """
    await until(() => document.querySelectorAll("section").length === 2)
    const section = document.querySelector("section"), out = section.querySelector("pre")
    const [chat, goOn] = section.querySelectorAll("button")
    section.querySelector("textarea").value = "Q"
    chat.click()
    await until(() => out.textContent.endsWith("!"))
    const chatted = out.textContent
    goOn.click()
    await until(() => out.textContent.endsWith("<b>"))
    const continued = out.textContent
    section.querySelector("textarea").value = "Q".repeat(99)
    chat.click()
    await until(() => out.className === "error")
    report({chatted, continued, error: out.textContent, bold: document.querySelectorAll("b").length})
"""


def test_the_page_chats_with_a_language_model(tokenizer_folder):
    tokenizer = kerax.language.Tokenizer(tokenizer_folder)
    said, question = tokens_of(tokenizer, "né€😀!"), tokens_of(tokenizer, "Q")[0]
    bold = tokens_of(tokenizer, "<b>")
    following = chain([4, *said, 2]) | {question: bold[0]} | chain([*bold, 3])  # then an end that is not shown
    model = model_of(following | {3: 2})
    served = {
        "chat": kerax.serve.LanguageModel(model, tokenizer, slots=2, cache_length=64),
        "dense": kerax.Sequential([kerax.Input((4,)), layers.Dense(3)]),
    }
    found = Watched(kerax.serve.app(served), CHAT, {}).open()
    assert "At most 64 fit" in found.pop("error")
    assert found == {"chatted": "né€😀!", "continued": "<b>", "bold": 0}
