"""Images as files and arrays, and resized on the host."""

import io

import keras
import numpy as np
import pytest

from kerax import utils
from kerax.preprocessing.image import smart_resize
from kerax.utils import images

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
RNG = np.random.default_rng(0)
ARRAY = RNG.integers(0, 256, (12, 9, 3)).astype("float32")


@pytest.mark.medium
def test_resizing_on_the_host_agrees_with_keras():
    cases = [
        (method, size, "") for method in ("nearest", "bilinear", "bicubic", "lanczos3") for size in ((5, 7), (20, 9))
    ]
    cases += [("bilinear", size, name) for size in ((12, 30), (13, 4)) for name in ("crop", "pad")]
    for method, size, name in [*cases, ("lanczos5", (13, 4), "")]:
        options = {f"{name}_to_aspect_ratio": True} if name else {}
        expected = keras.ops.image.resize(ARRAY, size, method, **options)
        given = images.resize(ARRAY, size, method, **({name: True} if name else {}))
        np.testing.assert_allclose(given, expected, rtol=1e-4, atol=0.02, err_msg=f"{method} {size} {name}")


def test_filters_without_a_reference_are_checked_by_hand():
    row = np.array([0.0, 4.0, 8.0, 12.0], "f")[None, :, None]
    np.testing.assert_allclose(images.resize(row, (1, 2), "area")[0, :, 0], [2, 10])
    thirds = images.resize(np.array([0.0, 3.0, 6.0, 9.0], "f")[None, :, None], (1, 3), "area")[0, :, 0]
    np.testing.assert_allclose(thirds, [0.75, 4.5, 8.25], rtol=1e-6)  # (0 + 3 / 3) / (4 / 3), (3 + 6) / 2, ...
    for method in ("gaussian", "mitchellcubic"):
        np.testing.assert_allclose(images.resize(np.full((5, 4, 1), 7.0, "f"), (9, 3), method), 7, rtol=1e-6)
    middle = images.resize(row, (1, 8), "mitchellcubic")[0, 3, 0]  # at 1.25: kernel at 1.25, 0.25, 0.75, 1.75
    near, far = (
        (lambda x: (7 * x**3 - 12 * x**2 + 16 / 3) / 6),
        (lambda x: (-7 / 3 * x**3 + 12 * x**2 - 20 * x + 32 / 3) / 6),
    )
    np.testing.assert_allclose(middle, 0 * far(1.25) + 4 * near(0.25) + 8 * near(0.75) + 12 * far(1.75), rtol=1e-5)


def test_smart_resize_agrees_with_keras():
    for x in (ARRAY, ARRAY[None]):
        np.testing.assert_allclose(
            smart_resize(x, (6, 8)), keras.preprocessing.image.smart_resize(x, (6, 8)), atol=0.02
        )
    first = np.moveaxis(ARRAY, -1, 0)
    resized = smart_resize(first, (6, 8), data_format="channels_first")
    np.testing.assert_allclose(np.moveaxis(resized, 0, -1), smart_resize(ARRAY, (6, 8)))
    with pytest.raises(ValueError, match="`size` must be"):
        smart_resize(ARRAY, (6,))
    with pytest.raises(ValueError, match="Got shape"):
        smart_resize(ARRAY[0], (6, 8))


def test_arrays_become_the_same_pictures_as_in_keras():
    for array in (ARRAY, ARRAY[..., :1], np.concatenate([ARRAY, ARRAY[..., :1]], -1), ARRAY[..., :1] * 300):
        for scale in (True, False):
            ours, theirs = utils.array_to_img(array, scale=scale), keras.utils.array_to_img(array, scale=scale)
            assert ours.mode == theirs.mode and ours.size == theirs.size
            np.testing.assert_array_equal(ours, theirs)
    first = utils.array_to_img(np.moveaxis(ARRAY, -1, 0), "channels_first")
    np.testing.assert_array_equal(first, utils.array_to_img(ARRAY))
    with pytest.raises(ValueError, match="1, 3 or 4 channels"):
        utils.array_to_img(np.ones((2, 2, 2)))


