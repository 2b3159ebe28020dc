"""Data sets from folders: which files, which labels, which order."""

import wave

import keras
import numpy as np
import pytest

import kerax
from kerax import layers, utils


@pytest.fixture
def texts(tmp_path):
    """Three classes with 4, 3 and 3 texts, one in a folder within."""
    for name, count in (("b", 3), ("a", 4), ("c", 3)):
        for index in range(count):
            folder = tmp_path / name / ("deep" if index == 2 else ".")
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{index}.txt").write_text(f"{name}{index} text")
    (tmp_path / "a" / "ignored.csv").write_text("x")
    (tmp_path / ".hidden").mkdir()
    return tmp_path


@pytest.fixture
def pictures(tmp_path):
    pytest.importorskip("PIL", reason="Pillow is not installed")
    for label, name in enumerate(("cats", "dogs")):
        (tmp_path / name).mkdir()
        for index in range(4):
            image = np.full((10 + index, 8, 3), 60 * label + 10 * index, "uint8")
            utils.save_img(tmp_path / name / f"{index}.png", image, scale=False)
    return tmp_path


def labels_of(dataset):
    return np.concatenate([y for _, y in dataset])


def test_files_labels_and_order_are_those_of_keras(texts):
    options = dict(batch_size=3, verbose=False)
    for extra in (
        {"shuffle": False},
        {"seed": 5},
        {"seed": 5, "validation_split": 0.3, "subset": "training"},
        {"seed": 5, "validation_split": 0.3, "subset": "validation"},
        {"shuffle": False, "class_names": ["c", "a"]},
        {"shuffle": False, "labels": None},
        {"shuffle": False, "labels": list(range(10))},
    ):
        ours = utils.text_dataset_from_directory(texts, **options, **extra)
        # Keras's own index of files: its data sets need TensorFlow or grain.
        from keras.src.utils import dataset_utils

        labels = extra.get("labels", "inferred")
        paths, labels, names = dataset_utils.index_directory(
            str(texts),
            labels,
            (".txt",),
            extra.get("class_names"),
            extra.get("shuffle", True),
            extra.get("seed"),
            verbose=0,
        )
        paths, labels = dataset_utils.get_training_or_validation_split(
            paths, labels, extra.get("validation_split"), extra.get("subset")
        )
        assert [path.replace("/./", "/") for path in ours.file_paths] == paths, extra
        assert ours.class_names == names
        if labels is not None:
            np.testing.assert_array_equal(labels_of(ours), labels)


def test_texts_are_read_and_cut(texts, capsys):
    dataset = utils.text_dataset_from_directory(texts, shuffle=False, batch_size=4, max_length=4)
    assert "Found 10 files belonging to 3 classes." in capsys.readouterr().out
    x, y = dataset[0]
    assert x.tolist() == ["a0 t", "a1 t", "a3 t", "a2 t"] and y.tolist() == [0, 0, 0, 0]
    assert len(dataset) == 3 and dataset.class_names == ["a", "b", "c"]
    vectorize = layers.TextVectorization(output_sequence_length=2)
    vectorize.adapt(dataset.map(lambda x, y: x).take(3))
    batch, _ = dataset.map(lambda x, y: (vectorize(x), y))[0]
    assert batch.shape == (4, 2)


def test_both_parts_have_all_files_once(texts):
    train, held_out = utils.text_dataset_from_directory(
        texts, seed=1, validation_split=0.2, subset="both", verbose=False
    )
    assert (len(train.rows), len(held_out.rows)) == (8, 2)
    assert len(set(train.file_paths) | set(held_out.file_paths)) == 10


@pytest.mark.parametrize("label_mode, shape, dtype", [("int", (8,), "int32"), ("binary", (8, 1), "float32"), ("categorical", (8, 2), "float32")])  # fmt: skip # noqa: E501
def test_labels_have_keras_forms(pictures, label_mode, shape, dtype):
    dataset = utils.image_dataset_from_directory(
        pictures, label_mode=label_mode, image_size=(4, 4), shuffle=False, verbose=False
    )
    x, y = dataset[0]
    assert x.shape == (8, 4, 4, 3) and x.dtype == np.float32
    assert y.shape == shape and y.dtype == dtype
    classes = y.argmax(1) if label_mode == "categorical" else y.ravel()
    np.testing.assert_array_equal(classes, [0] * 4 + [1] * 4)
    np.testing.assert_array_equal(x[:, 0, 0, 0], [0, 10, 20, 30, 60, 70, 80, 90])


@pytest.mark.medium
def test_images_are_resized_as_by_keras(pictures):
    generator = np.random.default_rng(0)
    utils.save_img(pictures / "cats" / "0.png", generator.integers(0, 256, (13, 7, 3)), scale=False)
    raw = utils.img_to_array(utils.load_img(pictures / "cats" / "0.png"))
    for options in ({}, {"crop_to_aspect_ratio": True}, {"pad_to_aspect_ratio": True}, {"interpolation": "bicubic"}):
        dataset = utils.image_dataset_from_directory(
            pictures, labels=None, shuffle=False, image_size=(5, 6), verbose=False, **options
        )
        expected = keras.ops.image.resize(raw, (5, 6), **options)
        np.testing.assert_allclose(dataset[0][0], expected, atol=0.02, rtol=1e-4, err_msg=str(options))
    first = utils.image_dataset_from_directory(
        pictures, labels=None, image_size=5, color_mode="grayscale", data_format="channels_first", verbose=False
    )
    assert first[0].shape == (8, 1, 5, 5)
    single = utils.image_dataset_from_directory(pictures, batch_size=None, image_size=5, verbose=False)
    assert len(single) == 8 and single[0][0].shape == (5, 5, 3)


