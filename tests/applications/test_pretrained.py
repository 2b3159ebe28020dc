"""Where weights are, and loading them."""

import functools
import hashlib
import http.server
import importlib
import inspect
import re
import threading

import h5py
import keras
import numpy as np
import pytest
from keras.src.legacy.saving import legacy_h5_format

import kerax
from kerax.applications import pretrained
from tests.applications import models

SMALL = {"alpha": 0.25, "input_shape": (32, 32, 3), "classes": 5}


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAX_HOME", str(tmp_path / "home"))


def keras_module(name):
    return importlib.import_module(f"keras.src.applications.{name}")


def checksums(family):
    return {model: pair for (own, model), pair in pretrained._CHECKSUMS.items() if own == family}


@pytest.mark.parametrize(
    "family, rename",
    [
        ("resnet", lambda key: None if "next" in key else key),
        ("efficientnet", lambda key: key),
        ("efficientnet_v2", lambda key: key.strip("-")),
        ("convnext", lambda key: key.removeprefix("convnext_")),
        ("mobilenet_v3", lambda key: key.removesuffix("_float")),
    ],
)
def test_checksums_are_keras_s(family, rename):
    theirs = {rename(key): sums for key, sums in keras_module(family).WEIGHTS_HASHES.items() if rename(key)}
    assert checksums(family) == theirs


@pytest.mark.parametrize(
    "family", ["vgg16", "vgg19", "densenet", "inception_v3", "inception_resnet_v2", "xception", "nasnet"]
)
def test_checksums_that_keras_has_in_its_code_are_the_same(family):
    theirs = re.findall(r'file_hash="(\w+)"', inspect.getsource(keras_module(family)))
    ours = checksums(family)
    tops, without = [pair[0] for pair in ours.values()], [pair[1] for pair in ours.values()]
    assert theirs == (tops + without if family == "densenet" else [sum for pair in ours.values() for sum in pair])


ADDRESSES = [
    ("VGG16", {}, "vgg16/vgg16_weights_tf_dim_ordering_tf_kernels.h5"),
    ("ResNet101V2", {"include_top": False}, "resnet/resnet101v2_weights_tf_dim_ordering_tf_kernels_notop.h5"),
    ("DenseNet169", {}, "densenet/densenet169_weights_tf_dim_ordering_tf_kernels.h5"),
    ("InceptionV3", {}, "inception_v3/inception_v3_weights_tf_dim_ordering_tf_kernels.h5"),
    ("Xception", {"include_top": False}, "xception/xception_weights_tf_dim_ordering_tf_kernels_notop.h5"),
    ("NASNetMobile", {"include_top": False}, "nasnet/NASNet-mobile-no-top.h5"),
    ("MobileNet", {"alpha": 0.25}, "mobilenet/mobilenet_2_5_224_tf.h5"),
    ("MobileNet", {"include_top": False, "input_shape": (160, 160, 3)}, "mobilenet/mobilenet_1_0_160_tf_no_top.h5"),
    ("MobileNetV2", {"alpha": 1.4}, "mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.4_224.h5"),
    (
        "MobileNetV3Small",
        {"include_top": False, "input_shape": (224, 224, 3), "minimalistic": True},
        "mobilenet_v3/weights_mobilenet_v3_small_minimalistic_224_1.0_float_no_top_v2.h5",
    ),
    ("EfficientNetB0", {}, "efficientnetb0.h5"),
    ("EfficientNetV2S", {"include_top": False}, "efficientnet_v2/efficientnetv2-s_notop.h5"),
    ("ConvNeXtTiny", {}, "convnext/convnext_tiny.h5"),
]
IN_KERAS = ["MobileNet", "MobileNetV2", "MobileNetV3Small", "EfficientNetB0"]


