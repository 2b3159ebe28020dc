import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kerax import config, layers
from kerax.core.symbolic import KerasTensor


@pytest.fixture
def x(key):
    return jax.random.normal(key, (2, 5, 3))


def test_lstm_follows_its_equations(x):
    layer = layers.LSTM(2)
    layer(x)
    kernel, recurrent, bias = layer.get_weights()
    np.testing.assert_array_equal(bias, [0, 0, 1, 1, 0, 0, 0, 0])
    sigmoid = lambda z: 1 / (1 + np.exp(-z))
    h = c = np.zeros((2, 2))
    for step in range(5):
        i, f, g, o = np.split(np.asarray(x[:, step]) @ kernel + h @ recurrent + bias, 4, -1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
    np.testing.assert_allclose(layer(x), h, rtol=1e-5, atol=1e-6)


@pytest.mark.medium
def test_stateful_layer_goes_on_where_it_stopped(x):
    whole = layers.GRU(4)
    stateful = layers.GRU(4, stateful=True)
    expected = whole(x)
    stateful.build(x.shape[:1] + (None, 3))
    stateful.set_weights(whole.get_weights())
    stateful(x[:, :2])
    np.testing.assert_allclose(stateful(x[:, 2:]), expected, rtol=1e-5, atol=1e-6)
    stateful.reset_state()
    np.testing.assert_allclose(stateful(x), expected, rtol=1e-5, atol=1e-6)
    variables = stateful.variables_tree()
    _, state = jax.jit(stateful.apply)(variables, x)
    assert not np.allclose(jax.tree.leaves(state)[0], jax.tree.leaves(variables["state"])[0])
    with pytest.raises(ValueError, match=r"expected axis 0 \(batch\) of the input"):
        stateful(x[:1])


@pytest.mark.medium
def test_initial_state_splits_a_sequence(x):
    layer = layers.LSTM(4, return_state=True)
    expected, *_ = layer(x)
    _, *states = layer(x[:, :2])
    np.testing.assert_allclose(layer(x[:, 2:], initial_state=states)[0], expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match=r"`initial_state` must have shapes \[\(2, 4\), \(2, 4\)\]"):
        layer(x, initial_state=states[:1])


@pytest.mark.medium
def test_padding_changes_nothing(x):
    padded = jnp.concatenate([x, jnp.ones((2, 3, 3))], 1)
    mask = jnp.arange(8)[None] < jnp.array([[5], [5]])
    for layer in (layers.SimpleRNN(4), layers.RNN([layers.LSTMCell(3), layers.GRUCell(4)]), layers.RNN(Accumulator(3))):
        np.testing.assert_allclose(layer(padded, mask=mask), layer(x), rtol=1e-5, atol=1e-6)


def test_masked_outputs_repeat_or_are_zero(x):
    mask = jnp.array([[True, True, False, True, False]] * 2)
    for zero in (False, True):
        layer = layers.GRU(4, return_sequences=True, zero_output_for_mask=zero)
        outputs = layer(x, mask=mask)
        np.testing.assert_array_equal(outputs[:, 2], 0 if zero else outputs[:, 1])
        last = layers.GRU(4, zero_output_for_mask=zero)
        last.build(x.shape)
        last.set_weights(layer.get_weights())
        np.testing.assert_array_equal(last(x, mask=mask), outputs[:, -1])


class Accumulator(layers.Layer):
    """A cell of a user: sums its inputs, with a dense layer, dropout and a counter of steps inside."""

    state_size = 3

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(units)
        self.dropout = layers.Dropout(0.5)

    def build(self, input_shape):
        self.dense.build(input_shape)
        self.steps = self.add_weight(name="steps", shape=(), initializer="zeros", trainable=False)

    def call(self, inputs, states, training=False):
        self.steps.assign_add(1.0)
        total = states[0] + self.dropout(self.dense(inputs), training=training)
        return total, [total]


@pytest.mark.medium
def test_cells_of_users_run_in_the_loop_and_keep_their_state(x, key):
    layer = layers.RNN(Accumulator(3), return_sequences=True)
    variables = layer.init(key, x)
    with jax.checking_leaks():
        outputs, state = jax.jit(layer.apply)(variables, x)
    kernel, bias = variables["params"]["cell"]["dense"].values()
    np.testing.assert_allclose(outputs, jnp.cumsum(x @ kernel + bias, 1), rtol=1e-4, atol=1e-5)
    assert state["cell"]["steps"] == 5
    layer(x)
    assert float(layer.cell.steps) == 5
    trained, _ = layer.apply(variables, x, training=True, key=key)
    steps = np.diff(np.asarray(trained), axis=1)
    dropped = np.isclose(steps, 0, atol=1e-6)
    assert 0.2 < dropped.mean() < 0.8
    assert not (dropped == dropped[:, :1]).all()  # every step draws anew


def test_a_subclass_of_a_cell_with_its_own_call_is_called(x):
    class Doubled(layers.SimpleRNNCell):
        def call(self, inputs, states, training=False):
            output, states = super().call(inputs, states, training)
            return 2 * output, states

    layer = layers.RNN(Doubled(3))
    plain = layers.RNN(layers.SimpleRNNCell(3))
    outputs = layer(x)
    plain.build(x.shape)
    plain.set_weights(layer.get_weights())
    np.testing.assert_allclose(outputs, 2 * plain(x), rtol=1e-5)


@pytest.mark.medium
def test_dropout_masks_are_the_same_at_every_step(key):
    layer = layers.SimpleRNN(50, dropout=0.5, activation=None, return_sequences=True, recurrent_initializer="zeros")
    ones = jnp.ones((1, 4, 40))
    variables = layer.init(key, ones)
    outputs, _ = layer.apply(variables, ones, training=True, key=key)
    np.testing.assert_allclose(outputs, jnp.broadcast_to(outputs[:, :1], outputs.shape), rtol=1e-5)
    assert not np.allclose(outputs, layer.apply(variables, ones)[0])


@pytest.mark.medium
def test_bidirectional_merges_both_ways(x):
    layer = layers.Bidirectional(layers.LSTM(4, return_sequences=True), merge_mode="concat")
    outputs = layer(x)
    np.testing.assert_allclose(outputs[..., :4], layer.forward_layer(x), rtol=1e-6)
    np.testing.assert_allclose(outputs[..., 4:], layer.backward_layer(x)[:, ::-1], rtol=1e-6)


def test_bidirectional_halves_its_initial_state(x):
    layer = layers.Bidirectional(layers.GRU(4, return_state=True))
    states = [jnp.ones((2, 4)), jnp.zeros((2, 4))]
    outputs, forward, backward = layer(x, initial_state=states)
    np.testing.assert_allclose(forward, layer.forward_layer(x, initial_state=states[:1])[0], rtol=1e-6)
    np.testing.assert_allclose(outputs[:, 4:], backward, rtol=1e-6)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: layers.LSTM(0), "`units` must be an integer of at least 1"),
        (lambda: layers.GRU(2, dropout=1.5), "`dropout` must be between 0 and 1"),
        (lambda: layers.RNN(layers.Dense(2)), "a cell must have `call` and `state_size`"),
        (lambda: layers.LSTM(2, stateful=True)(KerasTensor((None, 3, 4))), "`stateful` needs a known batch size"),
        (lambda: layers.LSTM(2, unroll=True)(KerasTensor((2, None, 4))), "`unroll` needs a known number of steps"),
        (lambda: layers.LSTM(2)(jnp.zeros((2, 3))), "expected an input with ndim=3"),
        (lambda: layers.Bidirectional(layers.Dense(2)), "`layer` must be a recurrent layer"),
        (lambda: layers.Bidirectional(layers.GRU(2), merge_mode="max"), "`merge_mode` must be"),
        (
            lambda: layers.Bidirectional(layers.GRU(2), backward_layer=layers.GRU(2)),
            "must have different `go_backwards`",
        ),
    ],
)
def test_mistakes_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_layers_show_the_arguments_of_their_cell():
    layer = layers.LSTM(3, dropout=0.1)
    assert (layer.units, layer.dropout, layer.unit_forget_bias) == (3, 0.1, True)
    assert not hasattr(layers.SimpleRNN(3), "recurrent_activation")


