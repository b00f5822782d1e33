import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from galleries import unit_rows
from sameitem.category.reference import ReferenceSet, choose_reference, open_reference, write_reference
from sameitem.category.vote import NO_TOP
from sameitem.core.errors import ConflictError, InputError, NotFoundError, SameItemError, ShapeError
from sameitem.engine.distances import squared_distances


def draw_reference(seed: int, images: int, dim: int = 12) -> ReferenceSet:
    generator = np.random.default_rng(seed)
    features = unit_rows(generator, images, dim)
    features[generator.integers(images, size=images // 3)] = features[0]  # some exactly alike
    return ReferenceSet(
        model_version="base-1",
        features=features,
        leaves=generator.integers(3, size=images).astype(np.int32),
        image_ids=generator.permutation(9 * images)[:images].astype(np.int64),
        leaf_names=("家居 > 灯", "shoes", "hats"),
        top_of_leaf=np.array([1, 0, NO_TOP]),
        top_names=("shoes", "home"),
    )


@settings(deadline=None)
@given(
    seed=st.integers(0, 999),
    images=st.integers(1, 120),
    queries=st.sampled_from([0, 1, 2, 5, 300]),
    k=st.integers(1, 40),
)
def test_neighbours_are_those_of_a_sort_of_everything(seed: int, images: int, queries: int, k: int) -> None:
    reference = draw_reference(seed, images)
    asked = unit_rows(np.random.default_rng(seed + 1), queries, 12)
    found = reference.neighbours(asked, k)
    assert found.rows.shape == found.distances.shape == (queries, min(k, images))
    for query, rows, distances in zip(asked, found.rows, found.distances, strict=True):
        exact = squared_distances(reference.features, query)
        expected = sorted(range(images), key=lambda row: (exact[row], reference.image_ids[row]))[:k]
        assert distances.tolist() == exact[expected].tolist()
        assert distances.tolist() == exact[rows].tolist()
        if images <= 40:  # more exact ties than the slack may stand for each other
            assert rows.tolist() == expected


def test_many_queries_at_once_get_what_each_gets_alone() -> None:
    reference, asked = draw_reference(5, 50), unit_rows(np.random.default_rng(6), 300, 12)
    together = reference.neighbours(asked, 3)
    for row in (0, 255, 256, 299):
        alone = reference.neighbours(asked[row : row + 1], 3)
        assert np.array_equal(alone.rows[0], together.rows[row])
        assert np.array_equal(alone.distances[0], together.distances[row])


def test_what_was_written_is_what_is_read(tmp_path: Path) -> None:
    reference = draw_reference(1, 50)
    names = write_reference(tmp_path / "reference", reference)
    read = open_reference(tmp_path / "reference")
    for name in ("features", "leaves", "image_ids", "top_of_leaf"):
        assert np.array_equal(getattr(read, name), getattr(reference, name))
    assert (read.model_version, read.leaf_names, read.top_names) == ("base-1", reference.leaf_names, ("shoes", "home"))
    assert sorted(names) == sorted(f"reference/{path.name}" for path in (tmp_path / "reference").iterdir())


def cut(folder: Path) -> None:
    (folder / "features.npy").write_bytes((folder / "features.npy").read_bytes()[:-1])


def rewrite(folder: Path, **values: object) -> None:
    about = json.loads((folder / "reference.json").read_bytes())
    (folder / "reference.json").write_text(json.dumps(about | values))


@pytest.mark.parametrize(
    ("damage", "error", "reason"),
    [
        (cut, ConflictError, "features.npy has"),
        (lambda folder: (folder / "leaves.npy").unlink(), ConflictError, "leaves.npy is missing"),
        (lambda folder: (folder / "reference.json").unlink(), NotFoundError, "no reference set"),
        (lambda folder: (folder / "reference.json").write_text("{"), ConflictError, "damaged"),
        (lambda folder: rewrite(folder, format=2), ConflictError, "format 2"),
        (lambda folder: rewrite(folder, leaf_names=["one"]), ConflictError, "damaged"),
        (lambda folder: rewrite(folder, files={}), ConflictError, "damaged"),
    ],
)
def test_a_damaged_reference_set_is_refused(
    tmp_path: Path, damage: Callable[[Path], object], error: type[SameItemError], reason: str
) -> None:
    write_reference(tmp_path / "reference", draw_reference(2, 20))
    damage(tmp_path / "reference")
    with pytest.raises(error, match=reason):
        open_reference(tmp_path / "reference")


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"leaves": np.zeros(4, np.int32)}, ShapeError),
        ({"top_of_leaf": np.zeros(2, np.int64)}, ShapeError),
        ({"leaves": np.full(5, 3, np.int32)}, InputError),
        ({"top_of_leaf": np.array([0, 1, 2])}, InputError),
    ],
)
def test_arrays_that_contradict_each_other_are_refused(changed: dict[str, object], error: type[SameItemError]) -> None:
    with pytest.raises(error, match="need"):
        replace(draw_reference(3, 5), **changed)


@pytest.mark.parametrize(
    ("features", "k", "error"),
    [
        (np.ones((1, 5), np.float32), 3, ShapeError),
        (np.ones(12, np.float32), 3, ShapeError),
        (np.ones((1, 12), np.float32), 0, InputError),
        (np.full((1, 12), np.nan, np.float32), 3, InputError),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(features: np.ndarray, k: int, error: type[SameItemError]) -> None:
    with pytest.raises(error, match="need"):
        draw_reference(4, 5).neighbours(features, k)


Images = st.lists(st.tuples(st.integers(0, 2**62), st.integers(-1, 4)), max_size=60, unique_by=lambda image: image[0])


@settings(deadline=None)
@given(images=Images, per_leaf=st.integers(1, 12), shuffle=st.randoms(use_true_random=False))
def test_each_leaf_gives_up_to_its_share_whatever_the_order(
    images: list[tuple[int, int]],
    per_leaf: int,
    shuffle: Random,
) -> None:
    def chosen_of(listed: list[tuple[int, int]]) -> set[tuple[int, int]]:
        ids, leaves = (np.array([image[part] for image in listed], dtype=np.int64) for part in (0, 1))
        return {listed[row] for row in choose_reference(leaves, ids, per_leaf=per_leaf)}

    chosen = chosen_of(images)
    labelled = Counter(leaf for _, leaf in images if leaf >= 0)
    assert Counter(leaf for _, leaf in chosen) == {leaf: min(per_leaf, count) for leaf, count in labelled.items()}
    shuffled = list(images)
    shuffle.shuffle(shuffled)
    assert chosen_of(shuffled) == chosen
    assert chosen_of(images[: len(images) // 2]) >= chosen & set(images[: len(images) // 2])  # growing only replaces


def test_another_seed_chooses_other_images_from_all_over_the_catalogue() -> None:
    ids, leaves = np.arange(10_000), np.zeros(10_000, np.int64)
    first, second = (choose_reference(leaves, ids, per_leaf=500, seed=seed) for seed in (0, 1))
    assert len(np.intersect1d(first, second)) < 60
    assert np.histogram(first, bins=10, range=(0, 10_000))[0].min() > 25


def test_choosing_none_or_without_ids_is_refused() -> None:
    with pytest.raises(InputError, match="per_leaf"):
        choose_reference(np.zeros(2, np.int64), np.arange(2), per_leaf=0)
    with pytest.raises(ShapeError, match="one leaf per image id"):
        choose_reference(np.zeros(2, np.int64), np.arange(3), per_leaf=1)
