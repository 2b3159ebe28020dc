"""BayesFlow: networks of inference and summary, approximators that are trained, sampled from, saved and loaded."""

import bayesflow as bf
import keras
import numpy as np
import pytest

SMALL = {"widths": [8, 8]}
INFERENCE = {
    "affine": lambda: bf.networks.CouplingFlow(subnet="mlp", depth=2, transform="affine", subnet_kwargs=SMALL),
    "spline": lambda: bf.networks.CouplingFlow(subnet="mlp", depth=2, transform="spline", subnet_kwargs=SMALL),
    "flow matching": lambda: bf.networks.FlowMatching(subnet_kwargs=SMALL),
    "diffusion": lambda: bf.networks.DiffusionModel(subnet_kwargs=SMALL),
    "consistency": lambda: bf.networks.ConsistencyModel(total_steps=10, subnet_kwargs=SMALL),
}
SUMMARY = {
    "deep set": lambda: bf.networks.DeepSet(summary_dim=2, depth=1),
    "set transformer": lambda: bf.networks.SetTransformer(
        summary_dim=2, embed_dims=(8,), num_heads=(2,), mlp_depths=(1,), mlp_widths=(8,)
    ),
    "time series": lambda: bf.networks.TimeSeriesNetwork(summary_dim=2, filters=8, recurrent_dim=8),
    "time series transformer": lambda: bf.networks.TimeSeriesTransformer(
        summary_dim=2, embed_dims=(8,), num_heads=(2,), mlp_depths=(1,), mlp_widths=(8,)
    ),
}


def simulate(count=32):
    rng = np.random.default_rng(0)
    theta = rng.normal(size=(count, 2)).astype("float32")
    return {"theta": theta, "x": theta[:, None] + rng.normal(size=(count, 6, 2)).astype("float32")}


def adapter():
    return (
        bf.Adapter()
        .convert_dtype("float64", "float32")
        .rename("theta", "inference_variables")
        .rename("x", "summary_variables")
    )


@pytest.mark.parametrize("name", INFERENCE)
def test_inference_network(name, tmp_path):
    network = INFERENCE[name]()
    x, conditions = np.ones((4, 2), "float32"), np.ones((4, 3), "float32")
    network.build(x.shape, conditions.shape)
    samples = network.sample((4,), conditions=conditions)
    assert np.asarray(samples).shape == (4, 2)
    if name in ("affine", "spline"):
        z = network(x, conditions=conditions)
        np.testing.assert_allclose(network(z, conditions=conditions, inverse=True), x, atol=1e-4)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(network))
    assert type(again) is type(network)


@pytest.mark.parametrize("name", SUMMARY)
def test_summary_network(name):
    network = SUMMARY[name]()
    outputs = network(simulate(4)["x"])
    assert np.asarray(outputs).shape == (4, 2)


@pytest.mark.parametrize("name", INFERENCE)
def test_approximator(name, tmp_path):
    approximator = bf.ContinuousApproximator(
        inference_network=INFERENCE[name](), summary_network=SUMMARY["deep set"](), adapter=adapter()
    )
    data = bf.OfflineDataset(simulate(), batch_size=16, adapter=approximator.adapter)
    approximator.compile(optimizer=keras.optimizers.Adam(1e-3))
    history = approximator.fit(dataset=data, epochs=2, validation_data=data, verbose=0)
    assert np.isfinite(history.history["loss"]).all() and np.isfinite(history.history["val_loss"]).all()
    samples = approximator.sample(num_samples=5, conditions={"x": simulate(3)["x"]})
    assert samples["theta"].shape == (3, 5, 2)
    approximator.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded) is type(approximator)
    for one, two in zip(approximator.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_workflow():
    def prior():
        return {"theta": np.random.normal(size=2)}  # noqa: NPY002

    def likelihood(theta):
        return {"x": theta + np.random.normal(size=(6, 2))}  # noqa: NPY002

    flow = bf.BasicWorkflow(
        simulator=bf.make_simulator([prior, likelihood]),
        inference_network=INFERENCE["affine"](),
        summary_network=SUMMARY["deep set"](),
        inference_variables="theta",
        summary_variables="x",
    )
    history = flow.fit_online(epochs=2, batch_size=8, num_batches_per_epoch=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
