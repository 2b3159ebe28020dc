"""A small student learns from a larger teacher: by a `compute_loss` of one's own, and by `keras.distillation`."""

import keras
from keras import layers, ops
from sklearn.datasets import load_digits

from tests.ported.start import start

digits = load_digits()
images, labels = (digits.data[:256] / 16).astype("float32"), digits.target[:256]


def network(units, seed):
    model = keras.Sequential([keras.Input((64,)), layers.Dense(units, activation="relu"), layers.Dense(10)])
    start(model, seed)
    return model


class Distiller(keras.Model):
    def __init__(self, student, teacher):
        super().__init__()
        self.student = student
        self.teacher = teacher
        self.teacher.trainable = False

    def compile(self, student_loss, distillation_loss, alpha=0.1, temperature=3.0, **kwargs):
        super().compile(**kwargs)
        self.student_loss = student_loss
        self.distillation_loss = distillation_loss
        self.alpha = alpha
        self.temperature = temperature

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        teacher_logits = self.teacher(x, training=False)
        hard = self.student_loss(y, y_pred)
        soft = self.distillation_loss(
            ops.softmax(teacher_logits / self.temperature, axis=1), ops.softmax(y_pred / self.temperature, axis=1)
        )
        return self.alpha * hard + (1 - self.alpha) * soft * self.temperature**2

    def call(self, x):
        return self.student(x)


teacher = network(32, seed=0)
teacher.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
teaching = teacher.fit(images, labels, epochs=2, shuffle=False, verbose=0)

distiller = Distiller(student=network(8, seed=1), teacher=teacher)
distiller.compile(
    optimizer=keras.optimizers.Adam(0.01),
    metrics=[keras.metrics.SparseCategoricalAccuracy()],
    student_loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    distillation_loss=keras.losses.KLDivergence(),
)
custom = distiller.fit(images, labels, epochs=2, shuffle=False, verbose=0)

ready = keras.distillation.Distiller(
    teacher=teacher,
    student=network(8, seed=1),
    distillation_losses=keras.distillation.LogitsDistillation(temperature=2.0, loss=keras.losses.KLDivergence()),
    student_loss_weight=0.3,
)
ready.compile(optimizer="adam", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
built_in = ready.fit(images, labels, epochs=2, shuffle=False, verbose=0)

results = {
    "teaching": teaching.history,
    "custom": custom.history,
    "built_in": built_in.history,
    "student": distiller.student.predict(images[:3], verbose=0),
    "evaluated": distiller.evaluate(images, labels, verbose=0, return_dict=True),
}
