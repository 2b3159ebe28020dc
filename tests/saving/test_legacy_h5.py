"""Older `.h5` files: by order and by name, all or nothing, and nothing from outside the file."""

import shutil

import h5py
import keras
import numpy as np
import pytest
from keras.src.legacy.saving import legacy_h5_format

import kerax


def build(k, units=3, name="first"):
    return k.Sequential(
        [
            k.Input((4,)),
            k.layers.Dense(units, name=name),
            k.layers.Dropout(0.5),
            k.layers.BatchNormalization(name="norm"),
            k.Sequential([k.layers.Dense(2), k.layers.BatchNormalization(), k.layers.Dense(2)], name="inner"),
            k.layers.Normalization(name="scale"),
        ],
        name="net",
    )


def write(model, path):
    """What `save_weights("x.h5")` wrote before Keras 3, which only reads such files."""
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)
    return path


@pytest.fixture(scope="module")
def theirs():
    model = build(keras)
    rng = np.random.default_rng(0)
    model.set_weights([np.asarray(rng.uniform(0.1, 0.9, size=w.shape), w.dtype) for w in model.get_weights()])
    model.layers[-1].finalize_state()  # Keras's layer computes from copies of its weights
    return model


@pytest.fixture(scope="module")
def original(theirs, tmp_path_factory):
    return write(theirs, tmp_path_factory.mktemp("older") / "net.h5")


@pytest.fixture
def path(original, tmp_path):
    return shutil.copy(original, tmp_path / "net.h5")


def assert_same(ours, theirs):
    for mine, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, other)