@pytest.mark.medium
@pytest.mark.parametrize("name, kwargs, path", ADDRESSES)
def test_imagenet_weights_come_from_keras_s_addresses(name, kwargs, path, monkeypatch):
    class Asked(Exception):
        pass

    def ours(fname, origin, cache_subdir, file_hash):
        raise Asked(origin, file_hash)

    monkeypatch.setattr(pretrained, "get_file", ours)
    # The model itself is not the point here.
    monkeypatch.setattr("kerax.applications.building.Functional", lambda *args, **kwargs: None)
    with pytest.raises(Asked) as found:
        getattr(kerax.applications, name)(**kwargs)
    assert found.value.args[0].endswith("keras-applications/" + path)

    def theirs(fname, origin, cache_subdir=None, file_hash=None):
        raise Asked(origin, file_hash)

    if name in IN_KERAS:
        monkeypatch.setattr("keras.src.utils.file_utils.get_file", theirs)
        with models.zeros_for_weights(), pytest.raises(Asked) as expected:
            getattr(keras.applications, name)(**kwargs)
        assert found.value.args == expected.value.args


def small(**kwargs):
    return kerax.applications.MobileNet(**SMALL | {"weights": None} | kwargs)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A Keras model with made-up weights, and files of them."""
    with models.zeros_for_weights():
        model = keras.applications.MobileNet(weights=None, **SMALL)
    model.set_weights(models.likely_weights(model))
    folder = tmp_path_factory.mktemp("weights")
    with h5py.File(folder / "older.h5", "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)
    model.save_weights(folder / "newer.weights.h5")
    return model, folder


@pytest.mark.medium
@pytest.mark.parametrize("name", ["older.h5", "newer.weights.h5"])
def test_weights_that_keras_wrote_are_loaded_from_a_path(trained, name):
    theirs, folder = trained
    ours = small(weights=folder / name)
    for mine, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, other)


@pytest.fixture
def server(trained):
    """The folder of weights over HTTP, on this machine."""
    seen = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            seen.append(self.path)

    handler = functools.partial(Handler, directory=str(trained[1]))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", seen
    server.shutdown()
    server.server_close()


@pytest.mark.medium
def test_weights_are_downloaded_from_a_url_once(trained, server):
    url, seen = server
    for _ in range(2):
        ours = small(weights=f"{url}/older.h5")
    assert seen == ["/older.h5"]
    np.testing.assert_array_equal(ours.get_weights()[0], trained[0].get_weights()[0])


@pytest.fixture
def official(trained, server, monkeypatch):
    """MobileNetV3Small's features with the older file of the small model in the place of the real one."""

    def publish(checksum):
        template = server[0] + "/{key}{tail}.h5"
        monkeypatch.setitem(pretrained._FILES, "mobilenet_v3", (template, ""))
        monkeypatch.setitem(pretrained._CHECKSUMS, ("mobilenet_v3", "small_224_1.0"), ("0" * 32, checksum))
        (trained[1] / "small_224_1.0.h5").write_bytes((trained[1] / "older.h5").read_bytes())
        return lambda: kerax.applications.MobileNetV3Small(include_top=False, input_shape=(224, 224, 3))

    return publish


@pytest.mark.medium
def test_the_checksum_is_compared_before_weights_are_used(trained, official):
    make = official("f" * 32)
    with pytest.raises(ValueError, match=f"md5 checksum .* expected {'f' * 32}"):
        make()
    real = hashlib.md5((trained[1] / "older.h5").read_bytes()).hexdigest()
    with pytest.raises(ValueError, match="MobileNetV3Small.*layers with weights"):  # now it is read, and does not fit
        official(real)()


def test_without_a_network_the_error_says_how_to_go_on(monkeypatch, tmp_path):
    monkeypatch.setitem(pretrained._FILES, "mobilenet", ("http://127.0.0.1:9/{key}.h5", ""))
    with pytest.raises(ConnectionError) as raised:
        kerax.applications.MobileNet(alpha=0.25)
    for part in ("http://127.0.0.1:9/2_5_224.h5", str(tmp_path / "home" / "models" / "2_5_224.h5"), "`weights`"):
        assert part in str(raised.value)
