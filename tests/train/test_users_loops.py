"""Methods of a model around its steps that a user overrides: called and obeyed where Keras does."""

import keras
import numpy as np
import pytest

import kerax

X, Y = np.ones((8, 2), "float32"), np.ones((8, 1), "float32")
HOOKS = ["evaluate", "make_train_function", "make_test_function", "make_predict_function", "reset_metrics", "compile"]


def counting(library, calls):
    def hook(name):
        def method(self, *args, **kwargs):
            calls.append(name)
            return getattr(super(type(self), self), name)(*args, **kwargs)

        return method

    return type("Counting", (library.Model,), {name: hook(name) for name in [*HOOKS, "get_compile_config"]})


def made(library, model_class, **options):
    inputs = library.Input((2,))
    model = model_class(inputs, library.layers.Dense(1, kernel_initializer="ones")(inputs))
    model.compile("sgd", "mse", **options)
    return model


@pytest.mark.medium
def test_overridden_methods_are_called_where_keras_calls_them(tmp_path):
    found = {}
    for library in (keras, kerax):
        calls: list[str] = []
        model = made(library, counting(library, calls), metrics=["mae"])
        ways = {
            "fit": lambda model=model: model.fit(X, Y, batch_size=4, epochs=2, verbose=0, validation_data=(X, Y)),
            "split": lambda model=model: model.fit(X, Y, batch_size=4, verbose=0, validation_split=0.5),
            "batches": lambda model=model: model.fit(X, Y, verbose=0, validation_data=((X, Y) for _ in range(1))),
            "evaluate": lambda model=model: model.evaluate(X, Y, verbose=0),
            "predict": lambda model=model: model.predict(X[:3], verbose=0),
            "save": lambda model=model: model.save(tmp_path / "m.keras"),
        }
        for way, run in ways.items():
            calls.clear()
            run()
            found.setdefault(way, []).append(set(calls))
    for way, (theirs, ours) in found.items():
        assert ours | {"make_test_function", "make_train_function"} == theirs | {
            "make_test_function",
            "make_train_function",
        }, way


@pytest.mark.parametrize("library", [keras, kerax])
def test_validation_is_what_an_own_evaluate_says(library):
    class Own(library.Model):
        def evaluate(self, x=None, y=None, **kwargs):
            assert len(x) == len(y) and kwargs["return_dict"]
            kwargs.pop("_use_cached_eval_dataset", None)
            return super().evaluate(x, y, **kwargs) | {"rows": float(len(x))}

    history = made(library, Own).fit(X, Y, epochs=2, verbose=0, validation_data=(X[:6], Y[:6])).history
    assert history["val_rows"] == [6, 6] and len(history["val_loss"]) == 2


def test_a_function_of_the_users_own_is_the_step():
    class Own(kerax.Model):
        def make_train_function(self, force=False):
            step = super().make_train_function(force)

            def train_function(state, iterator):
                logs, state = step(state, iterator)
                return logs | {"twice": logs["loss"] * 2}, state

            self.train_function = train_function

        def make_predict_function(self, force=False):
            predict = super().make_predict_function(force)

            def predict_function(state, iterator):
                outputs, state = predict(state, iterator)
                return outputs * 10, state

            self.predict_function = predict_function
            return predict_function

    model = made(kerax, Own)
    history = model.fit(X, Y, verbose=0).history
    assert history["twice"][0] == pytest.approx(2 * history["loss"][0])
    np.testing.assert_allclose(model.predict(X, verbose=0), np.asarray(model(X)) * 10, rtol=1e-5)


@pytest.mark.parametrize("library", [keras, kerax])
def test_own_metrics_alone_are_logged(library):
    class Own(library.Model):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.double = library.metrics.Mean(name="double")

        @property
        def metrics(self):
            return [self.double]

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            loss = super().compute_loss(x, y, y_pred, sample_weight, training)
            self.double.update_state(loss * 2)
            return loss

    model = made(library, Own, metrics=["mae"])
    assert model.fit(X, Y, batch_size=8, verbose=0).history == {"double": [pytest.approx(2.0)]}
    assert set(model.evaluate(X, Y, verbose=0, return_dict=True)) == {"double"}


@pytest.mark.parametrize("library", [keras, kerax])
def test_without_a_reset_metrics_go_on(library):
    class Own(library.Model):
        def reset_metrics(self):
            self.resets = getattr(self, "resets", 0) + 1

    model = made(library, Own)
    history = model.fit(X, Y, epochs=3, verbose=0).history["loss"]
    assert model.resets >= 3
    reset = made(library, library.Model).fit(X, Y, epochs=3, verbose=0).history["loss"]
    np.testing.assert_allclose(history, np.cumsum(reset) / [1, 2, 3], rtol=1e-5)


@pytest.mark.medium
def test_the_list_of_metrics_is_that_of_keras():
    class Own:
        def build(self, library):
            class Model(library.Model):
                def __init__(self):
                    super().__init__()
                    self.dense, self.own = library.layers.Dense(1), library.metrics.Mean(name="own")

                def call(self, inputs):
                    return {"a": self.dense(inputs), "b": inputs[:, :1]}

            return Model()

    names = []
    for library in (keras, kerax):
        model = Own().build(library)
        model.compile("sgd", "mse", metrics={"a": ["mae"]})
        before = [metric.name for metric in model.metrics]
        model.fit(X, {"a": Y, "b": Y}, verbose=0)
        found = {metric.name: metric.result() for metric in model.metrics}
        names.append((before, list(found), set(found["compile_metrics"]), len(model.metrics_variables)))
    assert names[0] == names[1]


@pytest.mark.parametrize("library", [keras, kerax])
def test_a_step_may_update_all_metrics_by_their_list(library):
    class Own(library.Model):
        def test_step(self, state, data):
            x, y = data[:2]
            trainable, others, metrics = state
            y_pred, others = self.stateless_call(trainable, others, x)
            new = []
            for metric in self.metrics:
                given = metrics[len(new) : len(new) + len(metric.variables)]
                is_loss = metric.name == "loss"
                new += metric.stateless_update_state(given, *((5.0,) if is_loss else (y, y_pred)))
            logs, place = {}, 0
            for metric in self.metrics:
                logs[metric.name] = metric.stateless_result(new[place : place + len(metric.variables)])
                place += len(metric.variables)
            logs = logs | logs.pop("compile_metrics")
            return logs, (trainable, others, new)

    model = made(library, Own, metrics=["mae"])
    model.fit(X, Y, verbose=0)
    found = model.evaluate(X, Y, verbose=0, return_dict=True)
    assert found["loss"] == 5 and found["mae"] == pytest.approx(abs(np.asarray(model(X)) - 1).mean(), rel=1e-5)
