"""What is remembered of a structure holds until something in it changes, however that is done."""

import copy
import pickle

import keras
import numpy as np
import pytest

import kerax
from kerax import layers
from kerax.core.locking import unlocked
from kerax.core.tracking import structure
from kerax.core.variable import Variable

X = np.ones((2, 4), "float32")


class Nested(kerax.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first = layers.Dense(4)
        self.blocks = [layers.Dense(4), [layers.Dense(4)]]
        self.named = {"a": layers.Dense(4), "b": {"c": layers.Dense(4)}}
        self.fixed = (layers.Dense(4), [layers.Dense(4)])
        self.spare = None
        self.later = []

    def call(self, x):
        x = self.first(x)
        for layer in [*self.blocks[:1], *self.blocks[1], *self.named.values(), *self.fixed[1], *self.later]:
            x = layer(x) if isinstance(layer, layers.Layer) else x
        return x if self.spare is None else self.spare(x)


def set_key(items: dict, key, value):
    items[key] = value


def set_attribute(item, name, value=None):
    with unlocked(item):
        setattr(item, name, layers.Dense(4) if value is None else value)


def add_weight(item, name):
    with unlocked(item):
        item.add_weight((4,), name=name)


CHANGES = {
    "an attribute": lambda model: set_attribute(model, "first"),
    "an attribute that held nothing": lambda model: set_attribute(model, "spare"),
    "a new attribute": lambda model: set_attribute(model, "new"),
    "an attribute taken away": lambda model: delattr(model, "fixed"),
    "a list": lambda model: model.blocks.append(layers.Dense(4)),
    "an empty list": lambda model: model.later.append(layers.Dense(4)),
    "a place in a list": lambda model: set_key(model.blocks, 0, layers.Dense(4)),
    "a list in a list": lambda model: model.blocks[1].append(layers.Dense(4)),
    "a list in a tuple": lambda model: model.fixed[1].pop(),
    "a dict": lambda model: set_key(model.named, "d", layers.Dense(4)),
    "the key of a dict": lambda model: set_key(model.named, "z", model.named.pop("a")),
    "a dict in a dict": lambda model: set_key(model.named["b"], "c", layers.Dense(4)),
    "a layer of a layer": lambda model: set_attribute(model.first, "inner"),
    "a variable of a layer": lambda model: set_attribute(model.first, "scale", Variable("ones", (4,))),
    "a weight": lambda model: add_weight(model.first, "more"),
    "adapters": lambda model: model.blocks[0].enable_lora(1),
    "int8": lambda model: model.blocks[0].quantize("int8"),
}


def found_anew(model):
    snapshot, model.kerax_memory.snapshot = model.kerax_memory.snapshot, None
    found = structure(model)
    model.kerax_memory.snapshot = snapshot
    return [*map(id, found.items)], [(path, id(variable)) for path, variable in found.variables]


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_noticed(name):
    model = Nested()
    model.predict(X, verbose=0)
    before = structure(model)
    assert structure(model) is before  # numbers that count calls do not matter
    model.predict(X, verbose=0)
    assert structure(model) is before
    CHANGES[name](model)
    after = structure(model)
    assert after is not before
    assert ([*map(id, after.items)], [(path, id(variable)) for path, variable in after.variables]) == found_anew(model)


def test_predictions_follow_changes():
    model = kerax.Sequential([kerax.Input((4,)), layers.Dense(4, kernel_initializer="ones")])
    assert model.predict_on_batch(X)[0, 0] == 4
    model.add(layers.Dense(2, kernel_initializer="ones"))
    assert model.predict_on_batch(X)[0, 0] == 16
    model.pop()
    assert model.predict_on_batch(X)[0, 0] == 4
    model.layers[0].set_weights([2 * np.ones((4, 4)), np.ones(4)])
    assert model.predict_on_batch(X)[0, 0] == 9
    model.trainable = False
    assert model.predict_on_batch(X)[0, 0] == 9
    model.layers[0].quantize("int8")
    np.testing.assert_allclose(model.predict_on_batch(X), 9, rtol=0.02)
    model.compile("sgd", "mse")
    np.testing.assert_allclose(model.predict(X, verbose=0), 9, rtol=0.02)


def test_copies_remember_nothing():
    model = kerax.Sequential([kerax.Input((4,)), layers.Dense(4)])
    model.predict_on_batch(X)
    assert model.kerax_memory.snapshot is not None
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert other.kerax_memory is not model.kerax_memory and other.kerax_memory.snapshot is None
        np.testing.assert_array_equal(other.predict_on_batch(X), model.predict_on_batch(X))
        other.layers[0].set_weights([np.zeros((4, 4)), np.zeros(4)])
        assert not other.predict_on_batch(X).any() and model.predict_on_batch(X).any()


def test_a_state_of_steps_keeps_its_form():
    """`get_state_tree` under `jit`, as loops of one's own carry it."""
    import jax

    model = kerax.Sequential([kerax.Input((4,)), layers.Dense(1)])
    model.compile("adam", "mse")
    y = np.zeros((2, 1), "float32")
    model.train_on_batch(X, y)
    state = model.get_state_tree()
    new, logs = jax.jit(lambda state: model.train_step(state, (X, y))[::-1])(state)
    assert jax.tree.structure(new) == jax.tree.structure(state) and logs["loss"].shape == ()
    model.set_state_tree(new)


class Deep(kerax.Model):
    """Makes its layers when it is first called, one of them inside another."""

    def __init__(self):
        super().__init__()
        self.outer = kerax.Sequential([layers.Dense(2, kernel_initializer="ones")])

    def call(self, x):
        return self.outer(x)


UNBUILT = {
    "sequential": lambda: kerax.Sequential([layers.Dense(2, kernel_initializer="ones")]),
    "subclass": Deep,
    "nested": lambda: kerax.Sequential([Deep()]),
}
Y = np.ones((2, 2), "float32")
ON_BATCH = {
    "train_on_batch": lambda model: model.train_on_batch(X, Y),
    "test_on_batch": lambda model: model.test_on_batch(X, Y),
    "predict_on_batch": lambda model: model.predict_on_batch(X).mean(),
}


@pytest.mark.parametrize("name", UNBUILT)
@pytest.mark.parametrize("call", ON_BATCH)
@pytest.mark.parametrize("run_eagerly", [False, True], ids=["compiled", "eager"])
def test_the_first_call_of_one_batch_builds(name, call, run_eagerly):
    """What is remembered for the length of a call is forgotten when layers are built in it."""
    model = UNBUILT[name]()
    model.compile("sgd", "mse", run_eagerly=run_eagerly)
    first = ON_BATCH[call](model)
    assert first == pytest.approx(4 if call == "predict_on_batch" else 9)
    model.set_weights([np.zeros_like(weight) for weight in model.get_weights()])
    assert ON_BATCH[call](model) == pytest.approx(0 if call == "predict_on_batch" else 1)
    if call == "train_on_batch":
        assert model.get_weights()[0].any()


@pytest.mark.parametrize("package", [keras, kerax])
def test_an_eager_step_may_add_layers_while_others_are_unbuilt(package):
    class Grows(package.Model):
        def __init__(self):
            super().__init__()
            self.first, self.second = package.layers.Dense(2), None

        def call(self, x):
            if self.second is None:
                self.second = package.layers.Dense(2)
            return self.second(self.first(x))

    model = Grows()
    model.compile("sgd", "mse", run_eagerly=True)
    for _ in range(2):
        model.train_on_batch(X, Y)
    assert len(model.trainable_variables) == 4
    before = model.second.get_weights()[0]
    model.train_on_batch(X, Y)
    assert (model.second.get_weights()[0] != before).any()
    with pytest.raises(ValueError, match="new"):
        model.third = package.layers.Dense(2)


def set_between_lists(owner, made):
    owner.blocks, owner.norms, owner.named = [made("a")], [], {}
    owner.head = made("b")
    owner.blocks.append(made("c"))
    owner.named["x"] = made("d")
    owner.nested = {"inside": [made("e")]}
    owner.nested["inside"].append(made("f"))
    owner.blocks.insert(0, made("g"))
    owner.last = made("h")


def fill_two_lists_in_turn(owner, made):
    owner.blocks, owner.norms, owner.last = [], [], made("a")
    for first, second in ("bc", "de"):
        owner.blocks.append(made(first))
        owner.norms.append(made(second))


def fill_with_layers_from_elsewhere(owner, made):
    first, second, third = made("b"), made("c"), made("a")
    owner.head = third
    owner.blocks = []
    owner.blocks += [first, second]
    owner.last = made("d")


def set_again(owner, made):
    owner.blocks, owner.head, owner.last = [], None, made("a")
    owner.blocks = [made("b")]
    owner.head = made("c")
    owner.blocks.append(made("d"))


@pytest.mark.parametrize(
    "fill", [set_between_lists, fill_two_lists_in_turn, fill_with_layers_from_elsewhere, set_again]
)
def test_weights_are_in_the_order_in_which_their_layers_came(fill):
    def order(package):
        def made(name):
            layer = package.layers.Dense(1, use_bias=False, name=name)
            layer.build((1, 1))
            return layer

        owner = package.Model()
        fill(owner, made)
        assert [layer.name for layer in owner.layers] == [variable.path.split("/")[-2] for variable in owner.weights]
        return [layer.name for layer in owner.layers]

    expected = order(keras)
    assert order(kerax) == expected == sorted(expected)


@pytest.mark.medium
def test_files_of_layers_in_dicts_of_a_model_fit_both_ways(tmp_path):
    def model(package):
        class Owner(package.Model):
            def __init__(self):
                super().__init__()
                set_between_lists(self, lambda name: package.layers.Dense(1, name=name))

            def call(self, x):
                return sum(layer(x) for layer in self.layers)

        made = Owner()
        made(np.ones((1, 2), "float32"))
        return made

    for writer, reader in ((keras, kerax), (kerax, keras)):
        written, read, path = model(writer), model(reader), tmp_path / f"{writer.__name__}.weights.h5"
        written.save_weights(path)
        read.load_weights(path)
        np.testing.assert_array_equal(read.get_weights()[3], written.get_weights()[3])
        np.testing.assert_allclose(read(np.ones((1, 2))), written(np.ones((1, 2))), rtol=1e-6)
