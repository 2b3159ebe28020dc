"""`kerax serve` as a process: signals, load, and an end that loses nothing."""

import asyncio
import json
import random
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import kerax

pytest.importorskip("uvicorn")
ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    model = kerax.Sequential([kerax.Input((4,), name="row"), kerax.layers.Dense(3)])
    path = tmp_path_factory.mktemp("served") / "m.keras"
    model.save(path)
    return model, path


class Process:
    """A server of its own, with the lines that it says."""

    def __init__(self, *words):
        command = [sys.executable, "-m", "kerax", "serve", *map(str, words), "--port", "0"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.port, self.lines = 0, []
        self.until(r"http://127\.0\.0\.1:(\d+) serves")
        self.port = int(self.found[1])
        self.until("ready after")
        # What it says later must not fill the pipe.
        threading.Thread(target=lambda: self.lines.extend(self.process.stdout), daemon=True).start()

    def until(self, pattern):
        for line in self.process.stdout:
            self.lines.append(line)
            self.found = re.search(pattern, line)
            if self.found:
                return
        raise AssertionError("".join(self.lines))

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}") as answer:
            return answer.read().decode()

    def memory(self):
        """Resident KiB."""
        return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text())[1])

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@pytest.fixture
def serve():
    made = []

    def start(*words):
        made.append(Process(*words))
        return made[-1]

    yield start
    for process in made:
        process.process.kill()
        process.process.wait()


BAD = {
    b'{"instances": [[1, 2]]}': b"400",
    b'{"instances": ': b"400",
    b'{"inputs": {"z": [[1, 2, 3, 4]]}}': b"400",
}


class Clients:
    """Clients that send good and bad requests, and hang up, until they have sent enough or nobody listens any more."""

    def __init__(self, port, model, count):
        self.port, self.left, self.answers, self.sent = port, count, Counter(), 0
        rng = np.random.default_rng(0)
        inputs = [rng.normal(size=(size, 4)).astype("float32") for size in (1, 2, 3, 5, 40)]
        self.good = [(json.dumps({"instances": x.tolist()}).encode(), model.predict(x, verbose=0)) for x in inputs]

    async def run(self, number):
        chance, connection = random.Random(number), None
        while self.left > 0:
            self.left -= 1
            self.sent += 1
            expected, status, is_new = None, b"200", connection is None
            body, expected = chance.choice(self.good)
            if chance.random() < 0.2:
                body, expected = chance.choice(list(BAD)), None
                status = BAD[body]
            hangs_up = chance.random() < 0.1
            head = f"POST /v1/models/m:predict HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            try:
                reader, writer = connection or await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                self.answers["refused"] += 1
                return
            connection = None
            try:
                if hangs_up:
                    # In the middle of the body, or before the answer.
                    writer.write((head + body)[: chance.choice((len(head) + 3, None))])
                    await writer.drain()
                    writer.close()
                    self.answers["hung up"] += 1
                    continue
                writer.write(head + body)
                answer = await reader.readuntil(b"\r\n\r\n")
            except (OSError, asyncio.IncompleteReadError):
                # Whoever connects as the server stops listening was not accepted; of others nothing may be lost.
                self.answers["not accepted" if is_new else "lost"] += 1
                continue
            size = int(re.search(rb"(?i)\r\ncontent-length: (\d+)", answer)[1])
            found = await reader.readexactly(size)
            assert answer.startswith(b"HTTP/1.1 " + status), (body, answer, found)
            if expected is not None:
                np.testing.assert_allclose(json.loads(found)["predictions"], expected, rtol=1e-5, atol=1e-6)
            self.answers[status.decode()] += 1
            if b"connection: close" in answer.lower():
                writer.close()
            else:
                connection = reader, writer
        if connection is not None:
            connection[1].close()

    async def all(self, clients, after=None, then=lambda: None):
        async def wait():
            while after is not None and self.sent < after:
                await asyncio.sleep(0.005)
            then()

        await asyncio.gather(wait(), *(self.run(number) for number in range(clients)))


