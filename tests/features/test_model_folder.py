import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis.strategies import integers

from drawn_graphs import (
    detect_of,
    detection_graph,
    embedding_graph,
    model_of,
    with_detector,
    write_detecting,
    write_drawn,
)
from sameitem.core.errors import ConflictError, InputError, NotFoundError, SameItemError
from sameitem.features.model_folder import (
    DETECT,
    EMBED,
    PAGE,
    ModelFolder,
    Weights,
    read_graph,
    read_model,
    read_weights,
    shipped_model,
    write_model,
)

GRAPH = embedding_graph()


def change_manifest(folder: Path, **changes: Any) -> None:
    manifest = folder / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | changes))


def test_what_was_written_is_read(tmp_path: Path) -> None:
    model = write_drawn(tmp_path / "models" / "drawn", GRAPH)
    assert read_model(tmp_path / "models" / "drawn") == model
    assert read_graph(tmp_path / "models" / "drawn", model, EMBED) == GRAPH
    assert (tmp_path / "models" / "drawn" / "card.md").read_text() == "# drawn\n"
    assert os.listdir(tmp_path / "models") == ["drawn"]


def test_a_model_folder_never_changes(tmp_path: Path) -> None:
    write_drawn(tmp_path / "drawn", GRAPH)
    with pytest.raises(ConflictError, match="never change"):
        write_drawn(tmp_path / "drawn", GRAPH)


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="checksum"):
        write_model(tmp_path / "drawn", model_of(GRAPH), graphs={EMBED: GRAPH + b"x"}, card="")
    assert os.listdir(tmp_path) == []


def test_the_shipped_model_fits_its_manifest() -> None:
    model = read_model(shipped_model())
    assert model.version == shipped_model().name == "base-2"
    assert sum(len(read_graph(shipped_model(), model, role)) for role in model.graphs) <= 8_000_000


def test_a_folder_without_a_manifest_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"manifest\.json"):
        read_model(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, '"format": 1'),
        ({"format": None}, '"format": 1'),
        ({"dim": 4096}, "128-1024"),
        ({"dim": "128"}, "dim"),
        ({"version": "../x"}, "model version"),
        ({"version": ""}, "model version"),
        ({"surprise": 1}, "surprise"),
        ({"graphs": {}}, "'embed'"),
        ({"graphs": {"embed": {"file": "../embed.onnx", "sha256": "0", "input": "a", "output": "b"}}}, "plain file"),
        ({"graphs": {"embed": {"file": "absent.onnx", "sha256": "0", "input": "a", "output": "b"}}}, "not there"),
        ({"graphs": {"embed": {"file": "embed.onnx", "sha256": "0", "input": "a", "output": "b"}}}, "checksum"),
        ({"preprocessing": {"side_px": 224}}, "preprocessing"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused_by_name(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write_drawn(tmp_path / "drawn", GRAPH)
    change_manifest(tmp_path / "drawn", **changes)
    with pytest.raises(InputError, match=message):
        read_model(tmp_path / "drawn")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("side_px", 0),
        ("side_px", 100_000),
        ("fill", 256),
        ("fit", "squeeze"),
        ("std", [0.0, 1.0, 1.0]),
        ("mean", [1.0, 2.0]),
        ("mean", [float("nan"), 1.0, 1.0]),
        ("layout", "HWC"),
    ],
)
def test_preprocessing_out_of_bounds_is_refused(tmp_path: Path, field: str, value: Any) -> None:
    model = write_drawn(tmp_path / "drawn", GRAPH)
    change_manifest(tmp_path / "drawn", preprocessing=dataclasses.asdict(model.preprocessing) | {field: value})
    with pytest.raises(InputError, match=field):
        read_model(tmp_path / "drawn")


def test_a_model_that_finds_subjects_is_read_as_it_was_written(tmp_path: Path) -> None:
    model = write_detecting(tmp_path / "finds", categories=("tops", "shoes"), views=(1.0, 1.3, 0.0), temperature=1.5)
    assert read_model(tmp_path / "finds") == model
    assert read_graph(tmp_path / "finds", model, DETECT) == detection_graph(categories=2)


def test_a_model_without_the_new_keys_is_written_as_before(tmp_path: Path) -> None:
    model = write_drawn(tmp_path / "drawn", GRAPH)
    assert not {"detect", "weights"} & set(json.loads((tmp_path / "drawn" / "manifest.json").read_text()))
    assert (model.detect, model.weights) == (None, None)


