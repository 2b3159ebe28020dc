"""Generator against discriminator with `train_on_batch`; the discriminator is frozen in the combined model."""

import keras
import numpy as np
from keras import layers

from tests.ported.start import start

numbers = np.random.default_rng(7)
real = numbers.normal([1.0, -1.0], 0.3, size=(128, 2)).astype("float32")

generator = keras.Sequential(
    [keras.Input((3,)), layers.Dense(12, activation="relu"), layers.Dense(2)], name="generator"
)
discriminator = keras.Sequential(
    [
        keras.Input((2,)),
        layers.Dense(12),
        layers.LeakyReLU(negative_slope=0.2),
        layers.Dense(1, activation="sigmoid"),
    ],
    name="discriminator",
)
start(generator)
start(discriminator, seed=1)
discriminator.compile(
    optimizer=keras.optimizers.Adam(0.01, beta_1=0.5), loss="binary_crossentropy", metrics=["accuracy"]
)

discriminator.trainable = False
noise_input = keras.Input((3,))
combined = keras.Model(noise_input, discriminator(generator(noise_input)))
combined.compile(optimizer=keras.optimizers.Adam(0.01, beta_1=0.5), loss="binary_crossentropy")
discriminator.trainable = True

losses = []
for step in range(8):
    batch = real[step * 16 : (step + 1) * 16]
    noise = numbers.normal(size=(16, 3)).astype("float32")
    fake = generator.predict_on_batch(noise)
    discriminator.trainable = True
    on_real = discriminator.train_on_batch(batch, np.ones((16, 1)))
    on_fake = discriminator.train_on_batch(fake, np.zeros((16, 1)), return_dict=True)
    discriminator.trainable = False
    before = [weight.copy() for weight in discriminator.get_weights()]
    on_both = combined.train_on_batch(noise, np.ones((16, 1)))
    moved = max(float(np.abs(new - old).max()) for new, old in zip(discriminator.get_weights(), before))
    losses.append([*on_real, on_fake["loss"], on_fake["accuracy"], on_both, moved])

results = {
    "losses": np.array(losses, "float64"),
    "trainable": [len(combined.trainable_weights), len(combined.non_trainable_weights)],
    "made": generator.predict(np.eye(3), verbose=0),
    "judged": discriminator.test_on_batch(real, np.ones((128, 1)), return_dict=True),
}
