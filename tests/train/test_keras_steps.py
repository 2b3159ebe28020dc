"""Steps written for Keras on JAX, with lists of variables, run as they are."""

import jax
import keras
import numpy as np
import pytest

import kerax

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(40, 4)).astype("f4"), RNG.normal(size=(40, 1)).astype("f4")


class Steps:
    """The three steps as Keras's guides write them."""

    def compute_loss_and_updates(self, trainable, others, x, y, training=False):
        y_pred, others = self.stateless_call(trainable, others, x, training=training)
        return self.compute_loss(x, y, y_pred), (y_pred, others)

    def updated(self, metrics_variables, loss, y, y_pred):
        new, logs = [], {}
        for metric in self.metrics:
            values = metrics_variables[len(new) : len(new) + len(metric.variables)]
            arguments = (loss,) if metric.name == "loss" else (y, y_pred)
            values = metric.stateless_update_state(values, *arguments)
            logs[metric.name] = metric.stateless_result(values)
            new += values
        return logs, new

    def train_step(self, state, data):
        trainable, others, optimizer_variables, metrics_variables = state
        x, y = data[:2]
        grad_fn = jax.value_and_grad(self.compute_loss_and_updates, has_aux=True)
        (loss, (y_pred, others)), grads = grad_fn(trainable, others, x, y, training=True)
        trainable, optimizer_variables = self.optimizer.stateless_apply(optimizer_variables, grads, trainable)
        logs, metrics_variables = self.updated(metrics_variables, loss, y, y_pred)
        return logs, (trainable, others, optimizer_variables, metrics_variables)

    def test_step(self, state, data):
        trainable, others, metrics_variables = state
        x, y = data[:2]
        loss, (y_pred, others) = self.compute_loss_and_updates(trainable, others, x, y)
        logs, metrics_variables = self.updated(metrics_variables, loss, y, y_pred)
        return logs, (trainable, others, metrics_variables)

    def predict_step(self, state, data):
        trainable, others = state
        x = data[0] if isinstance(data, tuple) else data
        return self.stateless_call(trainable, others, x)


def made(k, base, *parts):
    class Own(Steps, base):
        pass

    inputs = [k.Input((4,)), *parts, k.layers.Dense(1)]
    if base is k.Sequential:
        model = Own(inputs)
    else:
        tensor = inputs[0]
        for layer in inputs[1:]:
            tensor = layer(tensor)
        model = Own(inputs[0], tensor)
    weights = np.random.default_rng(1)
    model.set_weights([weights.uniform(0.1, 0.5, w.shape).astype("f4") for w in model.get_weights()])
    return model


def normalized(k):
    return made(k, k.Sequential, k.layers.Dense(8, activation="relu"), k.layers.BatchNormalization())


def functional(k):
    return made(k, k.Model, k.layers.Dense(3, activation="tanh"))


def frozen(k):
    model = made(k, k.Sequential, k.layers.Dense(3), k.layers.BatchNormalization(), k.layers.Dense(2))
    model.layers[0].trainable = False
    return model


