"""kerax and Keras: the same code for both."""

import importlib


def make_model(k, work):
    """The workload's model, with `k` for the library."""
    layers, activation = k.layers, "softmax" if work.task == "predict" else None
    if work.model == "mlp":
        parts = [k.Input((work.features,)), layers.Dense(work.hidden, activation="relu")]
        return k.Sequential([*parts, layers.Dense(work.classes, activation=activation)])
    if work.model == "cnn":
        parts = [k.Input((28, 28, 1))]
        for filters in (32, 64):
            parts += [layers.Conv2D(filters, 3, activation="relu"), layers.MaxPooling2D()]
        head = [layers.Flatten(), layers.Dense(128, activation="relu"), layers.Dense(work.classes)]
        return k.Sequential(parts + head)
    if work.model == "lstm":
        series = k.Input((work.length, work.features))
        return k.Sequential([series, layers.LSTM(work.hidden), layers.Dense(work.classes)])
    return _gpt(k, work)


def _gpt(k, work):
    layers, width = k.layers, work.width

    class Embed(layers.Layer):
        def __init__(self):
            super().__init__()
            self.tokens = layers.Embedding(work.vocabulary, width)
            self.positions = layers.Embedding(work.length, width)

        def call(self, inputs):
            return self.tokens(inputs) + self.positions(k.ops.arange(work.length))

    inputs = k.Input((work.length,), dtype="int32")
    hidden = Embed()(inputs)
    for _ in range(work.num_layers):
        normal = layers.LayerNormalization(epsilon=1e-5)(hidden)
        attend = layers.MultiHeadAttention(work.num_heads, width // work.num_heads)
        hidden = hidden + attend(normal, normal, use_causal_mask=True)
        normal = layers.LayerNormalization(epsilon=1e-5)(hidden)
        hidden = hidden + layers.Dense(width)(layers.Dense(4 * width, activation="gelu")(normal))
    outputs = layers.Dense(work.vocabulary)(layers.LayerNormalization(epsilon=1e-5)(hidden))
    return k.Model(inputs, outputs)


def build(work, contender: str):
    """A function that does one epoch, evaluation or prediction and returns its loss."""
    from contenders.workloads import EPSILON, LEARNING_RATE

    k = importlib.import_module(contender.removesuffix("_reading"))
    model = make_model(k, work)
    model.set_weights(work.weights)
    loss = k.losses.SparseCategoricalCrossentropy(from_logits=work.task != "predict")
    model.compile(k.optimizers.Adam(LEARNING_RATE, epsilon=EPSILON), loss, metrics=["accuracy"])
    if work.task == "predict":
        return lambda: float(model.predict(work.x, batch_size=work.batch, verbose=0)[:, 0].mean())
    if work.task == "evaluate":
        return lambda: float(model.evaluate(work.x, work.y, batch_size=work.batch, verbose=0)[0])
    read = k.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: logs["loss"])
    options = dict(batch_size=work.batch, verbose=0, callbacks=[read] if contender.endswith("_reading") else None)
    return lambda: model.fit(work.x, work.y, **options).history["loss"][-1]
