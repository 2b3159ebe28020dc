"""`scripts/serve_ray.py`: replicas behind Ray's proxy answer as `predict` does."""

import json
import runpy
import socket
import urllib.request
from pathlib import Path

import numpy as np
import pytest

import kerax

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).parents[2] / "scripts" / "serve_ray.py"


def test_replicas_of_ray_answer_as_predict(tmp_path, monkeypatch):
    serve = pytest.importorskip("ray.serve", reason="Ray is not installed: pip install 'ray[serve]'")
    import ray

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    deploy = runpy.run_path(str(SCRIPT))["deploy"]
    ray.init(num_cpus=2, include_dashboard=False)  # first, for it starts processes, which JAX's threads do not like
    try:
        model = kerax.Sequential([kerax.Input((4,), name="row"), kerax.layers.Dense(3)])
        model.save(tmp_path / "m.keras")
        serve.start(http_options={"port": port})
        serve.run(deploy({"models": f"m={tmp_path / 'm.keras'}", "replicas": 2, "options": {"max_batch": 2}}))
        x = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
        body = json.dumps({"instances": x.tolist()}).encode()
        expected = model.predict(x, verbose=0)
        for _ in range(6):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models/m:predict", body) as answer:
                np.testing.assert_allclose(json.load(answer)["predictions"], expected, rtol=1e-5, atol=1e-6)
    finally:
        serve.shutdown()
        ray.shutdown()
