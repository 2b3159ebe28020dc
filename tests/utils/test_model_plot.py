"""Pictures of models: what is in them, that boxes do not overlap, and the files."""

import re
import xml.etree.ElementTree

import pytest

import kerax
from kerax import layers, utils
from kerax.utils import diagram


def make():
    encoder = kerax.Sequential(
        [kerax.Input((8, 8, 4)), layers.Conv2D(2, 3, name="inner"), layers.Flatten()], name="encoder"
    )
    image, meta = kerax.Input((8, 8, 3), name="image"), kerax.Input((4,), name="meta")
    one, other = layers.Conv2D(4, 1, activation="relu")(image), layers.Conv2D(4, 1)(image)
    joined = layers.Concatenate(name="join")([encoder(layers.add([one, other]) * 2.0), layers.Dense(3)(meta)])
    frozen = layers.Dense(2, name="frozen", activation="gelu")
    frozen.trainable = False
    return kerax.Model([image, meta], [frozen(joined), layers.Concatenate()([joined, meta])])


EVERYTHING = dict(show_shapes=True, show_dtype=True, show_layer_names=True, expand_nested=True)
EVERYTHING |= dict(show_layer_activations=True, show_trainable=True)


def test_all_that_is_asked_for_is_written():
    text = utils.model_to_dot(make(), **EVERYTHING).to_string()
    for part in (
        "frozen (Dense)",
        "Activation: gelu",
        "Non-trainable",
        "Output shape: (None, 8, 8, 4)",
        "Output dtype: float32",
        "inner (Conv2D)",
        'label="encoder"',
        "multiply",
        "Input shape: (None, 72), (None, 3)",
    ):
        assert part in text, part
    plain = utils.model_to_dot(make(), show_layer_names=False).to_string()
    assert "frozen" not in plain and "encoder" not in plain and "Sequential" in plain and "shape:" not in plain


def test_arrows_are_the_calls():
    model = make()
    graph = utils.model_to_dot(model)
    names = {id(operation): operation.name for operation in model.operations}
    arrows = {(names[one], names[other]) for one, other in graph.diagram.edges}
    assert {("image", "conv2d"), ("conv2d", "add"), ("add", "multiply"), ("multiply", "encoder")} <= arrows
    assert {("encoder", "join"), ("dense", "join"), ("join", "frozen"), ("meta", "concatenate")} <= arrows
    assert len(arrows) == 12 == graph.to_string().count("->")


@pytest.mark.parametrize("rankdir", ["TB", "BT", "LR", "RL"])
def test_boxes_do_not_overlap_and_arrows_go_the_right_way(rankdir):
    picture = utils.model_to_dot(make(), rankdir=rankdir, **EVERYTHING).diagram
    boxes = list(picture.boxes.values())
    for index, one in enumerate(boxes):
        assert -1e-6 <= one.x and one.x + one.width <= picture.width + 1e-6
        assert -1e-6 <= one.y and one.y + one.height <= picture.height + 1e-6
        for other in boxes[index + 1 :]:
            apart = max(other.x - one.x - one.width, one.x - other.x - other.width)
            assert max(apart, other.y - one.y - one.height, one.y - other.y - other.height) >= 0
    axis, sign = {"TB": ("y", 1), "BT": ("y", -1), "LR": ("x", 1), "RL": ("x", -1)}[rankdir]
    for one, other in picture.edges:
        first, second = picture.boxes[one], picture.boxes[other]
        center = {"x": "width", "y": "height"}[axis]
        places = [getattr(box, axis) + getattr(box, center) / 2 for box in (first, second)]
        assert sign * (places[1] - places[0]) > 0


def test_svg_is_well_formed_and_has_every_text(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")  # no Graphviz
    path = tmp_path / "model.svg"
    utils.plot_model(make(), path, **EVERYTHING)
    root = xml.etree.ElementTree.parse(path).getroot()
    texts = [element.text for element in root.iter() if element.tag.endswith("text")]
    assert "frozen (Dense)" in texts and "encoder" in texts and "Output dtype: float32" in texts
    assert sum(element.tag.endswith("polyline") for element in root.iter()) == 13  # one of them inside the frame


def test_other_formats_are_drawn_by_pillow(tmp_path, monkeypatch):
    image_module = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    monkeypatch.setenv("PATH", "")
    utils.plot_model(make(), tmp_path / "model.png", dpi=96)
    with image_module.open(tmp_path / "model.png") as image:
        graph = utils.model_to_dot(make(), show_layer_names=False).diagram
        assert image.size == (round(graph.width + 20), round(graph.height + 20))
        assert image.getextrema() == ((0, 255),) * 3  # black on white
    with pytest.raises(ValueError, match="unknown format 'xyz'"):
        utils.plot_model(make(), tmp_path / "model.xyz")
    utils.plot_model(make(), tmp_path / "model.dot")
    assert (tmp_path / "model.dot").read_text().startswith("digraph")


def test_graphviz_draws_where_it_is_there(tmp_path, monkeypatch):
    program = tmp_path / "dot"
    program.write_text("#!/bin/sh\necho $1; cat\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    utils.plot_model(make(), tmp_path / "model.pdf")
    assert (tmp_path / "model.pdf").read_text().startswith("-Tpdf\ndigraph")
    program.write_text("#!/bin/sh\necho no >&2; exit 1\n")
    with pytest.raises(ValueError, match="Graphviz cannot draw .* no"):
        utils.plot_model(make(), tmp_path / "model.pdf")


def test_shared_layers_and_subclasses_are_single_boxes():
    shared, inputs = layers.Dense(3), kerax.Input((3,))
    model = kerax.Model(inputs, shared(layers.ReLU()(shared(inputs))))
    picture = utils.model_to_dot(model).diagram
    assert len(picture.boxes) == 3 and len(picture.edges) == 3

    class Own(kerax.Model):
        def call(self, x):
            return x

    own = Own()
    own.build((None, 2))
    assert "Own" in utils.model_to_dot(own).to_string()


def test_long_edges_go_around_boxes():
    cell = lambda text: diagram.Box(text, [[diagram.Cell(text * 9)]])
    picture = diagram.Diagram([cell("a"), cell("b"), cell("c")], [("a", "b"), ("b", "c"), ("a", "c")])
    bend = picture.routes["a", "c"][0]
    box = picture.boxes["b"]
    assert not box.x < bend[0] < box.x + box.width
    assert re.search("<svg", diagram.as_svg(picture))


def test_wrong_calls_are_named():
    with pytest.raises(ValueError, match="not built yet"):
        utils.model_to_dot(kerax.Sequential([layers.Dense(1)]))
    with pytest.raises(ValueError, match="`rankdir`"):
        utils.model_to_dot(make(), rankdir="UP")
    with pytest.raises(TypeError, match="'layer_range'"):
        utils.plot_model(make(), "x.svg", layer_range=("a", "b"))
