"""Boxes and classes on a pyramid of two levels: anchors, smooth L1 and focal losses of one's own."""

import keras
import numpy as np
from keras import layers, ops

from tests.ported.start import start

numbers = np.random.default_rng(21)
num_classes, num_anchors = 3, 20
images = numbers.normal(size=(12, 16, 16, 3)).astype("float32")
boxes = numbers.normal(size=(12, num_anchors, 4)).astype("float32")
classes = numbers.integers(-2, num_classes, (12, num_anchors, 1)).astype("float32")
targets = np.concatenate([boxes, classes], -1)


class SmoothL1(keras.losses.Loss):
    def __init__(self, delta):
        super().__init__(reduction="none", name="smooth_l1")
        self._delta = delta

    def call(self, y_true, y_pred):
        difference = y_true - y_pred
        absolute = ops.abs(difference)
        loss = ops.where(ops.less(absolute, self._delta), 0.5 * difference**2, absolute - 0.5)
        return ops.sum(loss, axis=-1)


class Focal(keras.losses.Loss):
    def __init__(self, alpha, gamma):
        super().__init__(reduction="none", name="focal")
        self._alpha, self._gamma = alpha, gamma

    def call(self, y_true, y_pred):
        entropy = keras.ops.binary_crossentropy(y_true, y_pred, from_logits=True)
        probabilities = keras.activations.sigmoid(y_pred)
        alpha = ops.where(ops.equal(y_true, 1.0), self._alpha, 1.0 - self._alpha)
        pt = ops.where(ops.equal(y_true, 1.0), probabilities, 1 - probabilities)
        return ops.sum(alpha * ops.power(1.0 - pt, self._gamma) * entropy, axis=-1)


class RetinaLoss(keras.losses.Loss):
    def __init__(self, num_classes=3, alpha=0.25, gamma=2.0, delta=1.0):
        super().__init__(reduction="sum_over_batch_size", name="RetinaLoss")
        self._focal, self._boxes, self._num_classes = Focal(alpha, gamma), SmoothL1(delta), num_classes

    def call(self, y_true, y_pred):
        labels = ops.one_hot(ops.cast(y_true[:, :, 4], "int32"), self._num_classes, dtype="float32")
        positive = ops.cast(ops.greater(y_true[:, :, 4], -1.0), "float32")
        ignored = ops.cast(ops.equal(y_true[:, :, 4], -2.0), "float32")
        class_loss = self._focal(labels, y_pred[:, :, 4:])
        class_loss = ops.where(ops.equal(ignored, 1.0), 0.0, class_loss)
        box_loss = ops.where(ops.equal(positive, 1.0), self._boxes(y_true[:, :, :4], y_pred[:, :, :4]), 0.0)
        normalizer = ops.maximum(ops.sum(positive, axis=-1), 1.0)
        return ops.sum(class_loss, -1) / normalizer + ops.sum(box_loss, -1) / normalizer


class FeaturePyramid(layers.Layer):
    def __init__(self, backbone, **kwargs):
        super().__init__(name="FeaturePyramid", **kwargs)
        self.backbone = backbone
        self.conv_fine = layers.Conv2D(8, 1, 1, "same")
        self.conv_coarse = layers.Conv2D(8, 1, 1, "same")
        self.upsample = layers.UpSampling2D(2)

    def call(self, images, training=False):
        fine, coarse = self.backbone(images, training=training)
        coarse = self.conv_coarse(coarse)
        return self.conv_fine(fine) + self.upsample(coarse), coarse


def build_head(output_filters, bias_init):
    head = keras.Sequential([keras.Input(shape=[None, None, 8])])
    normal = keras.initializers.RandomNormal(0.0, 0.01)
    head.add(layers.Conv2D(8, 3, padding="same", kernel_initializer=normal))
    head.add(layers.ReLU())
    head.add(layers.Conv2D(output_filters, 3, 1, padding="same", kernel_initializer=normal, bias_initializer=bias_init))
    return head


class RetinaNet(keras.Model):
    def __init__(self, num_classes, backbone, **kwargs):
        super().__init__(name="RetinaNet", **kwargs)
        self.fpn = FeaturePyramid(backbone)
        self.num_classes = num_classes
        self.cls_head = build_head(num_classes, keras.initializers.Constant(-float(np.log(0.99 / 0.01))))
        self.box_head = build_head(4, "zeros")

    def call(self, image, training=False):
        features = self.fpn(image, training=training)
        size = ops.shape(image)[0]
        boxes = [ops.reshape(self.box_head(feature), [size, -1, 4]) for feature in features]
        classes = [ops.reshape(self.cls_head(feature), [size, -1, self.num_classes]) for feature in features]
        return ops.concatenate([ops.concatenate(boxes, 1), ops.concatenate(classes, 1)], axis=-1)


source = keras.Input((16, 16, 3))
fine = layers.Conv2D(8, 4, 4, activation="relu")(source)
backbone = keras.Model(source, [fine, layers.Conv2D(8, 2, 2, activation="relu")(fine)])
model = RetinaNet(num_classes, backbone)
model(images[:1])
start(model)
model.compile(loss=RetinaLoss(num_classes), optimizer=keras.optimizers.SGD(0.01, momentum=0.9))
history = model.fit(images, targets, epochs=2, batch_size=4, shuffle=False, verbose=0)
outputs = model.predict(images[:1], verbose=0)[0]


def iou(first, second):
    corners = [
        ops.concatenate([each[..., :2] - each[..., 2:] / 2.0, each[..., :2] + each[..., 2:] / 2.0], -1)
        for each in (first, second)
    ]
    low = ops.maximum(corners[0][:, None, :2], corners[1][:, :2])
    high = ops.minimum(corners[0][:, None, 2:], corners[1][:, 2:])
    sides = ops.maximum(0.0, high - low)
    common = sides[:, :, 0] * sides[:, :, 1]
    areas = [each[:, 2] * each[:, 3] for each in (first, second)]
    return ops.clip(common / ops.maximum(areas[0][:, None] + areas[1] - common, 1e-8), 0.0, 1.0)


overlaps = iou(np.abs(boxes[0]), np.abs(boxes[1]))
results = {
    "history": history.history,
    "outputs": outputs,
    "overlaps": np.asarray(overlaps),
    "best": np.asarray(ops.argmax(overlaps, axis=1)).tolist(),
    "weights": [list(weight.shape) for weight in model.weights],
}
