"""Weight files: Keras's structure, both ways, all or nothing, and nothing from outside the file."""

import h5py
import keras
import numpy as np
import pytest

import kerax
from kerax.core import placement


def sequential(k):
    return k.Sequential(
        [
            k.Input((6, 5)),
            k.layers.Conv1D(4, 2),
            k.layers.BatchNormalization(),
            k.layers.Bidirectional(k.layers.LSTM(3, return_sequences=True)),
            k.layers.GRU(2),
            k.layers.Dense(3),
            k.layers.Dropout(0.5, seed=1),
            k.layers.Dense(2, name="head"),
        ]
    )


def functional(k):
    x, tokens = k.Input((4, 8)), k.Input((4,), dtype="int32")
    h = k.layers.Embedding(9, 8)(tokens) + x
    h = k.layers.MultiHeadAttention(2, 4)(h, h)
    left, right = k.layers.Dense(3)(h), k.layers.Dense(3)(h)
    inner = k.Sequential([k.Input((4, 3)), k.layers.Dense(5), k.layers.LayerNormalization()])
    return k.Model([x, tokens], inner(k.layers.add([left, right])))


def subclassed(k):
    class Block(k.layers.Layer):
        def __init__(self):
            super().__init__()
            self.inner = k.layers.Dense(3)
            self.shift = self.add_weight(shape=(3,), name="shift")

        def call(self, x):
            return self.inner(x) + self.shift

    class Net(k.Model):
        def __init__(self):
            super().__init__()
            self.blocks = [k.layers.Dense(2), Block(), Block()]
            self.heads = {"a": k.layers.Dense(1)}
            self._private = k.layers.Dense(4)
            self.tail = k.Sequential([k.layers.Dense(3)])
            self.own = self.add_weight(shape=(4,), name="own")

        def call(self, x):
            for block in self.blocks:
                x = block(x)
            return self.heads["a"](self._private(self.tail(x)) + self.own)

    model = Net()
    model(np.zeros((2, 3), "float32"))
    return model


INPUTS = {
    sequential: np.random.default_rng(0).normal(size=(3, 6, 5)).astype("float32"),
    functional: [np.ones((3, 4, 8), "float32"), np.arange(12).reshape(3, 4) % 9],
    subclassed: np.random.default_rng(0).normal(size=(3, 3)).astype("float32"),
}


def randomise(model):
    rng = np.random.default_rng(1)
    model.set_weights([rng.uniform(0.1, 0.9, size=w.shape).astype("float32") for w in model.get_weights()])


@pytest.mark.slow
@pytest.mark.parametrize("make", [sequential, functional, subclassed])
def test_files_go_both_ways_with_keras(make, tmp_path):
    ours, theirs = make(kerax), make(keras)
    randomise(ours)
    ours.save_weights(tmp_path / "ours.weights.h5")
    theirs.load_weights(tmp_path / "ours.weights.h5")
    np.testing.assert_allclose(ours(INPUTS[make]), theirs(INPUTS[make]), rtol=1e-5, atol=1e-6)
    again = make(kerax)
    theirs.save_weights(tmp_path / "theirs.weights.h5")
    again.load_weights(tmp_path / "theirs.weights.h5")
    np.testing.assert_array_equal(again(INPUTS[make]), ours(INPUTS[make]))
    with h5py.File(tmp_path / "ours.weights.h5") as first, h5py.File(tmp_path / "theirs.weights.h5") as second:
        assert datasets(first) == datasets(second)


def datasets(file):
    found = {}
    file.visititems(lambda name, item: found.update({name: item.shape}) if isinstance(item, h5py.Dataset) else None)
    return found


def small(units=3):
    return kerax.Sequential([kerax.Input((4,)), kerax.layers.Dense(units), kerax.layers.Dense(2)])


def test_a_file_that_does_not_fit_changes_nothing_and_lists_every_difference(tmp_path):
    small(5).save_weights(tmp_path / "five.weights.h5")
    model = small(3)
    before = model.get_weights()
    with pytest.raises(ValueError) as raised:
        model.load_weights(tmp_path / "five.weights.h5")
    for part in ("layers/dense/vars/0", "(4, 3)", "(4, 5)", "layers/dense/vars/1", "layers/dense_1/vars/0", "five"):
        assert part in str(raised.value)
    for old, new in zip(before, model.get_weights()):
        np.testing.assert_array_equal(old, new)
    with pytest.warns(UserWarning, match="does not fit"):
        model.load_weights(tmp_path / "five.weights.h5", skip_mismatch=True)


def test_missing_and_superfluous_layers_are_differences(tmp_path):
    short = kerax.Sequential([kerax.Input((4,)), kerax.layers.Dense(3)])
    short.save_weights(tmp_path / "short.weights.h5")
    small().save_weights(tmp_path / "long.weights.h5")
    with pytest.raises(ValueError, match="dense_1/vars.*expected 2 weights, the file has 0"):
        small().load_weights(tmp_path / "short.weights.h5")
    with pytest.raises(ValueError, match="layers/dense_1/vars: in the file only"):
        short.load_weights(tmp_path / "long.weights.h5")


class Held(kerax.Model):
    """Three layers in attributes and a list, in the order of `layers`: their names sort otherwise."""

    def __init__(self):
        super().__init__()
        self.second, self.first = kerax.layers.Dense(5), [kerax.layers.Dense(3)]
        self.norm = kerax.layers.BatchNormalization()

    def call(self, inputs):
        return self.norm(self.first[0](self.second(inputs)))


