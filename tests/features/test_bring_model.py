from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from drawn_graphs import SIDE, embedding_graph, photos
from sameitem.core.errors import ConflictError, InputError, NotFoundError, TooLargeError
from sameitem.core.records import Pixels
from sameitem.features import bring_model
from sameitem.features.bring_model import import_model
from sameitem.features.embed import Embedder
from sameitem.features.model_folder import ModelFolder, read_model
from sameitem.features.preprocess import Fit, Layout


def bring(tmp_path: Path, graph: bytes, *, name: str = "brought", **flags: object) -> ModelFolder:
    file = tmp_path / "graph.onnx"
    file.write_bytes(graph)
    sample_photos: list[Pixels] = photos(3)
    return import_model(file, tmp_path / "models", name=name, **({"sample_photos": sample_photos} | flags))  # type: ignore[arg-type]


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("dtype", [TensorProto.FLOAT, TensorProto.UINT8])
@pytest.mark.parametrize("batch", [1, "n"])
@pytest.mark.parametrize("dim", [128, 1024])
def test_every_kind_of_graph_that_is_promised_becomes_a_model_that_embeds(
    tmp_path: Path, layout: Layout, dtype: int, batch: int | str, dim: int
) -> None:
    graph = embedding_graph(layout=layout, dtype=dtype, batch=batch, dim=dim, scale=1e-3)
    model = bring(tmp_path, graph, mean=(0.0, 0.0, 0.0), std=(255.0, 255.0, 255.0), licence="MIT", source="a friend")
    assert (model.version, model.kind, model.dim, model.licence) == ("brought", "imported", dim, "MIT")
    assert model.metrics["ms_per_photo"] > 0
    assert read_model(tmp_path / "models" / "brought") == model
    features = Embedder(tmp_path / "models" / "brought").embed(photos(4))
    assert features.shape == (4, dim)
    assert np.linalg.norm(features, axis=1) == pytest.approx(1, abs=1e-5)


def test_a_graph_of_free_side_takes_the_side_that_is_given(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="one square side, got \\[\\]"):
        bring(tmp_path, embedding_graph(side="side"))
    model = bring(tmp_path, embedding_graph(side="side"), side_px=SIDE, fit=Fit.CROP)
    assert (model.preprocessing.side_px, model.preprocessing.fit) == (SIDE, Fit.CROP)


def test_a_side_that_is_not_the_graphs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"got \[16, 20\]"):
        bring(tmp_path, embedding_graph(), side_px=20)


def test_one_of_several_outputs_is_taken_by_name(tmp_path: Path) -> None:
    graph = embedding_graph(outputs=("one", "two"))
    with pytest.raises(InputError, match=r"2 of .* fit; name the output"):
        bring(tmp_path, graph)
    with pytest.raises(InputError, match="'three'"):
        bring(tmp_path, graph, output="three")
    assert bring(tmp_path, graph, output="two").graphs["embed"].output == "two"


@pytest.mark.parametrize("dim", [127, 1025])
def test_features_that_are_too_short_or_too_long_are_refused(tmp_path: Path, dim: int) -> None:
    with pytest.raises(InputError, match="128-1024"):
        bring(tmp_path, embedding_graph(dim=dim))


@pytest.mark.parametrize("side", [8, 2048])
def test_absurd_sides_are_refused(tmp_path: Path, side: int) -> None:
    with pytest.raises(InputError, match="16-1024"):
        bring(tmp_path, embedding_graph(side="side"), side_px=side)


def test_a_fixed_batch_of_many_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="free batch or a batch of 1, got 8"):
        bring(tmp_path, embedding_graph(batch=8))


def test_another_number_type_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"float32 or uint8 input, got tensor\(float16\)"):
        bring(tmp_path, embedding_graph(dtype=TensorProto.FLOAT16))


def graph_of(inputs: list[onnx.ValueInfoProto], node: onnx.NodeProto, *, domains: tuple[str, ...] = ("",)) -> bytes:
    output = helper.make_tensor_value_info("feature", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "odd", inputs, [output])
    opsets = [helper.make_opsetid(domain, 17 if not domain else 1) for domain in domains]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())


