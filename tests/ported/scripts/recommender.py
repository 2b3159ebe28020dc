"""Films for people: embeddings and biases joined by a product, a two-tower ranking, and compressed embeddings."""

import keras
import numpy as np
from keras import layers, ops

from tests.ported.start import start

numbers = np.random.default_rng(53)
num_users, num_movies = 12, 15
pairs = np.stack([numbers.integers(0, num_users, 96), numbers.integers(0, num_movies, 96)], 1)
ratings = numbers.uniform(size=96).astype("float32")


class RecommenderNet(keras.Model):
    def __init__(self, num_users, num_movies, embedding_size, **kwargs):
        super().__init__(**kwargs)
        self.user_embedding = layers.Embedding(
            num_users,
            embedding_size,
            embeddings_initializer="he_normal",
            embeddings_regularizer=keras.regularizers.l2(1e-6),
        )
        self.user_bias = layers.Embedding(num_users, 1)
        self.movie_embedding = layers.Embedding(
            num_movies,
            embedding_size,
            embeddings_initializer="he_normal",
            embeddings_regularizer=keras.regularizers.l2(1e-6),
        )
        self.movie_bias = layers.Embedding(num_movies, 1)

    def call(self, inputs):
        user_vector = self.user_embedding(inputs[:, 0])
        user_bias = self.user_bias(inputs[:, 0])
        movie_vector = self.movie_embedding(inputs[:, 1])
        movie_bias = self.movie_bias(inputs[:, 1])
        dot_user_movie = ops.sum(user_vector * movie_vector, axis=1, keepdims=True)
        return ops.nn.sigmoid(dot_user_movie + user_bias + movie_bias)


model = RecommenderNet(num_users, num_movies, 6)
model(pairs[:2])
start(model)
model.compile(
    loss=keras.losses.BinaryCrossentropy(), optimizer=keras.optimizers.Adam(learning_rate=0.001), metrics=["mae"]
)
history = model.fit(x=pairs, y=ratings, batch_size=32, epochs=2, verbose=0, shuffle=False, validation_split=0.25)
seen = pairs[pairs[:, 0] == 0][:, 1]
unseen = np.setdiff1d(np.arange(num_movies), seen)
scores = model.predict(np.hstack(([[0]] * len(unseen), unseen[:, None])), verbose=0).flatten()
top = scores.argsort()[-3:][::-1]


class QREmbedding(keras.layers.Layer):
    def __init__(self, vocabulary, embedding_dim, num_buckets, name=None):
        super().__init__(name=name)
        self.num_buckets = num_buckets
        self.q_embeddings = layers.Embedding(num_buckets, embedding_dim)
        self.r_embeddings = layers.Embedding(num_buckets, embedding_dim)

    def call(self, embedding_index):
        quotient_index = ops.floor_divide(embedding_index, self.num_buckets)
        remainder_index = ops.mod(embedding_index, self.num_buckets)
        return self.q_embeddings(quotient_index) * self.r_embeddings(remainder_index)


class MDEmbedding(keras.layers.Layer):
    def __init__(self, block_size, embedding_dim, name=None):
        super().__init__(name=name)
        self.small = layers.Embedding(block_size, embedding_dim // 2)
        self.projection = layers.Dense(embedding_dim)

    def call(self, index):
        return self.projection(self.small(index))


user = layers.Input(name="user_id", shape=(), dtype="int32")
movie = layers.Input(name="movie_id", shape=(), dtype="int32")
towers = [QREmbedding(range(num_users), 6, 4)(user), MDEmbedding(num_movies, 6)(movie)]
dot = layers.Dot(axes=1, name="dot_similarity")(towers)
prediction = keras.activations.sigmoid(dot)
ranking = keras.Model(inputs=[user, movie], outputs=prediction, name="baseline_model")
start(ranking)
ranking.compile(
    keras.optimizers.Adam(0.01), keras.losses.MeanSquaredError(), metrics=[keras.metrics.MeanAbsoluteError("mae")]
)
second = ranking.fit(
    {"user_id": pairs[:, 0], "movie_id": pairs[:, 1]}, ratings, epochs=2, batch_size=32, shuffle=False, verbose=0
)
results = {
    "history": history.history,
    "scores": scores,
    "top": top.tolist(),
    "second": second.history,
    "size": [model.count_params(), ranking.count_params()],
    "losses": [float(each) for each in model.losses],
}
