"""Files made to harm: none runs code, reads or writes anything outside, or takes time or memory; each gets one error.

The ideas are those of the public advisories on Keras's files: CVE-2024-3660, CVE-2025-1550, CVE-2025-8747,
CVE-2025-9905, CVE-2025-9906, CVE-2025-12058, CVE-2025-12060 and their kin. Each case is loaded in a process of its own
with a limit of memory and of time, whose opened and written files are watched.
"""

import base64
import io
import json
import marshal
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

import kerax
from kerax import layers

DENSE = {"module": "keras.layers", "class_name": "Dense", "config": {"name": "d", "units": 2}, "registered_name": None}
INPUT = {"module": "keras.layers", "class_name": "InputLayer", "config": {"batch_shape": [None, 4], "name": "i"}}


def sequential(*descriptions, **more):
    config = {"name": "s", "layers": [INPUT, *descriptions]}
    return {"module": "keras", "class_name": "Sequential", "config": config, "registered_name": None, **more}


def weights_of(model) -> bytes:
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        kerax.saving.weights_h5.write(file, model)
    return stream.getvalue()


def small():
    return kerax.Sequential([kerax.Input((4,)), layers.Dense(2, name="d")])


def archive(path, config=None, weights=None, more=(), raw_config=None):
    """A `.keras` file with these members."""
    with zipfile.ZipFile(path, "w") as members:
        members.writestr("metadata.json", json.dumps({"keras_version": "3.15.1", "date_saved": ""}))
        text = json.dumps(sequential(DENSE) if config is None else config) if raw_config is None else raw_config
        members.writestr("config.json", text)
        members.writestr("model.weights.h5", weights_of(small()) if weights is None else weights)
        for name, content in more:
            members.writestr(name, content)


def layer(class_name, module="keras.layers", registered_name=None, **config):
    return {"module": module, "class_name": class_name, "config": config, "registered_name": registered_name}


MARK = "touched_by_the_file"
CODE = f"open({MARK!r}, 'w').close()"


class Touch:
    def __reduce__(self):
        return exec, (CODE,)


def lambda_layer(key="function"):
    code = base64.b64encode(marshal.dumps(compile(CODE, "x", "exec"))).decode()
    stored = {"class_name": "__lambda__", "config": {"value": {"code": code, "defaults": None, "closure": None}}}
    return layer("Lambda", **{"name": "l", key: stored})


def function(name, module):
    return {"class_name": "function", "config": name, "module": module, "registered_name": name}


CONFIGS = {
    "a lambda's bytecode": sequential(lambda_layer()),
    "bytecode as an activation": sequential(layer("Dense", units=2, activation=lambda_layer()["config"]["function"])),
    "bytecode as an output shape": sequential(lambda_layer("output_shape")),
    "a class of another module": sequential(layer("system", "os", command=CODE)),
    "a class of the standard library": sequential(layer("Popen", "subprocess", args=["touch", MARK])),
    "a function of another module": sequential(layer("Lambda", function=function("system", "os"), arguments={"x": 1})),
    "a function of Keras that writes": sequential(
        layer("Lambda", function=function("get_file", "keras.utils"), arguments={"origin": "file:///etc/passwd"})
    ),
    "a function of kerax by its module": sequential(
        layer("Lambda", function=function("load_model", "kerax.saving"), arguments={})
    ),
    "a dotted class name": sequential(layer("os.system", "keras.layers", command=CODE)),
    "a registered name that is a path": sequential(layer("x", None, "builtins>eval", expression=CODE)),
    "a Python path as a module": sequential(
        layer("Dense", "../../evil", units=2, name="d", kernel_initializer="os.system")
    ),
    "an unknown loss": sequential(
        DENSE, compile_config={"optimizer": "sgd", "loss": function("system", "os"), "metrics": []}
    ),
    "a metric with bytecode": sequential(
        DENSE, compile_config={"optimizer": "sgd", "loss": "mse", "metrics": [lambda_layer()["config"]["function"]]}
    ),
    "a foreign SavedModel": sequential(layer("TFSMLayer", filepath="/etc", name="t")),
    "a torch module": sequential(layer("TorchModuleWrapper", module=base64.b64encode(pickle.dumps(Touch())).decode())),
    "a vocabulary that is a system file": sequential(layer("StringLookup", vocabulary="/etc/passwd", name="v")),
    "a vocabulary by URL": sequential(layer("TextVectorization", vocabulary="http://127.0.0.1:9/x", name="v")),
    "a vocabulary from a device": sequential(layer("IntegerLookup", vocabulary="/dev/zero", name="v")),
    "text where a number belongs": sequential(layer("Dense", units="__import__('os').system('x')", name="d")),
    "a model that is none": layer("Adam", "keras.optimizers", learning_rate=0.1),
    "a list": [1, 2, 3],
    "nothing": {},
    "a layer's weights of 8 TB": sequential(layer("Dense", units=2**41, name="d")),
    "an array of endless text": sequential(
        layer("Dense", units={"class_name": "__numpy__", "config": {"value": ["x"], "dtype": "S2000000000"}})
    ),
    "an array of objects": sequential(
        layer("Dense", units={"class_name": "__numpy__", "config": {"value": [1], "dtype": "object"}})
    ),
    "a graph without end": {
        "module": "keras.src.models.functional",
        "class_name": "Functional",
        "config": {
            "name": "f",
            "layers": [
                DENSE
                | {
                    "name": "d",
                    "inbound_nodes": [
                        {
                            "args": [
                                {
                                    "class_name": "__keras_tensor__",
                                    "config": {"shape": [1, 2], "dtype": "float32", "keras_history": ["d", 0, 0]},
                                }
                            ],
                            "kwargs": {},
                        }
                    ],
                }
            ],
            "input_layers": [["d", 0, 0]],
            "output_layers": [["d", 0, 0]],
        },
    },
}


