"""Paths of layers and their entries in a `DTypePolicyMap`, as in Keras."""

import keras
import numpy as np
import pytest

import kerax

X = np.ones((2, 3), "float32")


def classes(package):
    class Inner(package.layers.Layer):
        """Without a `build`, with a layer inside."""

        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense = package.layers.Dense(3, name="dense")

        def call(self, x):
            return self.dense(x)

    class Leaf(package.layers.Layer):
        """Without a `build` and without weights."""

        def call(self, x):
            return 2 * x

    class Outer(package.layers.Layer):
        """Whose `build` calls a layer."""

        def build(self, input_shape):
            self.inner = Inner(name="inner")
            self.inner(np.ones((1, 3), "float32"))

        def call(self, x):
            return self.inner(x)

    return Inner, Leaf, Outer


def subclassed(package):
    inner, leaf, _ = classes(package)

    class Net(package.Model):
        def __init__(self):
            super().__init__(name="net")
            self.parts = [inner(name="inner"), leaf(name="leaf"), package.layers.Flatten(name="flat")]

        def call(self, x):
            for part in self.parts:
                x = part(x)
            return x

    net = Net()
    net(X)
    return [net, *net.parts, net.parts[0].dense]


def sequential(package):
    inner, leaf, _ = classes(package)
    parts = [inner(name="inner"), leaf(name="leaf"), package.layers.Dropout(0.5, name="drop")]
    model = package.Sequential(parts, name="net")
    model(X)
    return [model, *parts, parts[0].dense]


def functional(package):
    inner, leaf, outer = classes(package)
    parts = [inner(name="inner"), leaf(name="leaf"), outer(name="outer"), package.layers.Flatten(name="flat")]
    x = package.Input((3,))
    for part in parts:
        x = part(x)
    return [*parts, parts[0].dense, parts[2].inner, parts[2].inner.dense]


@pytest.mark.parametrize("make", [subclassed, sequential, functional])
def test_paths_name_the_layers_around(make):
    ours, theirs = ([layer.path for layer in make(package)] for package in (kerax, keras))
    assert ours == theirs


@pytest.mark.parametrize(
    "name", ["Flatten", "UpSampling2D", "ZeroPadding1D", "Dropout", "ReLU", "Add", "GlobalAvgPool1D"]
)
def test_layers_without_weights_are_built_when_keras_says_so(name):
    ours, theirs = (getattr(package.layers, name) for package in (kerax, keras))
    arguments = [0.5] if name == "Dropout" else []
    assert ours(*arguments).built is theirs(*arguments).built


def test_a_layer_without_build_has_the_policy_of_its_path():
    def dtypes(package):
        policies = package.dtype_policies.DTypePolicyMap("float32")
        policies["leaf"] = policies["flat"] = "mixed_bfloat16"
        leaf = classes(package)[1](name="leaf", dtype=policies)
        flat = package.layers.Flatten(name="flat", dtype=policies)
        leaf(X), flat(X)
        return leaf.compute_dtype, leaf.variable_dtype, flat.compute_dtype, flat.dtype_policy["flat"].name

    assert dtypes(kerax) == dtypes(keras) == ("bfloat16", "float32", "bfloat16", "mixed_bfloat16")


def test_a_policy_assigned_to_a_layer_with_a_map_is_its_entry():
    def assigned(package):
        layer = package.layers.Dense(2, name="head", dtype=package.dtype_policies.DTypePolicyMap())
        layer.build((None, 3))
        layer.dtype_policy = "mixed_float16"
        layer.dtype_policy = "mixed_bfloat16"
        kinds = type(layer.dtype_policy).__name__, layer.dtype_policy["head"].name, layer.compute_dtype
        layer.dtype_policy = package.dtype_policies.DTypePolicyMap("float32")
        return *kinds, layer.compute_dtype

    assert assigned(kerax) == assigned(keras) == ("DTypePolicyMap", "mixed_bfloat16", "bfloat16", "float32")


@pytest.mark.parametrize("dtype", ["bfloat16", "mixed_float16", "int8_from_float32", None])
def test_a_plain_policy_comes_back_from_a_config_by_its_name(dtype):
    def given(package):
        class Noting(package.layers.Dense):
            def __init__(self, *args, **kwargs):
                self.given = kwargs["dtype"]
                super().__init__(*args, **kwargs)

        found = Noting.from_config(package.layers.Dense(2, dtype=dtype).get_config()).given
        return found if isinstance(found, str) else type(found).__name__

    assert given(kerax) == given(keras)