@pytest.mark.slow
@pytest.mark.parametrize("name, extra", [("SimpleRNN", {}), ("LSTM", {}), ("GRU", {}), ("GRU", {"reset_after": False})])
@pytest.mark.parametrize("go_backwards", [False, True])
@pytest.mark.parametrize("stateful", [False, True])
def test_options_together_agree_with_keras(x, name, extra, go_backwards, stateful):
    import keras

    kept = jnp.arange(x.shape[0] * x.shape[1]).reshape(x.shape[:2]) % 4 != 2
    options = {"return_sequences": True, "return_state": True, "bias_initializer": "normal"} | extra
    for unroll in (False, True):
        ours, theirs = (
            getattr(module, name)(3, go_backwards=go_backwards, stateful=stateful, unroll=unroll, **options)
            for module in (layers, keras.layers)
        )
        theirs(x)
        ours(x)
        ours.set_weights(theirs.get_weights())
        if stateful:
            ours.reset_state()
            theirs.reset_state()
        calls = (
            [None, None if unroll else kept] if stateful else [kept]
        )  # unrolled, Keras forgets a masked start's state
        for mask in calls:
            for one, other in zip(ours(x, mask=mask), theirs(x, mask=mask), strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


DROPPING = {
    "SimpleRNN": (lambda: layers.SimpleRNN(3, dropout=0.5), (4, 4, 8)),
    "LSTM": (lambda: layers.LSTM(3, dropout=0.5, recurrent_dropout=0.5, return_sequences=True), (4, 5, 64)),
    "GRU": (lambda: layers.GRU(3, dropout=0.5), (4, 4, 64)),
    "Bidirectional": (lambda: layers.Bidirectional(layers.LSTM(3, dropout=0.5)), (4, 4, 64)),
    "stacked": (lambda: layers.RNN([layers.LSTMCell(3, dropout=0.5), layers.GRUCell(2, dropout=0.5)]), (4, 4, 64)),
    "one cell": (lambda: layers.RNN(layers.GRUCell(3, dropout=0.5)), (4, 4, 64)),
    "ConvLSTM1D": (lambda: layers.ConvLSTM1D(3, 2, dropout=0.5), (4, 4, 6, 16)),
}


@pytest.mark.medium
@pytest.mark.parametrize("name", DROPPING)
def test_dropout_is_the_same_wherever_inputs_are_projected(name, key):
    make, shape = DROPPING[name]
    layer, x = make(), jax.random.normal(key, shape)
    variables = layer.init(key, x)
    outputs = []
    for platform in ("cpu", "gpu", "tpu"):
        with config.compiling_for(platform):
            outputs.append(layer.apply(variables, x, training=True, key=key)[0])
    for other in outputs[1:]:
        np.testing.assert_allclose(outputs[0], other, rtol=1e-5, atol=1e-6)


@pytest.mark.medium
def test_dropout_drops_features_of_samples_not_steps(key):
    layer, x = layers.SimpleRNN(1, activation=None, dropout=0.5, return_sequences=True), jnp.ones((6, 6, 1))
    variables = layer.init(key, x)
    variables["params"] = jax.tree.map(jnp.zeros_like, variables["params"])
    variables["params"]["cell"]["kernel"] += 1
    with config.compiling_for("gpu"):
        outputs = layer.apply(variables, x, training=True, key=key)[0]
    np.testing.assert_array_equal(outputs, jnp.broadcast_to(outputs[:, :1], outputs.shape))  # all steps of a sample
    assert set(np.unique(outputs)) == {0, 2}


@pytest.mark.parametrize(
    "make", [lambda m: m.LSTM(3, implementation=1), lambda m: m.GRU(3, implementation=2, use_cudnn=False)]
)
def test_arguments_of_older_code_are_taken(make, x):
    import keras

    ours, theirs = make(layers), make(keras.layers)
    assert ours.use_cudnn == theirs.use_cudnn and ours.get_config().keys() <= theirs.get_config().keys()
    assert layers.LSTMCell(3, implementation=1).implementation == 1
    with pytest.raises(ValueError, match="implementation"):  # as in Keras
        layers.SimpleRNN(3, implementation=1)


def test_bidirectional_begins_with_given_weights(x):
    weights = [np.full(shape, 0.1) for shape in ((3, 8), (2, 8), (8,)) * 2]
    layer = layers.Bidirectional(layers.LSTM(2), weights=weights)
    layer(x)
    for one, other in zip(layer.get_weights(), weights, strict=True):
        np.testing.assert_allclose(one, other)