def test_the_graph_and_its_key_come_together(tmp_path: Path) -> None:
    model, graph = model_of(GRAPH), detection_graph()
    detecting = with_detector(model, graph, detect_of(), version="drawn")
    with pytest.raises(InputError, match="together"):
        dataclasses.replace(detecting, detect=None)
    with pytest.raises(InputError, match="together"):
        dataclasses.replace(model, detect=detect_of())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": float("inf")}, "temperature"),
        ({"views": ()}, "views"),
        ({"views": (1.0,) * 9}, "views"),
        ({"views": (-1.0,)}, "views"),
        ({"views": (0.01,)}, "views"),
        ({"categories": ("tops", "tops")}, "different"),
        ({"categories": ("",)}, "different"),
    ],
)
def test_what_cannot_be_made_of_a_detection_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        dataclasses.replace(detect_of(), **changes)


def test_a_photo_is_padded_for_its_boxes_never_stretched_or_cut() -> None:
    stretched = dataclasses.replace(detect_of().preprocessing, fit="stretch")
    with pytest.raises(InputError, match="fit=pad"):
        dataclasses.replace(detect_of(), preprocessing=stretched)


def weighty(content: bytes, *, file: str = "weights.npz") -> ModelFolder:
    return dataclasses.replace(model_of(GRAPH), weights=Weights(file, hashlib.sha256(content).hexdigest()))


def test_weights_are_kept_and_checked_when_they_are_read(tmp_path: Path) -> None:
    model = weighty(b"numbers")
    write_model(tmp_path / "drawn", model, graphs={EMBED: GRAPH}, card="", weights=b"numbers")
    assert read_model(tmp_path / "drawn") == model
    assert read_weights(tmp_path / "drawn", model) == b"numbers"
    (tmp_path / "drawn" / "weights.npz").write_bytes(b"Numbers")
    assert read_model(tmp_path / "drawn") == model  # a server that starts does not read them
    with pytest.raises(InputError, match="checksum"):
        read_weights(tmp_path / "drawn", model)
    (tmp_path / "drawn" / "weights.npz").unlink()
    with pytest.raises(InputError, match="not there"):
        read_model(tmp_path / "drawn")


def test_weights_that_are_not_those_of_the_manifest_are_not_written(tmp_path: Path) -> None:
    for model, weights, message in (
        (weighty(b"numbers"), b"others", "checksum"),
        (weighty(b"numbers"), None, "bytes of the weights"),
        (model_of(GRAPH), b"numbers", "bytes of the weights"),
    ):
        with pytest.raises(InputError, match=message):
            write_model(tmp_path / "drawn", model, graphs={EMBED: GRAPH}, card="", weights=weights)
    assert os.listdir(tmp_path) == []
    with pytest.raises(NotFoundError, match="no weights"):
        read_weights(tmp_path, model_of(GRAPH))


@pytest.mark.parametrize("file", ["../weights.npz", "manifest.json", "training.html", "embed.onnx", ""])
def test_weights_have_a_file_of_their_own(file: str) -> None:
    with pytest.raises(InputError, match="file"):
        weighty(b"numbers", file=file)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"format": 1}', b"[" * 100_000])
def test_a_manifest_that_is_no_manifest_is_refused(tmp_path: Path, content: bytes) -> None:
    write_drawn(tmp_path / "drawn", GRAPH)
    (tmp_path / "drawn" / "manifest.json").write_bytes(content)
    with pytest.raises(InputError, match=r"manifest\.json"):
        read_model(tmp_path / "drawn")


@settings(max_examples=100, deadline=None)
@given(place=integers(0, 10**7), bit=integers(0, 7))
def test_a_flipped_bit_in_a_graph_is_found(tmp_path_factory: pytest.TempPathFactory, place: int, bit: int) -> None:
    folder = tmp_path_factory.mktemp("models") / "drawn"
    write_drawn(folder, GRAPH)
    content = bytearray(GRAPH)
    content[place % len(content)] ^= 1 << bit
    (folder / "embed.onnx").write_bytes(content)
    with pytest.raises(SameItemError, match="checksum"):
        read_model(folder)


def test_the_curves_of_a_training_stand_in_its_model_folder(tmp_path: Path) -> None:
    write_model(tmp_path / "drawn", model_of(GRAPH), graphs={EMBED: GRAPH}, card="", page=b"<p>curves")
    assert (tmp_path / "drawn" / PAGE).read_bytes() == b"<p>curves"
    assert read_model(tmp_path / "drawn").version == "drawn"
