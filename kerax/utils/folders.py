"""Data sets from folders of files, one folder per class: images, texts, sounds."""

import contextlib
import os
import weakref
from pathlib import Path
from typing import Any

import numpy as np

from kerax import config
from kerax.data.rows import RowDataset, shuffle_in_place
from kerax.errors import check_choice, check_integers
from kerax.places import path_of, to_read
from kerax.utils import images

_IMAGE_ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".png")


def image_dataset_from_directory(
    directory,
    labels: Any = "inferred",
    label_mode: str | None = "int",
    class_names=None,
    color_mode: str = "rgb",
    batch_size: int | None = 32,
    image_size=(256, 256),
    shuffle: bool = True,
    seed=None,
    validation_split=None,
    subset=None,
    interpolation: str = "bilinear",
    follow_links: bool = False,
    crop_to_aspect_ratio: bool = False,
    pad_to_aspect_ratio: bool = False,
    data_format: str | None = None,
    format: str = "tf",
    verbose: bool = True,
):
    """Batches of images from a folder with one folder per class: BMP, GIF (its first picture), JPEG and PNG.

    Args:
        directory: The folder.
        labels: `"inferred"` from the names of the folders, `None` for no labels, or a list with one integer for each
            file in the order of their paths.
        label_mode: `"int"`: int32 `(batch,)`; `"binary"`: float32 `(batch, 1)`; `"categorical"`: float32
            `(batch, classes)` with a one; `None`: no labels.
        class_names: The folders to use, in the order of their labels. Default: all, by name.
        color_mode: `"rgb"`, `"rgba"` or `"grayscale"`.
        batch_size: Images per batch, the last may have fewer. `None`: single images.
        image_size: `(height, width)`, or one number for both.
        shuffle: Whether the files are put in an order drawn from `seed`, and `fit` draws one for each pass.
        seed: Integer; needed for a split of shuffled files.
        validation_split: Fraction of the files, the last ones, that are for validation.
        subset: `"training"`, `"validation"`, or `"both"` for a list of two data sets.
        interpolation: One of `"bilinear"`, `"nearest"`, `"bicubic"`, `"area"`, `"lanczos3"`, `"lanczos5"`,
            `"gaussian"`, `"mitchellcubic"`.
        follow_links: Whether links to folders are followed.
        crop_to_aspect_ratio: Whether to keep proportions by cutting off what is too long.
        pad_to_aspect_ratio: Whether to keep proportions by filling up with zeros what is too short.
        data_format: `"channels_last"` or `"channels_first"`. Default: `config.image_data_format()`.
        format: `"tf"` or `"grain"`, which make no difference.
        verbose: Whether to print how many files there are.

    Returns: a `RowDataset` of float32 images from 0 to 255, and labels; with `class_names` and `file_paths`.

    Deviation from Keras: the result is kerax's own data set, with `map`, `take`, `skip`, `batch`, `cache` and
    `prefetch`. Which files belong to which subset is the same for the same seed.

    Raises:
        ValueError: for arguments that do not fit, or a folder without images.
    """
    who = "image_dataset_from_directory"
    images.pillow(who)  # before the folder is looked through, and not in a thread of the first batch
    check_choice(who, "format", format, ("tf", "grain"))
    check_choice(who, "color_mode", color_mode, ("rgb", "rgba", "grayscale"))
    check_choice(who, "interpolation", interpolation.lower(), images.RESIZE_METHODS)
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    if not isinstance(size, (list, tuple)) or len(size) != 2:
        raise ValueError(f"{who}: `image_size` must be (height, width). Got {image_size!r}.")
    if crop_to_aspect_ratio and pad_to_aspect_ratio:
        raise ValueError(f"{who}: set only one of `crop_to_aspect_ratio` and `pad_to_aspect_ratio`.")
    data_format = config.standardize_data_format(data_format)

    num_channels = {"grayscale": 1, "rgb": 3, "rgba": 4}[color_mode]
    options = tuple(size), interpolation.lower(), crop_to_aspect_ratio, pad_to_aspect_ratio

    def read(paths):
        # Filled in one by one: to stack them afterwards would hold and copy all of them once more.
        batch = np.empty((len(paths), *size, num_channels), np.float32)
        for target, path in zip(batch, paths, strict=True):
            images.resize(images.read_pixels(path, color_mode), *options, out=target)
        return batch.transpose(0, 3, 1, 2) if data_format == "channels_first" else batch

    files = _Files(who, directory, labels, label_mode, class_names, follow_links, _IMAGE_ENDINGS)
    return _datasets(files, read, batch_size, shuffle, seed, validation_split, subset, verbose)


