"""Seeds that users give to layers, initializers and metrics, and those of Python and NumPy."""

import random
import subprocess
import sys

import numpy as np
import pytest

import kerax
from kerax.core import seeds

X = np.ones((4, 2), "float32")
Y = np.ones((4, 1), "float32")


@pytest.mark.medium
def test_a_seed_generator_given_as_seed_is_used_and_moves_on():
    generator = kerax.random.SeedGenerator(3)
    drop, noise = kerax.layers.Dropout(0.5, seed=generator), kerax.layers.GaussianNoise(1.0, seed=generator)
    assert drop.seed_generator is noise.seed_generator is generator
    x = np.ones((1, 64), "float32")
    assert not np.array_equal(drop(x, training=True), drop(x, training=True))
    model = kerax.Sequential([kerax.Input((2,)), drop, kerax.layers.Dense(1), noise])
    model.compile("sgd", "mse")
    before = int(generator.state.value[1])
    model.fit(X, Y, batch_size=2, verbose=0)
    assert int(generator.state.value[1]) == before + 4  # two batches, two draws in each
    assert type(drop).from_config(drop.get_config()).seed_generator.seed == 3


class DrawsOnce(kerax.metrics.Metric):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.generator, self.drawn = kerax.random.SeedGenerator(1), self.add_variable((), "zeros", name="drawn")

    def update_state(self, *args, **kwargs):
        self.drawn.assign(kerax.random.uniform((), seed=self.generator))

    def result(self):
        return self.drawn.value


def test_a_seed_generator_in_a_metric_moves_on_while_training():
    model = kerax.Sequential([kerax.Input((2,)), kerax.layers.Dense(1)])
    model.compile("sgd", "mse", metrics=[DrawsOnce(name="drawn")])
    assert len(set(model.fit(X, Y, epochs=3, verbose=0).history["drawn"])) == 3


@pytest.mark.parametrize("layer", [kerax.layers.Dropout(0.5), kerax.layers.GaussianNoise(0.1)])
def test_layers_that_draw_have_a_seed_generator_that_draws_from_the_call(layer):
    assert isinstance(layer.seed_generator, kerax.random.SeedGenerator) and layer.variables == []
    x = np.ones((1, 64), "float32")
    draws = [layer.apply({"params": {}, "state": {}}, x, training=True, key=key)[0] for key in (0, 0, 1)]
    assert np.array_equal(draws[0], draws[1]) and not np.array_equal(draws[0], draws[2])


@pytest.mark.parametrize("seed", ["a", 1.5, -1])
def test_a_seed_is_an_integer_of_at_least_0(seed):
    with pytest.raises(ValueError, match="SeedGenerator: `seed` must be an integer"):
        kerax.random.SeedGenerator(seed)


CODE = """
import random, numpy, kerax
{}
x = numpy.random.rand(3)
layer = kerax.layers.Dense(2)
layer.build((None, 2))
print(layer.get_weights()[0], kerax.random.normal((2,)), kerax.layers.Dropout(0.5)(numpy.ones(9), training=True))
"""


@pytest.mark.slow
@pytest.mark.parametrize("line", ["random.seed(1)", "numpy.random.seed(1)", "random.seed(2); numpy.random.seed(2)"])
def test_seeds_of_python_and_numpy_decide_where_kerax_has_none(line):
    runs = [
        subprocess.run([sys.executable, "-c", CODE.format(line)], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert runs[0] == runs[1]


@pytest.fixture
def generators_of_users():
    """Python's and NumPy's generators, as they were afterwards."""
    states = random.getstate(), np.random.get_state()  # noqa: NPY002 what users draw from
    yield
    random.setstate(states[0])
    np.random.set_state(states[1])  # noqa: NPY002


def test_looking_for_a_seed_leaves_the_generator_of_numpy_alone(generators_of_users):
    np.random.seed(3)  # noqa: NPY002
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    seeds._Unseeded().draw()
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


SEEDINGS = {
    "python": lambda: random.seed(5),
    "python, as it was": lambda: random.setstate((3, (*range(624), 624), None)),
    "both": lambda: (random.seed(5), np.random.seed(5)),  # noqa: NPY002
    "numpy, then data": lambda: (np.random.seed(6), np.random.rand(3)),  # noqa: NPY002
}


@pytest.mark.parametrize("name", SEEDINGS)
@pytest.mark.parametrize("draws_between", [0, 3, 2000])
def test_the_same_seed_again_gives_the_same_seeds_again(name, draws_between, generators_of_users):
    """However much else is drawn from Python's generator: only seeding it counts."""
    np.random.seed(0)  # noqa: NPY002
    stream, found = seeds._Unseeded(), []
    for _ in range(2):
        SEEDINGS[name]()
        found.append([stream.draw() for _ in range(700 if name == "both" else 3)])
        [random.random() for _ in range(draws_between)]
        np.random.seed(7)  # noqa: NPY002 another state, so that NumPy's is seen to be seeded again
        stream.draw()
    assert found[0] == found[1] and len(set(found[0])) >= 3


def test_the_number_of_a_default_name_does_not_reach_the_weights():
    def kernel():
        kerax.utils.set_random_seed(4)
        kerax.layers.Dense(2)  # takes a number
        layers = [kerax.layers.Dense(2) for _ in range(2)]
        layers[len(made)].build((None, 3))
        return layers[len(made)].get_weights()[0]

    made = []
    made.append(kernel())
    np.testing.assert_array_equal(kernel(), made[0])
