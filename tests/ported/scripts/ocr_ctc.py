"""Reading captchas: a recurrent net whose last layer adds the CTC loss, cut off for reading and decoded."""

import keras
import numpy as np
from keras import layers, ops

from tests.ported.start import start

numbers = np.random.default_rng(22)
characters = ["a", "b", "c", "d", "e"]
words = ["".join(numbers.choice(characters, 4)) for _ in range(24)]
labels = np.array([[1 + characters.index(letter) for letter in word] for word in words], "int32")
images = np.repeat(labels[:, :, None] / 6, 10, 1).astype("float32") * np.ones((1, 1, 8), "float32")
images = (images + numbers.normal(0, 0.05, images.shape))[..., None].astype("float32")


def ctc_batch_cost(y_true, y_pred, input_length, label_length):
    return ops.ctc_loss(
        ops.cast(y_true, "int32"),
        ops.log(y_pred + keras.backend.epsilon()),
        ops.squeeze(label_length, -1),
        ops.squeeze(input_length, -1),
        mask_index=y_pred.shape[-1] - 1,
    )


class CTCLayer(layers.Layer):
    def __init__(self, name=None):
        super().__init__(name=name)
        self.loss_fn = ctc_batch_cost

    def call(self, y_true, y_pred):
        input_length = ops.shape(y_pred)[1] * ops.ones_like(y_pred[:, 0, :1], dtype="int32")
        label_length = ops.shape(y_true)[1] * ops.ones_like(y_true[:, :1], dtype="int32")
        self.add_loss(ops.mean(self.loss_fn(y_true, y_pred, input_length, label_length)))
        return y_pred


input_img = layers.Input(shape=(40, 8, 1), name="image", dtype="float32")
target = layers.Input(name="label", shape=(4,), dtype="float32")
x = layers.Conv2D(8, (3, 3), activation="relu", kernel_initializer="he_normal", padding="same", name="Conv1")(input_img)
x = layers.MaxPooling2D((2, 2), name="pool1")(x)
x = layers.Reshape(target_shape=(20, 4 * 8), name="reshape")(x)
x = layers.Dense(16, activation="relu", name="dense1")(x)
x = layers.Bidirectional(layers.LSTM(8, return_sequences=True, dropout=0.0))(x)
x = layers.Dense(len(characters) + 2, activation="softmax", name="dense2")(x)
output = CTCLayer(name="ctc_loss")(target, x)
model = keras.models.Model(inputs=[input_img, target], outputs=output, name="ocr")
start(model)
model.compile(optimizer=keras.optimizers.Adam())
history = model.fit({"image": images, "label": labels}, epochs=2, batch_size=8, shuffle=False, verbose=0)

reader = keras.models.Model(model.input[0], model.get_layer(name="dense2").output)
probabilities = reader.predict(images[:4], verbose=0)
lengths = np.full(4, probabilities.shape[1], "int32")
greedy, scores = ops.ctc_decode(ops.log(probabilities + 1e-7), lengths, strategy="greedy", mask_index=6)
beams, _ = ops.ctc_decode(
    ops.log(probabilities[:2] + 1e-7), lengths[:2], strategy="beam_search", beam_width=3, top_paths=1, mask_index=6
)
texts = ["".join(characters[each - 1] if each > 0 else "-" for each in row) for row in np.asarray(greedy[0])]
results = {
    "history": history.history,
    "probabilities": probabilities,
    "greedy": np.asarray(greedy).tolist(),
    "scores": np.asarray(scores),
    "beams": np.asarray(beams).tolist(),
    "texts": texts,
}