def test_a_graph_without_an_image_input_is_refused(tmp_path: Path) -> None:
    flat = helper.make_tensor_value_info("flat", TensorProto.FLOAT, ["n", 128])
    with pytest.raises(InputError, match="need an input"):
        bring(tmp_path, graph_of([flat], helper.make_node("Identity", ["flat"], ["feature"])))


def test_a_graph_of_two_inputs_is_refused(tmp_path: Path) -> None:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3, SIDE, SIDE]) for name in ("a", "b")]
    with pytest.raises(InputError, match=r"one image input, got \['a', 'b'\]"):
        bring(tmp_path, graph_of(ends, helper.make_node("Add", ["a", "b"], ["feature"])))


def test_maps_instead_of_a_feature_are_refused(tmp_path: Path) -> None:
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])
    with pytest.raises(InputError, match="128-1024"):
        bring(tmp_path, graph_of([image], helper.make_node("Identity", ["image"], ["feature"])), output="feature")


def test_operators_of_others_are_refused(tmp_path: Path) -> None:
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])
    node = helper.make_node("Wonder", ["image"], ["feature"], domain="their.own")
    with pytest.raises(InputError, match=r"cannot load the graph.*their\.own"):
        bring(tmp_path, graph_of([image], node, domains=("", "their.own")))


def test_weights_in_another_file_are_refused_even_where_the_file_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = onnx.load_from_string(embedding_graph())
    onnx.save_model(model, tmp_path / "outside.onnx", save_as_external_data=True, location="weights.bin")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="weights in other files"):
        bring(tmp_path, (tmp_path / "outside.onnx").read_bytes())


@pytest.mark.parametrize("content", [b"", b"not onnx", b"\x08\x08", bytes(1000), embedding_graph()[:-1000]])
def test_what_is_no_onnx_graph_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(InputError, match="cannot load the graph"):
        bring(tmp_path, content)


@pytest.mark.parametrize(("value", "message"), [(0.0, "zero or"), (np.nan, "not finite"), (np.inf, "not finite")])
def test_weights_that_give_no_feature_are_refused(tmp_path: Path, value: float, message: str) -> None:
    weights = np.full((3 * SIDE * SIDE, 128), value, np.float32)
    with pytest.raises(InputError, match=message):
        bring(tmp_path, embedding_graph(weights=weights))


def test_a_feature_that_ignores_the_photo_is_refused(tmp_path: Path) -> None:
    weights = np.zeros((3 * SIDE * SIDE, 128), np.float32)
    with pytest.raises(InputError, match="same feature"):
        bring(tmp_path, embedding_graph(weights=weights, outputs=("zero", "one")), output="one")


def test_a_graph_that_fails_on_a_photo_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="fails on a photo"):
        bring(tmp_path, embedding_graph(side="side"), side_px=SIDE + 4)


def test_one_sample_photo_is_not_enough(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least 2"):
        bring(tmp_path, embedding_graph(), sample_photos=photos(1))


def test_a_model_is_never_replaced_and_no_draft_is_left(tmp_path: Path) -> None:
    bring(tmp_path, embedding_graph())
    with pytest.raises(ConflictError, match="never change"):
        bring(tmp_path, embedding_graph())
    assert [folder.name for folder in (tmp_path / "models").iterdir()] == ["brought"]


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "x" * 65])
def test_a_name_that_is_no_folder_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="model version"):
        bring(tmp_path, embedding_graph(), name=name)
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize("flags", [{"fill": 300}, {"std": (0.0, 1.0, 1.0)}, {"mean": (np.nan, 0.0, 0.0)}])
def test_flags_out_of_bounds_are_refused(tmp_path: Path, flags: dict[str, object]) -> None:
    with pytest.raises(InputError, match=next(iter(flags))):
        bring(tmp_path, embedding_graph(), **flags)


def test_an_absent_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"absent\.onnx"):
        import_model(tmp_path / "absent.onnx", tmp_path, name="x", sample_photos=photos(2))


def test_a_graph_above_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bring_model, "GRAPH_BYTES", 100)
    with pytest.raises(TooLargeError, match="at most 100"):
        bring(tmp_path, embedding_graph())
