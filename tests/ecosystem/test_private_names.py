"""Private names of Keras's that libraries import, and that kerax lends where they are things of its own."""

import pytest

from tests.ecosystem.test_as_keras import printed


@pytest.mark.medium
def test_names_that_stand_for_public_things(tmp_path):
    lines = printed(f"""
import os
import kerax
kerax.as_keras()
import keras
from keras.src import ops
from keras.src.callbacks.monitor_callback import MonitorCallback
from keras.src.legacy.saving import legacy_h5_format
from keras.src.saving import object_registration, saving_lib
from keras.src.utils import file_utils, naming, summary_utils
os.chdir({str(tmp_path)!r})
print(ops.random is kerax.random, issubclass(keras.callbacks.EarlyStopping, MonitorCallback))

@keras.saving.register_keras_serializable(package="mine")
class Mine:
    def get_config(self):
        return {{}}

print(object_registration.GLOBAL_CUSTOM_OBJECTS["mine>Mine"] is Mine, object_registration.GLOBAL_CUSTOM_NAMES[Mine])
early = keras.callbacks.EarlyStopping(monitor="val_accuracy", min_delta=0.5)
early._set_monitor_op()
print(early.monitor_op is ops.greater, early._is_improvement(0.75, 0), early._is_improvement(0.5, 0))

model = keras.Sequential([keras.layers.Dense(2)])
print(model._functional)
model.build((None, 3))
print(type(model._functional).__name__, model._functional.layers[-1] is model.layers[0])
print([layer.name for layer in model._functional._operations] == [layer.name for layer in model._functional.layers])
print(model._compile_metrics)
model.compile("adam", "mse", metrics=["mae"])
print(model._compile_metrics is model.metrics[1])
legacy_h5_format.save_model_to_hdf5(model, "model.h5", include_optimizer=False)
print(legacy_h5_format.load_model_from_hdf5("model.h5").compiled)
model.save("model.keras")
import zipfile
names = {{saving_lib._CONFIG_FILENAME, saving_lib._METADATA_FILENAME, saving_lib._VARS_FNAME_H5}}
print(names <= set(zipfile.ZipFile("model.keras").namelist()))
text = []
summary_utils.print_summary(model, print_fn=text.append)
print("Total params: 8" in text[0])
naming.reset_uids()
print(naming.get_uid("name"))
""")
    assert lines == [
        "True True",
        "True mine>Mine",
        "True True False",
        "None",
        "Functional True",
        "True",
        "None",
        "True",
        "False",
        "True",
        "True",
        "1",
    ]


@pytest.mark.medium
@pytest.mark.parametrize("root", ["", "memory://place/"])
def test_files_here_and_elsewhere(root, tmp_path):
    root = root or f"{tmp_path}/"
    lines = printed(f"""
import pathlib
import kerax
kerax.as_keras()
from keras.src.utils import file_utils as files
root = {root!r}
folder = files.join(root, "a", "b")
files.makedirs(folder)
files.makedirs(folder)
with files.File(files.join(folder, "one.txt"), "w") as file:
    file.write("text")
files.copy(files.join(folder, "one.txt"), files.join(folder, "two.txt"))
print(files.File(files.join(folder, "two.txt")).read(), files.is_remote_path(folder), files.isdir(folder))
files.remove(files.join(folder, "one.txt"))
print(files.listdir(folder), files.exists(files.join(folder, "one.txt")), files.isdir(files.join(folder, "two.txt")))
files.rmtree(files.join(root, "a"))
print(files.exists(folder))
""")
    elsewhere = root.startswith("memory")
    assert lines == [f"text {elsewhere} True", "['two.txt'] False False", "False"]


@pytest.mark.medium
def test_paths_and_checksums(tmp_path):
    (tmp_path / "file").write_bytes(b"Hello, World!")
    lines = printed(f"""
import pathlib
import kerax
kerax.as_keras()
from keras.src.utils import file_utils as files
folder = pathlib.Path({str(tmp_path)!r})
print(files.path_to_string(folder) == str(folder), files.path_to_string(None))
print([files.resolve_sub_path(folder, path) is None for path in (".", "file", "../file", f"../{{folder.name}}_more")])
print(files.hash_file(folder / "file", "md5"))
print([files.validate_file(folder / "file", files.hash_file(folder / "file", name)) for name in ("md5", "sha256")])
print(files.validate_file(folder / "file", "0" * 64))
""")
    assert lines == [
        "True None",
        "[False, False, True, True]",
        "65a8e27d8879283831b664bd8b7f0ad4",
        "[True, True]",
        "False",
    ]


@pytest.mark.medium
def test_messages_reach_any_terminal():
    code = """
import kerax
kerax.as_keras()
from keras.src.utils import io_utils
io_utils.print_msg("1/2 ━╌", line_break=False)
io_utils.print_msg(" done")
"""
    assert printed(code, PYTHONIOENCODING="ascii") == ["1/2 =. done"]
