"""Speech to text with a transformer: learned positions, a decoder's causal mask, own display of greedy texts."""

import keras
import numpy as np
from keras import layers, ops

from tests.ported.start import start

numbers = np.random.default_rng(49)
sounds = numbers.normal(size=(16, 24, 6)).astype("float32")
texts = numbers.integers(3, 9, (16, 7))
texts[:, 0], texts[:, -2:] = 2, 0


class TokenEmbedding(layers.Layer):
    def __init__(self, num_vocab=1000, maxlen=100, num_hid=64):
        super().__init__()
        self.emb = keras.layers.Embedding(num_vocab, num_hid)
        self.pos_emb = layers.Embedding(input_dim=maxlen, output_dim=num_hid)

    def call(self, x):
        maxlen = ops.shape(x)[-1]
        x = self.emb(x)
        positions = ops.arange(start=0, stop=maxlen, step=1)
        return x + self.pos_emb(positions)


class SpeechFeatureEmbedding(layers.Layer):
    def __init__(self, num_hid=64):
        super().__init__()
        self.conv1 = keras.layers.Conv1D(num_hid, 5, strides=2, padding="same", activation="relu")
        self.conv2 = keras.layers.Conv1D(num_hid, 5, strides=2, padding="same", activation="relu")

    def call(self, x):
        return self.conv2(self.conv1(x))


class TransformerEncoder(layers.Layer):
    def __init__(self, embed_dim, num_heads, feed_forward_dim):
        super().__init__()
        self.att = layers.MultiHeadAttention(num_heads=num_heads, key_dim=embed_dim)
        self.ffn = keras.Sequential([layers.Dense(feed_forward_dim, activation="relu"), layers.Dense(embed_dim)])
        self.layernorm1 = layers.LayerNormalization(epsilon=1e-6)
        self.layernorm2 = layers.LayerNormalization(epsilon=1e-6)

    def call(self, inputs, training=False):
        out1 = self.layernorm1(inputs + self.att(inputs, inputs))
        return self.layernorm2(out1 + self.ffn(out1))


class TransformerDecoder(layers.Layer):
    def __init__(self, embed_dim, num_heads, feed_forward_dim):
        super().__init__()
        self.layernorm1, self.layernorm2, self.layernorm3 = [layers.LayerNormalization(epsilon=1e-6) for _ in range(3)]
        self.self_att = layers.MultiHeadAttention(num_heads=num_heads, key_dim=embed_dim)
        self.enc_att = layers.MultiHeadAttention(num_heads=num_heads, key_dim=embed_dim)
        self.ffn = keras.Sequential([layers.Dense(feed_forward_dim, activation="relu"), layers.Dense(embed_dim)])

    def call(self, enc_out, target):
        target_att = self.self_att(target, target, use_causal_mask=True)
        target_norm = self.layernorm1(target + target_att)
        enc_out = self.enc_att(target_norm, enc_out)
        enc_out_norm = self.layernorm2(enc_out + target_norm)
        return self.layernorm3(self.ffn(enc_out_norm) + enc_out_norm)


class Transformer(keras.Model):
    def __init__(self, num_hid=8, num_classes=9, num_layers=2):
        super().__init__()
        self.loss_metric = keras.metrics.Mean(name="edit_loss")
        self.num_layers_dec = num_layers
        self.num_classes = num_classes
        self.enc_input = SpeechFeatureEmbedding(num_hid=num_hid)
        self.dec_input = TokenEmbedding(num_vocab=num_classes, maxlen=10, num_hid=num_hid)
        self.encoder = keras.Sequential([self.enc_input] + [TransformerEncoder(num_hid, 2, 16) for _ in range(1)])
        for i in range(num_layers):
            setattr(self, f"dec_layer_{i}", TransformerDecoder(num_hid, 2, 16))
        self.classifier = layers.Dense(num_classes)

    def decode(self, enc_out, target):
        y = self.dec_input(target)
        for i in range(self.num_layers_dec):
            y = getattr(self, f"dec_layer_{i}")(enc_out, y)
        return y

    def call(self, inputs):
        source, target = inputs
        return self.classifier(self.decode(self.encoder(source), target))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        one_hot = ops.one_hot(y, num_classes=self.num_classes)
        mask = ops.logical_not(ops.equal(y, 0))
        loss = super().compute_loss(x=x, y=one_hot, y_pred=y_pred, sample_weight=ops.cast(mask, "float32"))
        self.loss_metric.update_state(loss)
        return loss

    def generate(self, source, target_start_token_idx):
        bs = ops.shape(source)[0]
        enc = self.encoder(source)
        dec_input = ops.ones((bs, 1), dtype="int32") * target_start_token_idx
        for _ in range(4):
            logits = self.classifier(self.decode(enc, dec_input))
            last = ops.argmax(logits, axis=-1)[:, -1][..., None]
            dec_input = ops.concatenate([dec_input, ops.cast(last, "int32")], axis=-1)
        return dec_input


class CustomSchedule(keras.optimizers.schedules.LearningRateSchedule):
    def __init__(self, init_lr=0.001, lr_after_warmup=0.01, warmup_epochs=1, decay_epochs=3, steps_per_epoch=2):
        super().__init__()
        self.init_lr, self.lr_after_warmup = init_lr, lr_after_warmup
        self.warmup_epochs, self.decay_epochs, self.steps_per_epoch = warmup_epochs, decay_epochs, steps_per_epoch

    def calculate_lr(self, epoch):
        warmup_lr = self.init_lr + ((self.lr_after_warmup - self.init_lr) / self.warmup_epochs) * epoch
        decay_lr = ops.maximum(1e-4, self.lr_after_warmup - (epoch - self.warmup_epochs) * self.lr_after_warmup / 3)
        return ops.minimum(warmup_lr, decay_lr)

    def __call__(self, step):
        epoch = step // self.steps_per_epoch
        return self.calculate_lr(ops.cast(epoch, "float32"))


class Display(keras.callbacks.Callback):
    texts = None

    def on_epoch_end(self, epoch, logs=None):
        self.texts = np.asarray(self.model.generate(sounds[:2], 2)).tolist()


model = Transformer()
model([sounds[:1], texts[:1, :-1]])
start(model)
loss_fn = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)
model.compile(optimizer=keras.optimizers.Adam(CustomSchedule()), loss=loss_fn)
display = Display()
history = model.fit(
    [sounds, texts[:, :-1]], texts[:, 1:], batch_size=8, epochs=2, shuffle=False, callbacks=[display], verbose=0
)
results = {
    "history": history.history,
    "texts": display.texts,
    "outputs": model.predict([sounds[:2], texts[:2, :-1]], verbose=0),
    "rate": float(model.optimizer.learning_rate),
    "size": model.count_params(),
}
