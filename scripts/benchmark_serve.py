"""Requests a second of `kerax serve` beside a server of the same HTTP stack that calls `predict` for each request.

    python scripts/benchmark_serve.py --model mobilenet --clients 16 --requests 400

Both run in processes of their own, as do the clients, in alternating rounds.
"""

import argparse
import asyncio
import json
import multiprocessing
import socket
import time
import urllib.error
import urllib.request

import numpy as np


def make_model(name: str):
    """A model of 10 arrays, a block of a transformer, or MobileNetV3Small."""
    import kerax
    from kerax import layers

    if name == "mobilenet":
        return kerax.applications.MobileNetV3Small(weights=None, input_shape=(96, 96, 3), classes=100)
    if name == "mlp":
        sizes = [layers.Dense(32, activation="relu"), layers.LayerNormalization(), layers.Dense(32, activation="gelu")]
        return kerax.Sequential([kerax.Input((8,)), *sizes, layers.Dense(3, activation="softmax")])
    tokens = kerax.Input((16,), dtype="int32")
    x = layers.Embedding(100, 32)(tokens)
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(4, 8)(x, x, use_causal_mask=True))
    x = layers.LayerNormalization()(x + layers.Dense(32)(layers.Dense(64, activation="gelu")(x)))
    return kerax.Model(tokens, layers.Dense(5)(layers.GlobalAveragePooling1D()(x)))


def serve(name: str, kind: str, port: int):
    """The server's process."""
    import kerax

    model = make_model(name)
    if kind == "serve":
        kerax.serve.run({name: model}, port=port, drain=0, say=str)
        return
    import uvicorn

    uvicorn.run(one_by_one(model), port=port, log_level="error", access_log=False)


def one_by_one(model):
    """What is written first: an application that calls `predict` for each request, in one thread."""
    from concurrent.futures import ThreadPoolExecutor

    from starlette.applications import Starlette
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route

    thread, dtype, shape = ThreadPoolExecutor(1), model.inputs[0].dtype, model.inputs[0].shape[1:]
    model.predict(np.zeros((1, *shape), dtype), verbose=0)

    def compute(x):
        return model.predict(x, verbose=0)

    async def infer(request):
        body, length = await request.body(), int(request.headers["inference-header-content-length"])
        head = json.loads(body[:length])
        x = np.frombuffer(body, dtype, offset=length).reshape(head["inputs"][0]["shape"])
        y = await asyncio.get_running_loop().run_in_executor(thread, compute, x)
        head = json.dumps({"outputs": [{"name": "output_0", "shape": y.shape, "datatype": "FP32"}]}).encode()
        return Response(head + y.tobytes(), headers={"inference-header-content-length": str(len(head))})

    async def predict(request):
        x = np.asarray(json.loads(await request.body())["instances"], dtype)
        y = await asyncio.get_running_loop().run_in_executor(thread, compute, x)
        return JSONResponse({"predictions": y.tolist()})

    return Starlette(
        routes=[
            Route("/v2/health/ready", lambda _: Response()),
            Route("/v2/models/{name}/infer", infer, methods=["POST"]),
            Route("/v1/models/{name}:predict", predict, methods=["POST"]),
        ]
    )


def make_requests(name: str, protocol: str, port: int) -> list[bytes]:
    """The bytes of 32 requests of one row."""
    rng, requests = np.random.default_rng(0), []
    for _ in range(32):
        shape = {"mlp": (1, 8), "transformer": (1, 16), "mobilenet": (1, 96, 96, 3)}[name]
        x = rng.integers(0, 100, shape).astype("int32") if name == "transformer" else rng.random(shape, "float32")
        if protocol == "json":
            path, extra, body = f"/v1/models/{name}:predict", "", json.dumps({"instances": x.tolist()}).encode()
        else:
            datatype = "INT32" if name == "transformer" else "FP32"
            parameters = {"parameters": {"binary_data_size": x.nbytes}}
            tensor = {"name": "input_layer", "shape": list(shape), "datatype": datatype} | parameters
            head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
            path, body = f"/v2/models/{name}/infer", head + x.tobytes()
            extra = f"Inference-Header-Content-Length: {len(head)}\r\n"
        head = f"POST {path} HTTP/1.1\r\nHost: a\r\n{extra}Content-Length: {len(body)}\r\n\r\n"
        requests.append(head.encode() + body)
    return requests


async def client(port: int, requests: list[bytes], count: int, seconds: list[float]):
    """One connection, a request after the other."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for index in range(count):
        began = time.perf_counter()
        writer.write(requests[index % len(requests)])
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        body = await reader.readexactly(int(head.split(b"\r\ncontent-length:")[1].split(b"\r\n")[0]))
        if not head.startswith(b"http/1.1 200"):
            raise RuntimeError(body.decode(errors="replace"))
        seconds.append(time.perf_counter() - began)
    writer.close()


def load(name: str, protocol: str, port: int, clients: int, count: int, answer):
    """The clients' process: sends requests a second, and the seconds of each."""

    async def all_clients():
        requests, seconds = make_requests(name, protocol, port), []
        began = time.perf_counter()
        await asyncio.gather(
            *(client(port, requests[i:] + requests[:i], count // clients, seconds) for i in range(clients))
        )
        return len(seconds) / (time.perf_counter() - began), seconds

    answer.put(asyncio.run(all_clients()))


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


def wait_until_ready(port: int):
    """Returns when the server says so."""
    for _ in range(3000):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready").close()
            return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
    raise RuntimeError("the server does not get ready.")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=("mlp", "transformer", "mobilenet"), default="mlp")
    parser.add_argument("--protocol", choices=("json", "binary"), default="json")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--requests", type=int, default=2000, help="of each round")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    ports = {kind: free_port() for kind in ("serve", "predict")}
    servers = [spawn.Process(target=serve, args=(given.model, kind, port)) for kind, port in ports.items()]
    for server in servers:
        server.start()
    try:
        for port in ports.values():
            wait_until_ready(port)
        rates: dict[str, list] = {kind: [] for kind in ports}
        seconds: dict[str, list] = {kind: [] for kind in ports}
        for round_ in range(given.rounds + 1):
            for kind, port in ports.items():
                answer = spawn.Queue()
                count = (
                    given.requests if round_ else max(given.requests // 4, given.clients)
                )  # the first is not counted
                arguments = (given.model, given.protocol, port, given.clients, count, answer)
                process = spawn.Process(target=load, args=arguments)
                process.start()
                rate, times = answer.get(timeout=600)
                process.join()
                if round_:
                    rates[kind].append(rate)
                    seconds[kind] += times
    finally:
        for server in servers:
            server.terminate()
            server.join()
    print(f"{given.model}, {given.protocol}, {given.clients} clients, {given.rounds} rounds")
    for kind in ports:
        p50, p99 = 1e3 * np.percentile(seconds[kind], [50, 99])
        ratio = np.median(rates[kind]) / np.median(rates["predict"])
        print(f"  {kind:<8} {np.median(rates[kind]):7.0f}/s ({ratio:.1f}x)  p50 {p50:7.1f} ms  p99 {p99:7.1f} ms")


if __name__ == "__main__":
    main()