def test_pictures_become_the_same_arrays_as_in_keras():
    picture = utils.array_to_img(ARRAY)
    for data_format in ("channels_last", "channels_first"):
        for image in (picture, picture.convert("L")):
            ours = utils.img_to_array(image, data_format)
            assert ours.dtype == np.float32
            np.testing.assert_array_equal(ours, keras.utils.img_to_array(image, data_format))
    assert utils.img_to_array(picture, dtype="uint8").dtype == np.uint8
    with pytest.raises(ValueError, match="2 or 3 axes"):
        utils.img_to_array(np.ones(3))


def test_files_go_out_and_come_back_as_in_keras(tmp_path):
    path = tmp_path / "a.png"
    utils.save_img(path, ARRAY)
    for color_mode in ("rgb", "rgba", "grayscale"):
        for options in ({}, {"target_size": (5, 6)}, {"target_size": (4, 8), "interpolation": "bicubic"},
                        {"target_size": (4, 8), "keep_aspect_ratio": True}):  # fmt: skip
            ours = utils.load_img(path, color_mode, **options)
            theirs = keras.utils.load_img(path, color_mode, **options)
            np.testing.assert_array_equal(ours, theirs, err_msg=f"{color_mode} {options}")
    assert utils.load_img(io.BytesIO(path.read_bytes())).size == (9, 12)
    with pytest.warns(UserWarning, match="JPEG has no transparency"):
        utils.save_img(tmp_path / "b.jpg", np.concatenate([ARRAY, ARRAY[..., :1]], -1))
    assert utils.load_img(tmp_path / "b.jpg").mode == "RGB"


def test_wrong_arguments_of_loading_are_named(tmp_path):
    with pytest.raises(ValueError, match="`color_mode`"):
        utils.load_img("x.png", "bgr")
    with pytest.raises(ValueError, match="`interpolation`"):
        utils.load_img("x.png", interpolation="cubic")
    with pytest.raises(TypeError, match="`path`"):
        utils.load_img(3)


def test_a_missing_pillow_is_asked_for_by_name(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(ImportError, match=r"kerax\[images\]"):
        utils.load_img("x.png")


def jpeg(path, mode="RGB", size=(37, 29), **options):
    shape = (size[1], size[0], *{"L": (), "RGB": (3,), "CMYK": (4,)}[mode])
    coarse = np.random.default_rng(0).integers(0, 256, (5, 4, *shape[2:]), dtype="uint8")
    Image.fromarray(coarse, mode).resize(size).save(path, "JPEG", **options)
    return str(path)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0, "quality": 95}])
@pytest.mark.parametrize("color_mode", ["rgb", "rgba", "grayscale"])
def test_pixels_are_the_same_with_and_without_opencv(tmp_path, monkeypatch, mode, options, color_mode):
    path = jpeg(tmp_path / "a.jpg", mode, **options)
    pixels = images.read_pixels(path, color_mode)
    monkeypatch.setattr(images, "opencv", lambda: None)
    np.testing.assert_array_equal(pixels, images.read_pixels(path, color_mode))
    np.testing.assert_array_equal(pixels, np.asarray(images.img_to_array(images.load_img(path, color_mode))))


def test_how_a_camera_was_held_is_left_to_the_user(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    assert images.read_pixels(jpeg(tmp_path / "a.jpg", exif=exif)).shape == (29, 37, 3)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [(16, 11), (64, 64), (29, 37), (1, 1), (30, 80)])
def test_resizing_is_the_same_with_and_without_opencv(monkeypatch, channels, size):
    image = np.random.default_rng(0).integers(0, 256, (29, 37, channels), dtype="uint8")
    results = [images.resize(image, size)]
    monkeypatch.setattr(images, "opencv", lambda: None)
    results.append(images.resize(image, size))
    assert {(array.shape, str(array.dtype)) for array in results} == {((*size, channels), "float32")}
    np.testing.assert_allclose(*results, atol=2e-4)


def test_images_that_are_cut_off_are_named(tmp_path):
    path = tmp_path / "a.jpg"
    data = (tmp_path / jpeg(path)).read_bytes()
    for content in (data[: len(data) // 2], b"text", b""):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.jpg.*cannot be read"):
            images.read_pixels(str(path))