def write_config(path, name):
    archive(path, CONFIGS[name])


def hdf5(make):
    """An HDF5 file whose kernel is what `make(group)` puts there."""
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        group = file.create_group("layers/dense/vars")
        make(group)
        group["1"] = np.zeros(2, "float32")
    return stream.getvalue()


def external_link(group):
    group["0"] = h5py.ExternalLink("/etc/passwd", "/")


def soft_link(group):
    group["0"] = h5py.SoftLink("/layers/dense/vars/1")


def external_storage(group):
    group.create_dataset("0", (4, 2), "float32", external=[("/etc/passwd", 0, 32)])


def virtual(group):
    layout = h5py.VirtualLayout((4, 2), "float32")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", shape=(4, 2))
    group.create_virtual_dataset("0", layout)


def shape_bomb(group):
    group.create_dataset("0", (2**20, 2**20), "float32", chunks=(1024, 1024), compression="gzip", fillvalue=1.0)


def fitting_bomb(group):
    group.create_dataset("0", (4, 2), "V200000000", chunks=(4, 2), compression="gzip")


def text(group):
    group.create_dataset("0", (4, 2), h5py.string_dtype())


def a_group(group):
    group.create_group("0")


WEIGHTS = [external_link, soft_link, external_storage, virtual, shape_bomb, fitting_bomb, text, a_group]


def lying(path, name="config.json", size=2**40):
    """A zip file whose directory claims another size of a member."""
    archive(path)
    content = bytearray(Path(path).read_bytes())
    at = content.rindex(name.encode()) - 46
    assert content[at : at + 4] == b"PK\x01\x02"
    struct.pack_into("<L", content, at + 24, min(size, 2**32 - 2))
    Path(path).write_bytes(content)


def write_link(path):
    archive(path)
    with zipfile.ZipFile(path, "a") as members:
        link = zipfile.ZipInfo("assets/layers/lookup/vocabulary.txt")
        link.external_attr = 0o120777 << 16
        members.writestr(link, "/etc/passwd")


def write_twice(path):
    archive(path)
    with zipfile.ZipFile(path, "a") as members, pytest.warns(UserWarning, match="Duplicate name"):
        members.writestr("config.json", json.dumps(CONFIGS["a lambda's bytecode"]))


def write_bomb(path):
    archive(path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as members:
        members.writestr("assets/zeros.bin", bytes(300 * 2**20))


def write_overlap(path):
    """Many members in one stretch of bytes, each of which expands."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as members:
        for index in range(12_000):
            members.writestr(f"assets/{index}", b"")


def write_tar(path):
    with tarfile.open(path, "w") as members:
        info = tarfile.TarInfo("../" + MARK)
        members.addfile(info, io.BytesIO(b""))


ARCHIVES = {
    "leaves its folder": lambda path: archive(path, more=[("../../" + MARK, "x")]),
    "absolute": lambda path: archive(path, more=[("/tmp/" + MARK, "x")]),
    "backslashes": lambda path: archive(path, more=[("..\\..\\" + MARK, "x")]),
    "a drive": lambda path: archive(path, more=[("C:" + MARK, "x")]),
    "a link": write_link,
    "twice": write_twice,
    "a bomb": write_bomb,
    "too many": write_overlap,
    "a lying size": lying,
    "a tar file": write_tar,
    "a pickle": lambda path: Path(path).write_bytes(pickle.dumps(Touch())),
    "no zip file": lambda path: Path(path).write_bytes(b"PK\x03\x04" + bytes(100)),
    "empty": lambda path: Path(path).write_bytes(b""),
    "deep JSON": lambda path: archive(path, raw_config="[" * 200_000 + "]" * 200_000),
    "deep objects": lambda path: archive(
        path, raw_config='{"class_name": "x", "config": ' * 50_000 + "1" + "}" * 50_000
    ),
    "a layer in a layer in a layer": lambda path: archive(path, _nested(150)),
    "no JSON": lambda path: archive(path, raw_config="import os"),
    "numbers without end": lambda path: archive(
        path, raw_config=json.dumps(sequential(DENSE))[:-1] + ', "x": ' + "9" * 10**6 + "}"
    ),
    "weights that are a pickle": lambda path: archive(path, weights=pickle.dumps(Touch())),
    "no weights": lambda path: zipfile.ZipFile(path, "w").writestr("config.json", json.dumps(sequential(DENSE))),
} | {f"weights: {make.__name__}": (lambda path, make=make: archive(path, weights=hdf5(make))) for make in WEIGHTS}


def _nested(depth):
    config = DENSE
    for _ in range(depth):
        config = {"module": "keras", "class_name": "Sequential", "config": {"name": "s", "layers": [config]}}
    return config


CASES = {f"config: {name}": lambda path, name=name: write_config(path, name) for name in CONFIGS} | ARCHIVES

CHILD = """
import json, os, resource, sys, time, warnings
import kerax
from kerax import checkpoint, saving
kerax.load_families()
saving.KerasFileEditor
import h5py, orbax.checkpoint, numpy as np
warnings.simplefilter("ignore")
saving.load_model(sys.argv[1])  # a good one, so that everything is loaded
folder = os.path.dirname(sys.argv[1])
inside = (os.path.abspath(folder), os.environ["TMPDIR"], sys.prefix, sys.base_prefix, {here!r}, "/proc/self", "/sys")
opened = []

def watch(event, args):
    if event == "open" and isinstance(args[0], str):
        opened.append((args[0], args[1]))
    elif event in ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "socket.connect", "os.symlink"):
        opened.append((event, repr(args)))