@pytest.mark.medium
@pytest.mark.parametrize("by_name", [False, True])
def test_files_of_keras_are_read(path, theirs, by_name):
    ours = build(kerax)
    ours.load_weights(path, by_name=by_name)
    assert_same(ours, theirs)
    x = np.random.default_rng(1).normal(size=(5, 4)).astype("float32")
    np.testing.assert_allclose(ours(x), theirs(x), rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_files_of_whole_models_are_read(theirs, tmp_path):
    theirs.save(tmp_path / "model.hdf5")
    ours = build(kerax)
    ours.load_weights(tmp_path / "model.hdf5")
    assert_same(ours, theirs)


def test_long_lists_of_names_in_pieces_are_read(path, theirs):
    with h5py.File(path, "r+") as file:
        names = list(file.attrs["layer_names"])
        del file.attrs["layer_names"]
        file.attrs["layer_names0"], file.attrs["layer_names1"] = names[:3], [name.encode() for name in names[3:]]
    ours = build(kerax)
    ours.load_weights(path)
    assert_same(ours, theirs)


def test_files_of_a_model_that_is_frozen_are_read(theirs, tmp_path):
    frozen = build(keras)
    frozen.set_weights(theirs.get_weights())
    frozen.trainable = False
    ours = build(kerax)
    ours.trainable = False
    ours.load_weights(write(frozen, tmp_path / "frozen.h5"))
    assert_same(ours, theirs)


def test_weights_of_the_model_itself_are_read(tmp_path):
    def make(k):
        class Net(k.Model):
            def __init__(self):
                super().__init__()
                self.dense = k.layers.Dense(2)
                self.shift = self.add_weight(shape=(2,), name="shift", initializer="ones")

            def call(self, x):
                return self.dense(x) + self.shift

        net = Net()
        net(np.ones((1, 3), "float32"))
        return net

    ours, theirs = make(kerax), make(keras)
    theirs.shift.assign([5.0, 7.0])
    ours.load_weights(write(theirs, tmp_path / "own.h5"))
    np.testing.assert_array_equal(ours.shift.value, [5, 7])
    np.testing.assert_array_equal(ours.dense.kernel.value, theirs.dense.kernel.value)


def test_a_file_that_does_not_fit_changes_nothing_and_lists_every_difference(path):
    ours = build(kerax, units=5)
    before = ours.get_weights()
    with pytest.raises(ValueError) as raised:
        ours.load_weights(path)
    for part in ("net.h5", "first (", "(4, 5), found (4, 3)", "norm (", "(5,), found (3,)", "inner (", "Nothing was"):
        assert part in str(raised.value)
    for old, new in zip(before, ours.get_weights()):
        np.testing.assert_array_equal(old, new)


def test_what_fits_is_loaded_where_that_was_asked_for(path, theirs):
    ours = build(kerax, units=5)
    with pytest.warns(UserWarning, match=r"(?s)net.h5' does not fit.*found \(4, 3\)"):
        ours.load_weights(path, skip_mismatch=True)
    np.testing.assert_array_equal(ours.get_layer("scale").get_weights()[0], theirs.layers[-1].get_weights()[0])


def test_the_number_of_layers_and_of_weights_must_agree(path):
    ours = kerax.Sequential([kerax.Input((4,)), kerax.layers.Dense(3, name="first")])
    with pytest.raises(ValueError, match=r"has 1 layers with weights, .*has 4.*only in the file: \['norm', 'inner'"):
        ours.load_weights(path)
    unbiased = kerax.Sequential([kerax.Input((4,)), kerax.layers.Dense(3, use_bias=False, name="first")])
    with pytest.raises(ValueError, match="first: expected 1 weights, the file has 2"):
        unbiased.load_weights(path, by_name=True)
    with pytest.warns(UserWarning, match="first: expected 1 weights"):
        unbiased.load_weights(path, by_name=True, skip_mismatch=True)


def test_by_name_loads_the_layers_that_both_sides_have(path, theirs):
    ours = kerax.Sequential([kerax.Input((4,)), kerax.layers.Dense(3, name="first"), kerax.layers.Dense(1)])
    before = ours.layers[1].get_weights()
    ours.load_weights(path, by_name=True)
    np.testing.assert_array_equal(ours.layers[0].kernel.value, theirs.layers[0].kernel.value)
    np.testing.assert_array_equal(ours.layers[1].kernel.value, before[0])
    stranger = kerax.Sequential([kerax.Input((4,)), kerax.layers.Dense(3, name="other")])
    with pytest.raises(ValueError, match=r"no layer name in common. The file has \['first'"):
        stranger.load_weights(path, by_name=True)


def dataset(file):
    return next(name for name in names_of(file) if name.startswith("first/") and name.endswith("kernel"))


def names_of(file):
    names = []
    file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    return names


def link_softly(file):
    name = dataset(file)
    del file[name]
    file[name] = h5py.SoftLink("/norm")


def link_to_another_file(file):
    name = dataset(file)
    del file[name]
    file[name] = h5py.ExternalLink("other.h5", "/x")


def link_a_layer(file):
    del file["norm"]
    file["norm"] = h5py.ExternalLink("other.h5", "/norm")


def store_outside(file):
    name = dataset(file)
    del file[name]
    file.create_dataset(name, (4, 3), "f4", external=[("/etc/hostname", 0, 48)])


def store_virtually(file):
    name = dataset(file)
    del file[name]
    layout = h5py.VirtualLayout((4, 3), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", (4, 3))
    file.create_virtual_dataset(name, layout)


def hold_text(file):
    name = dataset(file)
    del file[name]
    file.create_dataset(name, (4, 3), h5py.string_dtype())


def odd_float():
    """A float that NumPy does not have."""
    kind = h5py.h5t.IEEE_F32LE.copy()
    kind.set_fields(31, 23, 8, 0, 23)
    kind.set_ebias(2**20)
    return kind


def hold_odd_floats(file):
    name = dataset(file)
    del file[name]
    space = h5py.h5s.create_simple((4, 3))
    h5py.h5d.create(file.id, name.encode(), odd_float(), space)


def name_by_odd_floats(file):
    group = file["first"]
    del group.attrs["weight_names"]
    h5py.h5a.create(group.id, b"weight_names", odd_float(), h5py.h5s.create_simple((2,)))


def hold_a_group(file):
    name = dataset(file)
    del file[name]
    file.create_group(name)


def lose_a_weight(file):
    del file[dataset(file)]


def lose_a_layer(file):
    del file["norm"]


def lose_the_names(file):
    del file.attrs["layer_names"]


def number_the_names(file):
    file.attrs["layer_names"] = [1.0, 2.0]


def climb(file):
    file["first"].attrs["weight_names"] = ["../norm/x", "/norm/y"]


@pytest.mark.parametrize(
    "change, message",
    [
        (link_softly, "a link"),
        (link_to_another_file, "a link"),
        (link_a_layer, "a link at .*/norm"),
        (store_outside, "keeps its data in another file"),
        (store_virtually, "keeps its data in another file"),
        (hold_text, "should hold numbers"),
        (hold_odd_floats, "should hold numbers"),
        (name_by_odd_floats, "`weight_names` of /first is no names"),
        (hold_a_group, "should be a weight"),
        (lose_a_weight, "lists '.*kernel' of 'first', but does not hold it"),
        (lose_a_layer, "lists the layer 'norm', but has no such group"),
        (lose_the_names, "not an older Keras file of weights"),
        (number_the_names, "`layer_names`"),
        (climb, "does not hold it"),
    ],
)
def test_bad_files_are_refused_with_one_clear_error(path, change, message):
    with h5py.File(path, "r+") as file:
        change(file)
    ours = build(kerax)
    before = ours.get_weights()
    with pytest.raises(ValueError, match=rf"net.h5'.*{message}"):
        ours.load_weights(path)
    for old, new in zip(before, ours.get_weights()):
        np.testing.assert_array_equal(old, new)


def test_cut_and_foreign_files_are_refused(path, tmp_path):
    ours = build(kerax)
    content = open(path, "rb").read()
    for length in (*range(0, len(content), 1000), len(content) - 100):
        (tmp_path / "cut.h5").write_bytes(content[:length])
        with pytest.raises(ValueError, match="cut.h5'"):
            ours.load_weights(tmp_path / "cut.h5")
    with pytest.raises(FileNotFoundError, match="absent.h5"):
        ours.load_weights(tmp_path / "absent.h5")


def test_the_kind_of_file_is_told_by_its_name(path, tmp_path):
    ours = build(kerax)
    with pytest.raises(ValueError, match="must end in '.weights.h5'"):
        ours.load_weights(tmp_path / "weights.bin")
    ours.save_weights(tmp_path / "new.weights.h5")
    with pytest.raises(ValueError, match="`by_name` is for .h5 and .hdf5 files"):
        ours.load_weights(tmp_path / "new.weights.h5", by_name=True)
    shutil.copy(tmp_path / "new.weights.h5", tmp_path / "new.h5")
    with pytest.raises(ValueError, match="its name must end in '.weights.h5'"):
        ours.load_weights(tmp_path / "new.h5")
    with pytest.raises(TypeError, match="unknown argument 'by_names'"):
        ours.load_weights(path, by_names=True)
    lazy = kerax.Sequential([kerax.layers.Dense(2)])
    with pytest.raises(ValueError, match="not built"):
        lazy.load_weights(path)
