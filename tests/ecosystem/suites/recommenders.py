"""keras-rs: layers, losses and metrics of recommenders, alone and in models that are trained, saved and loaded."""

import keras
import keras_rs
import numpy as np
import pytest

RNG = np.random.default_rng(0)


def saved(model, x, tmp_path):
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(model.predict(x, verbose=0), loaded.predict(x, verbose=0), rtol=1e-5, atol=1e-6)


def test_feature_cross(tmp_path):
    x0 = keras.Input((6,))
    x = keras_rs.layers.FeatureCross()(x0)
    x = keras_rs.layers.FeatureCross(projection_dim=2)(x0, x)
    model = keras.Model(x0, keras.layers.Dense(1)(x))
    model.compile("adam", "mse")
    data = RNG.normal(size=(8, 6)).astype("float32")
    model.fit(data, data[:, :1], verbose=0)
    saved(model, data, tmp_path)


@pytest.mark.parametrize("self_interaction", [True, False])
@pytest.mark.parametrize("skip_gather", [True, False])
def test_dot_interaction(self_interaction, skip_gather):
    layer = keras_rs.layers.DotInteraction(self_interaction=self_interaction, skip_gather=skip_gather)
    features = [RNG.normal(size=(2, 4)).astype("float32") for _ in range(3)]
    outputs = np.asarray(layer(features))
    assert outputs.shape == (2, 9 if skip_gather else 6 if self_interaction else 3)
    again = type(layer).from_config(layer.get_config())
    np.testing.assert_array_equal(outputs, again(features))


@pytest.mark.parametrize("combiner", ["mean", "sum", "sqrtn"])
def test_embed_reduce(combiner):
    layer = keras_rs.layers.EmbedReduce(10, 4, combiner=combiner)
    ids = RNG.integers(0, 10, (2, 3))
    weights = RNG.uniform(size=(2, 3)).astype("float32")
    outputs = np.asarray(layer(ids, weights))
    rows = np.asarray(layer.embeddings)[ids] * weights[..., None]
    divisor = {"sum": 1, "mean": weights.sum(-1), "sqrtn": np.sqrt((weights**2).sum(-1))}[combiner]
    np.testing.assert_allclose(outputs, rows.sum(1) / np.reshape(divisor, (-1, 1)), rtol=1e-5)


def test_distributed_embedding(tmp_path):
    table = keras_rs.layers.TableConfig(name="table", vocabulary_size=10, embedding_dim=4, placement="default_device")
    feature = keras_rs.layers.FeatureConfig(name="f", table=table, input_shape=(8, 1), output_shape=(8, 4))
    layer = keras_rs.layers.DistributedEmbedding({"f": feature})
    ids = RNG.integers(0, 10, (8, 1))
    outputs = np.asarray(layer({"f": ids})["f"])
    assert outputs.shape == (8, 4)
    np.testing.assert_array_equal(outputs, np.asarray(layer.get_embedding_tables()["table"])[ids[:, 0]])


def test_retrieval():
    candidates = RNG.normal(size=(20, 4)).astype("float32")
    layer = keras_rs.layers.BruteForceRetrieval(candidate_embeddings=candidates, k=3)
    scores, ids = layer(RNG.normal(size=(5, 4)).astype("float32"))
    assert np.asarray(scores).shape == np.asarray(ids).shape == (5, 3)


def test_sampling_helpers():
    logits, labels = RNG.normal(size=(3, 5)).astype("float32"), np.eye(5, dtype="float32")[:3]
    hard, _ = keras_rs.layers.HardNegativeMining(2)(logits, labels)
    assert np.asarray(hard).shape == (3, 3)
    same = keras_rs.layers.RemoveAccidentalHits()(logits, labels, np.array([0, 1, 0, 3, 4]))
    assert np.asarray(same).shape == (3, 5)
    probabilities = np.full((5,), 0.5, "float32")
    np.testing.assert_allclose(
        keras_rs.layers.SamplingProbabilityCorrection()(logits, probabilities), logits + np.log(2), 1e-5
    )


@pytest.mark.parametrize(
    "name",
    ["ListMLELoss", "PairwiseHingeLoss", "PairwiseLogisticLoss", "PairwiseMeanSquaredError", "PairwiseSoftZeroOneLoss"],
)
def test_ranking_losses(name, tmp_path):
    loss = getattr(keras_rs.losses, name)()
    y = RNG.integers(0, 3, (4, 6)).astype("float32")
    mask = RNG.uniform(size=(4, 6)) > 0.2
    scores = RNG.normal(size=(4, 6)).astype("float32")
    assert np.isfinite(loss({"labels": y, "mask": mask}, scores))
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(6)])
    model.compile("adam", loss, metrics=[keras_rs.metrics.NDCG(k=3)])
    logs = model.fit(scores, y, verbose=0).history
    assert np.isfinite(logs["loss"][0])
    saved(model, scores, tmp_path)


@pytest.mark.parametrize(
    "name", ["DCG", "MeanAveragePrecision", "MeanReciprocalRank", "NDCG", "PrecisionAtK", "RecallAtK"]
)
def test_ranking_metrics(name):
    metric = getattr(keras_rs.metrics, name)(k=3)
    y = RNG.integers(0, 2, (4, 6)).astype("float32")
    scores = RNG.normal(size=(4, 6)).astype("float32")
    metric.update_state(y, scores)
    first = float(metric.result())
    assert 0 <= first
    metric.update_state(y, scores, sample_weight=np.ones((4, 1), "float32"))
    np.testing.assert_allclose(metric.result(), first, rtol=1e-5)
    metric.reset_state()
    assert float(metric.result()) == 0
    assert type(metric).from_config(metric.get_config()).k == 3


def test_two_towers(tmp_path):
    class Towers(keras.Model):
        def __init__(self):
            super().__init__()
            self.query = keras.Sequential([keras.layers.Embedding(10, 4), keras.layers.Dense(4)])
            self.item = keras.Sequential([keras.layers.Embedding(20, 4), keras.layers.Dense(4)])
            self.retrieval = keras_rs.layers.BruteForceRetrieval(k=2)
            self.loss_fn = keras.losses.CategoricalCrossentropy(from_logits=True, reduction="sum")

        def call(self, inputs):
            query = self.query(inputs)
            return (
                {"query": query, "predictions": self.retrieval(query)[1]} if self.retrieval.built else {"query": query}
            )

        def compute_loss(self, x, y, y_pred, sample_weight, training=True):
            scores = keras.ops.matmul(y_pred["query"], keras.ops.transpose(self.item(y)))
            return self.loss_fn(keras.ops.eye(keras.ops.shape(scores)[0], dtype="float32"), scores)

    model = Towers()
    model.compile(keras.optimizers.Adagrad(0.1))
    users, items = RNG.integers(0, 10, (32,)), RNG.integers(0, 20, (32,))
    logs = model.fit(users, items, batch_size=8, epochs=3, verbose=0).history["loss"]
    assert logs[-1] < logs[0]
