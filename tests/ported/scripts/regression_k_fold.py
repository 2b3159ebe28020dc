"""k-fold cross-validation of a regularized and constrained regression; each fold starts from a clone."""

import keras
import numpy as np
from keras import constraints, layers, regularizers

from tests.ported.start import start

generator = np.random.default_rng(2)
x = generator.normal(size=(90, 6)).astype("float32")
y = (x @ generator.normal(size=(6, 1)) + 0.1 * generator.normal(size=(90, 1))).astype("float32")

template = keras.Sequential(
    [
        keras.Input((6,)),
        layers.Dense(
            12,
            activation="tanh",
            kernel_regularizer=regularizers.L1L2(1e-3, 1e-2),
            bias_regularizer="l2",
            kernel_constraint=constraints.MaxNorm(1.5),
        ),
        layers.Dense(8, activation="elu", activity_regularizer=regularizers.L2(1e-3), kernel_constraint="unit_norm"),
        layers.Dense(8, activation=keras.activations.softplus, kernel_regularizer=regularizers.OrthogonalRegularizer()),
        layers.Dense(1, kernel_constraint=keras.constraints.NonNeg()),
    ]
)
start(template)

folds = np.arange(len(x)) % 3
losses, errors, penalties = [], [], []
for fold in range(3):
    model = keras.models.clone_model(template)
    model.set_weights(template.get_weights())
    model.compile(
        optimizer=keras.optimizers.SGD(0.02, momentum=0.9, nesterov=True),
        loss=keras.losses.Huber(delta=0.8),
        metrics=["mae", keras.metrics.RootMeanSquaredError(name="rmse"), keras.metrics.R2Score()],
    )
    inside = folds != fold
    history = model.fit(x[inside], y[inside], epochs=2, batch_size=20, shuffle=False, verbose=0)
    losses.append(history.history["loss"])
    errors.append(model.evaluate(x[~inside], y[~inside], verbose=0, return_dict=True))
    penalties.append([float(loss) for loss in model.losses])

norms = np.linalg.norm(model.layers[0].kernel.numpy(), axis=0)
results = {
    "losses": losses,
    "errors": errors,
    "penalties": penalties,
    "norms": norms,
    "least": float(np.min(model.get_weights()[-2])),
    "template": [float(np.abs(weight).sum()) for weight in template.get_weights()],
}
