"""Training of the last layer alone: the graph, what is kept between runs, what is learned, and when nothing is."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="the extra `train` is not installed")
onnx = pytest.importorskip("onnx", reason="the extra `train` is not installed")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

import drawn_start  # noqa: E402
from drawn_triplets import DrawnClicks, draw_clicks, triplet  # noqa: E402
from sameitem.clicks.triplet_file import write_triplets  # noqa: E402
from sameitem.clicks.triplets import Tally  # noqa: E402
from sameitem.core.errors import InputError  # noqa: E402
from sameitem.core.records import ContentHash, Pixels  # noqa: E402
from sameitem.features.embed import Embedder, open_session  # noqa: E402
from sameitem.features.model_folder import EMBED, Graph, read_graph, read_model, write_model  # noqa: E402
from sameitem.features.subject import user_subjects  # noqa: E402
from sameitem.learning import projection  # noqa: E402
from sameitem.learning.export import cut_before_last_layer, shrink_weights, with_last_layer  # noqa: E402
from sameitem.learning.projection import POOLED, ProjectionPhase, ProjectionRecipe, TrunkViews  # noqa: E402
from sameitem.learning.train import train_embedding  # noqa: E402
from sameitem.learning.triplet_set import Pairs  # noqa: E402
from sameitem.learning.trunk import CHANNELS  # noqa: E402
from sameitem.learning.weights import Learned, pack  # noqa: E402

SIDE, DIM = 32, drawn_start.DIM
SHORT = ProjectionRecipe(steps=60)


def drawn_graph(matrix: NDArray[np.floating], *, shrunk: bool = True, seed: int = 0) -> bytes:
    """A trunk that mixes cells of 2 pixels, and a last layer as every feature branch ends in."""
    cells = 3 * (SIDE // 2) ** 2
    mixing = np.random.default_rng(seed).standard_normal((cells, CHANNELS)).astype(np.float32) / cells**0.5
    nodes = [
        helper.make_node("AveragePool", ["image"], ["cells"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["cells"], ["flat"]),
        helper.make_node("Gemm", ["flat", "mixing"], ["mixed"]),
        helper.make_node("Relu", ["mixed"], ["trunk"]),
        helper.make_node("MatMul", ["trunk", "matrix"], ["long"]),
        helper.make_node("LpNormalization", ["long"], ["feature"], axis=1, p=2),
    ]
    graph = helper.make_graph(
        nodes,
        "embed",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("feature", TensorProto.FLOAT, ["n", matrix.shape[1]])],
        [numpy_helper.from_array(mixing, "mixing"), numpy_helper.from_array(matrix.astype(np.float32), "matrix")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    content: bytes = made.SerializeToString()
    return shrink_weights(content) if shrunk else content


def matrix(seed: int, dim: int = DIM) -> NDArray[np.float32]:
    return np.random.default_rng([seed, 1]).standard_normal((CHANNELS, dim)).astype(np.float32)


def start_with(folder: Path, learned: Learned) -> Path:
    """A model folder whose graph ends in the weights' last layer."""
    drawn_start.write_start(folder / "drawn")
    origin = read_model(folder / "drawn")
    preprocessing = replace(origin.preprocessing, side_px=SIDE)
    graph, weights = drawn_graph(learned.feature.projection.detach().numpy()), pack(learned)
    model = replace(
        origin,
        version="start",
        dim=DIM,
        graphs={EMBED: Graph("embed.onnx", projection._sha(graph), "image", "feature")},
        preprocessing=preprocessing,
        weights=replace(origin.weights, sha256=projection._sha(weights)),
    )
    write_model(folder / "start", model, graphs={EMBED: graph}, card="# start\n", weights=weights)
    return folder / "start"


@pytest.fixture
def clicks(tmp_path: Path) -> DrawnClicks:
    """Items of even colour grids, and photos of them under lamps whose patterns lie strongly over every picture."""
    generator = np.random.default_rng(3)
    lamps = generator.uniform(-1, 1, (4, 8, 8, 3))
    items = generator.uniform(90, 165, (24, 8, 8, 3))
    item_of = [number % len(items) for number in range(150)]
    lit = [items[item] + 70 * np.tensordot(generator.uniform(-1, 1, 4), lamps, 1) for item in item_of]

    def named(grids: Iterable[NDArray[np.floating]]) -> dict[ContentHash, Pixels]:
        drawn = [grid.clip(0, 255).astype(np.uint8).repeat(8, 0).repeat(8, 1) for grid in grids]
        return {ContentHash(hashlib.sha256(pixels.tobytes()).hexdigest()): pixels for pixels in drawn}

    photos, images = named(lit), named(items)
    names, listed = list(photos), list(images)
    mined = [
        triplet(photo, listed[item], listed[(item + step) % len(listed)])
        for photo, item in zip(names, item_of, strict=True)
        for step in (1, 5, 11)
    ]
    write_triplets(tmp_path / "clicks.parquet", mined, Tally())
    return DrawnClicks(tmp_path / "clicks.parquet", photos | images, names, listed, item_of, [])


def train(
    folder: Path, clicks: DrawnClicks, name: str, *, photo: Callable[[ContentHash], Pixels] | None = None
) -> dict[str, float]:
    return dict(
        train_embedding(
            triplets=clicks.file,
            start=folder / "start",
            out=folder / name,
            photo=photo or clicks.photo,
            checkpoint=folder / f"training-{name}",
            minutes=None,
            seed=0,
            tell=lambda *_: None,
            detector=False,
            kept=folder / "kept",
        )
    )


