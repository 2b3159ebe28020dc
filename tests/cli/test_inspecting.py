"""Listing what is in files."""

import numpy as np
import pytest

import kerax
from kerax import checkpoint, cli, layers


def test_every_kind_of_file_is_listed_alike(tmp_path):
    model = kerax.Sequential([kerax.Input((3,)), layers.Dense(2)])
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    model.save_weights(tmp_path / "model.weights.json", max_shard_size=3e-8)
    checkpoint.save(tmp_path / "run", model, metadata={"note": 1})
    names = {"model.keras": "Keras model", "model.weights.h5": "HDF5", "model.weights.json": "shards"}
    for name, kind in (names | {"run": "checkpoint"}).items():
        found = cli.describe_file(str(tmp_path / name))
        assert kind in found["kind"]
        assert {"float32[3, 2]", "float32[2]"} <= set(found["arrays"].values())
        assert "32 bytes" in "\n".join(cli.show_file(str(tmp_path / name))) or name == "run"
    assert "note" in "\n".join(cli.show_file(str(tmp_path / "run")))
    library = pytest.importorskip("safetensors.numpy")
    library.save_file({"a": np.zeros((2, 1), "float16")}, tmp_path / "a.safetensors", {"who": "me"})
    assert cli.describe_file(str(tmp_path / "a.safetensors"))["arrays"] == {"a": "float16[2, 1]"}


def test_what_is_none_of_these_is_one_error(tmp_path):
    (tmp_path / "bad.keras").write_bytes(b"PK")
    (tmp_path / "bad.weights.h5").write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    for name in ("bad.keras", "bad.weights.h5", "empty", "missing.keras", "thing.txt"):
        with pytest.raises(cli.ConfigError, match=name):
            cli.describe_file(str(tmp_path / name))
