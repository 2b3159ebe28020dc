"""Graph networks: messages by `segment_sum`, attention over edges, logits of nodes by index."""

import keras
import numpy as np
from keras import layers, ops

from tests.ported.start import start

numbers = np.random.default_rng(52)
num_nodes, num_classes = 20, 3
edges = numbers.integers(0, num_nodes, (60, 2))
features = numbers.normal(size=(num_nodes, 6)).astype("float32")
labels = numbers.integers(0, num_classes, num_nodes)
weights = numbers.uniform(0.5, 1, 60).astype("float32")


def create_ffn(hidden_units, dropout_rate, name=None):
    fnn_layers = []
    for units in hidden_units:
        fnn_layers.append(layers.LayerNormalization())
        fnn_layers.append(layers.Dropout(dropout_rate))
        fnn_layers.append(layers.Dense(units, activation=ops.gelu))
    return keras.Sequential(fnn_layers, name=name)


class GraphConvLayer(layers.Layer):
    def __init__(self, hidden_units, dropout_rate=0.0, aggregation_type="mean", normalize=False, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.aggregation_type, self.normalize = aggregation_type, normalize
        self.ffn_prepare = create_ffn(hidden_units, dropout_rate)
        self.update_fn = create_ffn(hidden_units, dropout_rate)

    def aggregate(self, node_indices, neighbour_messages, node_repesentations):
        num_nodes = node_repesentations.shape[0]
        if self.aggregation_type == "sum":
            return ops.segment_sum(neighbour_messages, node_indices, num_segments=num_nodes)
        if self.aggregation_type == "mean":
            total = ops.segment_sum(neighbour_messages, node_indices, num_segments=num_nodes)
            count = ops.segment_sum(ops.ones_like(neighbour_messages), node_indices, num_segments=num_nodes)
            return total / ops.maximum(count, 1)
        found = ops.segment_max(neighbour_messages, node_indices, num_segments=num_nodes)
        return ops.where(ops.isfinite(found) & (found > -1e30), found, 0.0)

    def call(self, inputs):
        node_repesentations, edges, edge_weights = inputs
        node_indices, neighbour_indices = edges[0], edges[1]
        neighbour_repesentations = ops.take(node_repesentations, neighbour_indices, axis=0)
        messages = self.ffn_prepare(neighbour_repesentations) * ops.expand_dims(edge_weights, -1)
        aggregated = self.aggregate(node_indices, messages, node_repesentations)
        h = ops.concatenate([node_repesentations, aggregated], axis=1)
        embeddings = self.update_fn(h)
        return ops.normalize(embeddings, axis=-1) if self.normalize else embeddings


class GraphAttention(layers.Layer):
    def __init__(self, units, kernel_initializer="glorot_uniform", kernel_regularizer=None, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)

    def build(self, input_shape):
        self.kernel = self.add_weight(
            shape=(input_shape[0][-1], self.units),
            trainable=True,
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            name="kernel",
        )
        self.kernel_attention = self.add_weight(
            shape=(self.units * 2, 1), trainable=True, initializer=self.kernel_initializer, name="kernel_attention"
        )
        self.built = True

    def call(self, inputs):
        node_states, edges = inputs
        node_states_transformed = ops.matmul(node_states, self.kernel)
        expanded = ops.take(node_states_transformed, edges, axis=0)
        expanded = ops.reshape(expanded, (ops.shape(edges)[0], -1))
        scores = ops.leaky_relu(ops.matmul(expanded, self.kernel_attention))
        scores = ops.exp(ops.clip(ops.squeeze(scores, -1), -2, 2))
        sums = ops.segment_sum(scores, edges[:, 0], num_segments=num_nodes)
        norm = scores / ops.take(sums, edges[:, 0], axis=0)
        neighbours = ops.take(node_states_transformed, edges[:, 1], axis=0)
        return ops.segment_sum(neighbours * norm[:, None], edges[:, 0], num_segments=num_nodes)


class GNNNodeClassifier(keras.Model):
    def __init__(self, graph_info, num_classes, hidden_units, aggregation_type, *args, **kwargs):
        super().__init__(*args, **kwargs)
        node_features, edges, edge_weights = graph_info
        self.node_features, self.edges = ops.convert_to_tensor(node_features), ops.convert_to_tensor(edges)
        self.edge_weights = ops.convert_to_tensor(edge_weights) / ops.sum(edge_weights)
        self.preprocess = create_ffn(hidden_units, 0.0, name="preprocess")
        self.conv1 = GraphConvLayer(hidden_units, 0.0, aggregation_type, normalize=True, name="graph_conv1")
        self.attention = GraphAttention(8, kernel_regularizer="l2", name="attention")
        self.compute_logits = layers.Dense(units=num_classes, name="logits")

    def call(self, input_node_indices):
        x = self.preprocess(self.node_features)
        x = self.conv1((x, self.edges, self.edge_weights)) + x
        x = self.attention([x, ops.transpose(self.edges)]) + x
        return self.compute_logits(ops.take(x, input_node_indices, axis=0))


results = {}
for aggregation in ("sum", "mean", "max"):
    model = GNNNodeClassifier((features, edges.T, weights), num_classes, [8, 8], aggregation)
    model(ops.convert_to_tensor([1, 10, 5]))
    start(model)
    model.compile(
        optimizer=keras.optimizers.Adam(0.01),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="acc")],
    )
    history = model.fit(np.arange(16), labels[:16], epochs=2, batch_size=8, shuffle=False, verbose=0)
    logits = model.predict(np.arange(num_nodes), verbose=0)
    results[aggregation] = {"history": history.history, "logits": logits, "names": [x.name for x in model.layers]}