@pytest.mark.medium
@pytest.mark.parametrize("count", [600, pytest.param(10_000, marks=pytest.mark.slow)])
def test_every_accepted_request_is_answered_through_sigterm(serve, model, count):
    process = serve(model[1], "--max_batch", 8, "--drain", 0.5)
    # Allocators and caches fill up at first.
    asyncio.run(Clients(process.port, model[0], count // 3).all(16))
    before = process.memory()
    asyncio.run(Clients(process.port, model[0], count // 2).all(16))
    programs = re.search(r"kerax_programs{.*} ([\d.]+)", process.get("/metrics"))[1]
    assert float(programs) == 4
    assert process.memory() < 1.05 * before + 10_000
    clients = Clients(process.port, model[0], 10**9)
    asyncio.run(clients.all(16, count // 6, lambda: process.process.send_signal(signal.SIGTERM)))
    assert process.process.wait(30) == 0, process.lines
    assert clients.answers["lost"] == 0, clients.answers
    assert clients.answers["not accepted"] <= 4 and clients.answers["200"] > 50, clients.answers


@pytest.mark.medium
@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_the_guides_commands_work(serve, model, tmp_path, monkeypatch):
    image = pytest.importorskip("PIL.Image")
    monkeypatch.chdir(tmp_path)
    model[0].save("model.keras")
    model[0].export("model.onnx", format="onnx", verbose=False)
    digits = kerax.Sequential([kerax.Input((8, 8, 1), name="image"), kerax.layers.Flatten(), kerax.layers.Dense(10)])
    kerax.checkpoint.save("runs/digits/checkpoint", digits, metadata={"config": {"data": {"scale": 0.0625}}})
    Path("runs/digits/config.yaml").write_text("")
    Path("labels.txt").write_text("".join(f"number {number}\n" for number in range(10)))
    Path("rows.csv").write_text("a,b,c,d\n1,2,3,4\n5,6,7,8\n")
    image.fromarray(np.full((28, 28), 255, "uint8")).save("digit.png")
    section = (ROOT / "docs" / "guides" / "deploy.md").read_text().split("## Serving")[1].split("\n## ")[0]
    starts, calls = (
        block.replace("\\\n", "").splitlines() for block in re.findall(r"```bash\n(.*?)```", section, re.S)[:2]
    )
    words = [word for line in starts for word in shlex.split(line.partition("kerax serve")[2])]
    words.remove("--port")
    words.remove("8000")
    process = serve(*words, "--max_batch", 2)
    answers = []
    for call in calls:
        call = call.replace("localhost:8000", f"127.0.0.1:{process.port}").replace("curl", "curl -s --globoff", 1)
        answers.append(json.loads(subprocess.run(call, shell=True, capture_output=True, check=True).stdout))
    rows, tensors, classes, table, ready = answers
    for given, found in (
        ([[0.1, 0.2, 0.3, 0.4]], rows["predictions"]),
        ([[1, 2, 3, 4]], [tensors["outputs"][0]["data"]]),
        ([[1, 2, 3, 4], [5, 6, 7, 8]], table["predictions"]),
    ):
        np.testing.assert_allclose(found, model[0].predict(np.array(given, "float32"), verbose=0), rtol=1e-5)
    scores = digits.predict(np.ones((1, 8, 8, 1), "float32"), verbose=0)[0]
    assert [name for name, _ in classes["result"][0]] == [f"number {n}" for n in np.argsort(-scores)[:3]]
    assert ready == {"ready": True} and json.loads(process.get("/v2/models/ranks"))["versions"] == ["2"]
    assert process.end() == 0


@pytest.mark.medium
def test_sighup_has_models_read_anew(serve, model, tmp_path):
    other = kerax.Sequential([kerax.Input((4,), name="row"), kerax.layers.Dense(2)])
    model[0].save(tmp_path / "m.keras")
    process = serve(f"name={tmp_path / 'm.keras'}", "--max_batch", 1)
    assert json.loads(process.get("/v2/models/name"))["outputs"][0]["shape"] == [-1, 3]
    other.save(tmp_path / "m.keras")
    process.process.send_signal(signal.SIGHUP)
    for _ in range(200):
        if json.loads(process.get("/v2/models/name"))["outputs"][0]["shape"] == [-1, 2]:
            break
        threading.Event().wait(0.05)
    else:
        raise AssertionError(process.lines)
    assert process.end() == 0


@pytest.mark.medium
def test_changed_files_and_new_versions_are_read(serve, tmp_path):
    def wait_for(name, key, expected):
        for _ in range(1200):
            if json.loads(process.get(f"/v2/models/{name}"))[key] == expected:
                return
            threading.Event().wait(0.05)
        raise AssertionError(process.lines)

    def save(units, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        kerax.Sequential([kerax.Input((4,), name="row"), kerax.layers.Dense(units)]).save(path)

    def output(units):
        return [{"name": "output_0", "datatype": "FP32", "shape": [-1, units]}]

    save(3, tmp_path / "one.keras")
    save(3, tmp_path / "many" / "1" / "m.keras")
    process = serve(tmp_path / "one.keras", tmp_path / "many", "--max_batch", 1, "--watch", 0.1)
    save(2, tmp_path / "one.keras")
    wait_for("one", "outputs", output(2))
    save(5, tmp_path / "many" / "2" / "m.keras")
    wait_for("many", "versions", ["1", "2"])
    wait_for("many", "outputs", output(5))
    (tmp_path / "one.keras").write_text("no")  # is told once, and the old one stays
    for _ in range(1200):
        if told := [line for line in process.lines if "'one' was not loaded anew" in line]:
            break
        threading.Event().wait(0.05)
    threading.Event().wait(0.5)
    assert len(told) == 1 and json.loads(process.get("/v2/models/one"))["outputs"] == output(2)
    assert sum("read many anew" in line for line in process.lines) == 1
    assert process.end() == 0


def test_an_address_that_is_taken_is_told(model, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert kerax.cli.main(["serve", str(model[1]), "--port", str(port)]) == 2
    assert "Address already in use" in capsys.readouterr().err