@pytest.mark.parametrize("outer", [False, True])
@pytest.mark.parametrize("kind", ["functional", "sequential"])
def test_a_file_of_layers_in_a_row_fits_a_subclass_that_holds_them_in_attributes(kind, outer, tmp_path):
    stack = [kerax.layers.Dense(5), kerax.layers.Dense(3), kerax.layers.BatchNormalization()]
    plain = kerax.Sequential([kerax.Input((4,)), *stack])
    if kind == "functional":
        plain = kerax.Model(plain.inputs, plain.outputs)
    ours = Held()
    ours(np.ones((1, 4)))
    if outer:
        plain, ours = (kerax.Sequential([kerax.Input((4,)), model]) for model in (plain, ours))
    plain.save_weights(tmp_path / "plain.weights.h5")
    ours.load_weights(tmp_path / "plain.weights.h5")
    x = np.ones((2, 4), "float32")
    np.testing.assert_allclose(ours(x), plain(x), rtol=1e-6)


def test_a_file_of_fewer_layers_in_a_row_changes_nothing_in_a_subclass(tmp_path):
    small().save_weights(tmp_path / "two.weights.h5")
    ours = Held()
    ours(np.ones((1, 4)))
    before = ours.get_weights()
    with pytest.raises(ValueError, match="does not fit"):
        ours.load_weights(tmp_path / "two.weights.h5")
    assert all(map(np.array_equal, before, ours.get_weights()))


def test_bfloat16_weights_survive(tmp_path):
    model = kerax.Sequential([kerax.Input((4,)), kerax.layers.Dense(3, dtype="bfloat16")])
    model.save_weights(tmp_path / "half.weights.h5")
    again = kerax.models.clone_model(model)
    again.load_weights(tmp_path / "half.weights.h5")
    assert again.weights[0].dtype == "bfloat16"
    np.testing.assert_array_equal(again.weights[0].numpy(), model.weights[0].numpy())


def test_links_and_external_storage_are_refused(tmp_path):
    model = small()
    model.save_weights(tmp_path / "good.weights.h5")
    secret = tmp_path / "secret.bin"
    secret.write_bytes(b"\0" * 1000)
    for kind in ("link", "soft", "storage"):
        path = tmp_path / f"{kind}.weights.h5"
        path.write_bytes((tmp_path / "good.weights.h5").read_bytes())
        with h5py.File(path, "a") as file:
            group = file["layers/dense/vars"]
            del group["0"]
            if kind == "link":
                group["0"] = h5py.ExternalLink(str(tmp_path / "good.weights.h5"), "/layers/dense/vars/0")
            elif kind == "soft":
                group["0"] = h5py.SoftLink("/layers/dense_1/vars/0")
            else:
                group.create_dataset("0", (4, 3), "float32", external=[(str(secret), 0, 48)])
        with pytest.raises(ValueError, match="does not follow|does not read"):
            model.load_weights(path)


def test_bad_files_and_names_get_one_clear_error(tmp_path):
    model = small()
    model.save_weights(tmp_path / "good.weights.h5")
    whole = (tmp_path / "good.weights.h5").read_bytes()
    (tmp_path / "cut.weights.h5").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.weights.h5").write_text("no weights at all")
    for name in ("cut", "text"):
        with pytest.raises(ValueError, match=f"{name}.weights.h5"):
            model.load_weights(tmp_path / f"{name}.weights.h5")
    with pytest.raises(FileNotFoundError, match=r"none.weights.h5"):
        model.load_weights(tmp_path / "none.weights.h5")
    with pytest.raises(ValueError, match=r"end in '.weights.h5'"):
        model.save_weights(tmp_path / "model.h5")
    with pytest.raises(ValueError, match="exists"):
        model.save_weights(tmp_path / "good.weights.h5", overwrite=False)
    with pytest.raises(ValueError, match="not built"):
        kerax.Sequential([kerax.layers.Dense(2)]).save_weights(tmp_path / "new.weights.h5")


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    model = small()
    path = tmp_path / "model.weights.h5"
    model.save_weights(path)
    before = path.read_bytes()
    monkeypatch.setattr(h5py.Group, "create_dataset", lambda *_, **__: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        model.save_weights(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("ending", ["keras", "weights.h5"])
def test_weights_lie_where_they_were_read_and_not_twice(ending, tmp_path, monkeypatch):
    """On a CPU; and training from there neither changes an array that somebody took nor is held up by it."""
    model = kerax.Sequential([kerax.Input((64,)), kerax.layers.Dense(32), kerax.layers.Dense(1)])
    model.compile("adam", "mse")
    path, addresses, aligned = str(tmp_path / f"m.{ending}"), set(), placement.aligned_view
    model.save(path) if ending == "keras" else model.save_weights(path)

    def noted(*args):
        array = aligned(*args)
        addresses.add(array.ctypes.data)
        return array

    monkeypatch.setattr(placement, "aligned_view", noted)
    if ending == "keras":
        model = kerax.saving.load_model(path)
    else:
        model.load_weights(path)
    taken = [variable.value for variable in model.weights]
    assert {array.unsafe_buffer_pointer() for array in taken} <= addresses
    before = [np.array(array) for array in taken]
    model.fit(np.ones((8, 64), "float32"), np.ones((8, 1), "float32"), epochs=2, verbose=0)
    for array, values, variable in zip(taken, before, model.weights, strict=True):
        np.testing.assert_array_equal(array, values)
        assert not np.array_equal(variable.value, values)
