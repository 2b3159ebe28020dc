"""Sequential models at length: built late, popped, cut, frozen and put upon one another; optimizers of one's own."""

import keras
import numpy as np
from keras import ops
from keras.layers import BatchNormalization, Conv2D, Dense, Flatten, MaxPooling2D
from keras.models import Sequential
from keras.optimizers import RMSprop

from tests.ported.start import start

numbers = np.random.default_rng(63)
x = numbers.uniform(size=(24, 12, 12, 1)).astype("float32")
y = keras.utils.to_categorical(numbers.integers(0, 3, 24))

late = Sequential()
late.add(Dense(4, activation="relu", name="layer1"))
late.add(Dense(3, activation="relu", name="layer2"))
late.add(Dense(2, name="layer3"))
unbuilt = [late.built, len(late.layers)]
late(ops.ones((1, 4)))
late.pop()

model = Sequential(name="mnist")
model.add(keras.Input(shape=(12, 12, 1)))
model.add(Conv2D(4, kernel_size=(3, 3), activation="relu", input_shape=(12, 12, 1)))
model.add(MaxPooling2D(pool_size=(2, 2)))
model.add(BatchNormalization(axis=-1))
model.add(Flatten())
model.add(Dense(8, activation="relu", kernel_regularizer=keras.regularizers.L1L2(1e-4, 1e-4)))
model.add(Dense(3, activation="softmax", kernel_constraint=keras.constraints.MaxNorm(2)))
start(model)


class GCRMSprop(RMSprop):
    """Gradients centralized before the step."""

    def get_gradients(self, gradients):
        grads = []
        for grad in gradients:
            if len(grad.shape) > 1:
                grad -= ops.mean(grad, axis=list(range(len(grad.shape) - 1)), keepdims=True)
            grads.append(grad)
        return grads

    def apply(self, grads, trainable_variables=None):
        return super().apply(self.get_gradients(grads), trainable_variables)


optimizer = GCRMSprop(learning_rate=1e-3)
plain = RMSprop(learning_rate=1e-3)
variable, other = keras.Variable(np.ones((3, 2))), keras.Variable(np.ones((3, 2)))
optimizer.apply([ops.reshape(ops.arange(6.0), (3, 2))], [variable])
plain.apply([ops.reshape(ops.arange(6.0), (3, 2))], [other])
model.compile(
    loss="categorical_crossentropy",
    optimizer=keras.optimizers.SGD(0.01, nesterov=True, momentum=0.9),
    metrics=["accuracy"],
)
history = model.fit(x, y, batch_size=8, epochs=2, verbose=0, validation_split=0.25, shuffle=False)
score = model.evaluate(x, y, verbose=0)

feature_extractor = keras.Model(inputs=model.inputs, outputs=[layer.output for layer in model.layers])
single = keras.Model(inputs=model.inputs, outputs=model.layers[2].output)
features = feature_extractor(x[:2])
base = Sequential(model.layers[:-1], name="base")
base.trainable = False
transferred = Sequential([keras.Input((12, 12, 1)), base, Dense(2, name="head")])
start(transferred, 4)
transferred.compile("adam", "mse")
moving = base.layers[2].moving_mean.numpy()
second = transferred.fit(x, y[:, :2], batch_size=8, epochs=1, shuffle=False, verbose=0)
results = {
    "unbuilt": unbuilt,
    "late": [layer.name for layer in late.layers],
    "weights": [list(weight.shape) for weight in late.weights],
    "history": history.history,
    "score": score,
    "features": [list(each.shape) for each in features],
    "single": np.asarray(single(x[:2])),
    "second": second.history,
    "kept": np.asarray(base.layers[2].moving_mean) - moving,
    "trainable": [len(transferred.trainable_weights), len(transferred.non_trainable_weights)],
    "centralized": [variable.numpy(), other.numpy()],
    "losses": [float(loss) for loss in model.losses],
    "config": [layer["class_name"] for layer in model.get_config()["layers"]],
}
