"""Distillation against Keras: losses, a whole training, what does not fit."""

import keras
import numpy as np
import pytest

import kerax
from kerax import layers
from tests.pairs import assert_same_history

RNG = np.random.default_rng(0)
TEACHER, STUDENT = RNG.normal(size=(2, 6, 4)).astype("f")


@pytest.mark.parametrize(
    "options",
    [{"loss": "mse"}, {"loss": "categorical_crossentropy", "temperature": 2.0}, {"loss": "mae", "temperature": 1}],
    ids=str,
)
def test_losses_are_those_of_keras(options):
    ours, theirs = (module.distillation.LogitsDistillation(**options) for module in (kerax, keras))
    np.testing.assert_allclose(ours.compute_loss(TEACHER, STUDENT), theirs.compute_loss(TEACHER, STUDENT), rtol=1e-6)
    if "temperature" not in options:
        ours, theirs = (module.distillation.FeatureDistillation(**options) for module in (kerax, keras))
        np.testing.assert_allclose(
            ours.compute_loss(TEACHER, STUDENT), theirs.compute_loss(TEACHER, STUDENT), rtol=1e-6
        )


def test_divergence_is_that_of_softened_probabilities():
    expected = keras.distillation.LogitsDistillation(loss=keras.losses.KLDivergence()).compute_loss(TEACHER, STUDENT)
    for loss in ("kl_divergence", kerax.losses.kl_divergence, kerax.losses.KLDivergence()):
        ours = kerax.distillation.LogitsDistillation(loss=loss).compute_loss(TEACHER, STUDENT)
        np.testing.assert_allclose(ours, expected, rtol=1e-5)


def test_several_outputs_are_added_up():
    outputs = ({"a": TEACHER, "b": TEACHER}, {"a": STUDENT, "b": STUDENT * 2})
    ours, theirs = (
        module.distillation.FeatureDistillation({"a": "mse", "b": None}).compute_loss(*outputs)
        for module in (kerax, keras)
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def make(module, width=5, weights=None, **options):
    def model(units, name):
        stack = [module.layers.Dense(units, "relu", name="wide"), module.layers.Dense(4, "tanh", name="features")]
        return module.Sequential([module.Input((3,)), *stack, module.layers.Dense(2, name="last")], name=name)

    losses = [
        module.distillation.LogitsDistillation(loss=module.losses.KLDivergence()),
        module.distillation.FeatureDistillation("mse", "features", "features"),
    ]
    distiller = module.distillation.Distiller(
        model(8, "teacher"), model(width, "student"), losses, [1.0, 0.5], **({"student_loss_weight": 0.3} | options)
    )
    loss = module.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile(module.optimizers.SGD(0.1), loss, metrics=["accuracy"])
    return distiller


@pytest.mark.medium
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_training_is_that_of_keras(share):
    ours, theirs = make(kerax, student_loss_weight=share), make(keras, student_loss_weight=share)
    for part in ("teacher", "student"):
        getattr(ours, part).set_weights(getattr(theirs, part).get_weights())
    before = ours.teacher.get_weights()
    x, y = RNG.normal(size=(24, 3)).astype("f"), RNG.integers(0, 2, 24)
    arguments = dict(epochs=2, batch_size=8, shuffle=False, verbose=0)
    assert_same_history(ours.fit(x, y, **arguments), theirs.fit(x, y, **arguments))
    for one, two in zip(ours.student.get_weights(), theirs.student.get_weights(), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6)
    for one, two in zip(before, ours.teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    np.testing.assert_allclose(ours.predict(x, verbose=0), ours.student.predict(x, verbose=0), rtol=1e-6)
    first, second = (model.evaluate(x, y, verbose=0, return_dict=True) for model in (ours, theirs))
    assert first == pytest.approx(second, rel=1e-4)


def test_configs_describe_everything():
    distiller = make(kerax)
    copy = kerax.distillation.Distiller.from_config(distiller.get_config())
    assert copy.distillation_loss_weights == [1.0, 0.5] and copy.student_loss_weight == 0.3
    assert [type(loss).__name__ for loss in copy.distillation_losses] == ["LogitsDistillation", "FeatureDistillation"]
    assert copy.distillation_losses[1].teacher_layer_name == "features" and not copy.teacher.trainable
    described = kerax.saving.serialize_keras_object(distiller.distillation_losses[1])
    assert described["module"] == "keras.distillation"


def test_what_does_not_fit_is_refused():
    loss = kerax.distillation.LogitsDistillation()
    teacher, student = make(kerax).teacher, make(kerax).student
    wrong = kerax.Sequential([kerax.Input((4,)), layers.Dense(2)])

    class Own(kerax.Model):
        def call(self, x):
            return x

    feature = kerax.distillation.FeatureDistillation("mse", "features", "featuers")
    for arguments, options, message in (
        ((1, student, loss), {}, "`teacher` must be a model"),
        ((teacher, wrong, loss), {}, "inputs of equal form"),
        ((teacher, student, None), {}, "must hold distillation losses"),
        ((teacher, student, [loss, loss]), {"distillation_loss_weights": [1.0]}, "as many `distillation_loss_weights`"),
        ((teacher, student, loss), {"student_loss_weight": 2}, "`student_loss_weight`"),
        ((teacher, student, feature), {}, "Did you mean 'features'"),
        ((teacher, Own(), feature), {}, "has no graph"),
    ):
        with pytest.raises(ValueError, match=message):
            kerax.distillation.Distiller(*arguments, **options)
    with pytest.raises(ValueError, match="`loss` must be given"):
        kerax.distillation.Distiller(teacher, student, loss).compile()
    for options, message in (({"temperature": 0}, "`temperature`"), ({"loss": None}, "at least one loss")):
        with pytest.raises(ValueError, match=message):
            kerax.distillation.LogitsDistillation(**options)


@pytest.mark.medium
def test_losses_of_ones_own():
    class Cosine(kerax.distillation.DistillationLoss):
        def compute_loss(self, teacher_outputs, student_outputs, **kwargs):
            return -kerax.ops.mean(kerax.ops.sum(teacher_outputs * student_outputs, axis=-1))

    teacher, student = make(kerax).teacher, make(kerax).student
    distiller = kerax.distillation.Distiller(teacher, student, Cosine())
    distiller.compile(loss=kerax.losses.SparseCategoricalCrossentropy(from_logits=True))
    x = RNG.normal(size=(8, 3)).astype("f")
    loss = distiller.compute_loss(x, np.zeros(8, int), None)
    expected = -np.sum(np.asarray(teacher(x) * student(x)), -1).mean()
    hard = distiller._student_loss(np.zeros(8, int), student(x))
    np.testing.assert_allclose(loss, 0.5 * hard + 0.5 * expected, rtol=1e-5)
