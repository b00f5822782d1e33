import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis.strategies import integers

from drawn_graphs import embedding_graph, model_of, write_drawn
from sameitem.core.errors import ConflictError, InputError, NotFoundError, SameItemError
from sameitem.features.model_folder import EMBED, read_graph, read_model, shipped_model, write_model

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
    assert model.version == shipped_model().name == "base-1"
    assert sum(file.stat().st_size for file in shipped_model().iterdir()) <= 8_000_000


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