@pytest.mark.parametrize("shrunk", [True, False])
def test_a_graph_is_its_trunk_times_its_last_layer(shrunk: bool) -> None:
    one, other = matrix(1), matrix(2)
    graph = drawn_graph(one, shrunk=shrunk)
    images = np.random.default_rng(0).standard_normal((3, 3, SIDE, SIDE)).astype(np.float32)
    trunk = cut_before_last_layer(graph, POOLED)
    (pooled,) = open_session(trunk, threads=1).run([POOLED], {"image": images})
    for changed, wanted in ((graph, one), (with_last_layer(graph, other), other)):
        (feature,) = open_session(changed, threads=1).run(["feature"], {"image": images})
        expected = pooled @ wanted
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        assert (feature * expected).sum(axis=1) == pytest.approx(np.ones(3), abs=1e-3)
    assert cut_before_last_layer(with_last_layer(graph, other), POOLED) == trunk
    assert cut_before_last_layer(drawn_graph(one, shrunk=shrunk, seed=1), POOLED) != trunk


def test_refuses_a_graph_without_a_last_layer_and_a_matrix_that_does_not_fit() -> None:
    with pytest.raises(InputError, match="last layer is"):
        with_last_layer(drawn_graph(matrix(1)), matrix(1, dim=DIM + 1))
    lone = helper.make_graph(
        [helper.make_node("Flatten", ["image"], ["feature"])],
        "embed",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("feature", TensorProto.FLOAT, ["n", 3 * SIDE * SIDE])],
    )
    content = helper.make_model(lone, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString()
    with pytest.raises(InputError, match="without --feature-only"):
        cut_before_last_layer(content, POOLED)


def test_what_is_learned_on_is_what_serving_computes_and_stays_for_the_next_run(
    tmp_path: Path, clicks: DrawnClicks
) -> None:
    learned = drawn_start.fresh()
    folder = start_with(tmp_path, learned)
    origin = read_model(folder)
    views = TrunkViews(folder, origin, read_graph(folder, origin, EMBED), tmp_path / "kept")
    names = clicks.photos[:40]
    found, there = views.of_photos(names, clicks.photo)
    pairs = Pairs(
        pairs=np.zeros((1, 2), np.int64), others=np.zeros((0, 2), np.int64), is_held_out=np.zeros(40, np.bool_)
    )
    phase = ProjectionPhase(pairs, found, found[:1], learned.feature.projection, SHORT, 0)
    subjects = user_subjects([clicks.pixels[name] for name in names], None)
    served = Embedder(folder).embed_views([subject.views for subject in subjects])
    assert there.all()
    assert (phase._start_photos.numpy() * served).sum(axis=1) == pytest.approx(np.ones(40), abs=1e-3)

    def gone(name: ContentHash) -> Pixels:
        raise AssertionError(f"{name} was read again")

    again, _ = TrunkViews(folder, origin, read_graph(folder, origin, EMBED), tmp_path / "kept").of_photos(names, gone)
    assert np.array_equal(found, again)


def test_learns_to_find_photos_that_did_not_teach_and_leaves_the_trunk_alone(
    tmp_path: Path, clicks: DrawnClicks
) -> None:
    folder = start_with(tmp_path, drawn_start.fresh())
    metrics = train(tmp_path, clicks, "better")
    assert metrics["recall_after"] > metrics["recall_before"]
    assert metrics["validating"] > 5
    start, made = read_model(folder), read_model(tmp_path / "better")
    graphs = [read_graph(at, model, EMBED) for at, model in ((folder, start), (tmp_path / "better", made))]
    assert graphs[0] != graphs[1]
    assert cut_before_last_layer(graphs[0], POOLED) == cut_before_last_layer(graphs[1], POOLED)
    assert (made.version, made.kind, made.preprocessing) == ("better", "trained", start.preprocessing)
    photos = [clicks.pixels[name] for name in clicks.photos]
    images = [clicks.pixels[name] for name in clicks.images]

    def recall(at: Path) -> float:
        embedder = Embedder(at)
        queries = embedder.embed_views([subject.views for subject in user_subjects(photos, None)])
        return float(((queries @ embedder.embed(images).T).argmax(axis=1) == clicks.item_of).mean())

    assert recall(tmp_path / "better") > recall(folder)  # by serving's own code


def test_writes_nothing_where_nothing_better_is_found(
    tmp_path: Path, clicks: DrawnClicks, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_with(tmp_path, drawn_start.fresh())
    monkeypatch.setattr(ProjectionPhase, "_ranks", lambda _self: np.array([1, 2, 3]))
    metrics = train(tmp_path, clicks, "same")
    assert metrics["recall_after"] == metrics["recall_before"] == pytest.approx(1 / 3, abs=1e-4)
    assert not (tmp_path / "same").exists()


def test_the_same_seed_learns_the_same_and_pictures_that_are_gone_teach_nothing(
    tmp_path: Path, clicks: DrawnClicks
) -> None:
    start_with(tmp_path, drawn_start.fresh())
    one, other = (train(tmp_path, clicks, name) for name in ("one", "other"))
    assert {**one, "hours": 0} == {**other, "hours": 0}
    assert (tmp_path / "one" / "weights.npz").read_bytes() == (tmp_path / "other" / "weights.npz").read_bytes()
    fewer = replace(clicks, pixels={n: p for n, p in clicks.pixels.items() if n not in clicks.photos[:30]})
    start_with(tmp_path / "fresh", drawn_start.fresh())
    assert train(tmp_path / "fresh", fewer, "fewer", photo=fewer.photo)["photos"] == 120


def test_refuses_too_few_photos(tmp_path: Path) -> None:
    start_with(tmp_path, drawn_start.fresh())
    few = draw_clicks(tmp_path / "few", photos=20)
    with pytest.raises(InputError, match=r"names 20 photos.*need 32 that teach"):
        train(tmp_path, few, "few")