@pytest.mark.medium
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("make", [normalized, functional, frozen])
def test_steps_of_keras_do_what_they_do_there(make, optimizer):
    found = []
    for k in (keras, kerax):
        model = make(k)
        model.compile(optimizer, "mse", metrics=["mae"])
        history = model.fit(X, Y, batch_size=16, epochs=2, shuffle=False, verbose=0).history
        logs = model.evaluate(X[:32], Y[:32], batch_size=16, verbose=0, return_dict=True)
        outputs = model.predict(X, batch_size=16, verbose=0)
        found.append((history | logs, outputs, [np.asarray(w) for w in model.get_weights()]))
    (logs, outputs, weights), (own_logs, own_outputs, own_weights) = found
    assert set(own_logs) == set(logs)
    for name, value in logs.items():
        np.testing.assert_allclose(own_logs[name], value, rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(own_outputs, outputs, rtol=1e-4, atol=1e-6)
    for own, other in zip(own_weights, weights, strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-4, atol=1e-6)


@pytest.mark.medium
def test_steps_run_eagerly_and_on_one_batch():
    model = normalized(kerax)
    model.compile("adam", "mse", metrics=["mae"], run_eagerly=True)
    eager = model.train_on_batch(X, Y), model.test_on_batch(X, Y), model.predict_on_batch(X)
    model = normalized(kerax)
    model.compile("adam", "mse", metrics=["mae"])
    compiled = model.train_on_batch(X, Y), model.test_on_batch(X, Y), model.predict_on_batch(X)
    for one, other in zip(eager, compiled, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


@pytest.mark.medium
def test_the_state_is_trees_by_name_and_lists_by_number():
    seen = {}

    class Looks(kerax.Sequential):
        def train_step(self, state, data):
            seen.update(
                length=len(state), first=state[0], fields=state.params, is_state=isinstance(state, kerax.TrainState)
            )
            logs, new = super().train_step(state, data)
            return logs, new._replace(params=new.params)

    model = Looks([kerax.Input((4,)), kerax.layers.Dense(2), kerax.layers.Dense(1)])
    model.compile("sgd", "mse")
    before = model.get_weights()
    model.fit(X, Y, verbose=0)
    assert seen["length"] == 4 and seen["is_state"] and isinstance(seen["fields"], dict)
    assert [value.shape for value in seen["first"]] == [variable.shape for variable in model.trainable_variables]
    assert not np.allclose(before[0], model.get_weights()[0])


def test_lists_of_another_length_are_refused():
    class Short(kerax.Sequential):
        def train_step(self, state, data):
            trainable, others, optimizer_variables, metrics_variables = state
            return {"loss": 0.0}, (trainable, others, optimizer_variables, metrics_variables[:1])

    model = Short([kerax.Input((4,)), kerax.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"train_step: returned 1 values for the 2 variables"):
        model.fit(X, Y, verbose=0)


class Batches:
    def __init__(self, batch, **kwargs):
        super().__init__(**kwargs)
        self.batch = batch

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return self.batch


def forms_seen(k, feed):
    """What the steps get as `data`, for each of three methods."""
    seen = {}

    class Looks(k.Model):
        def __init__(self):
            super().__init__()
            self.dense = k.layers.Dense(1)
            self.dense.build((None, 4))
            self.built = True

        def call(self, inputs):
            return self.dense(inputs)

        def train_step(self, state, data):
            seen["train"] = jax.tree.structure(data)
            return {"loss": 0.0}, state

        def test_step(self, state, data):
            seen["test"] = jax.tree.structure(data)
            return {"loss": 0.0}, state

        def predict_step(self, state, data):
            seen["predict"] = jax.tree.structure(data)
            return np.zeros((8, 1)), state[1]

    model = Looks()
    model.compile("sgd")
    given = feed(k)
    model.fit(*given, verbose=0)
    model.evaluate(*given, verbose=0)
    model.predict(given[0], verbose=0)
    return seen


def batches_of(batch):
    return lambda k: (type("Own", (Batches, k.utils.PyDataset), {})(batch),)


@pytest.mark.medium
@pytest.mark.parametrize(
    "feed",
    [
        lambda k: (X,),
        lambda k: (X, None),
        lambda k: (X, Y),
        lambda k: ([X, X],),
        lambda k: ((X, X),),
        lambda k: ([X],),
        lambda k: ({"a": X},),
        lambda k: ({"a": X}, Y),
        batches_of(X[:8]),
        batches_of((X[:8],)),
        batches_of({"a": X[:8]}),
        batches_of(({"a": X[:8]},)),
        batches_of((X[:8], Y[:8])),
    ],
)
def test_a_step_gets_the_batch_in_the_form_that_keras_gives_it(feed):
    assert forms_seen(kerax, feed) == forms_seen(keras, feed)


@pytest.mark.medium
def test_inputs_alone_are_split_and_validated():
    class Reconstructs(kerax.Sequential):
        def train_step(self, state, data):
            assert data.shape[1:] == (4,)
            return {"loss": kerax.ops.mean(data)}, state

        def test_step(self, state, data):
            return {"loss": kerax.ops.mean(data)}, state

    model = Reconstructs([kerax.Input((4,)), kerax.layers.Dense(4)])
    model.compile("sgd")
    history = model.fit(X, batch_size=32, validation_split=0.2, shuffle=False, verbose=0).history
    np.testing.assert_allclose(history["val_loss"], [X[32:].mean()], rtol=1e-5)
    history = model.fit(X, validation_data=(X[:8],), verbose=0).history
    np.testing.assert_allclose(history["val_loss"], [X[:8].mean()], rtol=1e-5)


@pytest.mark.parametrize("is_called_first", [True, False])
def test_a_step_may_feed_call_with_another_part_of_the_batch(is_called_first):
    class FromTargets(kerax.Model):
        def __init__(self):
            super().__init__()
            self.dense = kerax.layers.Dense(2)

        def build(self, input_shape=None):
            self.dense.build((None, 3))

        def call(self, inputs):
            rays, times = inputs
            return self.dense(rays) * times

        def train_step(self, state, data):
            images, given = data
            y_pred, others = self.stateless_call(state[0], state[1], given)
            return {"loss": kerax.ops.mean((images - y_pred) ** 2)}, (state[0], others, *state[2:])

    model = FromTargets()
    rays, times = np.ones((8, 3), "f4"), np.ones((8, 1), "f4")
    if is_called_first:
        model((rays, times))
    else:
        model.build()
        model.built = True
    model.compile("sgd")
    history = model.fit(np.zeros((8, 2), "f4"), (rays, times), verbose=0).history
    np.testing.assert_allclose(history["loss"], [np.mean(np.asarray(model((rays, times))) ** 2)], rtol=1e-5)
