from pathlib import Path

import pytest

from drawn_sets import draw_sets
from sameitem.core.errors import NotFoundError
from sameitem.learning.real_sets import RealSets

SHARED = Path(__file__).parents[2] / ".." / "shared" / "data"


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> RealSets:
    folder = tmp_path_factory.mktemp("sets")
    draw_sets(folder)
    return RealSets(folder)


def test_only_train_rows_that_may_ship_are_trainable(sets: RealSets) -> None:
    trainable = {(row.archive, row.split) for row in sets.rows if row.trainable}
    assert trainable == {(f"images/{name}.zip", "train") for name in ("grocery", "clothing", "abo")}


def test_images_of_one_visual_cluster_are_one_item(sets: RealSets) -> None:
    assert [row.product for row in sets.select("abo")] == [f"abo cluster {place // 2}" for place in range(8)]


def test_pixels_are_rgb(sets: RealSets) -> None:
    assert {sets.pixels(row).shape for row in sets.rows[:20]} == {(40, 40, 3)}


def test_a_folder_without_a_manifest_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"manifest\.csv"):
        RealSets(tmp_path)


@pytest.mark.skipif(not (SHARED / "manifest.csv").is_file(), reason="the real photographs (../shared/data) are missing")
def test_the_real_manifest_has_the_promised_trainable_rows() -> None:
    rows = RealSets(SHARED).rows
    assert sum(row.trainable for row in rows) == 12_100
    assert not any(row.trainable for row in rows if "Packages" in row.category or "eafit" in row.archive)