def text_dataset_from_directory(
    directory,
    labels: Any = "inferred",
    label_mode: str | None = "int",
    class_names=None,
    batch_size: int | None = 32,
    max_length=None,
    shuffle: bool = True,
    seed=None,
    validation_split=None,
    subset=None,
    follow_links: bool = False,
    format: str = "tf",
    verbose: bool = True,
):
    """Batches of texts (`.txt`, UTF-8) from a folder with one folder per class.

    Turn the texts into numbers before `fit`, for example by `dataset.map(lambda x, y: (vectorize(x), y))` with a
    `TextVectorization`.

    Args:
        max_length: Characters of each text that are kept. Default: all.
        All others as in `image_dataset_from_directory`.

    Returns: a `RowDataset` of arrays of Python strings, and labels.
    """
    who = "text_dataset_from_directory"
    check_choice(who, "format", format, ("tf", "grain"))

    def read(paths):
        # Filled in afterwards: NumPy would make an array of fixed-width text of a list of strings.
        texts = np.empty(len(paths), object)
        texts[:] = [Path(path).read_text(encoding="utf-8")[:max_length] for path in paths]
        return texts

    files = _Files(who, directory, labels, label_mode, class_names, follow_links, (".txt",))
    return _datasets(files, read, batch_size, shuffle, seed, validation_split, subset, verbose)


def audio_dataset_from_directory(
    directory,
    labels: Any = "inferred",
    label_mode: str | None = "int",
    class_names=None,
    batch_size: int | None = 32,
    sampling_rate=None,
    output_sequence_length=None,
    ragged: bool = False,
    shuffle: bool = True,
    seed=None,
    validation_split=None,
    subset=None,
    follow_links: bool = False,
    verbose: bool = True,
):
    """Batches of sounds (`.wav`) from a folder with one folder per class.

    Args:
        sampling_rate: Samples per second that every sound is brought to. Default: as they are.
        output_sequence_length: Samples per sound, cut or filled up with zeros. Default: those of the batch's longest.
        ragged: Must be false: there are no arrays with rows of different lengths.
        All others as in `image_dataset_from_directory`.

    Returns: a `RowDataset` of float32 arrays `(batch, samples, channels)` from -1 to 1, and labels.
    """
    who = "audio_dataset_from_directory"
    if ragged:
        raise ValueError(f"{who}: `ragged` is not supported. Leave it out: shorter sounds are filled up with zeros.")
    given = {"sampling_rate": sampling_rate, "output_sequence_length": output_sequence_length}
    check_integers(who, **{name: (value, 1) for name, value in given.items() if value is not None})

    def read(paths):
        sounds = [read_wave(path, sampling_rate)[:output_sequence_length] for path in paths]
        longest = output_sequence_length or max(len(sound) for sound in sounds)
        padded = np.zeros((len(sounds), longest, sounds[0].shape[1]), np.float32)
        for target, sound in zip(padded, sounds, strict=True):
            target[: len(sound)] = sound
        return padded

    files = _Files(who, directory, labels, label_mode, class_names, follow_links, (".wav",))
    return _datasets(files, read, batch_size, shuffle, seed, validation_split, subset, verbose)


def read_wave(path, sampling_rate: int | None = None) -> np.ndarray:
    """The samples of a `.wav` file, float32 `(samples, channels)` from -1 to 1.

    Args:
        sampling_rate: Samples per second to bring it to, by polyphase filtering. Default: as it is.
    """
    from scipy.io import wavfile  # comes with jax; slow to import

    rate, samples = wavfile.read(path)
    kind, samples = samples.dtype, samples.astype(np.float32)
    if kind == np.uint8:  # 8 bits are unsigned in this format, wider ones are signed
        samples = (samples - 128) / 128
    elif kind.kind == "i":
        samples = samples / np.float32(np.iinfo(kind).max + 1)
    samples = samples[:, None] if samples.ndim == 1 else samples
    if sampling_rate is not None and rate != sampling_rate:
        from scipy.signal import resample_poly

        samples = resample_poly(samples, sampling_rate, rate, axis=0).astype(np.float32)
    return samples


