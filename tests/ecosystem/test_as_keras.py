"""`kerax.as_keras` lends kerax the name of Keras: in child processes, for it lasts as long as a process."""

import os
import subprocess
import sys

import pytest


def run(*arguments, cwd=None, **environment):
    env = {name: value for name, value in os.environ.items() if name not in ("KERAS_BACKEND", "KERAS_HOME")}
    # Without the settings of whoever runs the tests.
    env |= {"KERAS_HOME": "nowhere"} | environment
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=env, cwd=cwd)


def printed(code, **environment):
    done = run("-c", code, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[:-1]


def refused(code, **environment):
    done = run("-c", code, **environment)
    assert done.returncode != 0
    return done.stderr.strip().split("\n")[-1]


@pytest.mark.medium
def test_importing_kerax_loads_nothing_of_it():
    code = (
        "import sys, kerax, kerax.layers, kerax.models; "
        "print([n for n in sys.modules if n.partition('.')[0] == 'keras' or 'as_keras' in n])"
    )
    assert printed(code) == ["[]"]


@pytest.mark.medium
def test_public_and_private_names_are_of_kerax():
    lines = printed("""
import kerax
assert kerax.as_keras() is kerax.as_keras()
import keras, keras.layers, keras.src.callbacks, keras.applications.resnet50
import importlib.util
from keras import layers, ops
from keras.layers import Dense
from keras.src import backend, saving
from keras.src.backend import config, get_keras_mask, set_keras_mask, standardize_dtype
from keras.src.backend.common.variables import standardize_shape
from keras.src.distribution import distribution_lib
from keras.src.layers import GroupedQueryAttention
from keras.src.layers.core.dense import Dense as SameDense
from keras.src.layers.layer import Layer
from keras.src.layers.preprocessing.image_preprocessing.base_image_preprocessing_layer import (
    BaseImagePreprocessingLayer,
)
from keras.src.layers.preprocessing.image_preprocessing.bounding_boxes.converters import affine_transform
from keras.src.layers.preprocessing.image_preprocessing.bounding_boxes import iou
from keras.src.losses.losses import LossFunctionWrapper
from keras.src.models.functional import Functional
from keras.src.ops import *
from keras.src.saving import saving_lib, serialization_lib
from keras.src.utils.tracking import no_automatic_dependency_tracking
assert GroupedQueryAttention is kerax.layers.GroupQueryAttention
assert Dense is SameDense is kerax.layers.Dense and layers is keras.layers is kerax.layers
assert Layer is kerax.Layer and relu is kerax.ops.relu and distribution_lib.distribution() is None
assert layers.__spec__.name == "kerax.layers" and not serialization_lib.in_safe_mode() is None
assert importlib.util.find_spec("keras.nothing") is None
assert affine_transform is keras.utils.bounding_boxes.affine_transform and iou.compute_iou.__name__ == "compute_iou"
look_up = keras.src.layers.IndexLookup(None, 1, "", "[OOV]", "string", ["a", "b"], output_mode="int")
assert type(look_up) is layers.StringLookup and list(look_up(["b", "c"])) == [3, 1]
assert type(keras.src.layers.IndexLookup(9, 1, None, -1, "int64", invert=True)) is layers.IntegerLookup
assert keras.src.utils.backend_utils.convert_tf_tensor([1, 2], dtype="float32").dtype == "float32"
assert Functional.__module__.startswith("kerax")
class Added(BaseImagePreprocessingLayer):
    def get_random_transformation(self, data, training=True, seed=None):
        return self.factor[1]
    def transform_images(self, images, transformation, training=True):
        return self.backend.cast(images, self.compute_dtype) + transformation
class Shifted(BaseImagePreprocessingLayer):
    def __init__(self, seed=None):
        super().__init__()
        self.seed, self.generator = seed, keras.random.SeedGenerator(seed)
    def get_random_transformation(self, data, training=True, seed=None):
        if keras.src.utils.backend_utils.in_tf_graph():
            self.backend.set_backend("tensorflow")
        seed = seed or self._get_seed_generator(self.backend._backend)
        return {"shift": self.backend.random.uniform((self.backend.shape(data)[0], 1, 1, 1), 1, 2, seed=seed)}
    def transform_images(self, images, transformation, training=True):
        images = self._transform_value_range(images, (0, 255), (0, 255)) + transformation["shift"]
        images = self._transform_value_range(images, (0, 1), (0, 255)) / 255
        self.backend.reset()
        return self.backend.image.rgb_to_hsv(self.backend.cast(images, self.compute_dtype))
assert Shifted(3)(ops.ones((2, 2, 2, 3)))[..., 2].min() > 2
boxes = {"boxes": ops.ones((3, 4)), "labels": ops.zeros(3)}
assert Shifted().transform_single_bounding_box(boxes, {"shift": 1.0})["boxes"].shape == (3, 4)
class Moved(keras.src.layers.preprocessing.data_layer.DataLayer):
    def __init__(self, seed=None):
        super().__init__()
        self.seed, self.generator = seed, keras.random.SeedGenerator(seed)
    def call(self, inputs):
        seed = self._get_seed_generator(self.backend._backend)
        return inputs + self.convert_weight(self.backend.random.uniform(inputs.shape, seed=seed))
assert (Moved(1)(ops.zeros((2, 3))) != Moved(2)(ops.zeros((2, 3)))).all()
assert Added(0.5)(ops.ones((1, 2, 2, 3))).sum() == 18 and Added(0.5)(ops.ones((2, 2, 3))).shape == (2, 2, 3)
print(keras.__version__.rpartition(".")[0], keras.backend.backend(), backend.backend(), config.floatx())
print(backend.standardize_shape([1, None]), standardize_dtype("float32"), hasattr(keras.layers, "Nothing"))
""")
    assert lines == ["3.15 jax jax float32", "(1, None) float32 False"]


@pytest.mark.medium
def test_attributes_of_layers_in_the_order_of_keras():
    lines = printed("""
import kerax
kerax.as_keras()
import keras
class Pair(keras.layers.Layer):
    def __init__(self, name):
        super().__init__(name=name)
        self.first, self.rest = keras.layers.Dense(2, name=name + "1"), [keras.layers.Dense(2, name=name + "2")]
    def call(self, x):
        return self.rest[0](self.first(x))
inputs = keras.Input((2,), name="in")
model = keras.Model(inputs, Pair("b")(Pair("a")(inputs)), name="model")
print(*[layer.name for layer in model._flatten_layers()])
print(*[layer.name for layer in model._flatten_layers(include_self=False, recursive=False)])
attention = keras.layers.MultiHeadAttention(2, 3)
attention.build((None, 4, 6), (None, 4, 6))
print(attention._query_dense.name, attention._num_heads, attention._dot_product_equation, attention._combine_equation)
""")
    assert lines == ["model in a a2 a1 b b2 b1", "in a b", "query 2 aecd,abcd->acbe acbe,aecd->abcd"]


@pytest.mark.medium
def test_files_of_arrays_are_those_of_keras(tmp_path):
    pytest.importorskip("keras")
    printed(
        f"""
import kerax
kerax.as_keras()
import keras, numpy as np
from keras.src.saving.saving_lib import H5IOStore
keras_itself = kerax.as_keras.real()
TheirStore = keras_itself.src.saving.saving_lib.H5IOStore
assert TheirStore is not H5IOStore
half = keras.ops.ones((2,), "bfloat16")
for write, read in ((H5IOStore, TheirStore), (TheirStore, H5IOStore)):
    store = write(r"{tmp_path}/x.h5", mode="w")
    store.make("lora")["rank"] = 4
    place = store.make("lora/3")
    place["kernel"], place["half"] = np.arange(3.0), half
    store.close()
    store = read(r"{tmp_path}/x.h5", mode="r")
    assert int(store.get("lora")["rank"][()]) == 4 and list(store.get("lora/3")["kernel"]) == [0, 1, 2]
    assert str(np.asarray(store.get("lora/3")["half"]).dtype) == "bfloat16"
    store.close()
""",
        KERAS_HOME=str(tmp_path),
    )


@pytest.mark.medium
def test_keras_itself_beside_it(tmp_path):
    pytest.importorskip("keras")
    lines = printed(
        f"""
import kerax
kerax.as_keras()
keras_itself = kerax.as_keras.real()
import keras, numpy as np
assert keras is not keras_itself and keras.layers.Dense is kerax.layers.Dense
print(keras_itself.layers.Dense.__module__, keras.layers.Dense.__module__)
x = np.ones((4, 3), "float32")
model = keras_itself.Sequential([keras_itself.Input((3,)), keras_itself.layers.Dense(2)])
model.compile("sgd", "mse")
model.fit(x, np.ones((4, 2)), verbose=0)  # what Keras imports in its functions is Keras too
model.save(r"{tmp_path}/model.keras")
ours, theirs = (each.models.load_model(r"{tmp_path}/model.keras") for each in (keras, keras_itself))
np.testing.assert_allclose(ours.predict(x, verbose=0), theirs.predict(x, verbose=0), rtol=1e-6)
print(type(theirs).__module__, type(ours).__module__)
""",
        KERAS_HOME=str(tmp_path),
    )
    expected = ["keras.src.layers.core.dense kerax.layers.dense", "keras.src.models.sequential kerax.models.sequential"]
    assert lines == expected


@pytest.mark.medium
def test_seeds_are_those_of_pythons_generator():
    lines = printed("""
import kerax, random
kerax.as_keras()
import keras
def draw():
    before = random.getstate()
    random.seed(3)
    values = keras.ops.convert_to_numpy(keras.random.normal((2,)))
    random.setstate(before)
    return values
keras.utils.set_random_seed(0)
print((draw() == draw()).all())
""")
    assert lines == ["True"]


@pytest.mark.medium
@pytest.mark.parametrize(
    "code, words",
    [
        ("from keras.layers import Nothing", "ImportError: kerax.as_keras: kerax has no `keras.layers.Nothing`"),
        ("import keras; keras.Nothing", "AttributeError: kerax.as_keras: kerax has no `keras.Nothing`"),
        ("from keras.layers import TFSMLayer", "(Keras 3.0 has it, kerax never had)"),
        ("from keras.optimizers import legacy", "(gone since Keras 3.0): use `keras.optimizers`"),
        ("from keras.utils import np_utils", "(gone since Keras 2.13): use `keras.utils`"),
        ("import keras.src.nothing", "`keras.src.nothing` is a private name of Keras's, or newer than"),
        ("from keras.src.backend import nothing", "`keras.src.backend.nothing` is a private name of Keras's"),
    ],
)
def test_a_name_that_is_not_there_is_said_with_the_way_out(code, words):
    assert words in refused(f"import kerax; kerax.as_keras()\n{code}")


@pytest.mark.medium
def test_tensorflow_that_is_missing_names_who_needs_it(tmp_path):
    (tmp_path / "spektral.py").write_text("import tensorflow as tf\n")
    code = f"import kerax; kerax.as_keras()\nimport sys; sys.path.insert(0, r'{tmp_path}')\n"
    if printed("import importlib.util; print(importlib.util.find_spec('tensorflow') is not None)") == ["True"]:
        pytest.skip("TensorFlow is installed")
    message = refused(code + "import spektral")
    assert "spektral imports it: it is written on TensorFlow operations" in message
    assert printed(code + "import importlib.util; print(importlib.util.find_spec('tensorflow'))") == ["None"]


@pytest.mark.medium
def test_keras_that_is_imported_first_is_one_error(tmp_path):
    pytest.importorskip("keras")
    message = refused("import keras, kerax; kerax.as_keras()", KERAS_HOME=str(tmp_path), KERAS_BACKEND="jax")
    assert message.startswith("ImportError: kerax.as_keras: keras is imported already")
    assert "Call `kerax.as_keras()` before the first `import keras`" in message


@pytest.mark.medium
def test_another_backend_is_one_error_or_warning(tmp_path):
    message = refused("import kerax; kerax.as_keras()", KERAS_BACKEND="torch")
    assert message.startswith("ValueError: kerax.as_keras: the environment asks for KERAS_BACKEND=torch")
    (tmp_path / "keras.json").write_text('{"backend": "torch", "floatx": "bfloat16", "epsilon": 1e-4}')
    done = run("-c", "import kerax; print(kerax.as_keras().config.floatx())", KERAS_HOME=str(tmp_path))
    assert done.stdout == "bfloat16\n"
    assert done.stderr.count("UserWarning") == 1
    assert "asks for the backend 'torch'" in done.stderr
    assert (
        "torch" not in run("-c", "import kerax; kerax.as_keras()", KERAS_HOME=str(tmp_path), KERAS_BACKEND="jax").stderr
    )


@pytest.mark.medium
def test_scripts_modules_and_tests_run_unchanged(tmp_path):
    (tmp_path / "helper.py").write_text("import keras\n")
    (tmp_path / "script.py").write_text(
        "import sys, helper\nprint(__name__, sys.argv[1:], helper.keras.layers.Dense.__module__)\n"
    )
    (tmp_path / "test_it.py").write_text(
        "import keras\n\ndef test_it():\n    assert keras.layers.Dense.__module__.startswith('kerax')\n"
    )
    as_keras = ("-m", "kerax.as_keras")
    expected = "__main__ ['--a', '1'] kerax.layers.dense\n"
    assert run(*as_keras, str(tmp_path / "script.py"), "--a", "1").stdout == expected
    here = str(tmp_path)
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    assert run(*as_keras, "-m", "script", "--a", "1", cwd=here, PYTHONPATH=root).stdout == expected
    for how in ((*as_keras, "-m", "pytest"), ("-m", "pytest", "-p", "kerax.as_keras.pytest_plugin")):
        done = run(*how, "-q", "-p", "no:cacheprovider", "test_it.py", cwd=here, PYTHONPATH=root)
        assert "1 passed" in done.stdout, done.stdout + done.stderr
    assert run(*as_keras, "nowhere.py").stderr.startswith("kerax.as_keras: there is no file 'nowhere.py'")
    assert run(*as_keras).stderr.startswith("usage:")


@pytest.mark.medium
def test_classes_of_trusted_packages_are_found_by_module_unregistered(tmp_path):
    package = tmp_path / "keras_cv"
    package.mkdir()
    (package / "__init__.py").write_text(
        "import keras\nclass Mine(keras.layers.Layer):\n    def call(self, x):\n        return x\n"
        "def function(x):\n    return x\n"
    )
    (tmp_path / "others.py").write_text((package / "__init__.py").read_text())
    lines = printed(
        """
import kerax
from kerax.saving import deserialize_keras_object, serialize_keras_object
described = {"module": "keras_cv", "class_name": "Mine", "config": {}, "registered_name": "Mine"}
def tried(config):
    try:
        return type(deserialize_keras_object(config)).__name__
    except ValueError as error:
        return type(error).__name__
print(tried(described))
kerax.as_keras()
import keras_cv
print(tried(described), serialize_keras_object(keras_cv.Mine())["module"])
print(tried(described | {"module": "others"}))
print(tried({"module": "keras_cv", "class_name": "function", "config": "function", "registered_name": "function"}))
""",
        PYTHONPATH=os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]),
    )
    assert lines == ["ConfigError", "Mine keras_cv", "ConfigError", "ConfigError"]