sys.addaudithook(watch)
base = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize() if os.path.exists("/proc") else 0
if base:
    resource.setrlimit(resource.RLIMIT_AS, (base + 2**30, base + 2**30))
for name, path in json.load(open(sys.argv[2])).items():
    opened.clear()
    begun = time.monotonic()
    try:
        result = ["loaded", type(saving.load_model(path)).__name__]
    except BaseException as error:
        result = [type(error).__name__, str(error)]
    outside = [entry for entry in opened if not str(entry[0]).startswith(inside)]
    print(json.dumps([name, *result, time.monotonic() - begun, outside]), flush=True)
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    archive(folder / "good.keras")
    paths = {name: str(folder / f"{index}.keras") for index, name in enumerate(CASES)}
    for name, write in CASES.items():
        write(paths[name])
    (folder / "cases.json").write_text(json.dumps(paths))
    (folder / "scratch").mkdir()
    here = str(Path(kerax.__file__).parents[1])
    child = [sys.executable, "-c", CHILD.replace("{here!r}", repr(here))]
    done = subprocess.run(
        [*child, str(folder / "good.keras"), str(folder / "cases.json")],
        capture_output=True,
        text=True,
        cwd=folder / "scratch",
        env=os.environ | {"TMPDIR": str(folder / "scratch")},
        timeout=300,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    left = [path.name for path in (folder / "scratch").rglob("*")]
    return {name: rest for name, *rest in lines}, paths, left, done.stderr


def test_a_good_file_loads(tmp_path):
    archive(tmp_path / "good.keras")
    assert kerax.saving.load_model(tmp_path / "good.keras").layers


@pytest.mark.medium
def test_none_runs_reads_writes_or_lasts(outcomes):
    found, paths, left, errors = outcomes
    assert found.keys() == CASES.keys(), errors[-2000:]
    for name, (kind, message, seconds, outside) in found.items():
        assert kind in ("ValueError", "ConfigError"), (name, kind, message)
        assert paths[name] in message, (name, message)
        assert seconds < 5, (name, seconds)
        assert outside == [], (name, outside)
    assert not [name for name in left if MARK in name]
    assert not Path("/tmp", MARK).exists()


def test_a_weights_file_may_not_reach_outside(tmp_path):
    model = kerax.Sequential([kerax.Input((4,)), layers.Dense(2)])
    before = model.get_weights()
    for make in WEIGHTS:
        path = tmp_path / f"{make.__name__}.weights.h5"
        path.write_bytes(hdf5(make))
        with pytest.raises(ValueError, match=path.name):
            model.load_weights(path)
        with pytest.raises(ValueError, match=path.name):
            kerax.saving.KerasFileEditor(path)
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_checkpoints_are_data_too(tmp_path):
    model = small()
    kerax.checkpoint.save(tmp_path / "run", model)
    path = tmp_path / "run" / "0" / "meta" / "metadata"
    stored = json.loads(path.read_text())
    for config in (
        CONFIGS["a lambda's bytecode"],
        CONFIGS["a class of another module"],
        CONFIGS["a vocabulary that is a system file"],
    ):
        stored["content"]["model"]["config"] = config
        stored["checksum"] = kerax.checkpoint.folder._text_checksum(stored["content"])
        path.write_text(json.dumps(stored))
        with pytest.raises(ValueError, match="run"):
            kerax.checkpoint.load_model(tmp_path / "run")
    path.write_text("[" * 200_000)
    with pytest.raises(ValueError, match="cannot be read"):
        kerax.checkpoint.load_model(tmp_path / "run")
