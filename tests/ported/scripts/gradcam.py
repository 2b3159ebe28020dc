"""GradCAM and saliency: a model cut at an inner layer and differentiated with JAX, the map resized over the picture."""

import jax
import keras
import numpy as np
from keras import layers, ops

from tests.ported.start import start

numbers = np.random.default_rng(29)
x = numbers.normal(size=(24, 16, 16, 3)).astype("float32")
y = numbers.integers(0, 4, 24)

model = keras.Sequential(
    [
        keras.Input((16, 16, 3)),
        layers.Conv2D(8, 3, activation="relu", name="block1"),
        layers.MaxPooling2D(),
        layers.Conv2D(8, 3, activation="relu", name="last_conv"),
        layers.Flatten(),
        layers.Dropout(0.0),
        layers.Dense(4, name="predictions", activation="softmax"),
    ]
)
start(model)
model.compile("sgd", "sparse_categorical_crossentropy")
history = model.fit(x, y, batch_size=8, epochs=1, shuffle=False, verbose=0)


def make_gradcam_heatmap(image, model, last_conv_layer_name, pred_index=None):
    model.layers[-1].activation = None
    last_conv_layer = model.get_layer(last_conv_layer_name)
    feature_model = keras.Model(model.inputs, last_conv_layer.output)
    classifier_input = keras.Input(shape=last_conv_layer.output.shape[1:])
    h = classifier_input
    past = False
    for layer in model.layers:
        if past:
            h = layer(h)
        past = past or layer.name == last_conv_layer_name
    classifier = keras.Model(classifier_input, h)
    features = feature_model(image)
    scores = classifier(features)
    pred_index = int(ops.argmax(scores[0])) if pred_index is None else pred_index

    def class_score(features):
        return classifier(features)[0, pred_index]

    grads = jax.grad(class_score)(ops.convert_to_tensor(features))
    pooled = ops.mean(grads, axis=(0, 1, 2))
    heatmap = ops.squeeze(features[0] @ pooled[..., None])
    heatmap = ops.maximum(heatmap, 0) / ops.max(heatmap)
    return np.asarray(heatmap), pred_index


heatmap, index = make_gradcam_heatmap(x[:1], model, "last_conv")
other, _ = make_gradcam_heatmap(x[1:2], model, "last_conv", 2)
overlay = keras.utils.array_to_img(x[0] + np.asarray(ops.image.resize(heatmap[..., None], (16, 16))))


def input_gradients(image):
    return jax.grad(lambda image: model(image)[0, index])(image)


def integrated(image, baseline, num_steps=4):
    steps = [baseline + (step / num_steps) * (image - baseline) for step in range(num_steps + 1)]
    grads = ops.stack([input_gradients(ops.convert_to_tensor(step)) for step in steps])
    return ops.mean((grads[:-1] + grads[1:]) / 2.0, axis=0) * (image - baseline)


results = {
    "heatmap": heatmap,
    "other": other,
    "index": index,
    "size": list(overlay.size),
    "gradients": np.asarray(input_gradients(ops.convert_to_tensor(x[:1]))),
    "integrated": np.asarray(integrated(x[:1], x[1:2])),
    "history": history.history,
}
