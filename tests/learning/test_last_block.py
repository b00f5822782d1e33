"""Training of the last block: the graph, what is kept between runs, what is learned, and when nothing is."""

import csv
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

torch = pytest.importorskip("torch", reason="the extra `train` is not installed")
onnx = pytest.importorskip("onnx", reason="the extra `train` is not installed")
from onnx import TensorProto, helper  # noqa: E402

from drawn_triplets import DrawnClicks, draw_clicks, triplet  # noqa: E402
from sameitem.clicks.triplet_file import write_triplets  # noqa: E402
from sameitem.clicks.triplets import Tally  # noqa: E402
from sameitem.core.errors import InputError  # noqa: E402
from sameitem.core.records import ContentHash, Pixels  # noqa: E402
from sameitem.features.detect import Detector  # noqa: E402
from sameitem.features.embed import Embedder, open_session  # noqa: E402
from sameitem.features.model_folder import EMBED, read_graph, read_model, shipped_model  # noqa: E402
from sameitem.features.subject import Subject, catalogue_subjects, user_subjects  # noqa: E402
from sameitem.learning import last_block  # noqa: E402
from sameitem.learning.export import cut_before_last_block, with_last_block  # noqa: E402
from sameitem.learning.last_block import MAPS, LastBlockPhase, LastBlockRecipe, TrunkMaps, embedded  # noqa: E402
from sameitem.learning.network import FeatureBranch  # noqa: E402
from sameitem.learning.train import read_start, train_embedding  # noqa: E402
from sameitem.upkeep.demo_shop import DemoShop  # noqa: E402

SHORT = LastBlockRecipe(steps=20, rows=16)
START = shipped_model()


@pytest.fixture(scope="module")
def clicks(drawn: DemoShop, tmp_path_factory: pytest.TempPathFactory) -> DrawnClicks:
    """Photos of a drawn shop's products by a coarse camera in warm light, and what was clicked for them."""
    generator, folder = np.random.default_rng(3), tmp_path_factory.mktemp("clicks")
    with drawn.catalogue.open(newline="", encoding="utf-8") as file:
        first = {row["product_id"]: row["image"] for row in reversed(list(csv.DictReader(file)))}
    items = [np.asarray(Image.open(drawn.folder / image).convert("RGB").resize((96, 96))) for image in first.values()]
    item_of = [number % len(items) for number in range(150)]

    def photographed(item: Pixels) -> Pixels:
        left, top = generator.integers(0, 16, 2)
        coarse = item[top : top + 80 : 4, left : left + 80 : 4].repeat(4, 0).repeat(4, 1)
        return (coarse * [1, 0.7, 0.4] + generator.normal(0, 8, coarse.shape)).clip(0, 255).astype(np.uint8)

    def named(pictures: Iterable[Pixels]) -> dict[ContentHash, Pixels]:
        return {ContentHash(hashlib.sha256(pixels.tobytes()).hexdigest()): pixels for pixels in pictures}

    photos, images = named(photographed(items[item]) for item in item_of), named(items)
    names, listed = list(photos), list(images)
    mined = [
        triplet(photo, listed[item], listed[(item + step) % len(listed)])
        for photo, item in zip(names, item_of, strict=True)
        for step in (1, 5, 11)
    ]
    write_triplets(folder / "clicks.parquet", mined, Tally())
    return DrawnClicks(folder / "clicks.parquet", photos | images, names, listed, item_of, [])


