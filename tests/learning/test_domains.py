from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from drawn_sets import draw_sets
from sameitem.core.records import Pixels
from sameitem.learning.domains import embed_all, measure, middle
from sameitem.learning.real_sets import RealSets


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> RealSets:
    folder: Path = tmp_path_factory.mktemp("sets")
    draw_sets(folder)
    return RealSets(folder)


def thumbnails(crops: Sequence[Pixels]) -> NDArray[np.float32]:
    """A feature that knows the drawn patterns."""
    small = [np.asarray(Image.fromarray(crop).resize((8, 8), Image.Resampling.BOX)).ravel() for crop in crops]
    rows = np.array(small, np.float32) - 127
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def blind(crops: Sequence[Pixels]) -> NDArray[np.float32]:
    return np.ones((len(crops), 1), np.float32)


def test_a_feature_that_sees_the_items_finds_them_and_a_blind_one_does_not(sets: RealSets) -> None:
    seeing = {figure.name: figure for figure in measure(thumbnails, sets, views=True)}
    unseeing = {figure.name: figure for figure in measure(blind, sets, views=True)}
    assert seeing.keys() == unseeing.keys()
    for name in ("grocery", "grocery among ABO", "eafit"):
        assert seeing[name].share.mean == 1
        assert unseeing[name].share.mean == pytest.approx(1 / 3)
    assert unseeing["ABO edits"].share.mean == 0.25
    assert seeing["grocery among ABO"].gallery == seeing["grocery"].gallery + 4


def test_views_are_measured_only_when_asked(sets: RealSets) -> None:
    names = [figure.name for figure in measure(blind, sets, views=False)]
    assert not any("views" in name for name in names)
    assert len(names) == len(set(names)) == 7


def test_a_stream_of_any_length_is_embedded_in_order() -> None:
    for count in (1, 63, 64, 65, 128):
        crops = [np.full((1, 1, 3), place, np.uint8) for place in range(count)]
        features = embed_all(lambda chunk: np.array([crop[0, 0] for crop in chunk], np.float32), crops)
        assert features[:, 0].tolist() == list(range(count))


def test_the_middle_keeps_its_share_of_each_side() -> None:
    assert middle(np.zeros((100, 40, 3), np.uint8), 0.5).shape == (50, 20, 3)
    assert middle(np.zeros((1, 1, 3), np.uint8), 0.65).shape == (1, 1, 3)