class _Files:
    """The files of a folder by their paths, with what the three functions make of `labels`.

    Attributes:
        paths: Of the files, by folder and then by name.
        targets: An array with a row for each file, or `None`.
        names: Of the classes, or `None` without labels.
    """

    def __init__(self, who: str, directory, labels, label_mode, class_names, follow_links: bool, endings: tuple):
        check_choice(who, "label_mode", label_mode, ("int", "categorical", "binary", None))
        self.who, self.directory, self.endings = who, path_of(directory, who), endings
        # Of a folder elsewhere a copy, which is there as long as a data set reads it: each pass would fetch it anew.
        self._copy = contextlib.ExitStack()
        self.directory = self._copy.enter_context(to_read(self.directory))
        weakref.finalize(self, self._copy.close)
        self.paths, found, self.names = self._find(labels if label_mode else None, class_names, follow_links)
        if label_mode == "binary" and self.names is not None and len(self.names) != 2:
            raise ValueError(f"{who}: label_mode='binary' needs exactly 2 classes. Got {self.names}.")
        self.targets = None if self.names is None else _targets(np.asarray(found), label_mode, len(self.names))

    def _find(self, labels, class_names, follow_links: bool) -> tuple[list[str], list, list[str] | None]:
        """Paths, labels and names of the classes."""
        who, directory = self.who, self.directory
        if not os.path.isdir(directory):
            raise ValueError(f"{who}: there is no folder {directory!r}.")
        if not isinstance(labels, (list, tuple, np.ndarray)):
            check_choice(who, "labels", labels, ("inferred", None))
        if class_names is not None and not (isinstance(labels, str) and labels == "inferred"):
            raise ValueError(f"{who}: `class_names` goes with labels='inferred' only. Got labels={labels!r}.")
        walk = lambda folder: _walk(folder, follow_links, self.endings)
        if not isinstance(labels, str):
            paths = walk(directory)
            if labels is None:
                return paths, [], None
            if len(labels) != len(paths):
                raise ValueError(
                    f"{who}: `labels` must have one entry for each of {len(paths)} files. Got {len(labels)}."
                )
            return paths, list(labels), [str(label) for label in sorted(set(labels))]
        # Hidden folders, such as `.ipynb_checkpoints`, are no classes.
        found = sorted(e.name for e in os.scandir(directory) if e.is_dir() and not e.name.startswith("."))
        names = found if class_names is None else list(class_names)
        if not set(names) <= set(found):
            raise ValueError(f"{who}: `class_names` must be folders of {directory!r}: {found}. Got {names}.")
        files = [walk(os.path.join(directory, name)) for name in names]
        labels = [label for label, paths in enumerate(files) for _ in paths]
        return [path for paths in files for path in paths], labels, names

    def dataset(self, read, rows, batch_size: int | None, shuffle: bool, part: str = "") -> RowDataset:
        """The files with these numbers; `read` makes an array of a list of paths."""
        if not len(rows):
            endings = ", ".join(self.endings)
            raise ValueError(f"{self.who}: no {part}files ending in {endings} in {self.directory!r}.")

        def read_rows(numbers):
            x = read([self.paths[number] for number in numbers])
            return x if self.targets is None else (x, self.targets[numbers])

        return RowDataset(read_rows, rows, batch_size, shuffle, self.names, [self.paths[row] for row in rows])


def _datasets(files: _Files, read, batch_size, shuffle, seed, validation_split, subset, verbose: bool):
    """The data set of all files, of a part of them, or for `"both"` a list of two."""
    _check_split(files.who, validation_split, subset, shuffle, seed)
    if verbose:
        classes = "." if files.names is None else f" belonging to {len(files.names)} classes."
        print(f"Found {len(files.paths)} files{classes}")
    order = np.arange(len(files.paths))
    if shuffle:
        shuffle_in_place(order, seed)
    if subset is None:
        return files.dataset(read, order, batch_size, shuffle)
    cut = len(order) - int(validation_split * len(order))
    # Beside a part for training, the one for validation is only looked at: its order need not change.
    parts = (("training", order[:cut], shuffle), ("validation", order[cut:], shuffle and subset == "validation"))
    made = []
    for part, rows, shuffles in parts:
        if subset in (part, "both"):
            if verbose:
                print(f"Using {len(rows)} files for {part}.")
            made.append(files.dataset(read, rows, batch_size, shuffles, f"{part} "))
    return made if subset == "both" else made[0]


def _check_split(who: str, validation_split, subset, shuffle, seed):
    check_choice(who, "subset", subset, ("training", "validation", "both", None))
    if validation_split is not None and not 0 < validation_split < 1:
        raise ValueError(f"{who}: `validation_split` must be between 0 and 1. Got {validation_split!r}.")
    if (validation_split is None) != (subset is None):
        raise ValueError(f"{who}: pass `validation_split` and `subset` together. Got {validation_split!r}, {subset!r}.")
    if validation_split and shuffle and seed is None:
        raise ValueError(f"{who}: a split of shuffled files needs `seed`, so that the two parts do not overlap.")


def _walk(folder: str, follow_links: bool, endings: tuple) -> list[str]:
    # Sorted, for systems list files in any order: the same files must get the same numbers everywhere.
    walked = sorted(os.walk(folder, followlinks=follow_links), key=lambda item: item[0])
    return [
        os.path.join(root, name)
        for root, _, names in walked
        for name in sorted(names)
        if name.lower().endswith(endings)
    ]


def _targets(labels: np.ndarray, label_mode: str | None, num_classes: int) -> np.ndarray:
    if label_mode == "int":
        return labels.astype(np.int32)
    if label_mode == "binary":
        return labels.astype(np.float32)[:, None]
    return (labels[:, None] == np.arange(num_classes)).astype(np.float32)
