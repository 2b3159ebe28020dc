"""The distribution guide on what devices there are: a mesh, a layout map of names, data parallel training."""

import keras
import numpy as np
from keras import layers

from tests.ported.start import start

numbers = np.random.default_rng(59)
x, y = numbers.normal(size=(32, 16)).astype("float32"), numbers.normal(size=(32, 2)).astype("float32")
devices = keras.distribution.list_devices()[:1]


def make():
    inputs = layers.Input(shape=(16,))
    h = layers.Dense(units=8, activation="relu", name="d1")(inputs)
    h = layers.Dropout(0.0)(h)
    return keras.Model(inputs=inputs, outputs=layers.Dense(units=2, activation="softmax", name="d2")(h))


def train():
    model = make()
    start(model)
    model.compile(loss="mse", optimizer="sgd", metrics=["mae"])
    history = model.fit(x, y, epochs=2, batch_size=8, shuffle=False, verbose=0)
    evaluated = model.evaluate(x, y, verbose=0)
    return model, {"history": history.history, "evaluated": evaluated, "outputs": model.predict(x[:3], verbose=0)}


mesh_1d = keras.distribution.DeviceMesh(shape=(1,), axis_names=["data"], devices=devices)
data_parallel = keras.distribution.DataParallel(device_mesh=mesh_1d)
keras.distribution.set_distribution(data_parallel)
_, parallel = train()
same = keras.distribution.distribution() is data_parallel
keras.distribution.set_distribution(None)

mesh_2d = keras.distribution.DeviceMesh(shape=(1, 1), axis_names=["data", "model"], devices=devices)
layout_map = keras.distribution.LayoutMap(mesh_2d)
layout_map["d1/kernel"] = (None, "model")
layout_map["d1/bias"] = ("model",)
layout_map["d2/output"] = ("data", None)
layout_map[".*d2.kernel"] = keras.distribution.TensorLayout(("model", None), mesh_2d)
model_parallel = keras.distribution.ModelParallel(layout_map=layout_map, batch_dim_name="data")
with model_parallel.scope():
    model, sharded = train()
    tensor = keras.distribution.distribute_tensor(x[:4], keras.distribution.TensorLayout(("data", None), mesh_2d))
results = {
    "parallel": parallel,
    "sharded": sharded,
    "same": same,
    "axes": [list(mesh_2d.axis_names), list(map(int, mesh_2d.shape))],
    "layout": [list(layout_map[name].axes) for name in ("d1/kernel", "d1/bias", "d2/output")],
    "missing": layout_map["other/kernel"] is None,
    "keys": list(layout_map.keys()),
    "tensor": np.asarray(tensor),
    "num_devices": len(devices),
}
