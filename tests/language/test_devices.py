"""Checkpoints on several devices, in a process of its own that has four."""

import os
import subprocess
import sys

import pytest

from tests.language import llama

CODE = """
import sys
import jax
import numpy as np
import kerax
from kerax import language
from kerax.language.data import Example, pack
from tests.language import llama

ids = np.random.default_rng(1).integers(1, 320, (4, 7)).astype("int32")
expected = [llama.logits(llama.tensors(), row) for row in ids]
mesh = kerax.distribution.DeviceMesh((2, 2), ["batch", "model"], jax.devices())
layout = kerax.distribution.LayoutMap(mesh)
layout[".*attention/query/kernel"] = (None, "model", None)
layout[".*feedforward/(gate|up)_dense/kernel"] = (None, "model")
layout[".*feedforward/down_dense/kernel"] = ("model", None)
tensor_parallel = kerax.distribution.ModelParallel(layout_map=layout, batch_dim_name="batch")
for distribution in (tensor_parallel, kerax.distribution.FSDP(min_size=64)):
    with distribution.scope():
        model = language.load(sys.argv[1])
        kernel = model.blocks[1].feedforward.up_dense.kernel.value
        assert kernel.addressable_shards[0].data.size <= kernel.size / 2, kernel.sharding
        np.testing.assert_allclose(model.predict(ids, verbose=0), expected, atol=2e-5)
        engine = language.Engine(model, slots=4, cache_length=32, chunk=16)
        engine.prepare()
        before = engine.num_programs
        requests = [engine.submit(row, 8) for row in ids]
        assert [request.result() for request in requests] == [row.tolist() for row in model.generate(ids, 8)]
        assert engine.num_programs == before
        engine.close()
        language.save(model, sys.argv[2])
        language.enable_lora(model, rank=2)
        examples = [Example(row, np.ones(7, bool)) for row in ids]
        x, y, weight = pack(examples, 6)
        model.compile("sgd", kerax.losses.SparseCategoricalCrossentropy(True, reduction="mean_with_sample_weight"))
        model.fit(x, y, sample_weight=weight, batch_size=4, verbose=0)
    again = language.load(sys.argv[2])
    np.testing.assert_allclose(again(ids), expected, atol=2e-5)
print("done")
"""


@pytest.mark.slow
def test_weights_go_to_their_places_on_a_mesh(tmp_path):
    llama.write(tmp_path / "in", num_files=2)
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    words = [sys.executable, "-c", CODE, str(tmp_path / "in"), str(tmp_path / "out")]
    ran = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=500)
    assert ran.stdout.strip().endswith("done"), ran.stderr[-3000:]