@pytest.mark.medium
def test_a_model_trains_on_a_folder(pictures):
    dataset = utils.image_dataset_from_directory(pictures, image_size=(4, 4), batch_size=3, seed=0, verbose=False)
    model = kerax.Sequential(
        [
            kerax.Input((4, 4, 3)),
            layers.Rescaling(1 / 50, -1.0),
            layers.Flatten(),
            layers.Dense(2, activation="softmax"),
        ]
    )
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(dataset, epochs=20, verbose=0)
    assert model.evaluate(dataset, verbose=0)[1] == 1


def test_sounds_are_read_padded_and_resampled(tmp_path):
    for name, count, channels in (("a", 4, 1), ("b", 8, 1)):
        (tmp_path / name).mkdir()
        with wave.open(str(tmp_path / name / "x.wav"), "wb") as file:
            file.setnchannels(channels)
            file.setsampwidth(2)
            file.setframerate(8000)
            file.writeframes((np.arange(count, dtype="<i2") * 4096).tobytes())
    options = dict(shuffle=False, verbose=False)
    x, y = utils.audio_dataset_from_directory(tmp_path, **options)[0]
    assert x.shape == (2, 8, 1) and y.tolist() == [0, 1]
    np.testing.assert_array_equal(x[0, :, 0], [0, 0.125, 0.25, 0.375, 0, 0, 0, 0])
    x, _ = utils.audio_dataset_from_directory(tmp_path, output_sequence_length=3, **options)[0]
    assert x.shape == (2, 3, 1)
    x, _ = utils.audio_dataset_from_directory(tmp_path, sampling_rate=16000, **options)[0]
    assert x.shape == (2, 16, 1)
    with pytest.raises(ValueError, match="`ragged`"):
        utils.audio_dataset_from_directory(tmp_path, ragged=True)
    with pytest.raises(ValueError, match="`sampling_rate`"):
        utils.audio_dataset_from_directory(tmp_path, sampling_rate=0.5)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"label_mode": "ints"}, "`label_mode`"),
        ({"labels": "given"}, "`labels`"),
        ({"labels": [1, 2]}, "one entry for each of 10"),
        ({"labels": None, "class_names": ["a"]}, "`class_names`"),
        ({"class_names": ["a", "z"]}, "`class_names`"),
        ({"validation_split": 0.2}, "together"),
        ({"validation_split": 1.5, "subset": "training", "seed": 1}, "between 0 and 1"),
        ({"validation_split": 0.2, "subset": "training"}, "`seed`"),
        ({"validation_split": 0.2, "subset": "test", "seed": 1}, "`subset`"),
        ({"label_mode": "binary"}, "exactly 2 classes"),
        ({"format": "torch"}, "`format`"),
        ({"batch_size": 0}, "`batch_size`"),
    ],
)
def test_wrong_arguments_are_named(texts, options, message):
    with pytest.raises(ValueError, match=message):
        utils.text_dataset_from_directory(texts, verbose=False, **options)


def test_folders_that_are_not_there_or_empty_are_named(tmp_path):
    with pytest.raises(ValueError, match="there is no folder"):
        utils.text_dataset_from_directory(tmp_path / "x")
    (tmp_path / "a").mkdir()
    with pytest.raises(ValueError, match=r"no files ending in \.txt"):
        utils.text_dataset_from_directory(tmp_path, verbose=False)
    for options in ({"interpolation": "cubic"}, {"color_mode": "bgr"}, {"image_size": (1, 2, 3)}):
        with pytest.raises(ValueError, match=f"`{next(iter(options))}`"):
            utils.image_dataset_from_directory(tmp_path, **options)


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_order_and_bits_do_not_depend_on_the_number_of_threads(pictures, monkeypatch, workers):
    make = lambda: utils.image_dataset_from_directory(pictures, image_size=(6, 6), batch_size=3, seed=1, verbose=False)
    expected = [[np.array(part) for part in make()[index]] for index in range(3)]
    dataset = make()
    dataset.workers = workers
    for _ in range(2):
        for one, other in zip(dataset, expected, strict=True):
            for mine, theirs in zip(one, other, strict=True):
                np.testing.assert_array_equal(mine, theirs)


def test_batches_are_read_ahead_while_one_is_used(texts):
    import threading

    started = threading.Event()

    def read(numbers):
        if numbers[0] == 1:
            started.set()
        return numbers

    batches = iter(kerax.data.RowDataset(read, 4, 1, workers=2))
    next(batches)
    assert started.wait(10)
    batches.close()


@pytest.mark.medium
def test_the_wait_for_data_is_logged():
    import time

    def slow(numbers):
        time.sleep(0.02)
        return np.ones((len(numbers), 2), "f"), np.ones((len(numbers), 1), "f")

    model = kerax.Sequential([layers.Dense(1)])
    model.compile("sgd", "mse")
    data = kerax.data.RowDataset(slow, 8, 2, workers=1)
    logs = model.fit(data, epochs=2, verbose=0, callbacks=[kerax.callbacks.Throughput()]).history
    assert 0.005 < logs["data_wait"][1] <= logs["step_time"][1]
    assert "data_wait" not in model.fit(*slow(range(8)), verbose=0, callbacks=[kerax.callbacks.Throughput()]).history