def train(
    folder: Path, clicks: DrawnClicks, name: str, *, photo: Callable[[ContentHash], Pixels] | None = None
) -> dict[str, float]:
    return dict(
        train_embedding(
            triplets=clicks.file,
            start=START,
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


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings of seconds."""
    monkeypatch.setattr(last_block, "LastBlockRecipe", lambda: SHORT)


def maps_of(kept: Path) -> TrunkMaps:
    origin = read_model(START)
    return TrunkMaps(START, origin, read_graph(START, origin, EMBED), kept)


def served(model: Path, subjects: list[Subject]) -> NDArray[np.float32]:
    return Embedder(model).embed_views([subject.views for subject in subjects])


def likeness(one: NDArray[np.floating], other: NDArray[np.floating]) -> NDArray[np.floating]:
    return np.asarray((one * other).sum(axis=1))


def changed(branch: FeatureBranch, generator: np.random.Generator) -> FeatureBranch:
    """Change what a daily training may change, a little."""
    with torch.no_grad():
        for value in branch.last().values():
            noise = torch.from_numpy(generator.standard_normal(value.shape).astype(np.float32))
            value += 0.1 * value.abs().mean() * noise
    return branch


def test_a_graph_with_another_last_block_serves_what_the_weights_say(tmp_path: Path, clicks: DrawnClicks) -> None:
    origin, learned = read_start(START)
    graph, names = read_graph(START, origin, EMBED), clicks.photos[:24]
    maps, there = maps_of(tmp_path).of_photos(names, clicks.photo)
    assert there.all()
    before = embedded(learned.feature, maps).numpy()
    branch = changed(learned.feature, np.random.default_rng(1))
    after = embedded(branch, maps).numpy()
    assert likeness(before, after).max() < 0.98
    with torch.inference_mode():
        narrow = branch.trunk.narrow(maps.values(maps.codes[:, 0]))
    ends = float(narrow.min()), float(narrow.max())
    matrix = branch.projection.detach().numpy()
    made = with_last_block(graph, branch.trunk.last_convolutions(), matrix, narrow=ends)
    (first, scale), (second, other_scale) = (cut_before_last_block(of, MAPS) for of in (graph, made))
    assert (first, scale) == (second, other_scale)
    square = np.random.default_rng(0).standard_normal((2, 3, 224, 224)).astype(np.float32)
    bytes_ = open_session(first, threads=1).run([MAPS], {"image": square})[0]
    for end, model in ((graph, read_start(START)[1].feature), (made, branch)):
        (feature,) = open_session(end, threads=1).run(["feature"], {"image": square})
        with torch.inference_mode():
            assert likeness(feature, model.from_short(maps.values(bytes_)).numpy()).min() > 0.995


def test_refuses_a_graph_that_does_not_end_as_ours_and_weights_that_do_not_fit() -> None:
    origin, learned = read_start(START)
    graph, convolutions = read_graph(START, origin, EMBED), learned.feature.trunk.last_convolutions()
    with pytest.raises(InputError, match=r"the graph has \(1280, 768\) where the weights are \(1280, 8\)"):
        with_last_block(graph, convolutions, np.zeros((1280, 8), np.float32), narrow=(-1.0, 1.0))
    lone = helper.make_graph(
        [helper.make_node("Flatten", ["image"], ["feature"])],
        "embed",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("feature", TensorProto.FLOAT, ["n", 3 * 8 * 8])],
    )
    content = helper.make_model(lone, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString()
    with pytest.raises(InputError, match="without --feature-only"):
        cut_before_last_block(content, MAPS)


def test_what_is_learned_on_is_what_serving_computes_and_stays_for_the_next_run(
    tmp_path: Path, clicks: DrawnClicks
) -> None:
    branch, detector = read_start(START)[1].feature, Detector(START)
    for names, maps, choose in (
        (clicks.photos[:24], TrunkMaps.of_photos, user_subjects),
        (clicks.images, TrunkMaps.of_images, catalogue_subjects),
    ):
        found, there = maps(maps_of(tmp_path), names, clicks.photo)
        assert there.all()
        subjects = choose([clicks.pixels[name] for name in names], detector)
        assert likeness(embedded(branch, found).numpy(), served(START, subjects)).min() > 0.99

        def gone(name: ContentHash) -> Pixels:
            raise AssertionError(f"{name} was read again")

        again, _ = maps(maps_of(tmp_path), names, gone)
        assert np.array_equal(found.codes, again.codes)


def test_what_is_kept_of_another_trunk_is_removed(tmp_path: Path) -> None:
    for name in ("maps-0123456789abcdef-photos", "base-2"):
        (tmp_path / name).mkdir()
    maps_of(tmp_path)
    assert not (tmp_path / "maps-0123456789abcdef-photos").exists()
    assert (tmp_path / "base-2").is_dir()
    assert len(list(tmp_path.glob("maps-*"))) == 2


def test_learns_to_find_photos_that_did_not_teach_and_leaves_the_trunk_alone(
    tmp_path: Path, clicks: DrawnClicks
) -> None:
    metrics = train(tmp_path, clicks, "better")
    assert metrics["recall_after"] > metrics["recall_before"]
    assert metrics["validating"] > 5
    start, made = read_model(START), read_model(tmp_path / "better")
    graphs = [read_graph(at, model, EMBED) for at, model in ((START, start), (tmp_path / "better", made))]
    assert graphs[0] != graphs[1]
    assert cut_before_last_block(graphs[0], MAPS) == cut_before_last_block(graphs[1], MAPS)
    assert (made.version, made.kind, made.preprocessing) == ("better", "trained", start.preprocessing)
    detector = Detector(START)
    photos = user_subjects([clicks.pixels[name] for name in clicks.photos], detector)
    images = catalogue_subjects([clicks.pixels[name] for name in clicks.images], detector)

    def recall(at: Path) -> float:
        found = (served(at, photos) @ served(at, images).T).argmax(axis=1)
        return float((found == clicks.item_of).mean())

    assert recall(tmp_path / "better") > recall(START)  # by serving's own code
    learned = read_start(tmp_path / "better")[1].feature
    maps, _ = maps_of(tmp_path / "kept").of_photos(clicks.photos, clicks.photo)
    assert likeness(embedded(learned, maps).numpy(), served(tmp_path / "better", photos)).min() > 0.99


def test_writes_nothing_where_nothing_better_is_found(
    tmp_path: Path, clicks: DrawnClicks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LastBlockPhase, "_ranks", lambda _self: np.array([1, 2, 3]))
    metrics = train(tmp_path, clicks, "same")
    assert metrics["recall_after"] == metrics["recall_before"] == pytest.approx(1 / 3, abs=1e-4)
    assert not (tmp_path / "same").exists()


def test_the_same_seed_learns_the_same_and_pictures_that_are_gone_teach_nothing(
    tmp_path: Path, clicks: DrawnClicks, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = (train(tmp_path, clicks, name) for name in ("one", "other"))
    assert {**one, "hours": 0} == {**other, "hours": 0}
    assert (tmp_path / "one" / "weights.npz").read_bytes() == (tmp_path / "other" / "weights.npz").read_bytes()
    fewer = replace(clicks, pixels={n: p for n, p in clicks.pixels.items() if n not in clicks.photos[:30]})
    assert train(tmp_path / "fresh", fewer, "fewer", photo=fewer.photo)["photos"] == 120
    monkeypatch.setattr(last_block, "MOST_PHOTOS", 50)
    assert train(tmp_path, clicks, "newest")["photos"] == 50


def test_refuses_too_few_photos(tmp_path: Path) -> None:
    few = draw_clicks(tmp_path / "few", photos=20)
    with pytest.raises(InputError, match=r"names 20 photos.*need 32 that teach"):
        train(tmp_path, few, "few")
