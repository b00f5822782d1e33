from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto

from drawn_graphs import SIDE, embedding_graph, photos, write_drawn
from sameitem.core.errors import InputError, NotFoundError, ShapeError
from sameitem.features.embed import Embedder
from sameitem.features.model_folder import shipped_model
from sameitem.features.preprocess import Layout, to_square


@pytest.fixture(scope="module")
def shipped() -> Embedder:
    return Embedder(shipped_model())


def by_hand(folder: Path, weights: NDArray[np.float32], crops: list[NDArray[np.uint8]]) -> NDArray[np.float64]:
    model = write_drawn(folder, embedding_graph(weights=weights))
    rows = np.stack([to_square(crop, model.preprocessing).ravel() @ weights.astype(np.float64) for crop in crops])
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


@pytest.mark.parametrize("batch", [1, 3, 32])
def test_features_are_the_graphs_own_scaled_to_unit_length_in_the_order_of_the_crops(
    tmp_path: Path, batch: int
) -> None:
    weights = np.random.default_rng(1).standard_normal((3 * SIDE * SIDE, 128)).astype(np.float32)
    crops = photos(10)
    expected = by_hand(tmp_path / "drawn", weights, crops)
    features = Embedder(tmp_path / "drawn", batch=batch).embed(crops)
    assert features.dtype == np.float32
    assert features == pytest.approx(expected, abs=1e-5)


def test_no_crops_give_no_rows(tmp_path: Path) -> None:
    write_drawn(tmp_path / "drawn", embedding_graph())
    embedder = Embedder(tmp_path / "drawn")
    assert embedder.embed([]).shape == (0, embedder.dim) == (0, 128)
    assert embedder.version == "drawn"


def test_a_graph_whose_batch_is_fixed_to_one_takes_many_crops(tmp_path: Path) -> None:
    write_drawn(tmp_path / "fixed", embedding_graph(batch=1))
    write_drawn(tmp_path / "free", embedding_graph())
    fixed, free = (Embedder(tmp_path / name).embed(photos(5)) for name in ("fixed", "free"))
    assert fixed == pytest.approx(free, abs=1e-6)


def test_a_graph_of_bytes_channels_last_gets_bytes_channels_last(tmp_path: Path) -> None:
    graph = embedding_graph(layout=Layout.NHWC, dtype=TensorProto.UINT8)
    write_drawn(tmp_path / "bytes", graph, layout=Layout.NHWC)
    with pytest.raises(InputError, match="mean 0 and std 1"):
        Embedder(tmp_path / "bytes")


def test_an_order_of_channels_that_the_graph_does_not_have_is_refused(tmp_path: Path) -> None:
    write_drawn(tmp_path / "drawn", embedding_graph(layout=Layout.NHWC), layout=Layout.NCHW)
    with pytest.raises(InputError, match="failed"):
        Embedder(tmp_path / "drawn").embed(photos(1))


def test_ends_that_the_graph_does_not_have_are_refused(tmp_path: Path) -> None:
    write_drawn(tmp_path / "drawn", embedding_graph(outputs=("other",)))
    with pytest.raises(InputError, match=r"'feature'.*\['other'\]"):
        Embedder(tmp_path / "drawn")


def test_a_dim_that_is_not_the_graphs_is_refused(tmp_path: Path) -> None:
    write_drawn(tmp_path / "drawn", embedding_graph(dim=130), dim=131)
    with pytest.raises(InputError, match=r"\(2, 130\).*\(2, 131\)"):
        Embedder(tmp_path / "drawn").embed(photos(2))


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_features_without_a_direction_are_refused(tmp_path: Path, value: float) -> None:
    weights = np.full((3 * SIDE * SIDE, 128), value, np.float32)
    write_drawn(tmp_path / "drawn", embedding_graph(weights=weights))
    with pytest.raises(InputError, match="zero or not finite"):
        Embedder(tmp_path / "drawn").embed(photos(1))


def test_a_folder_that_is_none_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        Embedder(tmp_path / "absent")


@pytest.mark.parametrize(("threads", "batch"), [(0, 1), (1, 0), (-1, 5)])
def test_threads_and_batch_are_positive(tmp_path: Path, threads: int, batch: int) -> None:
    write_drawn(tmp_path / "drawn", embedding_graph())
    with pytest.raises(InputError, match="at least 1"):
        Embedder(tmp_path / "drawn", threads=threads, batch=batch)


@pytest.mark.slow
def test_the_other_crops_of_a_batch_change_a_shipped_feature_by_rounding_at_most(shipped: Embedder) -> None:
    crops = photos(37)
    alone = np.concatenate([shipped.embed([crop]) for crop in crops])
    for batch in (2, 5, 32):
        assert Embedder(shipped_model(), batch=batch).embed(crops) == pytest.approx(alone, abs=5e-6)
    assert shipped.embed(crops[::-1]) == pytest.approx(alone[::-1], abs=5e-6)


@pytest.mark.slow
def test_threads_that_share_the_shipped_embedder_get_the_same_features(shipped: Embedder) -> None:
    crops = photos(12)
    expected = shipped.embed(crops)
    with ThreadPoolExecutor(4) as pool:
        for features in pool.map(lambda _: shipped.embed(crops), range(8)):
            assert np.array_equal(features, expected)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 9000, 3), (9000, 1, 3), (6000, 4000, 3)])
@pytest.mark.parametrize("grey", [0, 255])
def test_the_shipped_model_takes_crops_of_any_size(shipped: Embedder, shape: tuple[int, ...], grey: int) -> None:
    (feature,) = shipped.embed([np.full(shape, grey, np.uint8)])
    assert feature.shape == (shipped.dim,)
    assert np.linalg.norm(feature) == pytest.approx(1, abs=1e-5)


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    write_drawn(tmp_path / "drawn", embedding_graph())
    with pytest.raises(ShapeError, match="height, width, 3"):
        Embedder(tmp_path / "drawn").embed([np.zeros((0, 3, 3), np.uint8)])
